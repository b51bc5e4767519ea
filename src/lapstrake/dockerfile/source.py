"""The text of a Dockerfile: decoding, line limits, parser directives (spec §0, §1)."""

from __future__ import annotations

from ..errors import DockerfileError, Span
from .numbers import SPACE

MAX_LINE = 65535
_BOM = b"\xef\xbb\xbf"
_KNOWN = ("syntax", "escape", "check")
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def decode(data: bytes) -> str:
    """The text without its BOM; bytes that are not UTF-8 become surrogate escapes."""
    if data.startswith(_BOM):
        data = data[3:]
    return data.decode("utf-8", "surrogateescape")


def check_lines(data: bytes, filename: str, text: str) -> None:
    """Raise for a physical line longer than ``MAX_LINE`` bytes."""
    if len(data) <= MAX_LINE:
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if len(line) > MAX_LINE:
            raise DockerfileError(
                f"dockerfile line greater than max allowed size of {MAX_LINE}",
                span=Span(filename, number, number, text),
            )


def directive_of(line: str, marker: str = "#") -> tuple[str, str] | None:
    """``(lower-cased name, value)`` of ``# name = value``, else None."""
    if not line.startswith(marker):
        return None
    name, equals, value = line[len(marker) :].partition("=")
    name, value = name.strip(SPACE), value.strip(SPACE)
    if not equals or not name or not value or name[0].isdigit() or not _ALNUM.issuperset(name):
        return None
    return name.lower(), value


class Directives:
    """What the directive block says.  ``after``: how many lines it takes; ``found``: as written, in order."""

    __slots__ = ("after", "escape", "found")

    def __init__(self) -> None:
        self.after = 0
        self.escape = "\\"
        self.found: list[tuple[str, str]] = []


def read_directives(lines: list[str], filename: str, text: str) -> Directives:
    """Read the directive block at the top of the file; raises DockerfileError."""
    out = Directives()
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        parsed = directive_of(line.lstrip(SPACE))
        if parsed is None or parsed[0] not in _KNOWN:
            break
        name, value = parsed
        if name in seen:
            raise _located(f"only one {name} parser directive can be used", filename, number, text)
        seen.add(name)
        if name == "escape":
            if value not in ("\\", "`"):
                raise _located(
                    f"invalid escape token '{value}' does not match ` or \\", filename, number, text
                )
            out.escape = value
        out.after = number
        out.found.append((name, value))
    liberal = [(name, value) for name in ("syntax", "check") if (value := find_directive(lines, name))]
    out.found = [f for f in out.found if f[0] == "escape"] + liberal
    return out


def find_directive(lines: list[str], name: str) -> str:
    """The liberal scan for ``syntax`` and ``check``: behind ``#!``, after ``//``, or in one JSON object."""
    start = 1 if lines and lines[0].startswith("#!") else 0
    for marker in ("#", "//"):
        for line in lines[start:]:
            parsed = directive_of(line, marker)
            if parsed is None or (marker == "#" and parsed[0] not in _KNOWN):
                break
            if parsed[0] == name:
                return parsed[1]
    if lines[start:] and lines[start].lstrip(SPACE).startswith("{"):
        import json

        try:
            document = json.loads("\n".join(lines[start:]))
        except (ValueError, RecursionError):
            return ""
        value = document.get(name) if isinstance(document, dict) else None
        return value if isinstance(value, str) else ""
    return ""


def _located(message: str, filename: str, number: int, text: str) -> DockerfileError:
    return DockerfileError(
        f"dockerfile parse error on line {number}: {message}", span=Span(filename, number, number, text)
    )
