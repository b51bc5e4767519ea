"""``du`` and ``prune``: what the store takes, and giving it back."""

from __future__ import annotations

import sys

from ..errors import UsageError
from ..optspec import size
from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..engine.gc import Usage
    from .main import Globals

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> float:
    """``90s``, ``24h``, ``1h30m``, ``7d``; plain numbers are seconds."""
    total, number = 0.0, ""
    for c in text.strip():
        if c.isdigit() or c == ".":
            number += c
        elif c in _SECONDS and number:
            total += float(number) * _SECONDS[c]
            number = ""
        else:
            raise UsageError(f'invalid duration "{text}"', hint="for example 24h or 7d")
    if number:
        total += float(number)
    return total


def command_du(words: Sequence[str], given: Globals) -> int:
    """``du``."""
    flags = (
        Flag(
            "filter",
            "list",
            "Show only rows that match (type=, id=, description~=, inuse=)",
            metavar="FILTER",
        ),
        Flag("format", help='"table" or "json" (one object a line)', default="table", metavar="FORMAT"),
        Flag("verbose", "bool", "Show every row in full"),
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
    from .images import one_of

    form = one_of(args.text("format"), ("table", "json"))
    tests = [_filter(raw) for raw in args.many("filter")]
    from ..engine.gc import du

    rows = [r for r in du(given.settings(args)) if _match(r, tests)]
    rows.sort(key=lambda r: -r.size)
    if form == "json":
        import json

        for r in rows:
            sys.stdout.write(json.dumps(_document(r)) + "\n")
        return 0
    sys.stdout.write(_verbose(rows) if args.flag("verbose") else _table(rows))
    sys.stdout.write(_totals(rows))
    return 0


def _filter(raw: str) -> tuple[str, str, str]:
    for op in ("!=", "~=", "="):
        key, found, value = raw.partition(op)
        if found:
            if key not in ("type", "id", "description", "inuse", "shared", "private"):
                raise UsageError(
                    f'invalid filter "{raw}"',
                    hint="type, id, description, inuse, shared and private can be asked for",
                )
            return key, op, value
    if raw in ("inuse", "shared", "private"):
        return raw, "=", "true"
    raise UsageError(f'invalid filter "{raw}"', hint="write key=value, key!=value or key~=regular expression")


def _match(row: Usage, tests: Iterable[tuple[str, str, str]]) -> bool:
    for key, op, value in tests:
        have = {
            "type": row.kind, "id": row.id, "description": row.description, "inuse": str(row.in_use).lower(),
            "shared": str(row.shared).lower(), "private": str(not row.shared).lower(),
        }[key]  # fmt: skip
        if op == "~=":
            import re

            try:
                fine = re.search(value, have) is not None
            except re.error as e:
                raise UsageError(f"invalid filter {key}~={value}: {e}") from None
        else:
            fine = (have == value) == (op == "=")
        if not fine:
            return False
    return True


def _document(r: Usage) -> dict[str, object]:
    from ..progress.rawjson import timestamp

    return {
        "ID": r.id, "Type": r.kind, "Description": r.description, "Size": r.size, "Reclaimable": not r.in_use, "Shared": r.shared,
        "CreatedAt": timestamp(r.created) if r.created else "", "LastUsedAt": timestamp(r.last_used) if r.last_used else "",
        "UsageCount": r.count,
    }  # fmt: skip


def ago(seconds: float) -> str:
    """``3 hours ago``."""
    for unit, length in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        n = int(seconds // length)
        if n:
            return f"{n} {unit}{'' if n == 1 else 's'} ago"
    return "just now"


def _table(rows: list[Usage]) -> str:
    from time import time

    from ..progress.model import size_text
    from .calls import table

    now = time()
    out: list[tuple[str, ...]] = [("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED")]
    for r in rows:
        mark = "*" if r.shared or r.kind == "exec.cachemount" else ""
        out.append(
            (
                r.id.removeprefix("sha256:")[:25] + mark,
                str(not r.in_use).lower(),
                size_text(r.size),
                ago(now - r.last_used) if r.last_used else "",
            )
        )
    return table(out)


def _verbose(rows: list[Usage]) -> str:
    from ..progress.model import size_text

    parts = []
    for r in rows:
        doc = _document(r) | {
            "Size": size_text(r.size),
            "Reclaimable": str(not r.in_use).lower(),
            "Shared": str(r.shared).lower(),
        }
        parts.append("".join(f"{k + ':':<16}{v}\n" for k, v in doc.items()))
    return "\n".join(parts) + ("\n" if parts else "")


def _totals(rows: list[Usage]) -> str:
    from ..progress.model import size_text

    shared = sum(r.size for r in rows if r.shared)
    total = sum(r.size for r in rows)
    free = sum(r.size for r in rows if not r.in_use)
    head = (
        f"Shared:         {size_text(shared)}\nPrivate:        {size_text(total - shared)}\n"
        if shared
        else ""
    )
    return f"{head}Reclaimable:    {size_text(free)}\nTotal:          {size_text(total)}\n"


def command_prune(words: Sequence[str], given: Globals) -> int:
    """``prune``."""
    flags = (
        Flag("all", "bool", "Also cache mounts, pulled layers and blobs no image needs", short="a"),
        Flag("filter", "list", "Only what was last used longer ago (until=24h)", metavar="FILTER"),
        Flag("force", "bool", "Do not ask", short="f"),
        Flag("max-used-space", help="Stop when no more than this is used", metavar="BYTES"),
        Flag("keep-storage", hidden=True, alias_of="max-used-space"),
        Flag("reserved-space", hidden=True, alias_of="max-used-space"),
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
    until = 0.0
    for raw in args.many("filter"):
        key, _, value = raw.partition("=")
        if key not in ("until", "unused-for"):
            raise UsageError(f'invalid filter "{raw}"', hint="until=DURATION is known, for example until=24h")
        until = duration(value)
    keep = size(args.text("max-used-space"), "--max-used-space") if args.text("max-used-space") else 0
    if not args.flag("force") and not _agreed(everything=args.flag("all")):
        return 0
    from ..engine.gc import prune
    from ..progress.model import size_text

    rows = prune(given.settings(args), everything=args.flag("all"), until=until, keep_bytes=keep)
    if rows:
        sys.stdout.write(_verbose(rows) if args.flag("verbose") else _table(rows))
    sys.stdout.write(f"Total:  {size_text(sum(r.size for r in rows))}\n")
    return 0


def _agreed(*, everything: bool) -> bool:
    what = "all build cache" if everything else "all dangling build cache"
    sys.stderr.write(f"WARNING! This will remove {what}. Are you sure you want to continue? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
