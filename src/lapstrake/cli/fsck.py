"""``fsck``: is everything in the store what it says it is?"""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """0 when nothing is wrong (any more), 1 otherwise."""
    flags = (
        Flag("repair", "bool", "Remove what is damaged or left over; later builds make it anew"),
        Flag("format", help='"text" or "json"', default="text", metavar="FORMAT"),
    )
    spec = Command(
        f"{given.program} fsck",
        "[OPTIONS]",
        "Verify every blob, layer, record and image of the store, and look for leftovers.",
        (*flags, *global_flags()),
        0,
        0,
    )
    args = parse(spec, words)
    from .images import one_of

    form = one_of(args.text("format"), ("text", "json"))
    from ..engine.fsck import fsck

    report = fsck(given.settings(args), repair=args.flag("repair"))
    left = [p for p in report.problems if not p.repaired]
    if form == "json":
        import json

        from ..values import asdict

        document = asdict(report) | {"problems": [asdict(p) for p in report.problems]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return 1 if left else 0
    for p in report.problems:
        sys.stdout.write(f"{p.kind} {p.id}: {p.message}{' (removed)' if p.repaired else ''}\n")
    unknown = f" ({report.unverified} with nothing to compare with)" if report.unverified else ""
    sys.stdout.write(
        f"{report.blobs} blobs, {report.layers} layers{unknown}, {report.records} records,"
        f" {report.images} images: {len(report.problems) or 'no'} problem{'s' * (len(report.problems) != 1)}\n"
    )
    if left:
        sys.stdout.write(f"run '{given.program} fsck --repair' to remove what is wrong\n")
    return 1 if left else 0
