"""Frozen, slotted, keyword-friendly values.

Why not ``dataclasses``: importing it costs 13 ms (it pulls in ``inspect``) and every
decorated class about 0.5 ms more, which alone would eat half of the 70 ms a no-op
rebuild may take.  ``Value`` gives type checkers the same picture through
``dataclass_transform`` at a few microseconds a class.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    T = TypeVar("T", bound="Value")
else:

    def dataclass_transform(**_kw: object) -> object:  # the real one lives in typing (6 ms)
        return lambda cls: cls


_set = object.__setattr__


@dataclass_transform(frozen_default=True, eq_default=True)
class ValueMeta(type):
    """Turns annotated names of a class body into slots and constructor parameters."""

    def __new__(mcs, name: str, bases: tuple[type, ...], ns: dict[str, Any]) -> ValueMeta:
        own = [k for k in ns.get("__annotations__", {}) if not k.startswith("__")]
        fields: list[str] = []
        defaults: dict[str, Any] = {}
        for base in bases:
            fields += [f for f in getattr(base, "__fields__", ()) if f not in fields]
            defaults.update(getattr(base, "__defaults__", {}))
        new = [f for f in own if f not in fields]
        for f in own:
            if f in ns:
                defaults[f] = ns.pop(f)
        ns["__slots__"] = tuple(new) + tuple(ns.get("__slots__", ()))
        ns["__fields__"] = ns["__match_args__"] = tuple(fields + new)
        ns["__defaults__"] = defaults
        return super().__new__(mcs, name, bases, ns)


class Value(metaclass=ValueMeta):
    """Base of all frozen values.  Subclass and annotate; defaults must be immutable."""

    if TYPE_CHECKING:
        __fields__: ClassVar[tuple[str, ...]] = ()
        __defaults__: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any, **kw: Any) -> None:
        fields = self.__fields__
        if len(args) > len(fields):
            raise TypeError(f"{type(self).__name__} takes at most {len(fields)} values")
        for name, value in zip(fields, args, strict=False):
            _set(self, name, value)
        defaults = self.__defaults__
        for name in fields[len(args) :]:
            if name in kw:
                _set(self, name, kw.pop(name))
            elif name in defaults:
                _set(self, name, defaults[name])
            else:
                raise TypeError(f"{type(self).__name__} needs {name!r}")
        if kw:
            raise TypeError(f"{type(self).__name__} has no {min(kw)!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def _astuple(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f) for f in self.__fields__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._astuple() == other._astuple()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._astuple()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{f}={getattr(self, f)!r}" for f in self.__fields__)
        return f"{type(self).__name__}({inner})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self._astuple()))


def _restore(cls: type[T], state: tuple[Any, ...]) -> T:
    return cls(*state)


def replace(value: T, **changes: Any) -> T:
    """A copy of ``value`` with some fields changed."""
    state = {f: getattr(value, f) for f in value.__fields__}
    state.update(changes)
    return type(value)(**state)


def asdict(value: Value) -> dict[str, Any]:
    """The fields by name, not descending into nested values."""
    return {f: getattr(value, f) for f in value.__fields__}
