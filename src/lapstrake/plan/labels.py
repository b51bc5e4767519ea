"""What a step is called on the display: its words with the variables it knows (spec dockerfile.md §4, §7)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAME = _FIRST | frozenset("0123456789")


def shown(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """The instruction on one line: keyword in upper case, variables that are set replaced.

    Quotes stay, and what they or the escape character protect is left alone; so are variables
    that are not set, and modifiers: the shell of a RUN may know more.
    """
    line = " ".join(text.split("\n", 1)[0].split())
    keyword, blank, rest = line.partition(" ")
    return keyword.upper() + blank + (_replaced(rest, env, escape) if "$" in rest else rest)


def summary(body: str) -> str:
    """`` (first line…)`` of a heredoc: what a step of nothing but a heredoc does."""
    lines = body.strip().replace("\r\n", "\n").split("\n")
    return f" ({lines[0]}{'...' if len(lines) > 1 else ''})"


def _replaced(text: str, env: Mapping[str, str], escape: str) -> str:
    out: list[str] = []
    i, single = 0, False
    while i < len(text):
        ch = text[i]
        if ch == "'":
            single = not single
        if ch == escape and not single:
            out.append(text[i : i + 2])
            i += 2
            continue
        name, end = _name(text, i) if ch == "$" and not single else ("", 0)
        if name and name in env:
            out.append(env[name])
            i = end
            continue
        out.append(ch)
        i += 1
    return "".join(out)


def _name(text: str, at: int) -> tuple[str, int]:
    """The name of ``$NAME`` or ``${NAME}`` that begins at ``at``, and the index behind it."""
    start = at + 2 if text[at + 1 : at + 2] == "{" else at + 1
    if text[start : start + 1] not in _FIRST or start >= len(text):
        return "", 0
    end = start
    while end < len(text) and text[end] in _NAME:
        end += 1
    if start == at + 1:
        return text[start:end], end
    return (text[start:end], end + 1) if text[end : end + 1] == "}" else ("", 0)
