"""Go's textual forms: durations, booleans, quoting, ports, signals, sizes, modes (spec §10, §12, §19)."""

from __future__ import annotations

from ..errors import DockerfileError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: what Go's ``unicode.IsSpace`` accepts
SPACE = " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

_DIGITS = frozenset("0123456789")
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def is_digits(text: str) -> bool:
    """Whether ``text`` is one or more ASCII digits."""
    return bool(text) and _DIGITS.issuperset(text)


def parse_bool(text: str) -> bool:
    """Go's ``strconv.ParseBool``; raises ValueError with Go's wording."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def quote(text: str) -> str:
    r"""Go's ``%q``.  Bytes that were not UTF-8 (surrogate escapes) come out as ``\\xNN``."""
    if text.isprintable() and "\\" not in text and '"' not in text:
        return f'"{text}"'
    out = ['"']
    for ch in text:
        code = ord(ch)
        if ch in _ESCAPES:
            out.append(_ESCAPES[ch])
        elif ch.isprintable():
            out.append(ch)
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    out.append('"')
    return "".join(out)


def quote_list(items: Iterable[str]) -> str:
    """Go's ``%q`` of a string list: ``["a" "b"]``."""
    return "[" + " ".join(quote(i) for i in items) + "]"


# -- durations ---------------------------------------------------------------

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MAX_DURATION = 2**63 - 1


def parse_duration(text: str) -> int:
    """Go's ``time.ParseDuration`` in nanoseconds; raises ValueError with Go's wording."""
    bad = ValueError(f"time: invalid duration {quote(text)}")
    rest = text
    sign = 1
    if rest[:1] in ("+", "-"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise bad
    total = 0
    while rest:
        whole = rest[: _span(rest, 0)]
        i = len(whole)
        frac = ""
        if rest[i : i + 1] == ".":
            frac = rest[i + 1 : _span(rest, i + 1)]
            i += 1 + len(frac)
        if not whole and not frac:
            raise bad
        j = i
        while j < len(rest) and rest[j] != "." and rest[j] not in _DIGITS:
            j += 1
        unit = rest[i:j]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        if len(whole) > 20:
            raise bad
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if frac:
            total += int(frac[:18]) * scale // 10 ** len(frac[:18])
        if total > _MAX_DURATION:
            raise bad
        rest = rest[j:]
    return sign * total


def _span(text: str, i: int) -> int:
    while i < len(text) and text[i] in _DIGITS:
        i += 1
    return i


def format_duration(ns: int) -> str:
    """Go's ``Duration.String``: ``1m30s``, ``1.5s``, ``100ms``, ``0s``."""
    if ns == 0:
        return "0s"
    sign = "-" if ns < 0 else ""
    ns = abs(ns)
    if ns < 10**9:
        for unit, scale in (("ms", 10**6), ("µs", 10**3), ("ns", 1)):
            if ns >= scale:
                return f"{sign}{_fraction(ns, scale)}{unit}"
    minutes, left = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    out = _fraction(left, 10**9) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{out}"
    return f"{sign}{minutes}m{out}" if minutes else sign + out


def _fraction(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).zfill(len(str(scale)) - 1).rstrip('0')}"


# -- sizes -------------------------------------------------------------------


def parse_size(text: str) -> int:
    """Bytes with an optional binary suffix (``64m``, ``1.5GiB``, ``10 kb``); raises ValueError."""
    body = text.strip().lower()
    i = 0
    while i < len(body) and (body[i] in _DIGITS or body[i] == "."):
        i += 1
    number, unit = body[:i], body[i:].strip()
    if unit.endswith("ib") and len(unit) == 3:
        unit = unit[0]
    elif unit.endswith("b"):
        unit = unit[:-1]
    whole, _, frac = number.partition(".")
    if (
        len(number) > 40
        or unit not in ("", "k", "m", "g", "t", "p")
        or not (is_digits(whole) or (not whole and is_digits(frac)))
        or (frac and not is_digits(frac))
    ):
        raise ValueError(f"invalid size: {text!r}".replace("'", '"'))
    scale = 1 << (10 * " kmgtp".index(unit or " "))
    return int(whole or "0") * scale + (int(frac) * scale // 10 ** len(frac) if frac else 0)


# -- ports -------------------------------------------------------------------

_PROTOS = ("tcp", "udp", "sctp")


class Port(Value):
    """One EXPOSE word taken apart; ``ports`` is what it exposes (``80/tcp``)."""

    spec: str
    ip: str
    host: str
    container: str
    proto: str  # as written, "" when absent
    ports: tuple[str, ...]


def parse_port(spec: str) -> Port:
    """Parse ``[[ip:]host:]container[-end][/proto]``; raises DockerfileError."""
    head, _, container = spec.rpartition(":")
    ip, _, host = head.rpartition(":")
    container, _, proto = container.partition("/")
    if not container:
        raise DockerfileError(f'invalid port: "{spec}": no port specified')
    if proto and proto.lower() not in _PROTOS:
        raise DockerfileError(f'invalid port: "{spec}": invalid proto: {proto}')
    if ip and not _valid_ip(ip):
        raise DockerfileError(f"invalid IP address: {ip}")
    first, last = _port_range(container, "containerPort")
    if host:
        host_first, host_last = _port_range(host, "hostPort")
        if last - first != host_last - host_first and last != first:
            raise DockerfileError(
                f"invalid ranges specified for container and host Ports: {container} and {host}"
            )
    suffix = "/" + (proto.lower() or "tcp")
    return Port(spec, ip, host, container, proto, tuple(f"{p}{suffix}" for p in range(first, last + 1)))


def parse_ports(words: Iterable[str]) -> list[str]:
    """The exposed ports of EXPOSE's expanded words, in the order of the sorted words, without repeats."""
    out: dict[str, None] = {}
    for word in sorted(words):
        out.update(dict.fromkeys(parse_port(word).ports))
    return list(out)


def _port_range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if (
        not (is_digits(first) and is_digits(last))
        or len(first) > 5
        or len(last) > 5
        or not int(first) <= int(last) <= 65535
    ):
        raise DockerfileError(f"invalid {what}: {text}")
    return int(first), int(last)


def _valid_ip(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    from ipaddress import ip_address

    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# -- signals -----------------------------------------------------------------

_SIGNALS = [
    "HUP",
    "INT",
    "QUIT",
    "ILL",
    "TRAP",
    "ABRT",
    "BUS",
    "FPE",
    "KILL",
    "USR1",
    "SEGV",
    "USR2",
    "PIPE",
    "ALRM",
    "TERM",
    "STKFLT",
    "CHLD",
    "CONT",
    "STOP",
    "TSTP",
    "TTIN",
    "TTOU",
    "URG",
    "XCPU",
    "XFSZ",
    "VTALRM",
    "PROF",
    "WINCH",
    "IO",
    "PWR",
    "SYS",
]
_SIGNAL_ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": 34, "RTMAX": 64}


def parse_signal(text: str) -> int:
    """The number of a signal given by name (with or without ``SIG``) or number; raises DockerfileError."""
    bad = DockerfileError(f"invalid signal: {text}")
    if is_digits(text):
        if len(text) > 9 or int(text) == 0:
            raise bad
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name in _SIGNALS:
        return _SIGNALS.index(name) + 1
    if name in _SIGNAL_ALIASES:
        return _SIGNAL_ALIASES[name]
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        tail = name.removeprefix(base)
        if tail != name and is_digits(tail) and len(tail) < 3:
            number = (34 if sign > 0 else 64) + sign * int(tail)
            if 34 <= number <= 64 and 1 <= int(tail) <= 15:
                return number
    raise bad


# -- modes -------------------------------------------------------------------

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_SHIFT = {"u": 6, "g": 3, "o": 0}


class Chmod(Value):
    """A parsed ``--chmod``: an octal number, or symbolic clauses of (who mask, operator, permissions)."""

    text: str
    octal: int | None
    clauses: tuple[tuple[int, str, str], ...] = ()

    def apply(self, mode: int, is_dir: bool) -> int:
        """The permission bits (07777) of a file that had ``mode``."""
        if self.octal is not None:
            return self.octal
        mode &= 0o7777
        for who, op, perms in self.clauses:
            bits = _permissions(perms, mode, is_dir) & who
            if op == "+":
                mode |= bits
            elif op == "-":
                mode &= ~bits
            else:
                # like chmod(1): `=` leaves set-id bits of directories that it does not name
                keep = mode & 0o6000 if is_dir and "s" not in perms else 0
                mode = (mode & ~who) | bits | (keep & who)
        return mode


def _permissions(perms: str, mode: int, is_dir: bool) -> int:
    bits = 0
    for ch in perms:
        if ch == "r":
            bits |= 0o444
        elif ch == "w":
            bits |= 0o222
        elif ch == "x" or (ch == "X" and (is_dir or mode & 0o111)):
            bits |= 0o111
        elif ch == "s":
            bits |= 0o6000
        elif ch == "t":
            bits |= 0o1000
        elif ch in _SHIFT:
            bits |= (mode >> _SHIFT[ch] & 7) * 0o111
    return bits


def parse_chmod(text: str) -> Chmod:
    """Parse an octal (0 to 07777) or symbolic mode; raises DockerfileError."""
    bad = DockerfileError(
        f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
    )
    if is_digits(text):
        if set(text) & {"8", "9"} or len(text) > 12 or int(text, 8) > 0o7777:
            raise bad
        return Chmod(text, int(text, 8))
    clauses: list[tuple[int, str, str]] = []
    for clause in text.split(","):
        i = 0
        who = 0
        while i < len(clause) and clause[i] in _WHO:
            who |= _WHO[clause[i]]
            i += 1
        if i == len(clause) or clause[i] not in "+-=":
            raise bad
        while i < len(clause):
            op = clause[i]
            if op not in "+-=":
                raise bad
            i += 1
            start = i
            while i < len(clause) and clause[i] in "rwxXstugo":
                i += 1
            clauses.append((who or 0o7777, op, clause[start:i]))
    return Chmod(text, None, tuple(clauses))
