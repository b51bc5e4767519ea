"""``context ls`` and ``context why``: what a build would see of a directory."""

from __future__ import annotations

import sys

from ..errors import UsageError
from .flags import Command, Flag, HelpWanted, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..engine.contextview import Item
    from .main import Globals

_FILE = Flag("file", help="The Dockerfile, whose own ignore file wins", short="f", metavar="FILE")
_JSON = Flag("json", "bool", "Write JSON")


def command(words: Sequence[str], given: Globals) -> int:
    """``context``: its subcommands."""
    commands: dict[str, Callable[[Sequence[str], Globals], int]] = {"ls": _list, "why": _why}
    if not words or words[0] in ("--help", "-h"):
        about = "Say which files of a directory a build sees, and which rule drops the others."
        raise HelpWanted(Command(f"{given.program} context", "ls | why", about, global_flags()))
    if words[0] not in commands:
        raise UsageError(f"unknown command: context {words[0]}", hint=f"see '{given.program} context --help'")
    return commands[words[0]](words[1:], given)


def _list(words: Sequence[str], given: Globals) -> int:
    flags = (
        _FILE,
        Flag("ignored", "bool", "List what is left out, and the rule that says so"),
        Flag("sizes", "bool", "Show sizes, the largest last, and their sum"),
        _JSON,
    )
    about = "List what is in a build context. PATH is the current directory unless given."
    spec = Command(f"{given.program} context ls", "[OPTIONS] [PATH]", about, (*flags, *global_flags()), 0, 1)
    args = parse(spec, words)
    from ..engine.contextview import open_view

    view = open_view(args.args[0] if args.args else ".", args.text("file"))
    ignored = args.flag("ignored")
    rows = [i for i in view.items() if i.ignored is ignored and (ignored or not i.directory)]
    if args.flag("sizes"):
        rows.sort(key=lambda i: i.size)
    if args.flag("json"):
        _json(rows)
        return 0
    sizes = args.flag("sizes")
    for item in rows:
        sys.stdout.write(_row(item, sizes=sizes) + "\n")
    if sizes:
        sys.stdout.write(f"{_size(sum(i.size for i in rows))}\t{len(rows)} files in all\n")
    return 0


def _row(item: Item, *, sizes: bool) -> str:
    name = item.path + ("/" if item.directory else "")
    parts = [_size(item.size)] if sizes else []
    return "\t".join([*parts, name, *([item.rule] if item.ignored else [])])


def _size(n: int) -> str:
    from ..progress.model import size_text

    return size_text(n)


def _json(rows: Iterable[Item]) -> None:
    import json

    found = [
        {"path": i.path, "directory": i.directory, "size": i.size, "ignored": i.ignored, "rule": i.rule}
        for i in rows
    ]
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def _why(words: Sequence[str], given: Globals) -> int:
    flags = (
        _FILE,
        Flag("context", help="The context", default=".", metavar="PATH"),
        _JSON,
    )
    about = "Say whether a build sees a path, and which rule decides. Exit code 1: it does not."
    spec = Command(f"{given.program} context why", "[OPTIONS] PATH", about, (*flags, *global_flags()), 1, 1)
    args = parse(spec, words)
    from ..engine.contextview import open_view

    path = args.args[0]
    item = open_view(args.text("context"), args.text("file")).look(path)
    if item is None:
        sys.stderr.write(f"{path}: there is no such file in the context\n")
        return 1
    if args.flag("json"):
        _json([item])
    elif item.ignored:
        sys.stdout.write(f"{path}: left out by {item.rule}\n")
    else:
        sys.stdout.write(f"{path}: in the context{', brought back by ' + item.rule if item.rule else ''}\n")
    return 1 if item.ignored else 0
