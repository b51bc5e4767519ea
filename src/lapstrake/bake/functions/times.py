"""Functions of dates and times."""

from __future__ import annotations

from .base import FunctionError, Problem, define, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def _parse(text: str, index: int) -> tuple[datetime, str]:
    """(time, fraction of the second with its dot) of RFC 3339."""
    import re
    from datetime import datetime

    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text, re.ASCII)
    try:
        if found is None:
            raise ValueError
        zone = "+00:00" if found[3] == "Z" else found[3]
        return datetime.fromisoformat(found[1] + zone), found[2] or ""
    except ValueError:
        raise Problem(index, f"not a valid RFC3339 timestamp: {text!r}") from None


def _show(when: datetime, fraction: str = "") -> str:
    zone = when.strftime("%z")
    fraction = fraction.rstrip("0").rstrip(".")
    return (
        when.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        + fraction
        + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")
    )


@define("timestamp")
def timestamp() -> str:
    from datetime import UTC, datetime

    return _show(datetime.now(UTC))


@define("unixtimestampparse", "unix_timestamp:number")
def unixtimestampparse(seconds: Any) -> dict[str, Any]:
    from datetime import UTC, datetime

    try:
        when = datetime.fromtimestamp(whole(seconds, 0), UTC)
    except (OverflowError, OSError, ValueError):
        raise Problem(0, "out of range") from None
    year, week, _ = when.isocalendar()
    return {
        "year": when.year, "year_day": when.timetuple().tm_yday, "day": when.day, "month": when.month,
        "month_name": _MONTHS[when.month - 1], "weekday": (when.weekday() + 1) % 7,
        "weekday_name": _DAYS[when.weekday()], "hour": when.hour, "minute": when.minute, "second": when.second,
        "rfc3339": _show(when), "iso_year": year, "iso_week": week,
    }  # fmt: skip


def duration(text: str, index: int) -> int:
    """Go's ``time.ParseDuration``, in nanoseconds."""
    import re
    from fractions import Fraction

    body = text[1:] if text[:1] in ("+", "-") else text
    parts = re.findall(r"(\d+\.?\d*|\.\d+)([a-z\u00b5\u03bc]+)", body)
    if body != "0" and (
        not parts or "".join(a + b for a, b in parts) != body or any(u not in _UNITS for _, u in parts)
    ):
        raise Problem(index, f"invalid duration {text!r}: write for example 1h30m or -45s")
    total = sum((Fraction(a) * _UNITS[u] for a, u in parts), Fraction(0))
    return int(-total if text.startswith("-") else total)


@define("timeadd", "timestamp:string", "duration:string")
def timeadd(start: str, length: str) -> str:
    from datetime import timedelta

    when, fraction = _parse(start, 0)
    nanos = int(fraction[1:].ljust(9, "0")[:9] or 0) + duration(length, 1)
    seconds, nanos = divmod(nanos, 10**9)
    try:
        return _show(when + timedelta(seconds=seconds), f".{nanos:09d}")
    except OverflowError:
        raise FunctionError("the time is out of range") from None


@define("formatdate", "format:string", "time:string")
def formatdate(spec: str, time: str) -> str:
    when, _ = _parse(time, 1)
    return format_date(spec, when)


@define("formattimestamp", "format:string", "time:string")
def formattimestamp(spec: str, time: str) -> str:
    when, _ = _parse(time, 1)
    return format_date(spec, when)


def format_date(spec: str, when: datetime) -> str:
    """HCL's date language: runs of one letter, quoted text, everything else as it is."""
    out: list[str] = []
    i = 0
    while i < len(spec):
        c = spec[i]
        if c == "'":
            end = i + 1
            text = []
            while True:
                if end >= len(spec):
                    raise Problem(0, "unterminated literal '")
                if spec[end] != "'":
                    text.append(spec[end])
                    end += 1
                elif spec[end + 1 : end + 2] == "'":
                    text.append("'")
                    end += 2
                else:
                    break
            out.append("".join(text))
            i = end + 1
        elif c.isascii() and c.isalpha():
            j = i
            while j < len(spec) and spec[j] == c:
                j += 1
            out.append(_verb(spec[i:j], when))
            i = j
        else:
            out.append(c)
            i += 1
    return "".join(out)


def _verb(verb: str, t: datetime) -> str:
    zone = t.strftime("%z")
    utc = zone == "+0000"
    known = {
        "YY": f"{t.year % 100:02d}", "YYYY": f"{t.year:04d}", "M": str(t.month), "MM": f"{t.month:02d}",
        "MMM": _MONTHS[t.month - 1][:3], "MMMM": _MONTHS[t.month - 1], "D": str(t.day), "DD": f"{t.day:02d}",
        "EEE": _DAYS[t.weekday()][:3], "EEEE": _DAYS[t.weekday()], "h": str(t.hour), "hh": f"{t.hour:02d}",
        "H": str(t.hour % 12 or 12), "HH": f"{t.hour % 12 or 12:02d}", "AA": "AM" if t.hour < 12 else "PM",
        "aa": "am" if t.hour < 12 else "pm", "m": str(t.minute), "mm": f"{t.minute:02d}", "s": str(t.second),
        "ss": f"{t.second:02d}", "Z": "Z" if utc else f"{zone[:3]}:{zone[3:]}", "ZZZ": "UTC" if utc else zone,
        "ZZZZ": zone, "ZZZZZ": f"{zone[:3]}:{zone[3:]}",
    }  # fmt: skip
    if verb not in known:
        raise Problem(0, f'invalid date format verb "{verb}"')
    return known[verb]
