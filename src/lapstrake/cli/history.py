"""``history``: the builds that were run, their logs and traces, and taking them elsewhere (spec cli.md §6)."""

from __future__ import annotations

import sys
import time

from ..errors import UsageError
from .flags import Command, Flag, HelpWanted, Parsed, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from ..config import Settings
    from ..engine.history import History
    from .main import Globals

COLUMNS = (
    ("Ref", "BUILD ID"), ("Name", "NAME"), ("Status", "STATUS"), ("CreatedAt", "CREATED AT"), ("Duration", "DURATION"),
)  # fmt: skip
_EPILOG = "REF is a build id, its unique beginning, or ^N: the N-th from the newest (^0, the default)."


def command(words: Sequence[str], given: Globals) -> int:
    """``history``: its subcommands."""
    commands: dict[str, Callable[[Sequence[str], Globals], int]] = {
        "ls": _ls, "list": _ls, "inspect": _inspect, "logs": _logs, "open": _open, "rm": _rm, "trace": _trace,
        "export": _export, "import": _import,
    }  # fmt: skip
    if not words or words[0] in ("--help", "-h"):
        raise HelpWanted(
            Command(
                f"{given.program} history", "ls | inspect | logs | open | rm | trace | export | import",
                "Look at the builds that were run. `history inspect attachment` shows what a build attached.",
                global_flags(), epilog=_EPILOG,
            )
        )  # fmt: skip
    if words[0] not in commands:
        raise UsageError(f"unknown command: history {words[0]}", hint=f"see '{given.program} history --help'")
    return commands[words[0]](words[1:], given)


def begin(
    words: Sequence[str], given: Globals, spec: Command
) -> tuple[Parsed, Settings, History]:  # fmt: skip
    """Flags, settings and the history of a subcommand."""
    args = parse(spec, words)
    from ..engine.history import History

    settings = given.settings(args)
    return args, settings, History(settings.root)


def subcommand(
    given: Globals, name: str, usage: str, about: str, flags: tuple[Flag, ...], limit: int
) -> Command:
    """A subcommand that takes up to ``limit`` references (-1: any number)."""
    return Command(
        f"{given.program} history {name}", usage, about, (*flags, *global_flags()), 0, limit, epilog=_EPILOG
    )


def _inspect(words: Sequence[str], given: Globals) -> int:
    from .historyshow import command_attachment, command_inspect

    if words[:1] == ["attachment"]:
        return command_attachment(words[1:], given)
    return command_inspect(words, given)


# -- ls ------------------------------------------------------------------------------------------


def _ls(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag("filter", "list", 'Show only builds that match ("status=error", "startedAt>24h", "ref=ID")', metavar="FILTER"),
        Flag("format", help='"table", "json" or a Go template', default="table", metavar="FORMAT"),
        Flag("local", "bool", "Show only builds of the current directory"),
        Flag("no-trunc", "bool", "Show whole names"),
    )  # fmt: skip
    args, _, history = begin(
        words, given, subcommand(given, "ls", "[OPTIONS]", "List builds, newest first.", flags, 0)
    )
    now = time.time()
    tests = [parse_filter(raw, now) for raw in args.many("filter")]
    found = [r for r in history.records() if all(test(r) for test in tests)]
    if args.flag("local"):
        import os

        here = os.getcwd()
        found = [r for r in found if str(r["request"].get("context", "")).startswith(here)]
    form = args.text("format")
    from .template import render_rows

    whole = args.flag("no-trunc") or not form.startswith("table")
    rows = [_row(r, now, whole=whole) for r in found]
    if form == "json":
        rows = [_document(r) for r in found]
    sys.stdout.write(render_rows(form, rows, COLUMNS))
    return 0


def _row(r: dict[str, Any], now: float, *, whole: bool) -> dict[str, Any]:
    from ..progress.text import clip, safe

    name = safe(str(r["name"]))
    return {
        "Ref": r["id"], "Name": name if whole else clip(name, 36), "Status": status(r),
        "CreatedAt": f"{ago(now - float(r['started']))} ago", "Duration": spent(r, now),
        "Builder": r.get("builder", ""), "TotalSteps": len(steps(r)), "CachedSteps": cached(r),
    }  # fmt: skip


def _document(r: dict[str, Any]) -> dict[str, Any]:
    from ..engine.recorder import reference

    found = {
        "ref": reference(str(r.get("builder", "default")), r["id"]), "name": r["name"], "status": status(r),
        "created_at": when(r["started"]), "total_steps": len(steps(r)), "completed_steps": completed(r),
        "cached_steps": cached(r),
    }  # fmt: skip
    return found | ({"completed_at": when(r["completed"])} if "completed" in r else {})


def steps(r: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps that count."""
    return [s for s in r["steps"] if isinstance(s, dict)]


def completed(r: dict[str, Any]) -> int:
    """How many came to their end."""
    return sum(s.get("state") in ("done", "cached") for s in steps(r))


def cached(r: dict[str, Any]) -> int:
    """How many were answered from the cache."""
    return sum(s.get("state") == "cached" for s in steps(r))


def status(r: dict[str, Any]) -> str:
    """``Completed``, ``Error``, ``Canceled`` or ``Running``."""
    return str(r.get("status", "")).capitalize()


def when(at: float) -> str:
    """RFC 3339 in UTC."""
    from ..events import rfc3339

    return rfc3339(float(at))


def spent(r: dict[str, Any], now: float) -> str:
    """How long a build took, or has taken."""
    running = "completed" not in r
    value = (now if running else float(r["completed"])) - float(r["started"])
    if value < 100:
        return f"{max(value, 0):.1f}s" + ("+" if running else "")
    minutes, rest = divmod(int(value), 60)
    text = f"{minutes}m {rest:2d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:2d}m"
    return text + ("+" if running else "")


def ago(seconds: float) -> str:
    """``5 seconds``, ``3 hours``, ``2 days``: as docker says it."""
    for unit, length in (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length * (2 if unit in ("week", "day") else 1):
            n = int(seconds // length)
            return f"{n} {unit}{'s' if n > 1 else ''}"
    n = max(int(seconds), 0)
    return f"{n} second{'' if n == 1 else 's'}" if n else "less than a second"


_TIMES = ("startedat", "completedat", "duration")


def parse_filter(raw: str, now: float) -> Callable[[dict[str, Any]], bool]:
    """One ``--filter``: ``ref``, ``repository``, ``status`` with ``=`` or ``!=``; times with ``<`` or ``>``,
    an age like ``24h`` meaning that long ago.  Raises UsageError."""
    for sign in ("!=", ">=", "<=", "=", ">", "<"):
        name, found, value = raw.partition(sign)
        key = name.strip().lower()
        if found and key.isalpha():
            break
    else:
        raise UsageError(f"invalid filter {raw}", hint="for example status=error or startedAt>24h")
    value = value.strip()
    if key in _TIMES:
        return _time_filter(key, sign, value, raw, now)
    if sign not in ("=", "!=") or key not in ("ref", "repository", "status", "name"):
        raise UsageError(
            f"invalid filter {raw}",
            hint="ref, repository and status take = or !=; startedAt, completedAt and duration take < or >",
        )
    wanted = value.lower()

    def text(r: dict[str, Any]) -> bool:
        if key == "ref":
            same = str(r["id"]).startswith(value.rpartition("/")[2])
        elif key == "status":
            same = status(r).lower() == wanted
        elif key == "name":
            same = wanted in str(r["name"]).lower()
        else:
            same = value in str(r["request"].get("context", ""))
        return same == (sign == "=")

    return text


def _time_filter(key: str, sign: str, value: str, raw: str, now: float) -> Callable[[dict[str, Any]], bool]:
    if sign not in ("<", ">", "<=", ">="):
        raise UsageError(f"invalid filter {raw}", hint=f"{key} takes < or >")
    limit = _moment(value, raw, now, relative=key != "duration")

    def compare(r: dict[str, Any]) -> bool:
        start = float(r["started"])
        end = float(r.get("completed", now))
        have = {"startedat": start, "completedat": end, "duration": end - start}[key]
        if key == "completedat" and "completed" not in r:
            return False
        return have < limit if sign[0] == "<" else have > limit

    return compare


def _moment(value: str, raw: str, now: float, *, relative: bool) -> float:
    from ..optspec import duration

    if relative and "-" in value:
        from datetime import UTC, datetime

        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise UsageError(f"invalid filter {raw}", hint="a time is RFC 3339 or an age like 24h") from None
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    seconds = duration(value)
    return now - seconds if relative else seconds


# -- logs, open, rm ------------------------------------------------------------------------------


def _logs(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag("progress", help='"plain", "rawjson" or "tty"', default="plain", metavar="MODE"),
        Flag("step", help="Only the raw output of the steps whose name holds this text", metavar="TEXT"),
    )
    about = "Print the complete logs of a build."
    args, settings, history = begin(
        words, given, subcommand(given, "logs", "[OPTIONS] [REF]", about, flags, 1)
    )
    record = history.find(args.args[0] if args.args else "")
    if args.text("step"):
        return _raw_logs(history, record, args.text("step"))
    mode = args.text("progress")
    if mode not in ("plain", "rawjson", "tty", "auto"):
        raise UsageError(f"unsupported progress mode: {mode}", hint="use plain, rawjson or tty")
    from ..engine.replay import replay

    show(replay(history, record), "plain" if mode == "auto" else mode, settings)
    return 0


def show(events: Iterable[Any], mode: str, settings: Settings) -> None:
    """Replay events on standard output, with the times they had."""
    now = [0.0]
    if mode == "rawjson":
        from ..progress.rawjson import RawJsonRenderer

        raw = RawJsonRenderer(sys.stdout)
        for event in events:
            raw.emit(event)
        return
    from ..progress.plain import PlainRenderer
    from ..progress.tty import TtyRenderer

    renderer = (
        TtyRenderer(
            sys.stdout,
            colors=settings.colors,
            color=not settings.no_color,
            clock=lambda: now[0],
            background=False,
        )
        if mode == "tty"
        else PlainRenderer(sys.stdout, truncate=settings.truncate, clock=lambda: now[0], background=False)
    )
    for event in events:
        now[0] = max(now[0], float(getattr(event, "at", 0.0)))
        renderer.emit(event)
    renderer.close()


def _raw_logs(history: History, record: dict[str, Any], text: str) -> int:
    found = 0
    for step in steps(record):
        path = history.log_path(record, step) if text.lower() in step["name"].lower() else ""
        if not path:
            continue
        found += 1
        sys.stdout.flush()
        with open(path, "rb") as f:
            while data := f.read(1 << 20):
                sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    if not found:
        sys.stderr.write(f'no step with "{text}" in its name wrote anything\n')
    return 0 if found else 1


def _open(words: Sequence[str], given: Globals) -> int:
    about = "Write the page of a build (as `report` does) and open it in the browser."
    args, settings, history = begin(words, given, subcommand(given, "open", "[REF]", about, (), 1))
    record = history.find(args.args[0] if args.args else "")
    import os
    import tempfile

    from .report import write_report

    path = os.path.join(tempfile.mkdtemp(prefix="lapstrake-"), f"build-{record['id'][:12]}.html")
    write_report(settings, history, record, path)
    sys.stdout.write(path + "\n")
    sys.stdout.flush()
    opener = _opener(settings)
    if not opener:
        sys.stderr.write("no browser can be started from here; open the file above\n")
        return 0
    import subprocess

    subprocess.run([opener, path], stdin=subprocess.DEVNULL, check=False)
    return 0


def _opener(settings: Settings) -> str:
    import shutil

    env = settings.environ
    if sys.platform != "darwin" and not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
        return ""
    return shutil.which("open" if sys.platform == "darwin" else "xdg-open", path=env.get("PATH")) or ""


def _rm(words: Sequence[str], given: Globals) -> int:
    flags = (Flag("all", "bool", "Remove all builds"),)
    about = "Remove builds and their logs from the history. Images and the cache stay."
    args, _, history = begin(words, given, subcommand(given, "rm", "[OPTIONS] [REF...]", about, flags, -1))
    if args.flag("all") == bool(args.args):
        raise UsageError(
            "rm requires either --all or at least one build" if not args.args else "--all takes no builds"
        )
    if args.flag("all"):
        found = [r for r in history.records() if r.get("status") != "running"]
    else:
        found = [history.find(ref) for ref in args.args]
    for record in found:
        history.remove(record)
        sys.stdout.write(f"{record['id']}\n")
    return 0


# -- taking it elsewhere ----------------------------------------------------------------------------


def _trace(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag(
            "format",
            help='"chrome" (Perfetto, chrome://tracing) or "otlp"',
            default="chrome",
            metavar="FORMAT",
        ),
        Flag("compare", help="Put another build beside it", metavar="REF"),
        Flag("output", help="File to write (default: standard output)", short="o", metavar="FILE"),
        Flag("addr", hidden=True),
    )
    about = "Write a build as a trace, as JSON."
    args, _, history = begin(words, given, subcommand(given, "trace", "[OPTIONS] [REF]", about, flags, 1))
    if args.has("addr"):
        raise UsageError(
            "--addr: no trace viewer is built in",
            hint="write the trace with -o FILE and open it in ui.perfetto.dev",
        )
    from .images import one_of

    form = one_of(args.text("format"), ("chrome", "otlp"))
    records = [history.find(args.args[0] if args.args else "")]
    if args.text("compare"):
        records.append(history.find(args.text("compare")))
    import json

    from ..engine import trace

    text = json.dumps(trace.chrome(records) if form == "chrome" else trace.otlp(records)) + "\n"
    if args.text("output"):
        from .build import write_atomic

        write_atomic(args.text("output"), text.encode())
    else:
        sys.stdout.write(text)
    return 0


def _export(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag("all", "bool", "Export all builds"),
        Flag("finalize", "bool", "Accepted for buildx's sake: records are complete here", hidden=True),
        Flag("output", help='File to write; "-" is standard output', short="o", metavar="FILE"),
    )
    about = "Write builds with their logs into one file, for `history import`."
    args, _, history = begin(
        words, given, subcommand(given, "export", "[OPTIONS] [REF...]", about, flags, -1)
    )
    if args.flag("all"):
        records = [r for r in history.records() if r.get("status") != "running"]
    else:
        records = [history.find(ref) for ref in args.args or [""]]
    target = args.text("output") or ("-" if not sys.stdout.isatty() else "")
    if not target:
        raise UsageError("refusing to write to console", hint="name a file with -o")
    from ..engine.bundle import export

    if target == "-":
        export(history, records, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    from ..errors import ExportError

    try:
        with open(target, "wb") as out:
            export(history, records, out)
    except OSError as e:
        raise ExportError(f"failed to write {target}: {e.strerror}") from None
    return 0


def _import(words: Sequence[str], given: Globals) -> int:
    flags = (Flag("file", "list", 'File to read; "-" is standard input', short="f", metavar="FILE"),)
    about = "Read builds that `history export` has written."
    args, _, history = begin(words, given, subcommand(given, "import", "[OPTIONS]", about, flags, 0))
    from ..engine.bundle import load
    from ..errors import BuildError

    names = args.many("file") or ["-"]
    if names == ["-"] and sys.stdin.isatty():
        raise UsageError("refusing to read from console", hint="name a file with -f")
    for name in names:
        try:
            if name == "-":
                found = load(history, sys.stdin.buffer, "standard input")
            else:
                with open(name, "rb") as f:
                    found = load(history, f, name)
        except OSError as e:
            raise BuildError(f"failed to read {name}: {e.strerror}") from None
        for ident in found:
            sys.stdout.write(ident + "\n")
        if not found:
            sys.stderr.write(f"{name}: all its builds are known already\n")
    return 0
