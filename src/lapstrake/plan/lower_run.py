"""Lowering the instructions of one stage."""

from __future__ import annotations

from ..dockerfile import instructions as ins
from ..dockerfile.numbers import quote_list
from ..errors import BuildError, DockerfileError
from ..graph.ops import ExecMount, ExecOp, MkdirOp, Op, SourceOp
from ..graph.vertex import Vertex
from .stages import did_you_mean, stage_ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..dockerfile.runflags import MountFlag
    from .lower import Planner, StageState

PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


class _Missing(Exception):
    """A base image is not known yet; the stage is lowered again later."""


def clean_path(path: str) -> str:
    """Go's path.Clean for absolute paths."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def join_path(cwd: str, path: str) -> str:
    """``path`` below ``cwd`` unless absolute, cleaned."""
    return clean_path(path if path.startswith("/") else f"{cwd}/{path}")


class Lowering:
    """One stage's instructions, in order."""

    def __init__(self, planner: Planner, state: StageState) -> None:
        self.planner = planner
        self.s = state
        self.request = planner.request
        self.counted = (ins.CopyAdd, ins.Run, ins.Workdir)
        wanted = {n.lower() for n in getattr(planner.request, "no_cache_filter", ())}
        name = state.stage.name or str(state.stage.index)
        self.ignore_cache = planner.request.no_cache or name in wanted

    def run_all(self) -> bool:
        """Lower everything; False when a base is missing."""
        s = self.s
        todo = list(s.stage.instructions)
        triggers = [self._trigger(t) for t in s.image.config.pop("_onbuild", [])]
        s.total = s.position + sum(isinstance(i, self.counted) for i in [*triggers, *todo])
        complete = True
        for item, prefix in [(t, "ONBUILD ") for t in triggers] + [(i, "") for i in todo]:
            try:
                self.one(item, prefix)
            except _Missing:
                complete = False
        return complete

    def _trigger(self, text: str) -> ins.Instruction:
        from ..dockerfile.parser import parse_onbuild

        return parse_onbuild(text, self.s.stage.base.span, self.planner.df.escape)

    def one(self, item: ins.Instruction, prefix: str) -> None:
        """Dispatch one instruction."""
        handler = getattr(self, "do_" + type(item).__name__.lower())
        if isinstance(item, self.counted):
            self.s.position += 1
        try:
            handler(item, prefix)
        except BuildError as exc:
            if exc.span is None:
                exc.span = item.span
            raise

    def ex(self, word: str, item: ins.Instruction) -> str:
        """Expand with the stage's build-time environment."""
        return self.planner.expand(word, self.s.env, item.span)

    def _split(self, word: str, item: ins.Instruction) -> list[str]:
        """As ``ex``, but a variable may hold several words."""
        from ..dockerfile.expand import expand_words

        try:
            return expand_words(word, self.s.env, self.planner.df.escape)
        except DockerfileError as exc:
            exc.span = exc.span or item.span
            raise

    def label(self, prefix: str, text: str) -> str:
        """The step's display name."""
        from .labels import shown

        words = shown(text, self.s.env, self.planner.df.escape)
        return self.planner.label(self.s, self.s.position, prefix + words)

    def vertex(self, op: Op, inputs: tuple[Vertex, ...], label: str, item: ins.Instruction) -> Vertex:
        """A vertex of this stage."""
        return Vertex(
            op, inputs, label, span=item.span, ignore_cache=self.ignore_cache, stage=self.s.stage.name
        )

    @property
    def root(self) -> Vertex:
        """The stage's current root; an empty one for scratch."""
        return self.s.root or Vertex(SourceOp("scratch", ""), (), "scratch")

    # -- metadata -------------------------------------------------------------

    def do_arg(self, item: ins.Arg, prefix: str) -> None:
        s, p = self.s, self.planner
        shown = []
        before = dict(s.env)
        for arg in item.args:
            value: str | None
            if arg.name in p.build_args:
                value = p.build_args[arg.name]
            elif arg.default is not None:
                value = p.expand(arg.default, before, item.span)
            else:
                value = p.globals.get(arg.name)
            if arg.name.startswith("BUILDKIT_SBOM_SCAN_"):
                continue
            s.args[arg.name] = value
            if value is not None:
                s.env[arg.name] = value
            shown.append(arg.name if value is None else f"{arg.name}={value}")
        s.image.history("ARG " + " ".join(shown))

    def do_env(self, item: ins.Env, prefix: str) -> None:
        pairs = [(self.ex(k, item), self.ex(v, item)) for k, v in item.pairs]
        for k, v in pairs:
            self.s.image.set_env(k, v)
            self.s.env[k] = v
            if k in self.s.args:
                self.s.args[k] = v
        self.s.image.history("ENV " + " ".join(f"{k}={v}" for k, v in pairs))

    def do_label(self, item: ins.Label, prefix: str) -> None:
        pairs = [(self.ex(k, item), self.ex(v, item)) for k, v in item.pairs]
        labels = self.s.image.c.setdefault("Labels", {})
        for k, v in pairs:
            labels[k] = v
        self.s.image.history("LABEL " + " ".join(f"{k}={v}" for k, v in pairs))

    def do_maintainer(self, item: ins.Maintainer, prefix: str) -> None:
        self.s.image.config["author"] = item.author
        self.s.image.history(f"MAINTAINER {item.author}")

    def do_user(self, item: ins.User, prefix: str) -> None:
        user = self.ex(item.user, item)
        self.s.image.c["User"] = user
        self.s.image.history(f"USER {user}")

    def do_stopsignal(self, item: ins.StopSignal, prefix: str) -> None:
        from ..dockerfile.numbers import parse_signal

        signal = self.ex(item.signal, item)
        parse_signal(signal)
        self.s.image.c["StopSignal"] = signal
        self.s.image.history(f"STOPSIGNAL {signal}")

    def do_shell(self, item: ins.Shell, prefix: str) -> None:
        self.s.image.c["Shell"] = list(item.shell)
        self.s.image.history(f"SHELL [{' '.join(item.shell)}]")

    def do_volume(self, item: ins.Volume, prefix: str) -> None:
        paths = [self.ex(p, item) for p in item.paths]
        volumes = self.s.image.c.setdefault("Volumes", {})
        for path in paths:
            if not path:
                raise DockerfileError("VOLUME specified can not be an empty string", span=item.span)
            volumes[path] = {}
        self.s.image.history(f"VOLUME [{' '.join(paths)}]")

    def do_expose(self, item: ins.Expose, prefix: str) -> None:
        from ..dockerfile.numbers import parse_ports

        words: list[str] = []
        for word in item.ports:
            words.extend(self._split(word, item))
        words.sort()
        ports = self.s.image.c.setdefault("ExposedPorts", {})
        expanded = parse_ports(words)
        for port in expanded:
            ports[port] = {}
        self.s.image.history(f"EXPOSE [{' '.join(expanded)}]")

    def do_healthcheck(self, item: ins.Healthcheck, prefix: str) -> None:
        from ..dockerfile.numbers import format_duration

        check: dict[str, Any] = {"Test": list(item.test)}
        shown = [f"Test:[{' '.join(item.test)}]"]
        for key, value in (
            ("Interval", item.interval),
            ("Timeout", item.timeout),
            ("StartPeriod", item.start_period),
            ("StartInterval", item.start_interval),
        ):
            if value:
                check[key] = value
            shown.append(f"{key}:{format_duration(value or 0)}")
        if item.retries:
            check["Retries"] = item.retries
        shown.append(f"Retries:{item.retries or 0}")
        self.s.image.c["Healthcheck"] = check
        self.s.image.history(f"HEALTHCHECK {{{' '.join(shown)}}}")

    def do_onbuild(self, item: ins.Onbuild, prefix: str) -> None:
        self.s.image.c.setdefault("OnBuild", []).append(item.expression)

    def command(self, cmd: ins.CommandLine) -> tuple[str, ...]:
        """The complete argument list."""
        return self.s.image.shell() + cmd.args if cmd.shell else cmd.args

    def do_cmd(self, item: ins.Cmd, prefix: str) -> None:
        args = self.command(item.command)
        self.s.image.c["Cmd"] = list(args)
        self.s.image.c["ArgsEscaped"] = True
        self.s.own_cmd = True
        self.s.image.history("CMD " + quote_list(args))

    def do_entrypoint(self, item: ins.Entrypoint, prefix: str) -> None:
        args = self.command(item.command)
        if args or item.command.shell:
            self.s.image.c["Entrypoint"] = list(args)
        else:
            self.s.image.c.pop("Entrypoint", None)
        if not self.s.own_cmd:
            self.s.image.c.pop("Cmd", None)
        self.s.image.history("ENTRYPOINT " + quote_list(args))

    # -- layers ---------------------------------------------------------------

    def do_workdir(self, item: ins.Workdir, prefix: str) -> None:
        s = self.s
        given, before = self.ex(item.path, item), str(s.image.c.get("WorkingDir") or "/")
        if s.image.os == "windows":
            given, before = _windows_path(given, item), before.replace("\\", "/")
        path = join_path(before, given)
        s.image.c["WorkingDir"] = path.replace("/", "\\") if s.image.os == "windows" else path
        if path == "/":
            s.image.history("WORKDIR /")
            return
        op = MkdirOp(path, str(s.image.c.get("User") or ""), self.planner.inp.epoch)
        s.root = self.vertex(
            op, (self.root,), self.label(prefix, f"WORKDIR {self.ex(item.path, item)}"), item
        )
        s.layers.append(s.root)
        s.image.history(f"WORKDIR {path}", layer=True)

    def from_vertex(self, name: str, item: ins.Instruction, kind: str) -> Vertex:
        """What ``--from=name`` means: stage, named context, image."""
        p, s = self.planner, self.s
        if "$" in name:
            if kind == "copy":
                raise DockerfileError(
                    "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
                    span=item.span,
                )
            raise DockerfileError(
                "'from' doesn't support variable expansion, define alias stage instead", span=item.span
            )
        stage = stage_ref(p.df, s.stage, name)
        if stage is None and name.isdigit() and kind == "copy":
            raise DockerfileError(f"invalid stage index {name}", span=item.span)
        override = p.context_for(name, s.platform)
        if stage is not None and override is None:
            other = p.stage(stage)
            if other is None:
                raise _Missing
            return other.root or Vertex(SourceOp("scratch", ""), (), "scratch")
        if name == "scratch":
            return Vertex(SourceOp("scratch", ""), (), "scratch")
        scheme, ident = override or ("image", name)
        if scheme == "target":
            return p.linked(ident, s.platform, item.span).target or Vertex(
                SourceOp("scratch", ""), (), "scratch"
            )
        if scheme != "image":
            return p.source(scheme, ident, name)
        base = p.base_image(ident, s.platform, item.span)
        if base is None:
            raise _Missing
        return Vertex(
            SourceOp("image", base.ref, s.platform),
            (),
            p.label(s, s.position, f"FROM {base.ref}"),
            span=item.span,
        )

    def context(self) -> Vertex:
        return self.planner.source(*self.planner.inp.main_context, "context")

    def do_copyadd(self, item: ins.CopyAdd, prefix: str) -> None:
        from .lower_copy import lower_copy

        lower_copy(self, item, prefix)

    def do_run(self, item: ins.Run, prefix: str) -> None:
        s = self.s
        args, files, shown_cmd = self._run_command(item)
        inputs: list[Vertex] = [self.root]
        mounts = [ExecMount("file", t, content=c, mode=0o755, readonly=True) for t, c in files]
        mounts += [self._mount(raw, item, inputs) for raw in item.mounts]
        env = [f"{k}={v}" for k, v in s.env.items()]
        proxies, undeclared = [], []
        for name, value in self.planner.build_args.items():
            if name.upper() in PROXY_NAMES and name not in s.args:
                undeclared += [(name.upper(), value), (name.lower(), value)]
        proxies = [f"{k}={v}" for k, v in undeclared]
        req = self.request
        network = item.network or "default"
        if network not in ("default", "none", "host"):
            raise DockerfileError(f'invalid network mode "{network}"', span=item.span)
        if network == "default":
            network = req.network or "default"
        security = item.security or "sandbox"
        if security not in ("sandbox", "insecure"):
            raise DockerfileError(f'security "{security}" is not valid', span=item.span)
        self._entitled(item.network == "host", "network.host", item)
        self._entitled(security == "insecure", "security.insecure", item)
        op = ExecOp(
            args=args, env=tuple(env), cwd=str(s.image.c.get("WorkingDir") or "/"), user=str(s.image.c.get("User") or ""),
            platform=s.platform, mounts=tuple(mounts), network=network, security=security,
            hostname=self.planner.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or "buildkitsandbox",
            extra_hosts=tuple(tuple(x) for x in req.add_hosts), ulimits=tuple(req.ulimits), shm_size=req.shm_size or 0,  # type: ignore[misc]
            cgroup_parent=req.cgroup_parent or "", devices=self._devices(item), resources=tuple(req.resources), proxy_env=tuple(proxies),
            arg_names=tuple(n for n in s.args if n in s.env),
        )  # fmt: skip
        label = self.label(prefix, item.original or "RUN " + shown_cmd)
        bodies = item.command.heredocs
        if len(bodies) == 1 and _is_lone_heredoc(item.command.args[0]):
            from .labels import summary

            label += summary(bodies[0].content)
        s.root = self.vertex(op, tuple(inputs), label, item)
        s.layers.append(s.root)
        declared = [f"{k}={s.env.get(k, '')}" for k in s.args]
        head = f"RUN |{len(declared)} {' '.join(declared)} " if declared else "RUN "
        s.image.history(f"{head}{' '.join(args)} # buildkit", layer=True)

    def _devices(self, item: ins.Run) -> tuple[str, ...]:
        """The devices the user granted; one that is required and not granted is an error."""
        from ..dockerfile.runflags import parse_device

        granted = self.request.allow
        out = []
        for text in item.devices:
            device = parse_device(text)
            if "device" in granted or f"device={device.name}" in granted:
                out.append(text)
            elif device.required:
                raise DockerfileError(
                    f"device {device.name} is not allowed",
                    span=item.span,
                    hint="pass --allow device to grant it",
                )
        return tuple(out)

    def _entitled(self, needed: bool, name: str, item: ins.Instruction) -> None:
        if needed and name not in self.request.allow:
            raise DockerfileError(
                f"{name} is not allowed", span=item.span, hint=f"pass --allow {name} to grant it"
            )

    def _run_command(self, item: ins.Run) -> tuple[tuple[str, ...], list[tuple[str, bytes]], str]:
        cmd = item.command
        shell = self.s.image.shell()
        if not cmd.shell:
            return cmd.args, [], quote_list(cmd.args)
        line = cmd.args[0] if cmd.args else ""
        if not cmd.heredocs:
            return (*shell, line), [], line
        first = cmd.heredocs[0]
        lone = len(cmd.heredocs) == 1 and _is_lone_heredoc(line)
        if lone and first.content.startswith("#!") and self.s.image.os != "windows":
            path = f"/dev/pipes/{first.name}"
            return (*shell, path), [(path, first.content.encode("utf-8", "surrogateescape"))], line
        if lone:
            return (*shell, first.content), [], line
        body = line
        for h in cmd.heredocs:
            body += f"\n{h.content}{h.name}"
        return (*shell, body), [], line

    def _mount(self, raw: str, item: ins.Run, inputs: list[Vertex]) -> ExecMount:
        from ..dockerfile.runflags import parse_mount

        expand: Callable[[str], str] = lambda w: self.ex(w, item)  # noqa: E731
        m: MountFlag = parse_mount(raw, expand)
        cwd = str(self.s.image.c.get("WorkingDir") or "/")
        index = -1
        if m.type == "bind" or (m.type == "cache" and m.from_):
            src = self.from_vertex(m.from_, item, "mount") if m.from_ else self.context()
            inputs.append(src)
            index = len(inputs) - 1
        target = join_path(cwd, m.target) if m.target or m.type in ("bind", "cache", "tmpfs") else ""
        if target == "/":
            raise DockerfileError('invalid mount target "/"', span=item.span)
        ident = m.id
        if m.type == "secret":
            ident = m.id or m.source or target.rpartition("/")[2]
            if not target and not m.env:
                target = f"/run/secrets/{ident.rpartition('/')[2]}"
        elif m.type == "ssh":
            ident = m.id or "default"
        elif m.type == "cache":
            ident = m.id or target
            prefix = self.planner.build_args.get("BUILDKIT_CACHE_MOUNT_NS")
            if prefix:
                ident = f"{prefix}/{ident}"
        readonly = m.readonly if m.readonly is not None else m.type == "bind"
        return ExecMount(
            m.type, target, index, clean_path(m.source or "/")[1:] if m.type in ("bind", "cache") else "", readonly, ident,
            m.sharing or _default_sharing(m.type, target), m.mode, _owner(m.type, m.uid), _owner(m.type, m.gid), m.size or 0, bool(m.required), m.env or "",
        )  # fmt: skip


#: Package managers that fail when two of them use one directory at once.
LOCKED_TARGETS = (
    "/var/cache/apt",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/cache/dnf",
    "/var/cache/yum",
    "/var/cache/zypp",
)


def _default_sharing(kind: str, target: str) -> str:
    """``locked`` for what belongs to a package manager, so that two platforms can build at once."""
    if kind == "cache" and any(target == t or target.startswith(t + "/") for t in LOCKED_TARGETS):
        return "locked"
    return "shared"


def _owner(kind: str, given: int | None) -> int:
    """A cache mount belongs to the step's user (-1) unless the Dockerfile says otherwise."""
    return given if given is not None else -1 if kind == "cache" else 0


def _windows_path(path: str, item: ins.Instruction) -> str:
    """A Windows path with slashes and without its drive, which can only be C: (spec §11)."""
    path = path.replace("\\", "/")
    if path.startswith("//"):
        raise DockerfileError("UNC paths are not supported", span=item.span)
    if path[1:2] == ":":
        if path[0] not in "cC":
            raise DockerfileError("The specified path is not on the system drive (C:)", span=item.span)
        return "/" + path[2:].lstrip("/")
    return path


def _is_lone_heredoc(line: str) -> bool:
    word = line.strip()
    head = word.split("<<")[0]
    return (
        "<<" in word
        and (not head or head.isdigit())
        and len(word.replace("<<-", "<<").split("<<", 1)[1].split()) == 1
    )


__all__ = ["Lowering", "clean_path", "did_you_mean", "join_path"]
