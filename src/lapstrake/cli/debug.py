"""``lapstrake debug``: a shell where a build broke."""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Settings
    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``debug``: the exit code is the command's."""
    words, argv = _split(list(words))
    about = (
        "Open a shell (or run a command) in the state of a step that failed: its files, mounts, user, variables and\n"
        "working directory.  Such states are kept by 'build --on-fail=save'; the latest is taken unless one is named."
    )
    spec = Command(
        f"{given.program} debug", "[OPTIONS] [ID] [-- COMMAND [ARG...]]", about,
        (
            Flag("list", "bool", "Show the steps that are kept"),
            Flag("retry", "bool", "Run the step's own command again"),
            *global_flags(),
        ),
        0, 1,
    )  # fmt: skip
    args = parse(spec, words)
    settings = given.settings(args)
    from ..engine.debug import enter, failures, find

    if args.flag("list"):
        for failure in failures(settings.root):
            sys.stdout.write(f"{failure.id}  {failure.name}\n")
        return 0
    failure = find(settings.root, args.args[0] if args.args else "")
    _say(failure.name, failure.secrets)
    return enter(settings, failure, argv, retry=args.flag("retry"))


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def _say(name: str, secrets: Sequence[str]) -> None:
    without = f"; without the secrets at {', '.join(secrets)}" if secrets else ""
    sys.stderr.write(f"in the failed step {name}{without}\n")


def after_failure(error: BaseException, settings: Settings, *, shell: bool) -> None:
    """What ``build --on-fail`` does once the build is over."""
    saved = getattr(error, "saved", "")
    if not saved:
        return
    if shell and sys.stdin.isatty():
        from ..engine.debug import enter, find

        failure = find(settings.root, saved)
        _say(failure.name, failure.secrets)
        enter(settings, failure, ())
    sys.stderr.write(f"The failed step is kept: lapstrake debug {saved}\n")
