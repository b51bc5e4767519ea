"""Numbers as HCL has them: exact whole numbers, others rounded to 512 bits, printed as Go prints them."""

from __future__ import annotations

from fractions import Fraction

Number = int | Fraction
BITS = 512
MAX_EXPONENT = 4096


def rounded(value: Number) -> Number:
    """To the nearest number with 512 significant bits; whole numbers come back as ``int``."""
    if isinstance(value, int):
        return value if value.bit_length() <= BITS else _round(Fraction(value))
    if value.denominator == 1:
        return rounded(value.numerator)
    return _round(value)


def _round(value: Fraction) -> Number:
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - BITS
    scaled = value / Fraction(2) ** exponent
    while abs(scaled) >= 1 << BITS:
        scaled, exponent = scaled / 2, exponent + 1
    whole = round(scaled)
    out = whole * Fraction(2) ** exponent
    return out.numerator if out.denominator == 1 else out


def parse(text: str) -> Number:
    """A decimal number; raises ValueError."""
    body = text.strip()
    if body != text or not body or not body.isascii():
        raise ValueError("a number is required")
    digits = body.lstrip("+-")
    if len(body) - len(digits) > 1 or not digits or not (digits[0].isdigit() or digits[0] == "."):
        raise ValueError("a number is required")
    mantissa, _, exponent = digits.lower().partition("e")
    if len(mantissa) > 2000 or "_" in digits or (exponent and abs(int(exponent)) > MAX_EXPONENT):
        raise ValueError("a number is required")
    return rounded(Fraction(body))


def text(value: Number) -> str:
    """The shortest decimal that reads back as the same number, without an exponent."""
    if isinstance(value, int):
        if value.bit_length() <= BITS:
            return str(value)
        value = Fraction(value)
    sign = "-" if value < 0 else ""
    value = abs(value)
    magnitude = len(str(value.numerator // value.denominator)) if value >= 1 else -_leading_zeros(value)
    low, high = 1, 156
    while low < high:  # fewest significant digits that read back
        middle = (low + high) // 2
        if _round(_decimal(value, middle - magnitude)) == value:
            high = middle
        else:
            low = middle + 1
    places = low - magnitude
    whole = _decimal(value, places) * 10**places if places > 0 else _decimal(value, places)
    digits = str(int(whole))
    if places <= 0:
        return sign + digits
    digits = digits.rjust(places + 1, "0")
    out = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return sign + out


def _leading_zeros(value: Fraction) -> int:
    zeros = 0
    while value * 10 < 1:
        value, zeros = value * 10, zeros + 1
    return zeros


def _decimal(value: Fraction, places: int) -> Fraction:
    """Rounded to ``places`` decimals (negative: tens)."""
    scale = Fraction(10) ** places
    return round(value * scale) / scale
