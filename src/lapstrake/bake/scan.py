"""Words and signs of HCL's native syntax.  Newlines count or not, as the parser says."""

from __future__ import annotations

from ..errors import BakeError
from .source import At, Source, diagnostic

_PAIRS = ("==", "!=", "<=", ">=", "&&", "||", "=>", "::")
_SINGLE = set("+-*/%!<>?:=()[]{},.~")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}


def is_word_start(c: str) -> bool:
    """May an identifier start with it?"""
    return c == "_" or c.isidentifier()


def is_word_part(c: str) -> bool:
    """May an identifier go on with it?"""
    return c == "-" or ("a" + c).isidentifier()


class Scanner:
    """One token of lookahead: ``kind`` (word, number, quote, heredoc, newline, end or a sign),
    ``value``, ``start``, ``end``.  ``lines``: newlines are tokens."""

    def __init__(self, source: Source, start: int = 0, fixed: At | None = None) -> None:
        self.source = source
        self.text = source.text
        self.fixed = fixed  # every place is this one: a template inside a JSON string
        self.lines = True
        self.kind = self.value = ""
        self.start = self.end = start
        self.last = start  # end of the token before

    def at(self, start: int, end: int | None = None) -> At:
        """A range up to ``end``, or to the end of the token before this one."""
        return self.fixed or At(self.source, start, self.last if end is None else end)

    def here(self) -> At:
        """The current token."""
        return self.at(self.start, max(self.end, self.start))

    def error(self, summary: str, detail: str = "", at: At | None = None) -> BakeError:
        """A diagnostic at the current token, or at ``at``."""
        return diagnostic(at or self.here(), summary, detail)

    def advance(self) -> None:
        """Read the next token."""
        self.last = self.end
        i = self._blank(self.end)
        self.start = i
        c = self.text[i : i + 1]
        if not c:
            self._set("end", "", i)
        elif c == "\n":
            self._set("newline", c, i + 1)
        elif c == '"':
            self._set("quote", c, i + 1)
        elif c.isdigit() and c.isascii():
            self._number(i)
        elif is_word_start(c):
            j = i + 1
            while j < len(self.text) and is_word_part(self.text[j]):
                j += 1
            self._set("word", self.text[i:j], j)
        elif self.text.startswith("<<", i) and self._heredoc(i):
            return
        elif self.text.startswith("...", i):
            self._set("...", "...", i + 3)
        elif self.text[i : i + 2] in _PAIRS:
            self._set(self.text[i : i + 2], "", i + 2)
        elif c in _SINGLE:
            self._set(c, c, i + 1)
        else:
            self.end = i + 1
            shown = f'"{c}"' if c.isprintable() else f"character {ord(c):#06x}"
            more = " Strings are written between double quotes." if c in "'`" else ""
            raise self.error("Invalid character", f"{shown} has no meaning here.{more}")

    def _set(self, kind: str, value: str, end: int) -> None:
        self.kind, self.value, self.end = kind, value, end

    def _blank(self, i: int) -> int:
        text = self.text
        while i < len(text):
            c = text[i]
            if c in " \t\r" or (c == "\n" and not self.lines):
                i += 1
            elif c == "#" or text.startswith("//", i):
                end = text.find("\n", i)
                i = len(text) if end < 0 else end
            elif text.startswith("/*", i):
                end = text.find("*/", i + 2)
                if end < 0:
                    raise self.error("Unterminated comment", "There is no */ after it.", self.at(i, i + 2))
                i = end + 2
            else:
                break
        return i

    def _number(self, i: int) -> None:
        text, j = self.text, i
        while text[j : j + 1].isdigit():
            j += 1
        if text[j : j + 1] == "." and text[j + 1 : j + 2].isdigit():
            j += 1
            while text[j : j + 1].isdigit():
                j += 1
        if text[j : j + 1] in ("e", "E"):
            k = j + 1 + (text[j + 1 : j + 2] in ("+", "-"))
            if text[k : k + 1].isdigit():
                while text[k : k + 1].isdigit():
                    k += 1
                j = k
        self._set("number", text[i:j], j)

    def _heredoc(self, i: int) -> bool:
        """``<<WORD`` up to the end of its line; ``value`` is the word, after ``-`` when indented."""
        j = i + 2 + (self.text[i + 2 : i + 3] == "-")
        if not is_word_start(self.text[j : j + 1] or " "):
            return False
        k = j + 1
        while k < len(self.text) and is_word_part(self.text[k]):
            k += 1
        rest = self.text[k : self.text.find("\n", k) if "\n" in self.text[k:] else len(self.text)]
        if rest.strip():
            self.end = k
            raise self.error("Invalid heredoc", "Its text begins on the line after the marker.")
        self._set("heredoc", self.text[i + 2 : k], k + len(rest))
        return True


def escape(scanner: Scanner, i: int) -> tuple[str, int]:
    """What a backslash at ``i`` of a quoted string means, and where it ends."""
    text = scanner.text
    c = text[i + 1 : i + 2]
    if c in _ESCAPES:
        return _ESCAPES[c], i + 2
    if c in ("u", "U"):
        size = 4 if c == "u" else 8
        digits = text[i + 2 : i + 2 + size]
        try:
            if len(digits) != size or not digits.isalnum():
                raise ValueError
            code = int(digits, 16)
            if 0xD800 <= code < 0xE000:
                raise ValueError
            return chr(code), i + 2 + size
        except (ValueError, OverflowError):
            pass
    raise scanner.error(
        "Invalid escape sequence",
        f'A backslash is followed by n, r, t, ", \\, or by u and four digits; write \\\\ for a backslash, not \\{c}.',
        scanner.at(i, i + 2),
    )
