"""One build from request to result: the life of a build, each line one function (docs/dev/life-of-a-build.md)."""

from __future__ import annotations

import os

from ..errors import BuildError, DockerfileError, Span, UsageError
from ..events import Warned
from ..oci.platform import Platform, host_platform
from ..solver.cancel import CancelToken
from ..values import Value
from .engine import Engine
from .steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..config import Settings
    from ..dockerfile.instructions import Dockerfile
    from ..events import EventSink
    from ..graph.vertex import Vertex
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest, PolicyRule
    from ..solver.solve import Solver
    from .contexts import Inputs
    from .export import Export
    from .joint import Shared
    from .nodes import RemoteBuild
    from .sizes import ImageSizes


MAX_POLICY = 4 << 20


class BuildResult(Value):
    """What a build gave.  ``digest``: manifest or index; ``config_digest``: of a single image, else empty;
    ``metadata``: the metadata file's content; ``names``: references written."""

    digest: str
    config_digest: str
    metadata: dict[str, Any]
    names: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()
    skipped: tuple[str, ...] = ()
    ran: int = 0
    cached: int = 0
    ref: str = ""  # its id in the history
    steps: tuple[dict[str, Any], ...] = ()  # as the history records them
    sizes: ImageSizes | None = None  # the image against the stages left out of it


def run_build(
    request: BuildRequest, settings: Settings, emit: EventSink, cancel: CancelToken | None = None
) -> BuildResult:
    """Build.  Raises BuildError; leaves no process, mount or half-written object behind."""
    from .recorder import Recorder

    cancel = cancel or CancelToken()
    recorder = Recorder(settings, [("", request)], emit)
    with recorder.watch() as builds, Engine(settings) as engine:
        cancel.then(engine.stop_network)
        builds.append(Build(engine, request, recorder.emit, cancel))
        builds[0].id = recorder.ids[0]
        return recorder.done(builds, [builds[0].run()])[0]


class Build:
    """The state of one build."""

    def __init__(
        self, engine: Engine, request: BuildRequest, emit: EventSink, cancel: CancelToken, name: str = ""
    ) -> None:
        self.engine = engine
        request = with_policy(request, engine.settings)
        if "BUILDX_GIT_LABELS" in engine.settings.environ:
            from .gitlabels import with_git_labels

            request = with_git_labels(request, engine.settings.environ)
        self.request = request
        self.emit = emit
        self.cancel = cancel
        self.id = ""  # in the history, when it is recorded
        self.name = name  # among several, shown before each of its steps
        self.platforms: tuple[Platform, ...] = tuple(request.platforms) or (host_platform(),)
        self.warnings: list[Warned] = []
        self.epoch = request.source_date_epoch
        self._definition = ""
        self.elsewhere: dict[Platform, RemoteBuild] = {}

    def run(self) -> BuildResult:
        """The whole build, step by step."""
        from .joint import Shared, solve

        self.prepare(Shared(self.engine, self.emit))
        return solve([self], self.engine, self.emit, self.cancel)[0]

    def prepare(self, shared: Shared) -> None:
        """Everything before the first step runs: read the inputs, plan each platform, lint."""
        from .contexts import open_inputs

        if self.request.cache_from or self.request.cache_to:
            from .caches import check_caches

            check_caches(self.request)
        self.engine.say = self.engine.say or self._say_sandbox
        inputs, dockerfile = self._load(open_inputs)
        self.dockerfile = dockerfile
        if self.request.epoch_from or "SOURCE_DATE_EPOCH" in dockerfile.source:
            from .epoch import find_epoch

            self.epoch = find_epoch(self.engine, self.request, inputs, dockerfile)
        self.worker = shared.worker_for(self)
        self.inputs, context = shared.adopt(inputs, self.worker)
        self.exporting = self.open_export()
        if self.request.nodes:
            self._send_away(inputs)
        self.plans = self._plan(dockerfile, self.inputs, context, shared)
        if self.plans:
            self._lint(
                dockerfile,
                self.plans[0],
                self.inputs.ignore,
                self._definition,
            )

    def open_export(self) -> Export:
        """The outputs, checked before anything is built."""
        from .export import Export

        return Export(self)

    def _send_away(self, inputs: Inputs) -> None:
        """Let each platform be built by the node that has it; ours stay here."""
        from .nodes import RemoteBuild, assign, check_inputs

        nodes = {n.name: n for n in self.request.nodes}
        for name, platforms in assign(self.request.nodes, self.platforms).items():
            if not nodes[name].endpoint:
                continue
            check_inputs(inputs)
            remote = RemoteBuild(self, nodes[name], platforms)
            self.engine.on_close(remote.close)
            remote.start(inputs)
            self.elsewhere.update(dict.fromkeys(platforms, remote))

    def _say_sandbox(self, text: str) -> None:
        """One line, when the first command is about to run: how it will be confined, and why so."""
        with Step(self.emit, f"[internal] sandbox: {text}"):
            pass

    def step(self, text: str) -> Step:
        """An internal step, under the build's name when there are several."""
        return Step(self.emit, text.replace("[internal]", f"[{self.name} internal]") if self.name else text)

    def secrets(self) -> Any:
        """The request's secrets, read when a step asks."""
        if not self.request.secrets:
            return None
        from .clientside import RequestSecrets

        found = RequestSecrets(self.request.secrets, self.engine.settings.environ)
        found.check()
        return found

    def ssh(self) -> Any:
        """The request's forwarded agents."""
        if not self.request.ssh:
            return None
        from .clientside import RequestAgents

        agents = RequestAgents(self.request.ssh, self.engine.settings.environ, self.engine.new_active().work)
        self.engine.on_close(agents.close)
        return agents

    # -- load -----------------------------------------------------------------

    def _load(self, open_inputs: Callable[[Engine, BuildRequest], Inputs]) -> tuple[Inputs, Dockerfile]:
        from ..dockerfile.parser import parse

        name = os.path.basename(self.request.dockerfile or "Dockerfile") or "Dockerfile"
        with self.step(
            f"[internal] load build definition from {name if name != '-' else 'Dockerfile'}"
        ) as step:
            inputs = open_inputs(self.engine, self.request)
            if not self.name and (
                bad := [k for k, (scheme, _) in inputs.named.items() if scheme == "target"]
            ):
                raise UsageError(
                    f"failed to get build context {bad[0]}: target: contexts belong to bake files"
                )
            dockerfile = parse(inputs.dockerfile, inputs.dockerfile_name)
            self._frontend(dockerfile)
            self._multi_platform()
            self._definition = step.digest
        return inputs, dockerfile

    def _multi_platform(self) -> None:
        """Refuse a ``BUILDKIT_MULTI_PLATFORM`` that is no boolean or contradicts the platforms (spec §6)."""
        text = dict(self.request.build_args).get("BUILDKIT_MULTI_PLATFORM", "")
        if not text:
            return
        from ..dockerfile.numbers import parse_bool

        try:
            wanted = parse_bool(text)
        except ValueError:
            raise DockerfileError(f"invalid boolean value for multi-platform: {text}") from None
        if not wanted and len(self.platforms) > 1:
            raise DockerfileError("conflicting config: returning multiple target platforms is not allowed")

    def _frontend(self, dockerfile: Dockerfile) -> None:
        syntax = dict(self.request.build_args).get(
            "BUILDKIT_SYNTAX", dict(dockerfile.directives).get("syntax", "")
        )
        ref = syntax.split(" ")[0]
        if dict(self.request.build_args).get("BUILDKIT_SYNTAX") == "":
            raise UsageError(
                "empty BUILDKIT_SYNTAX build-arg is invalid, use --build-arg BUILDKIT_SYNTAX without '=' for optional behavior"
            )
        if not ref or ref == "dockerfile.v0":
            return
        for prefix in ("docker.io/", ""):
            for name in ("docker/dockerfile", "docker/dockerfile-upstream"):
                if ref == prefix + name or ref.startswith((prefix + name + ":", prefix + name + "@")):
                    return
        raise DockerfileError(
            f"frontend {ref} is not supported: Lapstrake never fetches and runs a foreign frontend",
            span=_directive_span(dockerfile),
            hint="remove the syntax line, or use docker/dockerfile:1 (built in)",
        )

    def _lint(self, dockerfile: Dockerfile, plan: Plan, ignore: Any, digest: str) -> None:
        from .call import lint_warnings

        needed = {s.index for s in dockerfile.stages if (s.name or f"stage-{s.index}") not in plan.skipped}
        found = lint_warnings(
            dockerfile, self.request, plan.platform, dict(plan.base_configs), ignore, needed
        )
        for w in found.warnings:
            warned = Warned(digest, w.short, w.description, w.url, w.span)
            self.warnings.append(warned)
            self.emit(warned)
        if found.error:
            raise DockerfileError(found.error)

    # -- plan -----------------------------------------------------------------

    def _plan(self, dockerfile: Dockerfile, inputs: Inputs, context: str, shared: Shared) -> list[Plan]:
        from ..plan.lower import NeedsBases, PlanInput, context_keys, lower

        bases: dict[Any, Any] = {}
        named = context_keys(inputs.named)
        plans: list[Plan] = []
        for platform in (p for p in self.platforms if p not in self.elsewhere):
            for _ in range(64):
                found = lower(
                    PlanInput(
                        dockerfile, self.request, platform, bases, named, len(self.platforms) > 1, self.epoch,
                        ("local", context), shared.plans, self.name,
                    )
                )  # fmt: skip
                if not isinstance(found, NeedsBases):
                    plans.append(found)
                    break
                self._resolve(found.wanted, bases, [s.name for s in dockerfile.stages if s.name])
        return plans

    def _resolve(self, wanted: tuple[Any, ...], bases: dict[Any, Any], stages: list[str]) -> None:
        from ..plan.image import BaseImage

        for name, platform, span in wanted:
            with self.step(f"[internal] load metadata for {_shown(name)}"):
                try:
                    used = allowed_image(self.request, name)
                    got = self.engine.images.resolve(used, platform, pull=self.request.pull)
                except BuildError as exc:
                    exc.span = exc.span or span
                    explain_base(exc, name, stages)
                    raise
            bases[(name, platform)] = BaseImage(got.ref, got.config, len(got.layers))

    # -- solve ------------------------------------------------------------------

    def targets(self) -> list[Vertex]:
        """What the solver has to obtain, a vertex for each platform that isn't empty."""
        return [p.target for p in self.plans if p.target is not None]

    def scope(self) -> str:
        """What makes two builds "the same build again"."""
        where = (
            os.path.abspath(self.request.context)
            if os.path.isdir(self.request.context)
            else self.request.context
        )
        return f"{where}|{self.request.dockerfile or ''}|{','.join(map(str, self.platforms))}"

    # -- export -----------------------------------------------------------------

    def export(self, solver: Solver) -> BuildResult:
        """Join what was solved, prepare every output, then commit them."""
        from .contexts import save_stat_caches
        from .sizes import image_sizes

        exported = self.exporting.finish(solver.records)
        save_stat_caches(self.engine, self.inputs.contexts)
        metadata = dict(exported.metadata)
        if self.request.metadata_file:
            from .metadata import build_metadata

            metadata.update(build_metadata(self, exported.result, solver.records))
        digest = config = ""
        if exported.result is not None:
            digest = exported.result.descriptor.digest
            images = exported.result.images
            config = images[0].config_digest if len(images) == 1 else ""
        skipped = self.plans[0].skipped if self.plans else ()
        return BuildResult(
            digest, config, metadata, self.request.tags, tuple(self.warnings), skipped, solver.ran, solver.hits,
            sizes=image_sizes(self.plans, solver.records, self.worker),
        )  # fmt: skip


def with_policy(request: BuildRequest, settings: Settings) -> BuildRequest:
    """The request with the rules of EXPERIMENTAL_BUILDKIT_SOURCE_POLICY, unless it has its own."""
    if request.policy or not settings.source_policy:
        return request
    from ..values import replace

    return replace(request, policy=read_policy(settings.source_policy))


def allowed_image(request: BuildRequest, name: str) -> str:
    """The image the source policy lets us use for ``name``."""
    if not request.policy:
        return name
    from ..plan.policy import image_name

    return image_name(request.policy, name)


def read_policy(path: str) -> tuple[PolicyRule, ...]:
    """The rules of a source policy file."""
    from ..plan.policy import parse_policy

    try:
        with open(path, "rb") as f:
            text = f.read(MAX_POLICY + 1)
    except OSError as e:
        raise UsageError(f"failed to read source policy {path}: {e.strerror}") from None
    if len(text) > MAX_POLICY:
        raise UsageError(f"source policy {path} is larger than 4 MiB")
    return parse_policy(text, path)


def _directive_span(dockerfile: Dockerfile) -> Span | None:
    """The line of the syntax directive; None when a build argument named the frontend."""
    for n, line in enumerate(dockerfile.source.split("\n"), 1):
        if line.lstrip("#/ \t").lower().startswith("syntax"):
            return Span(dockerfile.filename, n, n, dockerfile.source)
        if n > 3:
            break
    return None


COMMON_IMAGES = ("alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora")


def explain_base(exc: BuildError, name: str, stages: list[str]) -> None:
    """A base that can't be had: which one, and what was perhaps meant (spec dockerfile.md §7)."""
    from ..dockerfile.suggest import hint

    if isinstance(exc, (UsageError, DockerfileError)):
        return  # a source policy's: it names the source itself
    prefix = f"{name}: failed to resolve source metadata for {_shown(name)}: "
    if not exc.message.startswith(("failed to parse stage name", prefix)):
        exc.message = prefix + exc.message
    exc.message += hint(name, [*stages, *COMMON_IMAGES])


def _shown(name: str) -> str:
    from ..oci import reference

    try:
        return str(reference.parse(name).full)
    except BuildError:
        return name
