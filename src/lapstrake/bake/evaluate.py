"""Evaluation of expressions.  Names are looked up in a ``Scope``; nothing here knows about targets."""

from __future__ import annotations

from fractions import Fraction

from ..errors import BakeError
from . import numbers
from .source import diagnostic, meant
from .syntax import (
    Binary,
    Call,
    Conditional,
    Element,
    Expr,
    For,
    GetAttr,
    Index,
    Literal,
    Object,
    Ref,
    Splat,
    Template,
    Tuple,
    Unary,
)
from .types import (
    BOOL,
    NUMBER,
    STRING,
    ConversionError,
    ListOf,
    MapOf,
    SetOf,
    convert,
    friendly,
    is_number,
    same,
    type_of,
    unify,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from .source import At
    from .syntax import Call as CallNode
    from .types import Type

    class Root(Protocol):
        """What top-level names mean."""

        def value(self, name: str, at: At) -> Any: ...
        def attribute(self, node: GetAttr, scope: Scope) -> tuple[bool, Any]: ...
        def call(self, node: CallNode, scope: Scope) -> Any: ...


class Scope:
    """Local names over the root's; ``element``: what ``Element`` means."""

    __slots__ = ("element", "names", "outer", "root")

    def __init__(self, root: Root, outer: Scope | None = None, names: dict[str, Any] | None = None) -> None:
        self.root = root
        self.outer = outer
        self.names = names or {}
        self.element: Any = outer.element if outer is not None else None

    def child(self, **names: Any) -> Scope:
        """With more local names."""
        return Scope(self.root, self, names)

    def lookup(self, name: str, at: At) -> Any:
        """The value of a name; raises BakeError."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return self.root.value(name, at)

    def is_local(self, name: str) -> bool:
        """Is the name one of ours?"""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.outer
        return False


def evaluate(e: Expr, scope: Scope) -> Any:
    """The value of an expression; raises BakeError at the place of the problem."""
    try:
        return _EVALUATORS[type(e)](e, scope)
    except RecursionError:
        raise diagnostic(e.at, "Too deep", "The expression is nested too deeply.") from None


def as_type(e: Expr, scope: Scope, to: Type, summary: str, detail: str) -> Any:
    """The value, converted."""
    value = evaluate(e, scope)
    try:
        return convert(value, to)
    except ConversionError as error:
        raise diagnostic(e.at, summary, f"{detail}{error}.") from None


def _literal(e: Literal, _scope: Scope) -> Any:
    return e.value


def _ref(e: Ref, scope: Scope) -> Any:
    return scope.lookup(e.name, e.at)


def _template(e: Template, scope: Scope) -> Any:
    if e.wrap:
        return evaluate(e.parts[0], scope)
    out = []
    for part in e.parts:
        value = evaluate(part, scope)
        if value is None:
            raise diagnostic(
                part.at,
                "Invalid template interpolation value",
                "It is null, which can't be part of a string.",
            )
        try:
            out.append(convert(value, STRING))
        except ConversionError:
            raise diagnostic(
                part.at,
                "Invalid template interpolation value",
                f"A {friendly(value)} can't be part of a string: a string is required.",
            ) from None
    return "".join(out)


def _getattr(e: GetAttr, scope: Scope) -> Any:
    found, value = scope.root.attribute(e, scope)
    if found:
        return value
    of = evaluate(e.of, scope)
    if isinstance(of, dict):
        if e.name in of:
            return of[e.name]
        if isinstance(of, MapOf):
            raise diagnostic(
                e.name_at, "Missing map element", f'This map has no element "{e.name}".{meant(e.name, of)}'
            )
        raise diagnostic(
            e.name_at, "Unsupported attribute", f'This object has no attribute "{e.name}".{meant(e.name, of)}'
        )
    if of is None:
        raise diagnostic(
            e.name_at,
            "Attempt to get attribute from null value",
            "The value is null, so it has no attributes.",
        )
    if isinstance(of, tuple):
        raise diagnostic(
            e.name_at,
            "Unsupported attribute",
            f"A {friendly(of)} has no attributes; for one element write [0], for all of them [*].{e.name}.",
        )
    raise diagnostic(e.name_at, "Unsupported attribute", f"A {friendly(of)} has no attributes.")


def _index(e: Index, scope: Scope) -> Any:
    return index(evaluate(e.of, scope), evaluate(e.key, scope), e.at)


def index(of: Any, key: Any, at: At) -> Any:
    """``of[key]``."""
    if of is None:
        raise diagnostic(at, "Attempt to index null value", "The value is null, so it has no elements.")
    if key is None:
        raise diagnostic(at, "Invalid index", "The key is null.")
    if isinstance(of, SetOf):
        raise diagnostic(at, "Invalid index", "Elements of a set have no index; convert it to a list first.")
    if isinstance(of, tuple):
        try:
            number = convert(key, NUMBER)
        except ConversionError as error:
            raise diagnostic(at, "Invalid index", f"The key is not suitable: {error}.") from None
        if isinstance(number, Fraction) or not 0 <= number < len(of):
            raise diagnostic(
                at,
                "Invalid index",
                f"There is no element {numbers.text(number)}: there are {len(of)}, counted from 0.",
            )
        return of[number]
    if isinstance(of, dict):
        try:
            name = convert(key, STRING)
        except ConversionError as error:
            raise diagnostic(at, "Invalid index", f"The key is not suitable: {error}.") from None
        if name in of:
            return of[name]
        raise diagnostic(at, "Invalid index", f'There is no element "{name}".{meant(name, of)}')
    raise diagnostic(at, "Invalid index", f"A {friendly(of)} has no elements.")


def _splat(e: Splat, scope: Scope) -> Any:
    of = evaluate(e.of, scope)
    if of is None:
        return ()
    items = of if isinstance(of, tuple) else (of,)
    out = []
    for item in items:
        inner = Scope(scope.root, scope)
        inner.element = item
        out.append(evaluate(e.each, inner))
    return unified(out) if isinstance(of, (ListOf, SetOf)) else tuple(out)


def unified(items: list[Any]) -> Any:
    """A list when the elements have one type, else a tuple."""
    types = {type_of(v) for v in items}
    return ListOf(items) if len(types) <= 1 else tuple(items)


def _element(_e: Element, scope: Scope) -> Any:
    return scope.element


def _call(e: Call, scope: Scope) -> Any:
    return scope.root.call(e, scope)


def _operand(e: Expr, scope: Scope, to: Type, side: str) -> Any:
    value = as_type(e, scope, to, "Invalid operand", f"Unsuitable value for {side} operand: ")
    if value is None:
        raise diagnostic(e.at, "Invalid operand", f"Unsuitable value for {side} operand: it is null.")
    return value


def _unary(e: Unary, scope: Scope) -> Any:
    if e.op == "!":
        return not _operand(e.value, scope, BOOL, "unary")
    return -_operand(e.value, scope, NUMBER, "unary")


def _binary(e: Binary, scope: Scope) -> Any:
    op = e.op
    if op in ("==", "!="):
        return same(evaluate(e.left, scope), evaluate(e.right, scope)) == (op == "==")
    if op in ("&&", "||"):
        left = _operand(e.left, scope, BOOL, "left")
        right = _operand(e.right, scope, BOOL, "right")
        return (left and right) if op == "&&" else (left or right)
    a, b = _operand(e.left, scope, NUMBER, "left"), _operand(e.right, scope, NUMBER, "right")
    try:
        return arithmetic(op, a, b)
    except ZeroDivisionError:
        raise diagnostic(e.right.at, "Division by zero", "The divisor is zero.") from None


def arithmetic(op: str, a: Any, b: Any) -> Any:
    """A number or a bool; raises ZeroDivisionError."""
    if op == "<":
        return a < b
    if op == "<=":
        return a <= b
    if op == ">":
        return a > b
    if op == ">=":
        return a >= b
    if op == "+":
        out = a + b
    elif op == "-":
        out = a - b
    elif op == "*":
        out = a * b
    elif op == "/":
        out = Fraction(a) / b
    else:
        quotient = Fraction(a) / b
        out = a - b * int(quotient)  # towards zero
    return numbers.rounded(out)


def _conditional(e: Conditional, scope: Scope) -> Any:
    test = as_type(e.test, scope, BOOL, "Incorrect condition type", "A condition is true or false: ")
    if test is None:
        raise diagnostic(e.test.at, "Null condition", "A condition is true or false, not null.")
    other = e.no if test else e.yes
    value = evaluate(e.yes if test else e.no, scope)
    try:
        spare = evaluate(other, scope)
    except BakeError:
        return value  # the branch that isn't taken may fail: it only lends its type
    if value is None or spare is None:
        return value
    a, b = (value, spare) if test else (spare, value)
    found = unify([type_of(a), type_of(b)])
    if found is None:
        if isinstance(a, tuple) == isinstance(b, tuple) and isinstance(a, dict) == isinstance(b, dict):
            return value
        raise diagnostic(
            e.at,
            "Inconsistent conditional result types",
            f"Both results must have one type: the true one is {friendly(a)}, the false one {friendly(b)}.",
        )
    return convert(value, found)


def _tuple(e: Tuple, scope: Scope) -> Any:
    return tuple(evaluate(x, scope) for x in e.items)


def _key(e: Expr, value: Any) -> str:
    if value is None:
        raise diagnostic(e.at, "Null value as key", "A key can't be null.")
    try:
        return str(convert(value, STRING))
    except ConversionError as error:
        raise diagnostic(
            e.at, "Incorrect key type", f"A {friendly(value)} can't be a key: {error}."
        ) from None


def _object(e: Object, scope: Scope) -> Any:
    return {_key(k, evaluate(k, scope)): evaluate(v, scope) for k, v in e.items}


def pairs(over: Any, at: At) -> Iterator[tuple[Any, Any]]:
    """(key, value) of each element of a collection."""
    if over is None:
        raise diagnostic(at, "Iteration over null value", "A null value has no elements.")
    if isinstance(over, dict):
        yield from sorted(over.items())
    elif isinstance(over, SetOf):
        yield from ((v, v) for v in over)
    elif isinstance(over, tuple):
        yield from enumerate(over)
    else:
        raise diagnostic(at, "Iteration over non-iterable value", f"A {friendly(over)} has no elements.")


def _for(e: For, scope: Scope) -> Any:
    out: list[Any] = []
    table: dict[str, Any] = {}
    for key, value in pairs(evaluate(e.over, scope), e.over.at):
        names = {e.names[-1]: value}
        if len(e.names) == 2:
            names[e.names[0]] = key
        inner = Scope(scope.root, scope, names)
        if e.test is not None and not _tested(e.test, inner):
            continue
        result = evaluate(e.value, inner)
        if e.key is None:
            out.append(result)
            continue
        name = _key(e.key, evaluate(e.key, inner))
        if e.group:
            table.setdefault(name, []).append(result)
        elif name in table:
            raise diagnostic(
                e.key.at,
                "Duplicate object key",
                f'Two items have the key "{name}"; "..." after the value makes a list of them.',
            )
        else:
            table[name] = result
    if e.join:
        return "".join(out)
    if e.key is None:
        return tuple(out)
    return {k: tuple(v) if e.group else v for k, v in table.items()}


def _tested(e: Expr, scope: Scope) -> bool:
    value = as_type(e, scope, BOOL, "Invalid for condition", "The condition is true or false: ")
    if value is None:
        raise diagnostic(e.at, "Condition is null", "The condition is true or false, not null.")
    return bool(value)


_EVALUATORS: dict[type, Any] = {
    Literal: _literal, Ref: _ref, Template: _template, GetAttr: _getattr, Index: _index, Splat: _splat,
    Element: _element, Call: _call, Unary: _unary, Binary: _binary, Conditional: _conditional, Tuple: _tuple,
    Object: _object, For: _for,
}  # fmt: skip

__all__ = ["Scope", "arithmetic", "as_type", "evaluate", "index", "is_number", "pairs", "unified"]
