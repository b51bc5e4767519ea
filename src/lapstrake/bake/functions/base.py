"""What a standard function is, and how its arguments are checked."""

from __future__ import annotations

from ...errors import BakeError
from ...values import Value
from ..types import ANY, BOOL, NUMBER, STRING, ConversionError, Type, convert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

TABLE: dict[str, Function] = {}
_TYPES = {
    "string": STRING, "number": NUMBER, "bool": BOOL, "any": ANY, "list": Type("list", (ANY,)),
    "strings": Type("list", (STRING,)), "set": Type("set", (ANY,)), "numbers": NUMBER,
}  # fmt: skip


class FunctionError(Exception):
    """Why a call failed; the caller knows where it was written."""


class Problem(FunctionError):
    """One argument (by number) is wrong."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index = index


class Param(Value):
    """``optional``: null is fine."""

    name: str
    type: Type
    optional: bool = False


class Function(Value):
    """``rest``: any number of further arguments of that type."""

    name: str
    params: tuple[Param, ...]
    rest: Param | None
    run: Callable[..., Any]

    def __call__(self, args: Sequence[Any]) -> Any:
        """Check, convert and call; raises FunctionError."""
        low = len(self.params)
        if len(args) < low or (self.rest is None and len(args) > low):
            raise FunctionError(self.count(len(args)))
        converted = []
        for n, arg in enumerate(args):
            param = self.params[n] if n < low else self.rest
            if param is None:
                break
            if arg is None and not param.optional:
                raise Problem(n, "argument must not be null")
            try:
                converted.append(convert(arg, param.type))
            except ConversionError as e:
                raise Problem(n, str(e)) from None
        try:
            return self.run(*converted)
        except (ValueError, OverflowError, ZeroDivisionError, MemoryError, RecursionError) as e:
            raise FunctionError(str(e) or type(e).__name__) from None

    def count(self, given: int) -> str:
        """What is wrong with the number of arguments."""
        need = len(self.params)
        words = f"{need} argument{'' if need == 1 else 's'}"
        if given < need:
            return f'{"at least " if self.rest else ""}{words} needed, "{self.params[given].name}" is missing'
        return f"only {words} expected"

    def param_name(self, index: int) -> str:
        """The name of an argument, for messages."""
        if index < len(self.params):
            return self.params[index].name
        return self.rest.name if self.rest is not None else str(index + 1)


def define(name: str, *params: str, rest: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function.  A parameter is ``name:type``, with ``?`` behind it when it may be null."""

    def enter(run: Callable[..., Any]) -> Callable[..., Any]:
        TABLE[name] = Function(name, tuple(map(_param, params)), _param(rest) if rest else None, run)
        return run

    return enter


def _param(text: str) -> Param:
    name, _, kind = text.partition(":")
    optional = kind.endswith("?")
    return Param(name, _TYPES[kind.removesuffix("?")], optional)


def need_list(value: Any, index: int = 0, what: str = "a list") -> tuple[Any, ...]:
    """A list, set or tuple; raises Problem."""
    if not isinstance(value, tuple):
        raise Problem(index, f"{what} is required")
    return value


def need_map(value: Any, index: int = 0) -> dict[str, Any]:
    """A map or object; raises Problem."""
    if not isinstance(value, dict):
        raise Problem(index, "a map or object is required")
    return value


def whole(value: Any, index: int) -> int:
    """A whole number; raises Problem."""
    if not isinstance(value, int):
        raise Problem(index, "a whole number is required")
    return value


__all__ = [
    "TABLE",
    "BakeError",
    "Function",
    "FunctionError",
    "Param",
    "Problem",
    "define",
    "need_list",
    "need_map",
    "whole",
]
