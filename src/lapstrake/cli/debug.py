"""``lapstrake debug``: a shell where a build broke."""

from __future__ import annotations

import sys

from ..errors import UsageError
from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Settings
    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``debug``: the exit code is the command's."""
    if any(w == "build" for w in words[:6]):
        return _around_build(list(words), given)
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


def _around_build(words: list[str], given: Globals) -> int:
    """buildx's ``debug [--on error] build ...``: a shell in the step that fails."""
    at = words.index("build")
    flags = (Flag("on", default="error", metavar="WHEN"), Flag("invoke"), *global_flags())
    args = parse(Command(f"{given.program} debug", "[OPTIONS] build ...", "", flags, 0, 0), words[:at])
    if args.text("on") != "error":
        raise UsageError(
            f"debug --on={args.text('on')} is not supported: a shell is opened in a step that fails",
            hint="look at a result that worked with 'lapstrake run -it IMAGE'",
        )
    if args.text("invoke"):
        raise UsageError(
            "debug --invoke is not supported: the step's own shell is opened",
            hint="build with --on-fail=save, then 'lapstrake debug -- COMMAND'",
        )
    given.settings(args)
    from .build import command as build

    given.store = given.building = True
    return build(["--on-fail=shell", *words[at + 1 :]], given)


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
