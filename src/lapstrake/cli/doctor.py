"""``lapstrake doctor``: what this host can do, and the command for what it lacks."""

from __future__ import annotations

import os
import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Settings
    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``doctor``: 0 when a build can run here, 1 otherwise."""
    spec = Command(
        f"{given.program} doctor", "[OPTIONS]", "Say what this host can do, and how to mend what it lacks.",
        (Flag("format", help='"text" or "json"', default="text", metavar="FORMAT"), Flag("json", "bool", "The same as --format=json"), *global_flags()), 0, 0,
    )  # fmt: skip
    args = parse(spec, words)
    from .images import one_of

    form = "json" if args.flag("json") else one_of(args.text("format"), ("text", "json"))
    settings = given.settings(args)
    from ..sandbox.doctor import doctor

    checks = doctor(settings.root)
    rows = [_root_check(settings), *((c.name, c.ok, c.detail, c.fix) for c in checks)]
    if form == "json":
        import json

        sys.stdout.write(
            json.dumps([dict(zip(("name", "ok", "detail", "fix"), r, strict=True)) for r in rows], indent=2)
            + "\n"
        )
    else:
        width = max(len(r[0]) for r in rows) + 2
        for name, ok, detail, fix in rows:
            sys.stdout.write(f"{'ok     ' if ok else 'missing'}  {name:<{width}}{detail}\n")
            if fix and not ok:
                sys.stdout.write(f"         {'':<{width}}mend it: {fix}\n")
    vital = {"root directory", *(c.name for c in checks if c.vital)}
    return 0 if all(ok for name, ok, _, _ in rows if name in vital) else 1


def _root_check(settings: Settings) -> tuple[str, bool, str, str]:
    where = settings.root
    parent = where
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    fine = os.access(parent, os.W_OK | os.X_OK)
    return (
        "root directory",
        fine,
        where if fine else f"{where} can't be written",
        "" if fine else "pass --root DIR or set LAPSTRAKE_ROOT",
    )
