"""The syntax tree of HCL, native or JSON: frozen values, each with its place."""

from __future__ import annotations

from ..values import Value
from .source import At

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Expr(Value):
    """Base of expressions."""

    at: At


class Literal(Expr):
    """A number, a bool, null or a string without templates."""

    value: Any


class Template(Expr):
    """Parts put together as one string; ``wrap``: a lone ``${…}``, which keeps its value's type."""

    parts: tuple[Expr, ...]
    wrap: bool = False


class Ref(Expr):
    """The root of a reference."""

    name: str


class GetAttr(Expr):
    """``of.name``."""

    of: Expr
    name: str
    name_at: At


class Index(Expr):
    """``of[key]``, and ``of.0``."""

    of: Expr
    key: Expr


class Splat(Expr):
    """``of[*]…`` or ``of.*…``: ``each`` is evaluated for every element, which it calls ``Element``."""

    of: Expr
    each: Expr


class Element(Expr):
    """The current element of the innermost splat."""


class Call(Expr):
    """``name(args…)``; ``expand``: the last one is a list of arguments."""

    name: str
    name_at: At
    args: tuple[Expr, ...]
    expand: bool = False


class Unary(Expr):
    """``-x``, ``!x``."""

    op: str
    value: Expr


class Binary(Expr):
    """``left op right``."""

    op: str
    left: Expr
    right: Expr


class Conditional(Expr):
    """``test ? yes : no``, and ``%{if}``."""

    test: Expr
    yes: Expr
    no: Expr


class Tuple(Expr):
    """``[a, b]``."""

    items: tuple[Expr, ...]


class Object(Expr):
    """``{k = v}``; a bare word as key is already a Literal."""

    items: tuple[tuple[Expr, Expr], ...]


class For(Expr):
    """``[for …]``, ``{for …}`` (with ``key``) and ``%{for}`` (``join``)."""

    names: tuple[str, ...]  # (value,) or (key, value)
    over: Expr
    key: Expr | None
    value: Expr
    test: Expr | None = None
    group: bool = False
    join: bool = False


class Attribute(Value):
    """``name = expr``."""

    name: str
    expr: Expr
    name_at: At
    at: At


class Block(Value):
    """``type "label" { … }``."""

    type: str
    labels: tuple[str, ...]
    label_at: tuple[At, ...]
    body: Body
    at: At  # the header


class Body(Value):
    """What is between braces, or a whole file; everything in the order written."""

    attributes: tuple[Attribute, ...]
    blocks: tuple[Block, ...]
    at: At
    json: bool = False


def children(e: Expr) -> tuple[Expr, ...]:
    """Direct parts of an expression."""
    if isinstance(e, Template):
        return e.parts
    if isinstance(e, GetAttr):
        return (e.of,)
    if isinstance(e, Index):
        return (e.of, e.key)
    if isinstance(e, Splat):
        return (e.of, e.each)
    if isinstance(e, Call):
        return e.args
    if isinstance(e, Unary):
        return (e.value,)
    if isinstance(e, Binary):
        return (e.left, e.right)
    if isinstance(e, Conditional):
        return (e.test, e.yes, e.no)
    if isinstance(e, Tuple):
        return e.items
    if isinstance(e, Object):
        return tuple(x for pair in e.items for x in pair)
    if isinstance(e, For):
        return tuple(x for x in (e.over, e.key, e.value, e.test) if x is not None)
    return ()


def calls(e: Expr) -> set[str]:
    """Names of all functions an expression calls."""
    found, todo = set(), [e]
    while todo:
        item = todo.pop()
        if isinstance(item, Call):
            found.add(item.name)
        todo += children(item)
    return found
