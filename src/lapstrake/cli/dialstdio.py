"""``dial-stdio``: this machine as a node of somebody else's builder (what ``ssh`` starts)."""

from __future__ import annotations

import sys

from ..errors import UsageError
from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """Answer one client until it hangs up."""
    flags = (Flag("platform", hidden=True), Flag("progress", hidden=True))
    about = "Build for another Lapstrake over standard input and output. Nothing to be called by hand."
    args = parse(Command(f"{given.program} dial-stdio", "", about, (*flags, *global_flags()), 0, 0), words)
    if sys.stdin.isatty():
        raise UsageError(
            "dial-stdio talks to a program, not to a person",
            hint="lapstrake create --name farm ssh://user@this-machine, on the machine you build from",
        )
    from ..engine.serve import serve

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever prints must not get between the frames
    serve(given.settings(args), source, sink)
    return 0
