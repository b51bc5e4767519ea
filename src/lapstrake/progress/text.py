"""Text as a terminal shows it: how wide it is, cut to a width, without control characters, coloured."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

RESET = "\x1b[0m"
_BASIC = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
DEFAULT_COLORS = {"run": "34", "cancel": "33", "warning": "33", "error": "31"}


def write_text(out: TextIO, text: str) -> bool:
    """Write and flush, what the encoding lacks as ``?``; False when nobody reads any more."""
    try:
        try:
            out.write(text)
        except UnicodeEncodeError:
            code = getattr(out, "encoding", None) or "ascii"
            out.write(text.encode(code, "replace").decode(code))
        out.flush()
    except (OSError, ValueError):
        return False
    return True


def width(text: str) -> int:
    """Columns that ``text`` takes; it must hold no control characters."""
    if text.isascii():
        return len(text)
    return sum(_columns(c) for c in text)


def _columns(char: str) -> int:
    if char < "\u0300":
        return 1
    from unicodedata import category, east_asian_width

    if category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def clip(text: str, columns: int, ellipsis: str = "\u2026") -> str:
    """``text`` in at most ``columns`` columns, its end replaced by ``ellipsis`` if it is cut."""
    if columns <= 0:
        return ""
    if len(text) * 2 <= columns or width(text) <= columns:
        return text
    room = columns - len(ellipsis)
    if room < 0:
        ellipsis, room = "", columns
    if text.isascii():
        return text[:room] + ellipsis
    out: list[str] = []
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        out.append(char)
    return "".join(out) + ellipsis


def justify(left: str, right: str, columns: int, ellipsis: str = "\u2026") -> str:
    """``left`` and, at the right edge, ``right``; on a line too narrow for both ``right`` goes."""
    if not right or len(right) + 10 > columns:
        return clip(left, columns, ellipsis)
    left = clip(left, columns - len(right) - 1, ellipsis)
    return left + " " * (columns - width(left) - len(right)) + right


def safe(text: str) -> str:
    """A line of a log without anything that steers a terminal: colours and controls go, tabs become spaces."""
    if text.isprintable():
        return text
    out: list[str] = []
    i, n = 0, len(text)
    while i < n:
        char = text[i]
        if char in "\x1b\x9b\x9d\x90":
            i = _skip_escape(text, i)
            continue
        if char == "\t":
            out.append(" " * (8 - len(out) % 8))
        elif char == "\b":
            if out:
                out.pop()
        elif char.isprintable() or char == "\u200d":
            out.append(char)
        elif char >= "\xa0":
            out.append(" ")
        i += 1
    return "".join(out)


def _skip_escape(text: str, i: int) -> int:
    """The position behind the escape sequence that begins at ``i`` (ECMA-48: CSI, strings, two-byte forms)."""
    n = len(text)
    kind = {"\x9b": "[", "\x9d": "]", "\x90": "P"}.get(text[i], "")
    i += 1
    if not kind:
        if i >= n:
            return n
        kind = text[i]
        i += 1
    if kind == "[":
        while i < n and " " <= text[i] <= "?":
            i += 1
        return i + 1
    if kind in "]PX^_":  # strings up to BEL or ST
        while i < n and text[i] not in "\x07\x9c\x1b":
            i += 1
        return i + 2 if text[i : i + 2] == "\x1b\\" else i + 1 if text[i : i + 1] != "\x1b" else i
    while " " <= kind <= "/" and i < n:
        kind = text[i]
        i += 1
    return i


def parse_colors(text: str) -> dict[str, str]:
    """``BUILDKIT_COLORS``: ``run=green:error=255,0,0`` to SGR parameters; what is wrong in it is left out."""
    found = dict(DEFAULT_COLORS)
    for part in text.split(":"):
        name, _, value = part.strip().partition("=")
        code = _sgr(value.strip().lower())
        if name.strip().lower() in found and code:
            found[name.strip().lower()] = code
    return found


def _sgr(value: str) -> str:
    if value.removeprefix("light-") in _BASIC:
        return str((90 if value.startswith("light-") else 30) + _BASIC.index(value.removeprefix("light-")))
    parts = [p.strip() for p in value.split(",")]
    if len(parts) == 3 and all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts):
        return f"38;2;{int(parts[0])};{int(parts[1])};{int(parts[2])}"
    return ""
