"""``format``: Go-like verbs over HCL values."""

from __future__ import annotations

from fractions import Fraction

from .. import numbers
from ..types import BOOL, NUMBER, STRING, ConversionError, convert
from .base import FunctionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def sprintf(spec: str, args: Sequence[Any]) -> str:
    """Raises FunctionError on a bad verb or argument."""
    out: list[str] = []
    i, at, explicit = 0, 0, False
    while i < len(spec):
        if spec[i] != "%":
            out.append(spec[i])
            i += 1
            continue
        start = i
        i += 1
        if spec[i : i + 1] == "%":
            out.append("%")
            i += 1
            continue
        flags = ""
        while i < len(spec) and spec[i] in "+-# 0":
            flags, i = flags + spec[i], i + 1
        width, i = _digits(spec, i)
        precision = None
        if spec[i : i + 1] == ".":
            precision, i = _digits(spec, i + 1)
            precision = precision or 0
        if spec[i : i + 1] == "[":
            end = spec.find("]", i)
            if end < 0 or not spec[i + 1 : end].isdigit():
                raise FunctionError(f"bad argument index at {start}")
            at, i, explicit = int(spec[i + 1 : end]) - 1, end + 1, True
        verb = spec[i : i + 1]
        i += 1
        if not verb or verb not in "vtbdoxXeEfgGsq":
            raise FunctionError(f"unsupported format verb {verb!r} at offset {start}")
        if not 0 <= at < len(args):
            raise FunctionError(
                f'not enough arguments for "%{verb}" at {start}: need index {at + 1} but have {len(args)} total'
            )
        out.append(_pad(_one(verb, flags, precision, args[at]), flags, width, verb))
        at += 1
    if at < len(args) and not explicit:
        raise FunctionError(f"too many arguments; only {at} used by format string")
    return "".join(out)


def _digits(spec: str, i: int) -> tuple[int | None, int]:
    j = i
    while spec[j : j + 1].isdigit():
        j += 1
    if j - i > 4:
        raise FunctionError("a width or precision is too large")
    return (int(spec[i:j]) if j > i else None), j


def _pad(text: str, flags: str, width: int | None, verb: str) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb not in "vsqt":
        sign = text[:1] if text[:1] in ("+", "-") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _one(verb: str, flags: str, precision: int | None, arg: Any) -> str:
    if verb == "v":
        if ("#" not in flags and isinstance(arg, (str, bool))) or (
            arg is not None and not isinstance(arg, (tuple, dict)) and "#" not in flags
        ):
            return str(convert(arg, STRING))
        return _json(arg)
    if arg is None:
        raise FunctionError(f'unsupported value for "%{verb}": null value cannot be formatted')
    try:
        if verb == "t":
            return "true" if convert(arg, BOOL) else "false"
        if verb in "sq":
            text = str(convert(arg, STRING))
            text = text if precision is None else text[:precision]
            return _json(text) if verb == "q" else text
        value = convert(arg, NUMBER)
    except ConversionError as e:
        raise FunctionError(f'unsupported value for "%{verb}": {e}') from None
    plus = "+" if "+" in flags and value >= 0 else " " if " " in flags and value >= 0 else ""
    if verb in "bdoxX":
        return plus + format(int(value), verb)
    return plus + _real(verb, precision, value)


def _real(verb: str, precision: int | None, value: int | Fraction) -> str:
    if verb == "f":
        places = 6 if precision is None else min(precision, 400)
        scaled = round(abs(Fraction(value)) * 10**places)
        digits = str(scaled).rjust(places + 1, "0")
        body = digits if not places else f"{digits[:-places]}.{digits[-places:]}"
        return ("-" if value < 0 else "") + body
    if verb in "gG" and precision is None:
        text = numbers.text(value)
        if len(text.lstrip("-").partition(".")[0]) <= 21:
            return text
    return format(float(value), f".{6 if precision is None else precision}{verb}")


def _json(arg: Any) -> str:
    from .encoding import to_json

    return to_json(arg)
