"""``lapstrake build``: flags to a ``BuildRequest``, then the engine, then the results."""

from __future__ import annotations

import os
import sys

from .. import optspec
from ..errors import UsageError
from ..plan.request import IMAGE_OUTPUTS, BuildRequest, CallSpec, OutputSpec
from ..values import replace
from .buildflags import BUILDAH, build_command
from .flags import Parsed, parse
from .registryflags import GIVEN as REGISTRY_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import BinaryIO

    from ..config import Settings
    from ..engine.build import BuildResult
    from ..plan.request import AnnotationSpec, PolicyRule, SshSpec
    from ..progress.model import Renderer
    from ..solver.cancel import CancelToken
    from .main import Globals

MAX_DOCKERFILE = 16 << 20
_IGNORED = {"security-opt": "--security-opt", "squash": "--squash"}
_DOCKER_ISOLATION = ("default", "process", "hyperv")


def command(words: Sequence[str], given: Globals) -> int:
    """Run ``build``."""
    args = parse(build_command(given.program), words)
    if args.given.intersection(BUILDAH):
        from .buildahflags import adapt, edits

        adapt(args)
    settings = given.settings(args)
    if args.given.intersection(REGISTRY_FLAGS):
        from .registry import access_of, registries_of_build

        settings = replace(settings, access=access_of(args, registries_of_build(args)))
    if settings.network and not args.has("network"):
        args.values["network"] = settings.network
    request = to_request(args, settings.environ, progress=settings.progress)
    if args.given.intersection(BUILDAH):
        request = replace(request, edits=edits(args, settings.environ), ignore_file=args.text("ignorefile"))
    settings = with_summary(args, settings)
    if os.path.exists(f"{args.text('file') or os.path.join(request.context, 'Dockerfile')}.rego"):
        from .buildpolicy import unheeded

        request = replace(request, warnings=(*request.warnings, *unheeded(args)))
    return execute(request, settings, quiet=args.flag("quiet"), twice=args.flag("check-repro"))


def to_request(
    args: Parsed, env: Mapping[str, str], *, progress: str = "auto", stdin: BinaryIO | None = None
) -> BuildRequest:
    """All flags as one value.  ``env``: the client's environment; ``stdin`` is read only when named."""
    call = _call(args)
    context, dockerfile, text, head = _inputs(args, stdin)
    given_args = [*_arg_files(args.many("build-arg-file")), *args.many("build-arg")]
    build_args = dict(p for raw in given_args if (p := optspec.build_arg(raw, env)) is not None)
    annotations = tuple(a for raw in args.many("annotation") for a in optspec.annotation(raw))
    epoch = args.text("source-date-epoch") or args.text("timestamp")
    epoch_from = "" if epoch else build_args.get("SOURCE_DATE_EPOCH", "") or env.get("SOURCE_DATE_EPOCH", "")
    if epoch_from.isdigit():
        epoch, epoch_from = epoch_from, ""
    network, allow = _network(args)
    isolation, warnings = _isolation(args)
    hosts = tuple(h for raw in args.many("add-host") for h in optspec.add_host(raw))
    if network != "host" and any(ip == "host-gateway" for _, ip in hosts):
        warnings += ("host-gateway: steps reach the host with --network=host only",)
    policy: tuple[PolicyRule, ...] = ()
    if args.given.intersection(("policy", "source-policy-file")):
        from .buildpolicy import policy_of

        policy = policy_of(args)
    return BuildRequest(
        context=context,
        dockerfile=dockerfile,
        dockerfile_text=text,
        stdin_head=head,
        target=args.text("target"),
        platforms=optspec.platforms(args.many("platform") or [env.get("DOCKER_DEFAULT_PLATFORM", "")]),
        build_args=tuple(build_args.items()),
        labels=tuple(dict(optspec.label(raw) for raw in args.many("label")).items()),
        tags=_tags(args.many("tag")),
        no_cache=args.flag("no-cache"),
        no_cache_filter=tuple(s for raw in args.many("no-cache-filter") for s in raw.split(",") if s),
        pull=optspec.pull(args.text("pull")),
        outputs=_outputs(args, annotations),
        named_contexts=tuple(dict(optspec.named_context(raw) for raw in args.many("build-context")).items()),
        network=network,
        add_hosts=hosts,
        ulimits=tuple({u[0]: u for u in map(optspec.ulimit, args.many("ulimit"))}.values()),
        shm_size=optspec.size(args.text("shm-size"), "--shm-size") if args.text("shm-size") else 0,
        resources=_resources(args),
        cgroup_parent=args.text("cgroup-parent"),
        secrets=tuple({s.id: s for s in (optspec.secret(raw, env) for raw in args.many("secret"))}.values()),
        ssh=_ssh(args, context, env),
        allow=allow,
        annotations=annotations,
        attests=optspec.attests(args.many("attest"), args.text("sbom"), args.text("provenance")),
        cache_from=optspec.cache(args.many("cache-from")),
        cache_to=optspec.cache(args.many("cache-to")),
        cache_mounts=tuple(dict(optspec.cache_mount(raw) for raw in args.many("cache-mount")).items()),
        metadata_file=args.text("metadata-file"),
        iidfile=args.text("iidfile"),
        iidfile_raw=args.has("iidfile-raw"),
        source_date_epoch=optspec.epoch(epoch),
        epoch_from=epoch_from,
        call=call,
        progress=_progress(args, progress),
        builder=args.text("builder"),
        isolation=isolation,
        min_isolation=args.text("min-isolation"),
        jobs=args.number("jobs"),
        step_timeout=optspec.seconds(args.text("timeout"), "--timeout"),
        on_fail=_on_fail(args),
        explain=args.flag("explain"),
        require_cached=args.flag("require-cached"),
        verify_cache=optspec.share(args.text("verify-cache"), "--verify-cache"),
        policy=policy,
        warnings=warnings,
    )


def _on_fail(args: Parsed) -> str:
    wanted = args.text("on-fail")
    if wanted not in ("", "save", "shell"):
        raise UsageError(f"unknown value for --on-fail: {wanted}", hint="use save or shell")
    return wanted


def _call(args: Parsed) -> CallSpec:
    if args.flag("check"):
        if args.text("call") not in ("", "build", "check"):
            raise UsageError("--check and --call cannot be used together")
        return CallSpec("check")
    return optspec.call(args.text("call")) if args.text("call") else CallSpec()


def _inputs(args: Parsed, stdin: BinaryIO | None) -> tuple[str, str | None, bytes | None, bytes]:
    """(context, dockerfile, its text, first bytes of an archive on standard input)."""
    words = list(args.args)
    if not words and args.text("context"):  # kaniko's spelling
        words = [args.text("context").removeprefix("dir://")]
    if len(words) != 1 or not words[0]:
        if len(words) > 1:
            raise UsageError(
                f"'{args.command.path}' requires 1 argument",
                hint=f"{len(words)} were given: {' '.join(words)}; flags with a value take it after '=' or a space",
            )
        raise UsageError(
            'please specify build context (e.g. "." for the current directory)',
            hint=f"'{args.command.path}' requires 1 argument; see '{args.command.path} --help'",
        )
    context, dockerfile = words[0], args.text("file") or None
    if context == "-":
        if dockerfile == "-":
            raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
        return _stdin_context(dockerfile, stdin)
    if dockerfile == "-":
        text = _read_all(stdin or sys.stdin.buffer)
        _check_directory(context)
        return context, None, text, b""
    _check_directory(context)
    return context, dockerfile, None, b""


def _stdin_context(
    dockerfile: str | None, stdin: BinaryIO | None
) -> tuple[str, str | None, bytes | None, bytes]:
    source = stdin or sys.stdin.buffer
    head = b""
    while len(head) < 512 and (more := source.read(512 - len(head))):
        head += more
    if is_archive(head):
        return "-", dockerfile, None, head
    if dockerfile:
        raise UsageError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    return "", None, head + _read_all(source), b""


def is_archive(head: bytes) -> bool:
    """Does this look like a tar, or like what gzip, bzip2, xz or zstd make of one?"""
    if head.startswith((b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")):
        return True
    if head[257:262] == b"ustar":
        return True
    if len(head) < 512 or not head[148:156].strip(b" \0").isdigit():
        return False
    total = sum(head[:148]) + 8 * 32 + sum(head[156:512])  # an old tar has only its checksum
    try:
        return int(head[148:156].strip(b" \0"), 8) == total
    except ValueError:
        return False


def _read_all(source: BinaryIO) -> bytes:
    text = source.read(MAX_DOCKERFILE + 1)
    if len(text) > MAX_DOCKERFILE:
        raise UsageError("the Dockerfile on standard input is larger than 16 MiB")
    return text


def is_remote(context: str) -> bool:
    """A git or HTTP URL, or the ``github.com/`` and ``git@`` shorthands."""
    return context.startswith(("http://", "https://", "git://", "ssh://", "git@", "github.com/")) or (
        "@" in context and ":" in context and not os.path.exists(context)
    )


def _check_directory(context: str) -> None:
    if is_remote(context) or os.path.isdir(context):
        return
    if os.path.exists(context):
        raise UsageError(f'unable to prepare context: path "{context}" is not a directory')
    raise UsageError(f'unable to prepare context: path "{context}" not found')


def _tags(values: list[str]) -> tuple[str, ...]:
    out = [t.removeprefix("docker://") for raw in values for t in [raw.strip()]]
    for tag in out:
        name, _, version = tag.rpartition(":") if ":" in tag.rsplit("/", 1)[-1] else (tag, "", "x")
        path = name.partition("/")[2] if "/" in name and (set(name.partition("/")[0]) & set(".:")) else name
        plain = set("abcdefghijklmnopqrstuvwxyz0123456789._-/")
        bad_version = (
            not version
            or len(version) > 128
            or version[0] in ".-"
            or not all(c.isalnum() or c in "_.-" for c in version)
        )
        if (
            not path
            or bad_version
            or not set(path) <= plain
            or "//" in path
            or not path[-1].isalnum()
            or not path[0].isalnum()
        ):
            raise UsageError(
                f'invalid tag "{tag}": invalid reference format',
                hint="write [registry/]name[:tag] with a name in lower case",
            )
    return tuple(dict.fromkeys(out))


def _outputs(args: Parsed, annotations: tuple[AnnotationSpec, ...]) -> tuple[OutputSpec, ...]:
    out = [optspec.parse_output(raw) for raw in args.many("output")]
    images = [o for o in out if o.type in IMAGE_OUTPUTS]
    if args.flag("push"):
        if not any(o.type in ("image", "registry") for o in images):
            out.append(OutputSpec("image", "", (("push", "true"),)))
        out = [
            OutputSpec(o.type, o.dest, _with(o.attrs, "push", "true")) if o.type == "image" else o
            for o in out
        ]
    if args.flag("load") and not any(o.type == "docker" and not o.dest for o in out):
        out.append(OutputSpec("docker"))
    for key, value in _every_image(args):
        out = out or [OutputSpec("image")]
        out = [
            OutputSpec(o.type, o.dest, _with(o.attrs, key, o.get(key) or value))
            if o.type in IMAGE_OUTPUTS
            else o
            for o in out
        ]
    for o in [o for o in out if annotations and o.type in IMAGE_OUTPUTS]:
        attrs = o.attrs
        for a in annotations:
            attrs = _with(attrs, a.attribute, a.value)
        out[out.index(o)] = OutputSpec(o.type, o.dest, attrs)
    _check_outputs(out, args)
    return tuple(out)


def _every_image(args: Parsed) -> list[tuple[str, str]]:
    """Attributes that flags of their own give to every image output which does not have them."""
    out = []
    if args.flag("rewrite-timestamp"):
        out.append(("rewrite-timestamp", "true"))
    if args.text("timestamp"):  # buildah's: not the latest, but exactly this time
        out += [("rewrite-timestamp", "true"), ("exact-timestamp", "true")]
    how = args.text("layers")
    if how:  # buildah's --layers=false means one layer above the base
        how = {"true": "all", "false": "squash-above-base"}.get(how.lower(), how)
        from ..export.options import layers_of

        out.append(("layers", layers_of(how)))
    return out


def _with(attrs: tuple[tuple[str, str], ...], key: str, value: str) -> tuple[tuple[str, str], ...]:
    return tuple({**dict(attrs), key: value}.items())


def _check_outputs(out: list[OutputSpec], args: Parsed) -> None:
    if args.text("iidfile") and any(o.type in ("local", "tar") for o in out):
        raise UsageError("local and tar exporters are incompatible with image ID file")
    to_stdout = [
        o
        for o in out
        if o.dest == "-" or (o.type == "oci" and not o.dest and o.get("tar", "true") != "false")
    ]
    if len(to_stdout) > 1:
        raise UsageError("multiple outputs configured to write to stdout")
    if to_stdout and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(
            f"dest file is required for {to_stdout[0].type} exporter. refusing to write to console"
        )
    for o in out:
        if o.type == "local" and os.path.isfile(o.dest):
            raise UsageError(f"destination directory {o.dest} is a file")
        if (
            o.type in ("tar", "oci", "docker")
            and o.dest not in ("", "-")
            and o.get("tar", "true") != "false"
            and os.path.isdir(o.dest)
        ):
            raise UsageError(f"destination file {o.dest} is a directory")
        pushes = o.type == "registry" or (
            o.type == "image" and o.get("push", "false").lower() in ("true", "1", "t", "")
        )
        if pushes and not args.many("tag") and not o.get("name"):
            raise UsageError(
                "tag is needed when pushing to registry", hint="add -t registry.example/name:tag"
            )


def _network(args: Parsed) -> tuple[str, tuple[str, ...]]:
    allow = [a for raw in args.many("allow") for a in optspec.fields(raw)] if args.many("allow") else []
    for name in allow:
        if name.partition("=")[0] not in (
            "network.host",
            "security.insecure",
            "device",
            "buildx.local.delete",
        ) and not name.startswith("alias"):
            raise UsageError(
                f"invalid entitlement: {name}",
                hint="network.host, security.insecure, device and buildx.local.delete can be allowed",
            )
    network = args.text("network") or "default"
    if network == "host":
        allow.append("network.host")
    elif network not in ("default", "none"):
        raise UsageError(
            f'network mode "{network}" not supported by buildkit - you can define a custom network for your builder using the network driver-opt in buildx create',
            hint="use default, none or host",
        )
    return network, tuple(dict.fromkeys(allow))


def _isolation(args: Parsed) -> tuple[str, tuple[str, ...]]:
    warnings = [
        f"{shown} is ignored: it has no meaning here" for name, shown in _IGNORED.items() if args.has(name)
    ]
    isolation = args.text("isolation")
    if isolation in _DOCKER_ISOLATION:
        warnings.append(f"--isolation={isolation} is ignored: it is meant for Windows containers")
        isolation = ""
    if isolation not in ("", "auto", "namespaces", "oci", "chroot", "rootless"):
        raise UsageError(f"unknown isolation {isolation}", hint="use auto, namespaces, oci or chroot")
    return ("namespaces" if isolation == "rootless" else isolation), tuple(warnings)


def _resources(args: Parsed) -> tuple[tuple[str, str], ...]:
    out = [optspec.resource(raw) for raw in args.many("resource")]
    out += [optspec.resource(f"{name}={args.text(name)}") for name in optspec.RESOURCES if args.has(name)]
    return tuple(dict(out).items())


def _ssh(args: Parsed, context: str, env: Mapping[str, str]) -> tuple[SshSpec, ...]:
    values = args.many("ssh")
    if not values and context.startswith(("git@", "ssh://")) and env.get("SSH_AUTH_SOCK"):
        values = ["default"]
    return optspec.ssh(values, env)


def _progress(args: Parsed, default: str) -> str:
    mode = args.text("progress") or default or "auto"
    from ..progress.view import MODES

    if mode not in MODES:
        raise UsageError(f"invalid progress mode: {mode}", hint="use one of " + ", ".join(MODES))
    if args.flag("quiet"):
        if args.has("progress") and mode not in ("quiet", "none", "auto"):
            raise UsageError(f"progress={mode} and quiet cannot be used together")
        return "quiet"
    return mode


def with_summary(args: Parsed, settings: Settings) -> Settings:
    """Settings with ``--summary`` in them."""
    mode = args.text("summary") or settings.summary
    if mode not in ("short", "full", "none"):
        raise UsageError(f"invalid summary: {mode}", hint="use short, full or none")
    return replace(settings, summary=mode) if mode != settings.summary else settings


def _arg_files(paths: list[str]) -> list[str]:
    out = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as f:
                lines = f.read(1 << 20).splitlines()
        except (OSError, ValueError) as e:
            raise UsageError(f"failed to read build arguments of {path}: {e}") from None
        out += [s for line in lines if (s := line.strip()) and not s.startswith("#")]
    return out


class Interrupts:
    """Ctrl-C and SIGTERM cancel once; the second one kills."""

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self._old: dict[int, object] = {}

    def __enter__(self) -> None:
        import _signal  # the C half: ``signal`` builds enums, 5 ms of a no-op build

        def handler(number: int, _frame: object) -> None:
            if self._cancel.is_set():
                _signal.signal(number, _signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self._cancel.set()

        try:
            for number in (_signal.SIGINT, _signal.SIGTERM):
                self._old[number] = _signal.signal(number, handler)
        except ValueError:
            self._old.clear()  # not in the main thread: the caller owns the signals

    def __exit__(self, *_exc: object) -> None:
        import _signal

        for number, old in self._old.items():
            _signal.signal(number, old)


def execute(request: BuildRequest, settings: Settings, *, quiet: bool = False, twice: bool = False) -> int:
    """Build, show and report; the exit code.  ``twice``: and once more, to see whether it is the same."""
    if request.call.name != "build":
        from .calls import show_call

        return show_call(request, settings, sys.stdout)
    from ..engine.build import run_build
    from ..solver.cancel import CancelToken

    if request.builder or settings.builder or os.path.exists(os.path.join(settings.builders_dir, "current")):
        from ..builders.drivers import apply

        settings, request = apply(settings, request)
    if request.isolation or request.min_isolation or request.jobs:
        settings = replace(
            settings, isolation=request.isolation or settings.isolation,
            min_isolation=request.min_isolation or settings.min_isolation, jobs=request.jobs or settings.jobs,
        )  # fmt: skip
    if (
        request.iidfile
        and os.path.isfile(request.iidfile)
        and not request.iidfile.startswith(("/dev/", "/proc/"))
    ):
        try:
            os.unlink(request.iidfile)
        except FileNotFoundError:
            pass
        except OSError as e:
            raise UsageError(f"removing image ID file: {e.strerror}: {request.iidfile}") from None
    mode = "quiet" if quiet else request.progress
    renderer = _renderer(mode, request, settings)
    cancel = CancelToken()
    error: BaseException | None = None
    try:
        with Interrupts(cancel):
            if twice:
                from ..engine.repro import check_reproducible

                done = check_reproducible(request, settings, renderer.emit, cancel)
                result = done.result
            else:
                result = run_build(request, settings, renderer.emit, cancel)
    except BaseException as e:
        error = e
        if not request.on_fail:
            raise
    finally:
        renderer.close(error)
        cancel.close()
        if mode not in ("quiet", "rawjson", "none"):
            say_warnings(request.warnings, settings, renderer)
            if settings.fold == "github":
                from .summary import github_marks

                sys.stderr.write(github_marks(request, renderer.warnings, error))
    if error is not None:
        from .debug import after_failure

        after_failure(error, settings, shell=request.on_fail == "shell")
        raise error
    code = _report(request, result, mode)
    if mode not in ("quiet", "rawjson", "none") and settings.summary != "none":
        from .summary import summary

        sys.stderr.write(summary(result, settings.summary))
    if twice:
        from .diff import tell

        code = tell(done, request)
    return code


def _renderer(mode: str, request: BuildRequest, settings: Settings) -> Renderer:
    return open_view(mode, settings, builder=request.builder, explain=request.explain)


def open_view(mode: str, settings: Settings, *, builder: str = "", explain: bool = False) -> Renderer:
    """The display of a build."""
    from ..progress.view import open_renderer

    if mode == "auto" and settings.environ.get("TERM", "") == "dumb":
        mode = "plain"
    name = builder or settings.builder or "default"
    return open_renderer(
        mode, sys.stderr, title=f'building with "{name}" instance using local driver', corner=f"local:{name}",
        colors=settings.colors, color=not settings.no_color, truncate=settings.truncate,
        log_lines=settings.log_lines, rate=settings.display_rate, explain=explain,
        fold=settings.fold,
    )  # fmt: skip


def say_warnings(own: Iterable[str], settings: Settings, renderer: Renderer) -> None:
    """What there is to say when a build is over; ``own``: the command line's warnings."""
    text = "".join(f"WARNING: {w}\n" for w in own)
    if not renderer.warnings and not text:
        return
    from .present import warnings_summary

    color = sys.stderr.isatty() and not settings.no_color
    sys.stderr.write(text + warnings_summary(renderer.warnings, debug=settings.debug, color=color))


def _report(request: BuildRequest, result: BuildResult, mode: str) -> int:
    if request.iidfile:
        digest = result.config_digest or result.digest
        write_atomic(request.iidfile, (digest.partition(":")[2] if request.iidfile_raw else digest).encode())
    if request.metadata_file:
        import json

        write_atomic(
            request.metadata_file, json.dumps(dict(sorted(result.metadata.items())), indent=2).encode()
        )
    if mode == "quiet":
        sys.stdout.write(f"{result.config_digest or result.digest}\n")
    return 0


def write_atomic(path: str, data: bytes) -> None:
    """Write a small result file so that nobody sees half of it."""
    if path.startswith(("/dev/", "/proc/")) or (os.path.exists(path) and not os.path.isfile(path)):
        with open(path, "ab" if os.path.isfile(path) else "wb") as f:  # /dev/stdout, pipes
            f.write(data)
        return
    from ..whole import write_whole

    try:
        write_whole(os.path.realpath(path), data)
    except OSError as e:
        from ..errors import ExportError

        raise ExportError(f"failed to write {path}: {e.strerror}") from e
