"""``save`` and ``validate``: images of the local store as archives, and whether they keep what they promise."""

from __future__ import annotations

import os
import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals


def command_save(words: Sequence[str], given: Globals) -> int:
    """``save``: an archive that ``docker load`` and ``podman load`` read."""
    flags = (
        Flag("output", help="Write to a file instead of standard output", short="o", metavar="FILE"),
        *global_flags(),
    )
    spec = Command(
        f"{given.program} save",
        "[OPTIONS] NAME...",
        "Write images of the local store to one archive: an OCI layout, which is a docker archive as well unless an "
        "image has several platforms.",
        flags,
        1,
    )
    args = parse(spec, words)
    from ..errors import UsageError

    target = args.text("output")
    if not target and sys.stdout.isatty():
        raise UsageError("cowardly refusing to save to a terminal", hint="use -o FILE, or redirect")
    from ..engine.archive import save_images
    from ..engine.engine import Engine

    with Engine(given.settings(args)) as engine:
        save_images(engine, args.args, target or "-", os.getcwd(), sys.stdout.buffer)
    return 0


def command_validate(words: Sequence[str], given: Globals) -> int:
    """``validate``: exit code 1 when anything is wrong."""
    spec = Command(
        f"{given.program} validate",
        "NAME|oci:DIRECTORY...",
        "Check every digest, size and diffID of images, and that their configs and indexes fit them.",
        global_flags(),
        1,
    )
    args = parse(spec, words)
    from ..engine.images import validate_name

    settings = given.settings(args)
    bad = 0
    for name in args.args:
        faults = validate_name(settings, name)
        bad += bool(faults)
        sys.stdout.write("".join(f"{name}: {f}\n" for f in faults) or f"{name}: valid\n")
    return 1 if bad else 0
