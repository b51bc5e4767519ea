"""Filters of ``du``, ``prune`` and gc policies: ``type=exec.cachemount``, ``description~=golang``, ``shared`` …"""

from __future__ import annotations

from ..errors import UsageError
from ..optspec import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .usage import Usage

    Test = Callable[[Usage], bool]

TYPES = ("internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount", "regular")
_FLAGS: dict[str, Test] = {
    "inuse": lambda r: r.in_use,
    "mutable": lambda r: r.mutable,
    "immutable": lambda r: not r.mutable,
    "shared": lambda r: r.shared,
    "private": lambda r: not r.shared,
}
_TEXTS: dict[str, Callable[[Usage], tuple[str, ...]]] = {
    "id": lambda r: (r.id,),
    "parents": lambda r: r.parents,
    "description": lambda r: (r.description,),
    "type": lambda r: (r.type,),
}
_TRUE, _FALSE = ("", "1", "t", "true"), ("0", "f", "false")


def split(raw: str) -> tuple[str, str, str]:
    """``(key, operator, value)``; the operator is ``=``, ``!=``, ``~=`` or empty for a flag."""
    at = min((i for i in (raw.find(op) for op in ("!=", "~=", "=")) if i >= 0), default=-1)
    if at < 0:
        return raw.strip(), "", ""
    op = raw[at : at + 2] if raw[at : at + 2] in ("!=", "~=") else "="
    value = raw[at + len(op) :]
    return raw[:at].strip(), op, value.removeprefix("=") if op == "=" else value


def parse(raw: str) -> Test:
    """One filter.  Raises UsageError."""
    key, op, value = split(raw)
    if key in _FLAGS:
        return _flag(raw, key, op, value)
    if key not in _TEXTS or not op:
        known = ", ".join(["until", *_TEXTS, *_FLAGS])
        raise UsageError(
            f'invalid filter "{raw}"', hint=f"write key=value, key!=value or key~=regexp; keys: {known}"
        )
    if key == "type" and op != "~=" and value not in TYPES:
        raise UsageError(f'invalid filter "{raw}": unknown type', hint=f"types: {', '.join(TYPES)}")
    texts = _TEXTS[key]
    if op == "~=":
        import re

        try:
            pattern = re.compile(value)
        except re.error as e:
            raise UsageError(f'invalid filter "{raw}": {e}') from None
        return lambda r: any(pattern.search(t) for t in texts(r))
    wanted = set(value.split(";")) if key == "parents" else {value}
    equal = op == "="
    return lambda r: bool(wanted.intersection(texts(r))) == equal


def _flag(raw: str, key: str, op: str, value: str) -> Test:
    low = value.lower()
    if op == "~=" or (low not in _TRUE and low not in _FALSE):
        raise UsageError(f'invalid filter "{raw}"', hint=f"write {key}, or {key}=false")
    wanted = (low in _TRUE) == (op != "!=")
    test = _FLAGS[key]
    return lambda r: test(r) == wanted


def parse_all(raws: Iterable[str]) -> tuple[Test | None, float]:
    """All filters together (each must hold), and the age ``until=`` asks for in seconds."""
    tests: list[Test] = []
    age = 0.0
    for raw in raws:
        key, op, value = split(raw)
        if key in ("until", "unused-for"):
            if op != "=":
                raise UsageError(f'invalid filter "{raw}"', hint="write until=24h")
            age = max(age, duration(value))
        else:
            tests.append(parse(raw))
    return (lambda r: all(t(r) for t in tests)) if tests else None, age


def any_of(raws: Iterable[str]) -> Test | None:
    """A gc policy's filters: one of them must hold; within one, what commas separate."""
    groups = [[parse(part) for part in raw.split(",")] for raw in raws]
    return (lambda r: any(all(t(r) for t in tests) for tests in groups)) if groups else None
