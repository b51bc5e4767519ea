"""The functions of ``--format`` templates, and how Go shows and judges a value."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_WIDTH = 10_000


class Failure(Exception):
    """A template could not be executed."""


def show(value: Any) -> str:
    """As Go's ``%v``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else repr(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{show(k)}:{show(value[k])}" for k in sorted(value, key=str)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(show, value)) + "]"
    return str(value)


def truth(value: Any) -> bool:
    """What ``if`` takes for true: anything but false, 0, nil and what is empty."""
    return bool(value)


def json_text(value: Any) -> str:
    """``json``: one line."""
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def json_indented(value: Any) -> str:
    """``json`` of imagetools and bake: indented by two spaces."""
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            return None
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or not 0 <= key < len(value):
                raise Failure(f"index out of range: {show(key)}")
            value = value[key]
        else:
            raise Failure(f"can't index item of {show(value)[:80]}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    low, high = [*bounds, *(0, len(value))[len(bounds) :]][:2]
    if not 0 <= low <= high <= len(value):
        raise Failure(f"index out of range: {low}:{high}")
    return value[low:high]


def _printf(form: str, *values: Any) -> str:
    out, rest, i = [], list(values), 0
    while i < len(form):
        if form[i] != "%":
            out.append(form[i])
            i += 1
            continue
        start = i
        i += 1
        while i < len(form) and form[i] in "+-# 0123456789.":
            i += 1
        verb, flags = form[i : i + 1], form[start + 1 : i]
        i += 1
        if verb == "%":
            out.append("%")
        elif not rest:
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_verb(verb, flags, rest.pop(0)))
    return "".join(out)


def _verb(verb: str, flags: str, value: Any) -> str:
    if any(len(part) > 4 for part in flags.strip("+-# 0").split(".")):
        raise Failure(f"printf: the width {flags} is too large")
    if verb == "q":
        return ("%" + flags + "s") % json_text(show(value))
    if verb in "vs":
        return ("%" + flags.replace("+", "").replace("#", "") + "s") % show(value)
    if verb in "dxXobcfeEgGt":
        try:
            if verb == "b":
                return format(int(value), "b")
            if verb == "t":
                return show(bool(value))
            return str(("%" + flags + verb) % value)
        except (TypeError, ValueError):
            return f"%!{verb}({show(value)})"
    return f"%!{verb}({show(value)})"


def _println(*values: Any) -> str:
    return " ".join(map(show, values)) + "\n"


def _print(*values: Any) -> str:
    return "".join(map(show, values))


def _order(a: Any, b: Any) -> tuple[Any, Any]:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a, b
    if isinstance(a, str) and isinstance(b, str):
        return a, b
    raise Failure("incompatible types for comparison")


def _eq(a: Any, *others: Any) -> bool:
    if not others:
        raise Failure("missing argument for comparison")
    return any(a == b for b in others)


def _lt(a: Any, b: Any) -> bool:
    a, b = _order(a, b)
    return bool(a < b)


def _length(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, (str, list, tuple, dict)):
        raise Failure(f"len of {show(value)}")
    return len(value.encode()) if isinstance(value, str) else len(value)


def _truncate(text: Any, length: int) -> str:
    return show(text)[: max(length, 0)]


def _pad(text: Any, before: int, after: int) -> str:
    if not text:
        return show(text)
    return " " * min(before, MAX_WIDTH) + show(text) + " " * min(after, MAX_WIDTH)


def _join(items: Any, separator: str) -> str:
    return separator.join(map(show, items or ()))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *a: a[-1],  # evaluated by the caller, which stops early
    "or": lambda *a: a[-1],
    "not": lambda a: not truth(a),
    "eq": _eq,
    "ne": lambda a, b: not _eq(a, b),
    "lt": _lt,
    "le": lambda a, b: not _lt(b, a),
    "gt": lambda a, b: _lt(b, a),
    "ge": lambda a, b: not _lt(a, b),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "json": json_text,
    "join": _join,
    "split": lambda text, separator: show(text).split(separator) if separator else list(show(text)),
    "lower": lambda text: show(text).lower(),
    "upper": lambda text: show(text).upper(),
    "title": lambda text: show(text).title(),
    "trim": lambda text: show(text).strip(),
    "replace": lambda old, new, text: show(text).replace(old, new),
    "truncate": _truncate,
    "pad": _pad,
}
