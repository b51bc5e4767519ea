"""``report``: one build as one page for a browser."""

from __future__ import annotations

import sys

from ..errors import ExportError
from .flags import Command, Flag, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..config import Settings
    from ..engine.history import History
    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``report``."""
    spec = Command(
        f"{given.program} report", "[OPTIONS] [REF]",
        "Write one page about a build that needs nothing else: timeline, graph, logs, layers and their largest files.",
        (Flag("output", help="File to write (default build-ID.html)", short="o", metavar="FILE"), *global_flags()), 0, 1,
        epilog="REF is a build id, its unique beginning, or ^N: the N-th from the newest (^0, the default).",
    )  # fmt: skip
    args = parse(spec, words)
    settings = given.settings(args)
    from ..engine.history import History

    history = History(settings.root)
    record = history.find(args.args[0] if args.args else "")
    path = args.text("output") or f"build-{record['id'][:12]}.html"
    write_report(settings, history, record, path)
    if path != "-":
        sys.stdout.write(path + "\n")
    return 0


def write_report(settings: Settings, history: History, record: dict[str, Any], path: str) -> None:
    """Write the page of a build to ``path`` ("-": standard output)."""
    from ..engine.engine import Engine
    from ..engine.report import report

    with Engine(settings) as engine:
        text = report(engine, history, record)
    data = text.encode("utf-8", "replace")
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as f:
            f.write(data)
    except OSError as e:
        raise ExportError(f"failed to write {path}: {e.strerror}") from None
