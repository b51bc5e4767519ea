"""``lapstrake bake``: many targets of bake files as one build (spec cli.md §3)."""

from __future__ import annotations

import sys

from .. import optspec
from ..bake import definition, entitlements, resolve
from ..errors import UsageError
from ..values import replace
from .flags import Command, Flag, Parsed, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..bake.schema import Target
    from ..config import Settings
    from ..engine.build import BuildResult
    from ..engine.joint import Job
    from ..plan.request import BuildRequest, CallSpec
    from .main import Globals

    Pair = tuple[Target, BuildRequest]

_WARNINGS = "buildx.build.warnings"
_FLAGS = (
    Flag("allow", "list", "Allow what a target asks for: network.host, security.insecure, ssh, fs.read=PATH, fs.write=PATH, fs=PATH", metavar="NAME"),
    Flag("call", help='Instead of building: "check", "outline" or "targets"', metavar="METHOD"),
    Flag("check", "bool", 'Check the Dockerfiles only; short for "--call=check"'),
    Flag("file", "list", "Bake or Compose file", short="f", metavar="FILE"),
    Flag("list", help='List "targets" or "variables" of the files; also "type=variables,format=json"', metavar="WHAT"),
    Flag("load", "bool", "Load the images into a container engine, unless a target writes files"),
    Flag("metadata-file", help="Write what was built to a JSON file, by target", metavar="FILE"),
    Flag("no-cache", "bool", "Use no cached result (new results are stored)"),
    Flag("print", "bool", "Print what would be built as JSON, and build nothing"),
    Flag("progress", help='How progress is shown: "auto", "tty", "plain", "quiet", "rawjson", "none"', metavar="MODE"),
    Flag("provenance", help='Short for "--set=*.attest=type=provenance"', metavar="SPEC"),
    Flag("pull", help="Ask the registry for newer base images", metavar="BOOL", implied="true"),
    Flag("push", "bool", "Push the images, unless a target writes files"),
    Flag("sbom", help='Short for "--set=*.attest=type=sbom"', metavar="SPEC"),
    Flag("set", "list", 'Override something of a target ("app.args.VERSION=2", "*.platform=linux/arm64", "app.tags+=x")', metavar="TARGET.KEY=VALUE"),
    Flag("summary", help='What is said at the end: "short" (default), "full" (a line a step) or "none"', metavar="MODE"),
    Flag("var", "list", "Set a variable of the files", metavar="NAME=VALUE"),
    Flag("policy", "list", hidden=True),
    Flag("explain", "bool", "Say of every step that runs why it was not cached"),
    Flag("jobs", "int", "Run at most N steps at once", default=0, metavar="N"),
)  # fmt: skip


def bake_command(program: str = "lapstrake") -> Command:
    """The command's description."""
    return Command(
        f"{program} bake",
        "[OPTIONS] [TARGET...]",
        "Build the targets of bake files (HCL, JSON, Compose) as one build; without TARGET the group or target\n"
        "called default. TARGET may be a pattern. A URL before them names a remote definition.",
        (*_FLAGS, *global_flags()),
        epilog=f"Example:  {program} bake --print\n          {program} bake app --set app.args.VERSION=2 --push",
    )


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``bake``."""
    args = parse(bake_command(given.program), words)
    from .build import with_summary

    if args.flag("print") and args.text("list"):
        raise UsageError("--print and --list are mutually exclusive")
    if args.many("policy"):
        from ..optspec import refuse_rego

        for text in args.many("policy"):
            refuse_rego(text)
    settings = with_summary(args, given.settings(args))
    with _Scratch(settings.tmp) as scratch:
        return _run(args, settings, scratch, [given.program, "bake", *words])


def _run(args: Parsed, settings: Settings, scratch: _Scratch, line: list[str]) -> int:
    ask = _ask(args, settings)
    found = definition.read(ask, scratch.make)
    if args.text("list"):
        from .bakelist import show_list

        return show_list(args.text("list"), found.config, sys.stdout)
    selection = definition.select(found, ask)
    if args.flag("print"):
        sys.stdout.write(resolve.print_json(selection) + "\n")
        return 0
    pairs = definition.build_requests(selection, found, ask)
    _ask_leave(definition.ungranted(pairs, selection, ask, found.place), line)
    pairs = [(t, definition.with_allowed(r, ask)) for t, r in pairs]
    return _execute(args, selection, pairs, settings)


class _Scratch:
    """A directory for a fetched definition, made when asked for, gone afterwards."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.path = ""

    def make(self) -> str:
        """Make it."""
        import tempfile

        self.path = tempfile.mkdtemp(prefix="lapstrake-bake-", dir=self.parent)
        return self.path

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.path:
            import shutil

            shutil.rmtree(self.path, ignore_errors=True)


def _ask(args: Parsed, settings: Settings) -> definition.Ask:
    from ..oci.platform import host_platform

    return definition.Ask(
        words=tuple(args.args), files=tuple(args.many("file")), overrides=tuple(_overrides(args)),
        variables=tuple(args.many("var")),
        allow=tuple(a for text in args.many("allow") for a in optspec.fields(text)),
        environ=settings.environ, platform=str(host_platform()),
    )  # fmt: skip


def _ask_leave(wanted: entitlements.Wanted, line: list[str]) -> None:
    """Ask on a terminal; elsewhere say which flags would grant it, and give up."""
    if not wanted.flags:
        return
    sys.stderr.write(entitlements.refusal(wanted, line))
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write("Do you want to grant requested privileges and continue? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise UsageError("additional privileges requested", exit_code=1)


def _overrides(args: Parsed) -> list[str]:
    """The flags that are short for ``--set *.…``, before the real ones."""
    out = [f"*.{flag}=true" for flag in ("push", "load") if args.flag(flag)]
    if args.has("no-cache"):
        out.append(f"*.no-cache={str(args.flag('no-cache')).lower()}")
    if args.has("pull"):
        out.append(f"*.pull={args.text('pull')}")
    for kind in ("sbom", "provenance"):
        text = args.text(kind)
        if text:
            out.append(f"*.attest={_attest(kind, text)}")
    return [*args.many("set"), *out]


def _attest(kind: str, text: str) -> str:
    from ..dockerfile.numbers import parse_bool

    try:
        return f"type={kind},disabled={'false' if parse_bool(text) else 'true'}"
    except ValueError:
        return f"type={kind},{text}"


def _call(args: Parsed) -> CallSpec | None:
    from ..plan.request import CallSpec

    if args.flag("check"):
        return CallSpec("check")
    return optspec.call(args.text("call")) if args.text("call") else None


def _execute(args: Parsed, selection: resolve.Selection, pairs: list[Pair], settings: Settings) -> int:
    call = _call(args)
    asked = [(t, replace(r, call=call) if call is not None else r) for t, r in pairs]
    if any(r.call.name != "build" for _, r in asked):
        from .bakecalls import show_calls

        return show_calls(selection, asked, call, settings, sys.stdout)
    from ..builders.drivers import apply
    from ..engine.joint import Job, run_jobs
    from ..solver.cancel import CancelToken
    from .build import Interrupts, open_view, say_warnings

    settings = replace(settings, jobs=args.number("jobs") or settings.jobs)
    jobs = []
    for target, request in asked:
        settings, chosen = apply(settings, replace(request, metadata_file=args.text("metadata-file")))
        jobs.append(Job(target.name, chosen))
    mode = _progress(args, settings)
    view = open_view(mode, settings, explain=args.flag("explain"))
    cancel = CancelToken()
    error: BaseException | None = None
    try:
        with Interrupts(cancel):
            results = run_jobs(jobs, settings, view.emit, cancel)
    except BaseException as e:
        error = e
        raise
    finally:
        view.close(error)
        cancel.close()
        if mode not in ("quiet", "rawjson", "none"):
            say_warnings((), settings, view)
    _report(args, jobs, results, mode)
    if mode not in ("quiet", "rawjson", "none") and settings.summary != "none":
        from .summary import joint_summary

        sys.stderr.write(joint_summary(results, [j.name for j in jobs], settings.summary))
    return 0


def _progress(args: Parsed, settings: Settings) -> str:
    from ..progress.view import MODES

    mode = args.text("progress") or settings.progress or "auto"
    if mode not in MODES:
        raise UsageError(f"invalid progress mode: {mode}", hint="use one of " + ", ".join(MODES))
    return mode


def _report(args: Parsed, jobs: list[Job], results: list[BuildResult], mode: str) -> None:
    if args.text("metadata-file"):
        import json

        from .build import write_atomic

        found = {j.name: dict(sorted(r.metadata.items())) for j, r in zip(jobs, results, strict=True)}
        warnings = [w for own in found.values() for w in own.pop(_WARNINGS, ())]
        document: dict[str, Any] = dict(sorted(found.items()))
        if warnings:
            document[_WARNINGS] = warnings
        write_atomic(args.text("metadata-file"), json.dumps(document, indent=2).encode())
    if mode == "quiet":
        for result in results:
            sys.stdout.write(f"{result.config_digest or result.digest}\n")
