"""Sections of a CI log that its viewer can fold: GitHub's groups and annotations, GitLab's sections."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("github", "gitlab")


class Folds:
    """The marks around a step's lines.  One section is open at a time: neither viewer can interleave them."""

    def __init__(self, kind: str, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._clock = clock
        self._serial = 0
        self._open = ""

    def begin(self, text: str) -> str:
        """The line ``text``, which stays visible when what follows is folded."""
        ended = self.end()
        self._serial += 1
        self._open = f"lapstrake_{self._serial}"
        if self._kind == "github":
            return f"{ended}::group::{text}\n"
        at = int(self._clock())
        return f"{ended}\x1b[0Ksection_start:{at}:{self._open}[collapsed=true]\r\x1b[0K{text}\n"

    def end(self) -> str:
        """The end of the open section; nothing if none is."""
        name, self._open = self._open, ""
        if not name:
            return ""
        if self._kind == "github":
            return "::endgroup::\n"
        return f"\x1b[0Ksection_end:{int(self._clock())}:{name}\r\x1b[0K"


def annotation(level: str, message: str, *, file: str = "", line: int = 0, title: str = "") -> str:
    """A GitHub annotation: ``level`` is error, warning or notice."""
    fields = {"file": file, "line": str(line) if line else "", "title": title}
    shown = ",".join(f"{k}={_escape(v, field=True)}" for k, v in fields.items() if v)
    return f"::{level}{' ' if shown else ''}{shown}::{_escape(message)}\n"


def _escape(text: str, *, field: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if field else text
