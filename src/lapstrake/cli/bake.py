"""``lapstrake bake``: many targets of bake files as one build (spec cli.md §3)."""

from __future__ import annotations

import sys

from ..bake import files as bakefiles
from ..bake import requests, resolve
from ..errors import UsageError
from ..values import replace
from .flags import Command, Flag, Parsed, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..bake.load import Config
    from ..config import Settings
    from ..engine.build import BuildResult
    from ..engine.joint import Job
    from .main import Globals

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
    settings = given.settings(args)
    names, required = bakefiles.names_of(args.many("file"), settings.environ)
    found = bakefiles.read_local(names, required=required)
    config = bakefiles.load(found, _inputs(args, settings))
    if args.text("list"):
        return _list(args.text("list"), config)
    selection = resolve.select(config, args.args, _overrides(args), settings.environ)
    if args.flag("print"):
        sys.stdout.write(resolve.print_json(selection) + "\n")
        return 0
    jobs = _jobs(args, selection, settings)
    return _execute(args, jobs, settings)


def _inputs(args: Parsed, settings: Settings) -> bakefiles.Inputs:
    from ..oci.platform import host_platform

    given = {}
    for text in args.many("var"):
        name, eq, value = text.partition("=")
        if not name or not eq:
            raise UsageError(f"invalid variable {text}", hint="write --var NAME=VALUE")
        given[name] = value
    off = settings.environ.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "").lower() in ("1", "t", "true")
    return bakefiles.Inputs(
        given=given,
        environ=settings.environ,
        context="cwd://",
        platform=str(host_platform()),
        env_allowed=not off,
    )


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
    from .flags import parse_bool

    try:
        return f"type={kind},disabled={'false' if parse_bool(text) else 'true'}"
    except ValueError:
        return f"type={kind},{text}"


def _jobs(args: Parsed, selection: resolve.Selection, settings: Settings) -> list[Job]:
    from .. import optspec
    from ..engine.joint import Job
    from ..plan.request import CallSpec

    call: CallSpec | None = CallSpec("check") if args.flag("check") else None
    if args.text("call"):
        call = optspec.call(args.text("call"))
    out = []
    for name, target in selection.targets.items():
        request = requests.to_request(target, settings.environ)
        out.append(Job(name, replace(request, call=call) if call is not None else request))
    return out


def _execute(args: Parsed, jobs: list[Job], settings: Settings) -> int:
    calls = [j for j in jobs if j.request.call.name != "build"]
    if calls:
        return _calls(calls, settings)
    from ..engine.joint import run_jobs
    from ..solver.cancel import CancelToken
    from .build import Interrupts, open_view, say_warnings

    settings = replace(settings, jobs=args.number("jobs") or settings.jobs)
    mode = args.text("progress") or settings.progress or "auto"
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
    return 0


def _report(args: Parsed, jobs: list[Job], results: list[BuildResult], mode: str) -> None:
    if args.text("metadata-file"):
        import json

        from .build import write_atomic

        document: dict[str, Any] = {
            j.name: r.metadata for j, r in sorted(zip(jobs, results, strict=True), key=lambda p: p[0].name)
        }
        write_atomic(args.text("metadata-file"), json.dumps(document, indent=2).encode())
    if mode == "quiet":
        for result in results:
            sys.stdout.write(f"{result.config_digest or result.digest}\n")


def _calls(jobs: list[Job], settings: Settings) -> int:
    """``--call`` for each target, under its name."""
    from .calls import show_call

    code = 0
    for job in jobs:
        if len(jobs) > 1 and job.request.call.format != "json":
            sys.stdout.write(f"{job.name}\n")
        code = max(code, show_call(job.request, settings, sys.stdout))
        if len(jobs) > 1 and job.request.call.format != "json":
            sys.stdout.write("\n")
    return code


def _list(what: str, config: Config) -> int:
    """``--list=targets|variables``, also as ``type=…,format=json``."""
    from .. import optspec

    said: Mapping[str, str] = {"type": what} if "=" not in what else dict(optspec.key_values(what))
    kind, form = said.get("type", ""), said.get("format", "table")
    if kind not in ("targets", "variables") or form not in ("table", "json"):
        raise UsageError(
            f"invalid list {what}", hint="use targets or variables, or type=variables,format=json"
        )
    rows, document = _targets(config) if kind == "targets" else _variables(config)
    if form == "json":
        import json

        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        from .calls import table

        sys.stdout.write(table(rows))
    return 0


def _targets(config: Config) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    rows: list[tuple[str, ...]] = [("TARGET", "DESCRIPTION")]
    document: list[dict[str, Any]] = []
    for name in sorted({*config.groups, *config.targets}):
        group = config.groups.get(name)
        about = group.description if group is not None else config.targets[name].get("description", "")
        shown = about
        if group is not None:
            shown = f"{about} ({', '.join(group.targets)})" if about else ", ".join(group.targets)
        rows.append((name, shown))
        entry: dict[str, Any] = {"name": name}
        if about:
            entry["description"] = about
        if group is not None:
            entry |= {"group": True, "targets": list(group.targets)}
        document.append(entry)
    return rows, document


def _variables(config: Config) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    rows: list[tuple[str, ...]] = [("VARIABLE", "TYPE", "VALUE", "DESCRIPTION")]
    document = []
    for v in config.variables:
        rows.append((v.name, v.type, "<null>" if v.value is None else v.value, v.description))
        entry = {"name": v.name, "type": v.type, "description": v.description, "value": v.value}
        document.append({k: x for k, x in entry.items() if x not in (None, "") or k == "name"})
    return rows, document
