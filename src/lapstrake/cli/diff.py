"""``diff`` and the report of ``build --check-repro``: what differs between two images."""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.repro import Reproduction
    from ..layer.compare import Difference
    from ..plan.request import BuildRequest
    from .main import Globals

SHOWN = 40


def command(words: Sequence[str], given: Globals) -> int:
    """``diff IMAGE1 IMAGE2``: exit code 1 when they differ, as diff has it."""
    flags = (
        Flag("by-layer", "bool", "Compare layer by layer instead of what the layers amount to"),
        Flag("format", help='"text" or "json"', default="text", metavar="FORMAT"),
        Flag("no-times", "bool", "Leave modification times out"),
        Flag("no-trunc", "bool", "Show every difference"),
        Flag("platform", help="Compare this platform only", metavar="PLATFORM"),
    )
    spec = Command(
        f"{given.program} diff",
        "[OPTIONS] IMAGE1 IMAGE2",
        "Show what differs between two images, down to single files. An image is a name of the local store, or "
        "oci:DIRECTORY[:TAG] for an OCI layout.",
        (*flags, *global_flags()),
        2,
        2,
    )
    args = parse(spec, words)
    from ..oci.platform import parse as parse_platform
    from .images import one_of

    form = one_of(args.text("format"), ("text", "json"))
    only = parse_platform(args.text("platform")) if args.text("platform") else None
    from ..engine.images import compare_names

    found = compare_names(
        given.settings(args), (args.args[0], args.args[1]), only, by_layer=args.flag("by-layer"),
        times=not args.flag("no-times"),
    )  # fmt: skip
    if form == "json":
        import json

        docs = [{"path": d.path, "what": d.what, "first": d.first, "second": d.second} for d in found]
        sys.stdout.write(json.dumps(docs, indent=2) + "\n")
    else:
        sys.stdout.write(shown(found, len(found) if args.flag("no-trunc") else SHOWN))
    return 1 if found else 0


def shown(found: Sequence[Difference], limit: int = SHOWN) -> str:
    """One line for each difference; then how many were left out."""
    lines = [f"{d}\n" for d in found[:limit]]
    if len(found) > limit:
        lines.append(f"… and {len(found) - limit} more\n")
    return "".join(lines)


def tell(done: Reproduction, request: BuildRequest) -> int:
    """Say what ``--check-repro`` found; the exit code."""
    rewrite = any(o.get("rewrite-timestamp") == "true" for o in request.outputs)
    text, code = report(done, epoch=request.source_date_epoch is not None, rewrite=rewrite)
    taken = any(o.dest == "-" for o in request.outputs)  # an archive is on its way through there
    (sys.stderr if taken else sys.stdout).write(text)
    return code


def report(done: Reproduction, *, epoch: bool, rewrite: bool) -> tuple[str, int]:
    """What ``--check-repro`` says, and its exit code."""
    if done.same:
        return f"reproducible: both builds gave {done.digests[0]}\n", 0
    text = f"NOT reproducible: {done.digests[0]} and then {done.digests[1]}\n"
    if not done.differences:
        return text + "the images are the same; what differs are their attestations or annotations\n", 1
    text += f"first difference: {done.differences[0]}\n"
    if len(done.differences) > 1:
        text += shown(done.differences[1:])
    times = any("time" in d.what or ".created" in d.path for d in done.differences)
    if times and not epoch:
        text += "hint: times differ; give --source-date-epoch=SECONDS, and --rewrite-timestamp for files that RUN makes\n"
    elif times and not rewrite:
        text += "hint: files made by RUN have the time they were made; add --rewrite-timestamp\n"
    return text, 1
