"""``lapstrake run``: a command in an image, in the sandbox that builds."""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals

_FLAGS = (
    Flag("platform", help="Platform to run, of an image that has several", metavar="PLATFORM"),
    Flag("entrypoint", help="Run this instead of the image's ENTRYPOINT", metavar="PROGRAM"),
    Flag(
        "env",
        "list",
        "Set a variable; without a value it is taken from the environment",
        short="e",
        metavar="NAME[=VALUE]",
    ),
    Flag("user", help="Run as this user", short="u", metavar="NAME|UID[:GROUP]"),
    Flag("workdir", help="Run in this directory", short="w", metavar="DIR"),
    Flag("network", help='"default", "none" or "host"', metavar="MODE"),
    Flag("interactive", "bool", "Give it our standard input", short="i"),
    Flag("tty", "bool", "Give it a terminal", short="t"),
    Flag(
        "volume", "list", "Show it a file or directory of this machine", short="v", metavar="HOST:TARGET[:ro]"
    ),
    Flag("read-only", "bool", "Let it change nothing in its root"),
    Flag("rm", "bool", hidden=True),
)


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``run``: its exit code is the process's."""
    about = "Run a command in an image of the local store. What it writes is thrown away."
    spec = Command(
        f"{given.program} run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about,
        (*_FLAGS, *global_flags()),
        1,
        interspersed=False,
    )
    args = parse(spec, words)
    settings = given.settings(args)
    from ..engine.runimage import RunOptions, run_image

    env = []
    for raw in args.many("env"):
        if "=" in raw:
            env.append(raw)
        elif raw in settings.environ:
            env.append(f"{raw}={settings.environ[raw]}")
    options = RunOptions(
        platform=args.text("platform"),
        entrypoint=((args.text("entrypoint"),) if args.text("entrypoint") else ()) if args.has("entrypoint") else None,
        env=tuple(env), user=args.text("user"), workdir=args.text("workdir"), network=args.text("network"),
        interactive=args.flag("interactive"), tty=args.flag("tty") and sys.stdin.isatty(),
        volumes=tuple(args.many("volume")), readonly=args.flag("read-only"),
    )  # fmt: skip
    return run_image(settings, args.args[0], args.args[1:], options)
