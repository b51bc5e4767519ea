"""``lapstrake why``: why steps of the last build were not taken from the cache."""

from __future__ import annotations

import os
import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``why``."""
    flags = (
        Flag("context", help="Only builds of this context (default: that of the last build)", metavar="PATH"),
        Flag("format", help='"text" or "json"', default="text", metavar="FORMAT"),
        Flag("json", "bool", 'Short for "--format=json"'),
    )
    about = "Say why steps were not taken from the cache the last time they ran. STEP is any part of a step's text."
    spec = Command(f"{given.program} why", "[OPTIONS] [STEP]", about, (*flags, *global_flags()), 0, 1)
    args = parse(spec, words)
    from .images import one_of

    form = "json" if args.flag("json") else one_of(args.text("format"), ("text", "json"))
    import json

    from ..store.index import Index

    root = given.settings(args).root
    index = Index(root)
    try:
        rows = index.items("explain")
    finally:
        index.close()
    steps: frozenset[str] = frozenset()  # of the last build; empty: all that is known
    if args.text("context"):
        where = os.path.abspath(args.text("context"))
    else:
        where, steps = _last_build(root, rows)
    wanted = args.args[0].lower() if args.args else ""
    found = []
    for key, raw in rows:
        scope = key.split("|", 1)[0]
        value = json.loads(raw)
        name = str(value.get("name", ""))
        here = (not where or scope == where) and (not steps or name in steps)
        if here and wanted in name.lower() and value.get("why"):
            found.append({"context": scope, "step": name, "why": str(value["why"])})
    if form == "json":
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    for row in found:
        sys.stdout.write(f"{row['step']}\n    {row['why']}\n")
    if not found:
        of = f" of a build of {where}" if where else ""
        sys.stderr.write(f"nothing is known about such a step{of}; build first, or name its --context\n")
    return 0 if found else 1


def _last_build(root: str, rows: Iterable[tuple[str, bytes]]) -> tuple[str, frozenset[str]]:
    """The context and the steps of the newest build that left something to tell; empty: any."""
    from ..engine.history import History

    known = {key.split("|", 1)[0] for key, _ in rows}
    for record in History(root).records():
        context = str((record.get("request") or {}).get("context") or "")
        for form in (context, os.path.abspath(context)):
            if form in known:
                return form, frozenset(str(s.get("name")) for s in record.get("steps") or ())
    return "", frozenset()
