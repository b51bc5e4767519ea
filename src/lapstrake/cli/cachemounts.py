"""``cache``: the cache mounts of RUN steps, to be listed, carried elsewhere, and removed."""

from __future__ import annotations

import os
import sys

from ..errors import UsageError
from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals

_SUFFIXES = ((".zst", "zstd"), (".gz", "gzip"), (".tgz", "gzip"))


def command(words: Sequence[str], given: Globals) -> int:
    """Dispatch to ``cache ls|export|import|rm``."""
    known = {"ls": _ls, "list": _ls, "export": _export, "import": _import, "rm": _rm}
    if not words or words[0] not in known:
        if words and not words[0].startswith("-"):
            raise UsageError(
                f"unknown command: cache {words[0]}", hint="ls, export, import and rm can be asked for"
            )
        spec = Command(
            f"{given.program} cache",
            "ls | export ID [FILE] | import ID [FILE] | rm ID...",
            "List, carry elsewhere and remove the cache mounts of RUN steps.",
            global_flags(),
            0,
            0,
        )
        parse(spec, words or ["--help"])
        return 0
    return known[words[0]](words[1:], given)


def _ls(words: Sequence[str], given: Globals) -> int:
    flags = (Flag("format", help='"table", "json" or a Go template', default="table", metavar="FORMAT"),)
    spec = Command(
        f"{given.program} cache ls", "[OPTIONS]", "List cache mounts.", (*flags, *global_flags()), 0, 0
    )
    args = parse(spec, words)
    from time import time

    from ..engine.cachemounts import listing
    from ..progress.model import size_text
    from .space import ago
    from .template import render_rows

    now = time()
    rows = [
        {
            "ID": m.id, "Size": size_text(m.size), "LastUsed": ago(now - m.last_used), "InUse": m.in_use, "Target": m.target,
            "Name": m.name,
        }
        for m in listing(given.settings(args))
    ]  # fmt: skip
    columns = (("ID", "ID"), ("Size", "SIZE"), ("LastUsed", "LAST USED"), ("Target", "TARGET"))
    sys.stdout.write(render_rows(args.text("format"), rows, columns))
    return 0


def _export(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag("compression", help='"zstd", "gzip" or "uncompressed"; told by FILE otherwise', metavar="TYPE"),
    )
    spec = Command(
        f"{given.program} cache export",
        "[OPTIONS] ID [FILE]",
        "Write a cache mount as a tar to FILE, or to standard output.",
        (*flags, *global_flags()),
        1,
        2,
    )
    args = parse(spec, words)
    ident, dest = args.args[0], args.args[1] if len(args.args) > 1 else "-"
    form = args.text("compression") or next((c for end, c in _SUFFIXES if dest.endswith(end)), "uncompressed")
    from .images import one_of

    one_of(form, ("zstd", "gzip", "uncompressed"))
    from ..engine.cachemounts import export

    settings = given.settings(args)
    if dest == "-":
        if sys.stdout.isatty():
            raise UsageError("refusing to write a tar to the console", hint="give a FILE, or redirect")
        export(settings, ident, sys.stdout.buffer, form)
        sys.stdout.buffer.flush()
        return 0
    from ..whole import WholeFile

    try:
        with WholeFile(dest) as out:
            export(settings, ident, out, form)
    except OSError as e:
        raise UsageError(f"cannot write {dest}: {e.strerror}") from e
    return 0


def _import(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag("uid", help="Owner of the mount's root", default="0", metavar="UID"),
        Flag("gid", help="Group of the mount's root", default="0", metavar="GID"),
        Flag("mode", help="Mode of the mount's root", default="0755", metavar="MODE"),
    )
    spec = Command(
        f"{given.program} cache import",
        "[OPTIONS] ID [FILE]",
        "Make a tar (zstd, gzip, xz, bzip2 or plain) from FILE or standard input the content of a cache mount.",
        (*flags, *global_flags()),
        1,
        2,
    )
    args = parse(spec, words)
    from ..engine.cachemounts import Owner, load

    try:
        owner = Owner(int(args.text("uid")), int(args.text("gid")), int(args.text("mode"), 8))
    except ValueError:
        raise UsageError(
            "--uid and --gid are numbers, --mode is an octal number", hint="for example --mode=0777"
        ) from None
    settings = given.settings(args)
    name = args.args[1] if len(args.args) > 1 else "-"
    if name == "-":
        load(settings, args.args[0], sys.stdin.buffer, owner)
        return 0
    if not os.access(name, os.R_OK):
        raise UsageError(f"cannot read {name}")
    with open(name, "rb") as source:
        load(settings, args.args[0], source, owner)
    return 0


def _rm(words: Sequence[str], given: Globals) -> int:
    spec = Command(f"{given.program} cache rm", "ID...", "Remove cache mounts.", global_flags(), 1, 1000)
    args = parse(spec, words)
    from ..engine.cachemounts import remove

    settings = given.settings(args)
    for ident in args.args:
        remove(settings, ident)
        sys.stdout.write(f"{ident}\n")
    return 0
