"""Functions that look at their arguments' expressions: ``try``, ``can``, ``convert``; and types as expressions."""

from __future__ import annotations

from ..errors import BakeError
from .evaluate import evaluate
from .source import diagnostic
from .syntax import Call, Expr, Literal, Object, Ref, Tuple
from .types import ANY, PRIMITIVES, ConversionError, Type, convert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .evaluate import Scope


def _try(node: Call, scope: Scope) -> Any:
    if not node.args:
        raise diagnostic(node.at, "Error in function call", "at least one argument is required")
    last = ""
    for arg in node.args:
        try:
            return evaluate(arg, scope)
        except BakeError as e:
            last = e.message
    raise diagnostic(node.at, "Error in function call", f"no expression succeeded; the last one: {last}")


def _can(node: Call, scope: Scope) -> Any:
    if len(node.args) != 1:
        raise diagnostic(node.at, "Error in function call", 'Function "can" takes one argument.')
    try:
        evaluate(node.args[0], scope)
    except BakeError:
        return False
    return True


def _convert(node: Call, scope: Scope) -> Any:
    if len(node.args) != 2:
        raise diagnostic(node.at, "Error in function call", 'Function "convert" takes a value and a type.')
    try:
        return convert(evaluate(node.args[0], scope), read_type(node.args[1]))
    except ConversionError as e:
        raise diagnostic(node.args[0].at, "Invalid function argument", f"{e}.") from None


SPECIAL: dict[str, Callable[[Call, Scope], Any]] = {"try": _try, "can": _can, "convert": _convert}


def read_type(e: Expr) -> Type:
    """``string``, ``list(number)``, ``object({a = string})``, …; raises BakeError."""
    if isinstance(e, Literal) and isinstance(e.value, str):
        from .parser import parse_expression

        try:
            return read_type(parse_expression(e.value))
        except BakeError as error:
            raise diagnostic(e.at, "Invalid type specification", error.message) from None
    if isinstance(e, Ref):
        if e.name in PRIMITIVES:
            return Type(e.name)
        if e.name == "any":
            return ANY
        if e.name in ("list", "set", "map"):
            return Type(e.name, (ANY,))
    if isinstance(e, Call) and len(e.args) == 1:
        if e.name in ("list", "set", "map"):
            return Type(e.name, (read_type(e.args[0]),))
        if e.name == "tuple" and isinstance(e.args[0], Tuple):
            return Type("tuple", tuple(read_type(x) for x in e.args[0].items))
        if e.name == "object" and isinstance(e.args[0], Object):
            return _object(e.args[0])
    raise diagnostic(
        e.at,
        "Invalid type specification",
        "It is not a valid type: string, number, bool, any, list(T), set(T), map(T), tuple([T, …]) and object({name = T, …}) are.",
    )


def _object(e: Object) -> Type:
    keys, of, optional = [], [], []
    for key, value in e.items:
        if not isinstance(key, Literal) or not isinstance(key.value, str):
            raise diagnostic(
                key.at, "Invalid type specification", "Attributes of an object have plain names."
            )
        maybe = isinstance(value, Call) and value.name == "optional" and bool(value.args)
        if maybe:
            optional.append(key.value)
        keys.append(key.value)
        of.append(read_type(value.args[0] if maybe and isinstance(value, Call) else value))
    return Type("object", tuple(of), tuple(keys), tuple(optional))
