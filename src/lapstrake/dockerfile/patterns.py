"""The patterns of ``${n#p}``, ``${n%p}`` and ``${n/p/r}``: only ``*`` and ``?`` (spec §5.1).

Matching runs on sets of positions kept as the bits of one integer, so no pattern is slow.
"""

from __future__ import annotations

_ANY, _STAR = 1, 2
_ESCAPABLE = frozenset("*?/}\\")


class Pattern:
    """A parsed pattern.  Raises ValueError for a wrong escape."""

    __slots__ = ("tokens",)

    def __init__(self, text: str, escape: str = "\\") -> None:
        tokens: list[str | int] = []
        i = 0
        while i < len(text):
            ch = text[i]
            i += 1
            if ch == "*":
                if not tokens or tokens[-1] != _STAR:
                    tokens.append(_STAR)
            elif ch == "?":
                tokens.append(_ANY)
            elif ch == escape:
                literal = text[i : i + 1]
                if literal not in _ESCAPABLE and literal != escape:
                    raise ValueError(f"invalid escape '{escape}{literal}'")
                tokens.append(literal)
                i += 1
            else:
                tokens.append(ch)
        self.tokens = tuple(tokens)

    def trim_prefix(self, value: str, longest: bool) -> str:
        """``value`` without its shortest or longest matching prefix."""
        ends = _ends(self.tokens, value, 0, {})
        return value[_pick(ends, longest) :] if ends else value

    def trim_suffix(self, value: str, longest: bool) -> str:
        """``value`` without its shortest or longest matching suffix."""
        ends = _ends(self.tokens[::-1], value[::-1], 0, {})
        return value[: len(value) - _pick(ends, longest)] if ends else value

    def replace_first(self, value: str, replacement: str) -> str:
        """The leftmost longest match replaced, literally."""
        for start, end in self._matches(value, 1):
            return value[:start] + replacement + value[end:]
        return value

    def replace_all(self, value: str, replacement: str) -> str:
        """Every match replaced; ``$0`` in ``replacement`` is the match, as in a Go template."""
        out: list[str] = []
        done = 0
        for start, end in self._matches(value, len(value) + 1):
            out += (value[done:start], _template(replacement, value[start:end]))
            done = end
        return "".join(out) + value[done:]

    def _matches(self, value: str, limit: int) -> list[tuple[int, int]]:
        masks: dict[str, int] = {}
        starts = _starts(self.tokens, value, masks)
        found: list[tuple[int, int]] = []
        cursor, last = 0, -1
        while len(found) < limit:
            left = starts >> cursor
            if not left:
                break
            start = cursor + ((left & -left).bit_length() - 1)
            end = _pick(_ends(self.tokens, value, start, masks), True)
            if end == start and start == last:  # an empty match right behind the last one
                cursor = start + 1
                continue
            found.append((start, end))
            last = end
            cursor = end if end > start else start + 1
        return found


def _pick(bits: int, highest: bool) -> int:
    return bits.bit_length() - 1 if highest else (bits & -bits).bit_length() - 1


def _mask(value: str, ch: str, masks: dict[str, int]) -> int:
    """The positions of ``ch`` as bits."""
    mask = masks.get(ch)
    if mask is None:
        mask = int("".join("1" if c == ch else "0" for c in reversed(value)) or "0", 2)
        masks[ch] = mask
    return mask


def _ends(tokens: tuple[str | int, ...], value: str, start: int, masks: dict[str, int]) -> int:
    """The positions behind matches that begin at ``start``."""
    full = (1 << (len(value) + 1)) - 1
    at = 1 << start
    for token in tokens:
        if not at:
            break
        if token == _STAR:
            at = full & ~((at & -at) - 1)
        elif token == _ANY:
            at = (at << 1) & full
        else:
            at = (at & _mask(value, str(token), masks)) << 1
    return at


def _starts(tokens: tuple[str | int, ...], value: str, masks: dict[str, int]) -> int:
    """The positions at which some match begins."""
    full = (1 << (len(value) + 1)) - 1
    at = full
    for token in reversed(tokens):
        if token == _STAR:
            at = (1 << at.bit_length()) - 1
        elif token == _ANY:
            at = at >> 1
        else:
            at = (at >> 1) & _mask(value, str(token), masks)
    return at


def _template(text: str, match: str) -> str:
    """``$name`` and ``${name}`` of a Go regexp template: only ``$0`` and ``$$`` give something."""
    if "$" not in text:
        return text
    out: list[str] = []
    i = 0
    while i < len(text):
        if text[i] != "$":
            out.append(text[i])
            i += 1
            continue
        if text[i + 1 : i + 2] == "$":
            out.append("$")
            i += 2
            continue
        brace = text[i + 1 : i + 2] == "{"
        j = start = i + (2 if brace else 1)
        while j < len(text) and (text[j] == "_" or text[j].isalnum()):
            j += 1
        if j == start or (brace and text[j : j + 1] != "}"):
            out.append("$")
            i += 1
            continue
        out.append(match if text[start:j] == "0" else "")
        i = j + (1 if brace else 0)
    return "".join(out)
