"""``(did you mean X?)``: the nearest candidate at a Levenshtein distance below 3."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_LIMIT = 3


def distance(a: str, b: str) -> int:
    """The Levenshtein distance of two texts."""
    row = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        left = i
        diagonal, row[0] = row[0], i
        for j, cb in enumerate(b, 1):
            left = min(row[j] + 1, left + 1, diagonal + (ca != cb))
            diagonal, row[j] = row[j], left
    return row[-1]


def nearest(word: str, candidates: Iterable[str], *, case_sensitive: bool = True) -> str:
    """The best candidate for a mistyped ``word``, or ``""``; an exact match gives none."""
    needle = word if case_sensitive else word.lower()
    best, best_distance = "", _LIMIT
    for candidate in candidates:
        other = candidate if case_sensitive else candidate.lower()
        if needle == other:
            return ""
        if abs(len(needle) - len(other)) < best_distance:
            d = distance(needle, other)
            if d < best_distance:
                best, best_distance = candidate, d
    if best and not case_sensitive:
        if word == word.lower():
            return best.lower()
        if word == word.upper():
            return best.upper()
    return best


def hint(word: str, candidates: Iterable[str], *, case_sensitive: bool = True, prefix: str = "") -> str:
    """`` (did you mean X?)`` with its leading blank, or ``""``."""
    best = nearest(word, candidates, case_sensitive=case_sensitive)
    return f" (did you mean {prefix}{best}?)" if best else ""
