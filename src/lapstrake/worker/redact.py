"""Keeps the values of secrets out of what a step prints: logs are kept, replayed and sent around."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = b"***"
SHORTEST = 4  # bytes; hiding less would hide ordinary words, and says nothing of the secret
_SHORTEST_LINE = 8  # of a value with several lines, such as a private key
_LONGEST = 4096


class Redactor:
    """Replaces values in streams of bytes, also where a value comes in pieces."""

    def __init__(self, values: Iterable[bytes]) -> None:
        found: set[bytes] = set()
        for value in values:
            whole = value.strip()
            lines = [line.strip() for line in whole.splitlines()]
            if SHORTEST <= len(whole) <= _LONGEST:
                found.add(whole)
            if len(lines) > 1 or len(whole) > _LONGEST:
                found.update(line[:_LONGEST] for line in lines if len(line) >= _SHORTEST_LINE)
        self._values = sorted(found, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._values))) if found else None
        self._held: dict[int, bytes] = {}

    def feed(self, stream: int, data: bytes) -> bytes:
        """What of ``stream`` may be shown now; the beginning of what may be a value waits."""
        if self._pattern is None:
            return data
        data = self._pattern.sub(MARK, self._held.pop(stream, b"") + data)
        keep = self._suspicious(data)
        if keep:
            self._held[stream] = data[-keep:]
            data = data[:-keep]
        return data

    def rest(self) -> list[tuple[int, bytes]]:
        """(stream, bytes) that were held back and turned out to be no value."""
        held, self._held = self._held, {}
        return sorted(held.items())

    def _suspicious(self, data: bytes) -> int:
        """Length of the longest end of ``data`` that a value begins with."""
        longest = 0
        for value in self._values:
            at = data.find(value[:1], max(len(data) - len(value) + 1, 0))
            while at >= 0 and len(data) - at > longest:
                if value.startswith(data[at:]):
                    longest = len(data) - at
                    break
                at = data.find(value[:1], at + 1)
        return longest
