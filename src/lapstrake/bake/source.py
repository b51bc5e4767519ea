"""Bake files as text with places: what every syntax node and every diagnostic points into."""

from __future__ import annotations

from ..errors import BakeError, Span
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_FILE = 8 << 20


class Source(Value):
    """One bake file.  ``name`` is how the user wrote it."""

    name: str
    text: str

    @classmethod
    def decode(cls, name: str, data: bytes) -> Source:
        """UTF-8 text, a byte order mark dropped; raises BakeError."""
        if len(data) > MAX_FILE:
            raise BakeError(f"{name} is larger than 8 MiB")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            line = data.count(b"\n", 0, e.start) + 1
            raise BakeError(
                f"{name}:{line}: Invalid character encoding; All input files must be UTF-8 encoded.",
                span=Span(name, line, line, data.decode("utf-8", "replace")),
            ) from None
        return cls(name, text.replace("\r\n", "\n"))

    def place(self, offset: int) -> tuple[int, int]:
        """(line, column), both from 1, of an offset."""
        line = self.text.count("\n", 0, offset) + 1
        return line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1


class At(Value):
    """A range of a source, ``end`` exclusive."""

    source: Source
    start: int
    end: int

    def __str__(self) -> str:
        line, column = self.source.place(self.start)
        last, until = self.source.place(max(self.end, self.start))
        tail = str(until) if last == line else f"{last},{until}"
        return f"{self.source.name}:{line},{column}-{tail}"

    def to(self, other: At) -> At:
        """From here to the end of another range."""
        return At(self.source, self.start, other.end)

    def span(self) -> Span:
        """The lines, for the excerpt."""
        first = self.source.place(self.start)[0]
        last = self.source.place(max(self.end - 1, self.start))[0]
        return Span(self.source.name, first, last, self.source.text)


def diagnostic(at: At, summary: str, detail: str = "", *, hint: str | None = None) -> BakeError:
    """``file:line,col-col: Summary; Detail`` with the lines it is about (spec cli.md §3.1)."""
    text = f"{at}: {summary}" + (f"; {detail}" if detail else "")
    return BakeError(text, span=at.span(), hint=hint)


def meant(name: str, known: Iterable[str]) -> str:
    """`` Did you mean "x"?`` or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1, 0.7)
    return f' Did you mean "{near[0]}"?' if near else ""
