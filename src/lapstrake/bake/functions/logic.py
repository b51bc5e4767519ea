"""Functions of numbers, bools and comparisons."""

from __future__ import annotations

from fractions import Fraction

from .. import numbers
from ..types import STRING, ConversionError, convert, friendly, same, type_of, unify
from .base import FunctionError, Problem, define, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _binary(name: str, op: str) -> Callable[[Any, Any], Any]:
    def run(a: Any, b: Any) -> Any:
        from ..evaluate import arithmetic

        try:
            return arithmetic(op, a, b)
        except ZeroDivisionError:
            raise Problem(1, "the divisor is zero") from None

    define(name, "a:number", "b:number")(run)
    return run


for _name, _op in (
    ("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/"), ("modulo", "%"), ("lessthan", "<"),
    ("lessthanorequalto", "<="), ("greaterthan", ">"), ("greaterthanorequalto", ">="),
):  # fmt: skip
    _binary(_name, _op)


@define("negate", "num:number")
def negate(n: Any) -> Any:
    return -n


@define("absolute", "num:number")
def absolute(n: Any) -> Any:
    return abs(n)


@define("signum", "num:number")
def signum(n: Any) -> int:
    return int(n > 0) - int(n < 0)


@define("int", "num:number")
def int_(n: Any) -> int:
    return int(n)


@define("ceil", "num:number")
def ceil(n: Any) -> int:
    return int(-(-n // 1))


@define("floor", "num:number")
def floor(n: Any) -> int:
    return int(n // 1)


@define("max", rest="numbers:number")
def max_(*values: Any) -> Any:
    if not values:
        raise FunctionError("must pass at least one number")
    return max(values)


@define("min", rest="numbers:number")
def min_(*values: Any) -> Any:
    if not values:
        raise FunctionError("must pass at least one number")
    return min(values)


@define("log", "num:number", "base:number")
def log(n: Any, base: Any) -> Any:
    import math

    return _from_float(math.log(n) / math.log(base))


@define("pow", "num:number", "power:number")
def pow_(n: Any, power: Any) -> Any:
    if isinstance(power, int) and abs(power) <= 4096:
        if power < 0 and n == 0:
            raise FunctionError("zero has no negative power")
        return numbers.rounded(Fraction(n) ** power)
    return _from_float(float(n) ** float(power))


def _from_float(value: float) -> Any:
    import math

    if isinstance(value, complex) or not math.isfinite(value):
        raise FunctionError("the result is not a number")
    return numbers.rounded(Fraction(value))


@define("and", "a:bool", "b:bool")
def and_(a: bool, b: bool) -> bool:
    return a and b


@define("or", "a:bool", "b:bool")
def or_(a: bool, b: bool) -> bool:
    return a or b


@define("not", "val:bool")
def not_(a: bool) -> bool:
    return not a


@define("equal", "a:any?", "b:any?")
def equal(a: Any, b: Any) -> bool:
    return same(a, b)


@define("notequal", "a:any?", "b:any?")
def notequal(a: Any, b: Any) -> bool:
    return not same(a, b)


@define("coalesce", rest="vals:any?")
def coalesce(*values: Any) -> Any:
    found = unify([type_of(v) for v in values])
    if found is None:
        raise FunctionError("all arguments must have the same type")
    for value in values:
        if value is not None:
            return convert(value, found)
    raise FunctionError("no non-null arguments")


@define("range", rest="params:number")
def range_(*given: Any) -> Any:
    from ..types import ListOf

    if not 1 <= len(given) <= 3:
        raise FunctionError(
            "one to three numbers are needed: limit, or start and limit, or start, limit and step"
        )
    start, limit = (0, given[0]) if len(given) == 1 else given[:2]
    step = given[2] if len(given) == 3 else (1 if start <= limit else -1)
    if step == 0 or ((step < 0) != (limit < start) and start != limit):
        raise FunctionError("the step goes away from the limit")
    out = []
    while (start < limit) if step > 0 else (start > limit):
        out.append(start)
        start += step
        if len(out) > 1024:
            raise FunctionError(
                "more than 1024 values were generated; either decrease the difference between start and end or use a smaller step"
            )
    return ListOf(out)


@define("semvercmp", "version:string", "constraint:string")
def semvercmp(version: str, constraint: str) -> bool:
    from .semver import matches

    return matches(version, constraint)


def as_text(value: Any, index: int) -> str:
    """A primitive as a string; raises Problem."""
    try:
        return str(convert(value, STRING))
    except ConversionError:
        raise Problem(index, f"string required, not {friendly(value)}") from None


__all__ = ["as_text", "whole"]
