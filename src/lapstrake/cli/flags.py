"""Command-line flags, read the way pflag reads them.

Not ``argparse``: importing it costs 5 ms and its grammar differs from what ``docker build`` users
type (``--flag=false``, flags after arguments, ``-tname``, errors in pflag's words).
"""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Flag(Value):
    """One flag.  ``kind``: bool, string, int or list.  ``implied``: its value when none is written
    (``--pull`` means ``--pull=true``); such a flag takes a value only after ``=``."""

    name: str
    kind: str = "string"
    help: str = ""
    short: str = ""
    metavar: str = ""
    default: str | int | bool = ""
    implied: str = ""
    hidden: bool = False
    alias_of: str = ""


class Command(Value):
    """One command: what it is called with and what its help says.

    ``interspersed`` False: everything from the first argument on is left alone.
    """

    path: str  # "lapstrake build"
    usage: str = ""  # "[OPTIONS] PATH | URL | -"
    about: str = ""
    flags: tuple[Flag, ...] = ()
    min_args: int = 0
    max_args: int = -1
    interspersed: bool = True
    epilog: str = ""


class Parsed:
    """What was given.  Missing flags have their default; ``given`` names those that were written."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.values: dict[str, str | int | bool | list[str]] = {}
        self.given: set[str] = set()
        self.args: list[str] = []

    def has(self, name: str) -> bool:
        """Was it written?"""
        return name in self.given

    def text(self, name: str) -> str:
        """The value of a string flag."""
        return str(self.values[name])

    def flag(self, name: str) -> bool:
        """The value of a bool flag."""
        return bool(self.values[name])

    def number(self, name: str) -> int:
        """The value of an int flag."""
        value = self.values[name]
        return value if isinstance(value, int) else 0

    def many(self, name: str) -> list[str]:
        """The values of a list flag, in order."""
        value = self.values[name]
        return list(value) if isinstance(value, list) else []


class HelpWanted(Exception):
    """``--help`` was given."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.path)
        self.command = command


def parse(command: Command, argv: Sequence[str]) -> Parsed:
    """Read ``argv`` (without the command's own name).  Raises UsageError or HelpWanted."""
    out = Parsed(command)
    for f in command.flags:
        if not f.alias_of:
            out.values[f.name] = (
                [] if f.kind == "list" else (f.default or False if f.kind == "bool" else f.default)
            )
    table = {f.name: f for f in command.flags}
    shorts = {f.short: f for f in command.flags if f.short}
    words = list(argv)
    i = 0
    while i < len(words):
        word = words[i]
        i += 1
        if word == "--":
            out.args += words[i:]
            break
        if len(word) < 2 or word[0] != "-":
            if not command.interspersed:
                out.args += words[i - 1 :]
                break
            out.args.append(word)
        elif word.startswith("--"):
            i = _long(out, table, words, i, word)
        else:
            i = _short(out, shorts, words, i, word)
    _check_count(command, out.args)
    return out


def _long(out: Parsed, table: dict[str, Flag], words: list[str], i: int, word: str) -> int:
    name, eq, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise _usage(out.command, f"bad flag syntax: {word}")
    f = table.get(name)
    if f is None:
        if name == "help":
            raise HelpWanted(out.command)
        raise _usage(out.command, f"unknown flag: --{name}", _suggest(name, table.values()))
    if eq:
        _set(out, table, f, value, f"--{name}")
    elif f.kind == "bool" or f.implied:
        _set(out, table, f, f.implied or "true", f"--{name}")
    elif i < len(words):
        _set(out, table, f, words[i], f"--{name}")
        return i + 1
    else:
        raise _usage(out.command, f"flag needs an argument: --{name}")
    return i


def _short(out: Parsed, shorts: dict[str, Flag], words: list[str], i: int, word: str) -> int:
    table = {f.name: f for f in out.command.flags}
    rest = word[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        f = shorts.get(letter)
        if f is None:
            if letter == "h":
                raise HelpWanted(out.command)
            raise _usage(out.command, f"unknown shorthand flag: '{letter}' in {word}")
        shown = f"-{letter}, --{f.name}"
        if rest[:1] == "=":
            _set(out, table, f, rest[1:], shown)
            return i
        if f.kind == "bool" or f.implied:
            _set(out, table, f, f.implied or "true", shown)
        elif rest:
            _set(out, table, f, rest, shown)
            return i
        elif i < len(words):
            _set(out, table, f, words[i], shown)
            return i + 1
        else:
            raise _usage(out.command, f"flag needs an argument: '{letter}' in {word}")
    return i


def _set(out: Parsed, table: dict[str, Flag], f: Flag, value: str, shown: str) -> None:
    f = table[f.alias_of] if f.alias_of else f
    try:
        if f.kind == "bool":
            from ..dockerfile.numbers import parse_bool

            out.values[f.name] = parse_bool(value)
        elif f.kind == "int":
            out.values[f.name] = int(value)
        elif f.kind == "list":
            held = out.values[f.name]
            if isinstance(held, list):
                held.append(value)
        else:
            out.values[f.name] = value
    except ValueError as e:
        why = str(e) if f.kind == "bool" else f'strconv.ParseInt: parsing "{value}": invalid syntax'
        raise _usage(out.command, f'invalid argument "{value}" for "{shown}" flag: {why}') from None
    out.given.add(f.name)


def _check_count(command: Command, args: list[str]) -> None:
    low, high, n = command.min_args, command.max_args, len(args)
    if low <= n and (high < 0 or n <= high):
        return
    name = command.path
    if low == high:
        need = f"requires {low} argument{'' if low == 1 else 's'}" if low else "accepts no arguments"
    elif n < low:
        need = f"requires at least {low} argument{'' if low == 1 else 's'}"
    else:
        need = f"requires at most {high} argument{'' if high == 1 else 's'}"
    usage = f"\n\nUsage:  {name} {command.usage}".rstrip()
    raise UsageError(f"{name}: '{name}' {need}{usage}", hint=f"see '{name} --help'")


def _usage(command: Command, message: str, suggestion: str = "") -> UsageError:
    hint = f"see '{command.path} --help'"
    return UsageError(message, hint=f"did you mean {suggestion}? {hint}" if suggestion else hint)


def _suggest(name: str, flags: Iterable[Flag]) -> str:
    import difflib

    near = difflib.get_close_matches(name, [f.name for f in flags if not f.hidden], 1, 0.7)
    return f"--{near[0]}" if near else ""


def render_help(command: Command, width: int = 100) -> str:
    """The help page, which stands on its own."""
    lines = [f"Usage:  {command.path} {command.usage}".rstrip(), ""]
    if command.about:
        lines += [command.about.strip(), ""]
    shown = sorted((f for f in command.flags if not f.hidden), key=lambda f: f.name)
    if shown:
        lines.append("Options:")
        heads = [_head(f) for f in shown]
        column = min(max(len(h) for h in heads) + 3, 38)
        for f, head in zip(shown, heads, strict=True):
            lines += _entry(head, _body(f), column, width)
        lines.append("")
    if command.epilog:
        lines += [command.epilog.strip(), ""]
    return "\n".join(lines)


def _head(f: Flag) -> str:
    short = f"-{f.short}, " if f.short else "    "
    if f.kind == "bool":
        meta = ""
    elif f.implied:
        meta = f"[={f.metavar}]" if f.metavar else ""
    else:
        meta = f" {f.metavar or {'int': 'N', 'list': 'VALUE'}.get(f.kind, 'VALUE')}"
    return f"  {short}--{f.name}{meta}"


def _body(f: Flag) -> str:
    default = f' (default "{f.default}")' if isinstance(f.default, str) and f.default else ""
    return f.help + default


def _entry(head: str, body: str, column: int, width: int) -> list[str]:
    room = max(width - column, 30)
    rows: list[str] = []
    line = ""
    for word in body.split():
        if line and len(line) + 1 + len(word) > room:
            rows.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    rows.append(line)
    first = [head.ljust(column) + rows[0]] if len(head) < column else [head, " " * column + rows[0]]
    return [*first, *(" " * column + r for r in rows[1:])]
