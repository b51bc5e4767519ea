"""Versions and what they must be: ``semvercmp("1.2.3", ">= 1.2, < 2")``."""

from __future__ import annotations

from .base import Problem

_OPERATORS = ("==", "!=", ">=", "=>", "<=", "=<", "~>", "=", ">", "<", "~", "^")


def _version(text: str, index: int) -> tuple[list[int], str, int]:
    """(three numbers, prerelease, how many numbers were written)."""
    body = text.strip().removeprefix("v").partition("+")[0]
    core, _, pre = body.partition("-")
    parts = core.split(".")
    while parts and parts[-1] in ("x", "X", "*"):
        parts.pop()
    if len(parts) > 3 or not all(p.isdigit() and p.isascii() and len(p) < 20 for p in parts):
        raise Problem(index, f"invalid semantic version {text!r}")
    return [int(p) for p in parts] + [0] * (3 - len(parts)), pre, len(parts)


def _key(numbers: list[int], pre: str) -> tuple[object, ...]:
    marks: list[tuple[int, int, str]] = [
        (0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split(".") if p
    ]
    return (*numbers, not pre, marks)


def matches(version: str, constraint: str) -> bool:
    """Does a version meet a constraint?  ``||`` is or, a comma or a space is and."""
    numbers, pre, _ = _version(version, 0)
    return any(_all(numbers, pre, part) for part in constraint.split("||"))


def _all(numbers: list[int], pre: str, part: str) -> bool:
    import re

    part = re.sub(r"(\S+)\s+-\s+(\S+)", r">=\1 <=\2", part)
    words = re.sub(r"([=<>!~^]+)\s+", r"\1", part).replace(",", " ").split()
    return all(_one(numbers, pre, w) for w in words)


def _one(numbers: list[int], pre: str, word: str) -> bool:
    op = next((o for o in _OPERATORS if word.startswith(o)), "")
    wanted, wanted_pre, given = _version(word[len(op) :], 1)
    if pre and not wanted_pre:
        return op == "!="  # a prerelease is only met by a constraint that names one
    mine, theirs = _key(numbers, pre), _key(wanted, wanted_pre)
    upper = list(wanted)
    if op in ("", "=", "=="):
        return numbers[:given] == wanted[:given] if given < 3 else mine == theirs
    if op == "!=":
        return numbers[:given] != wanted[:given] if given < 3 else mine != theirs
    if op in (">", "<", ">=", "=>", "<=", "=<"):
        if op == ">":
            return numbers[:given] > wanted[:given] if given < 3 else mine > theirs
        if op == "<":
            return mine < theirs
        if op in ("<=", "=<"):
            return numbers[:given] <= wanted[:given] if given < 3 else mine <= theirs
        return mine >= theirs
    if mine < theirs:
        return False
    if op == "^":
        at = next((n for n, x in enumerate(wanted[:given]) if x), max(given - 1, 0))
    else:
        at = 0 if given < 2 else 1
    upper = [*upper[: at + 1], 0, 0, 0][:3]
    upper[at] += 1
    upper[at + 1 :] = [0] * (2 - at)
    return not given or numbers < upper
