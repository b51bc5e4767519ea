"""HCL's values and types, and the conversions between them.

Values are Python's: ``None`` (null), ``bool``, ``int``/``Fraction``, ``str``; ``tuple`` and ``dict``
for HCL's tuples and objects, and three classes that say that all elements have one type.
"""

from __future__ import annotations

from fractions import Fraction

from ..values import Value
from . import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class ListOf(tuple[object, ...]):
    """A list: its elements have one type."""

    __slots__ = ()


class SetOf(tuple[object, ...]):
    """A set: in canonical order, each element once."""

    __slots__ = ()


class MapOf(dict[str, object]):
    """A map: its values have one type."""

    __slots__ = ()


class Type(Value):
    """A type.  ``kind``: string number bool any list set map tuple object; ``of``: the element's, the
    tuple's elements', or (with ``keys``) the object's attributes'; ``optional``: attributes that may lack."""

    kind: str
    of: tuple[Type, ...] = ()
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind in ("list", "set", "map"):
            return f"{self.kind} of {self.of[0]}" if self.of else self.kind
        return "dynamic" if self.kind == "any" else self.kind


STRING, NUMBER, BOOL, ANY = Type("string"), Type("number"), Type("bool"), Type("any")
STRINGS, STRING_MAP = Type("list", (STRING,)), Type("map", (STRING,))
PRIMITIVES = ("string", "number", "bool")


class ConversionError(Exception):
    """A value is not of the type needed; the text says which is."""


def is_number(value: object) -> bool:
    """A number, not a bool."""
    return isinstance(value, (int, Fraction)) and not isinstance(value, bool)


def type_of(value: Any) -> Type:
    """The type of a value; null has every type."""
    if value is None:
        return ANY
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, str):
        return STRING
    if isinstance(value, (int, Fraction)):
        return NUMBER
    if isinstance(value, (ListOf, SetOf)):
        kind = "list" if isinstance(value, ListOf) else "set"
        return Type(kind, (unify([type_of(v) for v in value]) or ANY,))
    if isinstance(value, MapOf):
        return Type("map", (unify([type_of(v) for v in value.values()]) or ANY,))
    if isinstance(value, dict):
        keys = tuple(sorted(value))
        return Type("object", tuple(type_of(value[k]) for k in keys), keys)
    return Type("tuple", tuple(type_of(v) for v in value))


def friendly(value: object) -> str:
    """A value's type for a message."""
    return "null" if value is None else str(type_of(value))


def unify(types: Iterable[Type]) -> Type | None:
    """One type that all convert to; None when there is none."""
    found: Type | None = None
    for t in types:
        if t.kind == "any":
            continue
        if found is None or found == t:
            found = t
            continue
        both = {found.kind, t.kind}
        if both <= {"string", "number"} or both <= {"string", "bool"}:
            found = STRING
        elif both <= {"list", "tuple", "set"} or both <= {"map", "object"}:
            inner = unify([*found.of, *t.of])
            if inner is None:
                return None
            kind = ("list" if both - {"set"} else "set") if both <= {"list", "tuple", "set"} else "map"
            found = Type(kind, (inner,))
        else:
            return None
    return found or ANY


def text(value: Any) -> str:
    """A primitive as a string; raises ConversionError."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Fraction)):
        return numbers.text(value)
    raise ConversionError("string required")


def convert(value: Any, to: Type) -> Any:
    """``value`` as ``to``; raises ConversionError."""
    if value is None or to.kind == "any":
        return value
    if to.kind == "string":
        return text(value)
    if to.kind == "number":
        return _number(value)
    if to.kind == "bool":
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value in ("true", "1", "false", "0"):
            return value in ("true", "1")
        raise ConversionError("bool required")
    return _collection(value, to)


def _number(value: Any) -> Any:
    if is_number(value):
        return value
    if isinstance(value, str):
        try:
            return numbers.parse(value)
        except (ValueError, ZeroDivisionError):
            pass
    raise ConversionError("a number is required")


def _collection(value: Any, to: Type) -> Any:
    if to.kind in ("list", "set"):
        if not isinstance(value, tuple):
            raise ConversionError(f"{to} required")
        inner = to.of[0]
        if inner.kind == "any":
            inner = unify(type_of(v) for v in value) or _no_common(to)
        items = [_inside(v, inner, f"element {n}") for n, v in enumerate(value)]
        return ListOf(items) if to.kind == "list" else make_set(items)
    if to.kind == "map":
        if not isinstance(value, dict):
            raise ConversionError(f"{to} required")
        inner = to.of[0]
        if inner.kind == "any":
            inner = unify(type_of(v) for v in value.values()) or _no_common(to)
        return MapOf({k: _inside(v, inner, f'element "{k}"') for k, v in sorted(value.items())})
    if to.kind == "tuple":
        if not isinstance(value, tuple) or len(value) != len(to.of):
            raise ConversionError(f"tuple of {len(to.of)} elements required")
        return tuple(_inside(v, t, f"element {n}") for n, (v, t) in enumerate(zip(value, to.of, strict=True)))
    if not isinstance(value, dict):
        raise ConversionError("object required")
    for key in to.keys:
        if key not in value and key not in to.optional:
            raise ConversionError(f'attribute "{key}" is required')
    return {k: _inside(value.get(k), t, f'attribute "{k}"') for k, t in zip(to.keys, to.of, strict=True)}


def _no_common(to: Type) -> Type:
    raise ConversionError(f"all elements of a {to.kind} must have the same type")


def _inside(value: Any, to: Type, where: str) -> Any:
    try:
        return convert(value, to)
    except ConversionError as e:
        raise ConversionError(f"{where}: {e}") from None


def order_key(value: Any) -> tuple[Any, ...]:
    """Sorts values of any type: a set's order."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if is_number(value):
        return (2, value)
    if isinstance(value, str):
        return (3, value)
    if isinstance(value, tuple):
        return (4, [order_key(v) for v in value])
    return (5, [(k, order_key(v)) for k, v in sorted(value.items())])


def make_set(items: Iterable[Any]) -> SetOf:
    """A set of values that have one type already."""
    out: list[Any] = []
    for item in sorted(items, key=order_key):
        if not out or not same(out[-1], item):
            out.append(item)
    return SetOf(out)


def same(a: Any, b: Any) -> bool:
    """HCL's ``==``: values of different types are different."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if is_number(a) and is_number(b):
        return bool(a == b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return type(a) is type(b) and bool(a == b)
