"""``du`` and ``prune``: what the store takes, and giving it back."""

from __future__ import annotations

import sys

from ..engine.gcfilter import parse_all
from ..optspec import duration
from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.usage import Usage
    from .main import Globals

__all__ = ["ago", "command_du", "command_prune", "duration"]

_COLUMNS = (("ID", "ID"), ("Reclaimable", "RECLAIMABLE"), ("Size", "SIZE"), ("LastUsedAt", "LAST ACCESSED"))
_FILTERS = "until=24h, id=, parents=, description~=, type=, inuse, mutable, immutable, shared, private"


def command_du(words: Sequence[str], given: Globals) -> int:
    """``du``."""
    flags = (
        Flag("filter", "list", f"Show only rows that match ({_FILTERS})", metavar="FILTER"),
        Flag("format", help='"table", "json", "pretty" or a Go template', default="table", metavar="FORMAT"),
        Flag("verbose", "bool", "Show every row in full (--format=pretty)"),
        Flag("timeout", hidden=True),
    )
    spec = Command(
        f"{given.program} du",
        "[OPTIONS]",
        "Show what the store takes on disk.",
        (*flags, *global_flags()),
        0,
        0,
    )
    args = parse(spec, words)
    wanted, age = parse_all(args.many("filter"))
    from ..engine.gc import du

    rows = [r for r in du(given.settings(args)) if wanted is None or wanted(r)]
    if age:
        from time import time

        rows = [r for r in rows if r.last_used < time() - age]
    form = "pretty" if args.flag("verbose") else args.text("format")
    sys.stdout.write(_render(rows, form))
    if form in ("table", "pretty"):
        sys.stdout.write(_totals(rows))
    return 0


def _render(rows: list[Usage], form: str) -> str:
    if form == "pretty":
        return _pretty(rows)
    from .template import render_rows

    table = form == "table" or form.startswith("table ")
    return render_rows(form, [_document(r, marks=table) for r in rows], _COLUMNS) if rows or table else ""


def _document(r: Usage, *, marks: bool = False) -> dict[str, object]:
    """A row as templates and JSON see it.  ``marks``: with the stars of the table."""
    from time import time

    from ..events import rfc3339
    from ..progress.model import size_text

    used = ago(time() - r.last_used) if r.last_used else ""
    return {
        "ID": r.id.removeprefix("sha256:")[:25] + ("*" if r.mutable else "") if marks else r.id,
        "Parents": list(r.parents), "CreatedAt": rfc3339(r.created) if r.created else "", "Mutable": r.mutable,
        "Reclaimable": r.reclaimable, "Shared": r.shared,
        "Size": size_text(r.size) + ("*" if r.shared else "") if marks else f"{r.size}B",
        "Description": r.description, "UsageCount": r.count,
        "LastUsedAt": used if marks else rfc3339(r.last_used) if r.last_used else "", "Type": r.type,
    }  # fmt: skip


def ago(seconds: float) -> str:
    """``3 hours ago``."""
    for unit, length in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        n = int(seconds // length)
        if n > 0:
            return f"{n} {unit}{'' if n == 1 else 's'} ago"
    return "just now"


def _pretty(rows: list[Usage]) -> str:
    from time import time

    from ..events import rfc3339
    from ..progress.model import size_text

    parts = []
    for r in rows:
        lines = [
            ("ID", r.id), ("Parents", ", ".join(r.parents)), ("Created at", rfc3339(r.created) if r.created else ""),
            ("Mutable", str(r.mutable).lower()), ("Reclaimable", str(r.reclaimable).lower()), ("Shared", str(r.shared).lower()),
            ("Size", size_text(r.size)), ("Description", r.description), ("Usage count", str(r.count) if r.count else ""),
            ("Last used", ago(time() - r.last_used) if r.last_used else ""), ("Type", r.type),
        ]  # fmt: skip
        parts.append("".join(f"{name + ':':<16}{value}\n" for name, value in lines if value))
    return "\n".join(parts) + ("\n" if parts else "")


def _totals(rows: list[Usage]) -> str:
    from ..progress.model import size_text

    shared = sum(r.size for r in rows if r.shared)
    total = sum(r.size for r in rows)
    free = sum(r.size for r in rows if r.reclaimable)
    head = (
        f"Shared:         {size_text(shared)}\nPrivate:        {size_text(total - shared)}\n"
        if shared
        else ""
    )
    return f"{head}Reclaimable:    {size_text(free)}\nTotal:          {size_text(total)}\n"


def command_prune(words: Sequence[str], given: Globals) -> int:
    """``prune``."""
    flags = (
        Flag("all", "bool", "Also what images share and metadata (images themselves stay)", short="a"),
        Flag("filter", "list", f"Only what matches ({_FILTERS})", metavar="FILTER"),
        Flag("force", "bool", "Do not ask", short="f"),
        Flag("dry-run", "bool", "Show what would be removed"),
        Flag("max-used-space", help="Go down to so much in all", metavar="BYTES"),
        Flag("reserved-space", help="Never go below so much in all", metavar="BYTES"),
        Flag("min-free-space", help="Go on until so much of the disk is free", metavar="BYTES"),
        Flag("keep-storage", hidden=True, alias_of="reserved-space"),
        Flag("verbose", "bool", "Show every row in full"),
        Flag("timeout", hidden=True),
    )
    spec = Command(
        f"{given.program} prune",
        "[OPTIONS]",
        "Remove cached results that no image of the local store needs.",
        (*flags, *global_flags()),
        0,
        0,
    )
    args = parse(spec, words)
    wanted, age = parse_all(args.many("filter"))
    settings = given.settings(args)
    from ..engine.gc import Policy, Sizes, prune
    from ..engine.gcpolicy import disk_size

    sizes = [
        disk_size(args.text(name), settings.root, f"--{name}") if args.text(name) else 0
        for name in ("reserved-space", "max-used-space", "min-free-space")
    ]
    policy = Policy(args.flag("all"), age, Sizes(*sizes), wanted)
    dry = args.flag("dry-run")
    if not dry and not args.flag("force") and not _agreed(everything=args.flag("all")):
        return 0
    rows = prune(settings, policy, dry_run=dry)
    from ..progress.model import size_text

    if rows:
        sys.stdout.write(_render(rows, "pretty" if args.flag("verbose") else "table"))
    sys.stdout.write(f"Total:  {size_text(sum(r.size for r in rows))}\n")
    return 0


def _agreed(*, everything: bool) -> bool:
    what = "all build cache" if everything else "all dangling build cache"
    sys.stderr.write(f"WARNING! This will remove {what}. Are you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
