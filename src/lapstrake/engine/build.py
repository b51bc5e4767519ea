"""One build from request to result: the life of a build, each line one function (docs/dev/life-of-a-build.md)."""

from __future__ import annotations

import os
import time

from ..errors import BuildError, UsageError
from ..events import VertexDone, VertexFailed, VertexStarted, Warned
from ..oci.platform import Platform, host_platform
from ..solver.cancel import CancelToken
from ..values import Value
from .engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..config import Settings
    from ..dockerfile.instructions import Dockerfile
    from ..events import EventSink
    from ..export.base import BuiltImage, BuiltResult
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest
    from ..solver.ports import Record
    from ..solver.solve import Solver
    from ..worker.local import LocalWorker
    from .assemble import Packer
    from .contexts import Inputs
    from .joint import Shared


class BuildResult(Value):
    """What a build gave.  ``digest``: manifest or index; ``config_digest``: of a single image, else empty;
    ``metadata``: the metadata file's content; ``names``: references written."""

    digest: str
    config_digest: str
    metadata: dict  # type: ignore[type-arg]
    names: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()
    skipped: tuple[str, ...] = ()
    ran: int = 0
    cached: int = 0
    summary: str = ""


def run_build(
    request: BuildRequest, settings: Settings, emit: EventSink, cancel: CancelToken | None = None
) -> BuildResult:
    """Build.  Raises BuildError; leaves no process, mount or half-written object behind."""
    cancel = cancel or CancelToken()
    with Engine(settings) as engine:
        return Build(engine, request, emit, cancel).run()


class _Step:
    """An internal step on the display: ``with _Step(…)``."""

    def __init__(self, emit: EventSink, name: str) -> None:
        from hashlib import sha256

        self.emit = emit
        self.name = name
        self.digest = "sha256:" + sha256(name.encode()).hexdigest()

    def __enter__(self) -> _Step:
        self.emit(VertexStarted(self.digest, self.name, time.time()))
        return self

    def __exit__(self, kind: object, exc: BaseException | None, tb: object) -> None:
        now = time.time()
        if exc is None:
            self.emit(VertexDone(self.digest, self.name, now))
        else:
            message = exc.message if isinstance(exc, BuildError) else str(exc)
            self.emit(VertexFailed(self.digest, self.name, now, message))


class Build:
    """The state of one build."""

    def __init__(
        self, engine: Engine, request: BuildRequest, emit: EventSink, cancel: CancelToken, name: str = ""
    ) -> None:
        self.engine = engine
        self.request = request
        self.emit = emit
        self.cancel = cancel
        self.name = name  # among several, shown before each of its steps
        self.platforms: tuple[Platform, ...] = tuple(request.platforms) or (host_platform(),)
        self.warnings: list[Warned] = []
        self.epoch = request.source_date_epoch
        self._definition = ""

    def run(self) -> BuildResult:
        """The whole build, step by step."""
        from .joint import Shared, solve

        self.prepare(Shared(self.engine, self.emit))
        return solve([self], self.engine, self.emit, self.cancel)[0]

    def prepare(self, shared: Shared) -> None:
        """Everything before the first step runs: read the inputs, plan each platform, lint."""
        from .contexts import open_inputs

        self.outputs = self._outputs()
        inputs, dockerfile = self._load(open_inputs)
        self.worker = shared.worker_for(self)
        self.inputs, context = shared.adopt(inputs, self.worker)
        self.plans = self._plan(dockerfile, self.inputs, context, shared)
        self._lint(
            dockerfile,
            self.plans[0],
            getattr(self.inputs.contexts["context"], "ignore", None),
            self._definition,
        )

    def step(self, text: str) -> _Step:
        """An internal step, under the build's name when there are several."""
        return _Step(self.emit, text.replace("[internal]", f"[{self.name} internal]") if self.name else text)

    def secrets(self) -> Any:
        """The request's secrets, read when a step asks."""
        if not self.request.secrets:
            return None
        from .clientside import RequestSecrets

        return RequestSecrets(self.request.secrets, self.engine.settings.environ)

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
            self._definition = step.digest
        return inputs, dockerfile

    def _frontend(self, dockerfile: Dockerfile) -> None:
        syntax = dict(self.request.build_args).get(
            "BUILDKIT_SYNTAX", dict(dockerfile.directives).get("syntax", "")
        )
        ref = syntax.split(" ")[0]
        if not ref or ref == "dockerfile.v0":
            return
        for prefix in ("docker.io/", ""):
            for name in ("docker/dockerfile", "docker/dockerfile-upstream"):
                if ref == prefix + name or ref.startswith((prefix + name + ":", prefix + name + "@")):
                    return
        raise BuildError(
            f"frontend {ref} is not supported: Lapstrake never fetches and runs a foreign frontend",
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
            raise BuildError(found.error)

    # -- plan -----------------------------------------------------------------

    def _plan(self, dockerfile: Dockerfile, inputs: Inputs, context: str, shared: Shared) -> list[Plan]:
        from ..plan.lower import NeedsBases, PlanInput, context_keys, lower

        bases: dict[Any, Any] = {}
        named = context_keys(inputs.named)
        plans: list[Plan] = []
        for platform in self.platforms:
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
                self._resolve(found.wanted, bases)
        return plans

    def _resolve(self, wanted: tuple[Any, ...], bases: dict[Any, Any]) -> None:
        from ..plan.image import BaseImage

        for name, platform, span in wanted:
            with self.step(f"[internal] load metadata for {_shown(name)}"):
                try:
                    got = self.engine.images.resolve(name, platform, pull=self.request.pull)
                except BuildError as exc:
                    exc.span = exc.span or span
                    exc.hint = exc.hint or _similar(name)
                    if ": not found" in exc.message and not exc.message.startswith(f"{name}: failed"):
                        exc.message = (
                            f"{name}: failed to resolve source metadata for {_shown(name)}: {exc.message}"
                        )
                    raise
            bases[(name, platform)] = BaseImage(got.ref, got.config, len(got.layers))

    # -- solve ------------------------------------------------------------------

    def forms(self) -> list[Any]:
        """The forms of image bytes that the outputs need."""
        return _forms(self.outputs, self.epoch)

    def scope(self) -> str:
        """What makes two builds "the same build again"."""
        where = (
            os.path.abspath(self.request.context)
            if os.path.isdir(self.request.context)
            else self.request.context
        )
        return f"{where}|{self.request.dockerfile or ''}|{','.join(map(str, self.platforms))}"

    # -- export -----------------------------------------------------------------

    def _outputs(self) -> list[Any]:
        from ..export.options import check_outputs
        from ..plan.request import OutputSpec

        outputs = list(self.request.outputs)
        check_outputs(outputs)
        if not outputs:
            outputs = [OutputSpec("image", "", ())]
        return outputs

    def export(self, solver: Solver, packers: dict[Any, Packer]) -> BuildResult:
        """Join what was solved, prepare every output, then commit them."""
        from .contexts import save_stat_caches

        result = self._export(solver, packers)
        save_stat_caches(self.engine, self.inputs.contexts)
        return result

    def _export(self, solver: Solver, packers: dict[Any, Packer]) -> BuildResult:
        from ..export.base import ExportEnv
        from ..export.open import open_exporter

        exporters = []
        metadata: dict[str, Any] = {}
        result: BuiltResult | None = None
        env = ExportEnv(
            content=self.engine.content, index=self.engine.index, cwd=os.getcwd(), client=self.engine.client,
            fetch=self._fetch, stdout=_stdout(), search=tuple(self.engine.settings.environ.get("PATH", "").split(":")),
            allow_delete="buildx.local.delete" in self.request.allow, note=self._note,
        )  # fmt: skip
        results: dict[Any, BuiltResult] = {}
        done: list[Any] = []
        try:
            for spec in self.outputs:
                form = _form_of(spec, self.epoch)
                if form not in results:
                    results[form] = self._join(solver.records, packers.get(form), form)
                result = results[form]
                if spec.type == "cacheonly":
                    continue
                exporter = open_exporter(spec, self.request.tags, env)
                exporters.append(exporter)
                with _Step(
                    self.emit,
                    (f"[{self.name}] " if self.name else "") + "exporting to " + _export_name(spec.type),
                ):
                    exporter.prepare(result)
            for exporter in exporters:
                metadata.update(exporter.commit() or {})
                done.append(exporter)
        except BaseException:
            for exporter in exporters:
                if exporter not in done:
                    exporter.abort()
            raise
        if result is None:
            raise UsageError("no output")
        single = len(result.images) == 1
        skipped = self.plans[0].skipped
        return BuildResult(
            result.descriptor.digest, result.images[0].config_digest if single else "", metadata, self.request.tags,
            tuple(self.warnings), skipped, solver.ran, solver.hits, _summary(skipped),
        )  # fmt: skip

    def _join(self, records: dict[str, Record], packer: Any, form: Any) -> BuiltResult:
        from ..export.join import assemble_result
        from ..values import replace
        from .assemble import Packer, assemble

        packer = packer or Packer(self.worker, form)
        images: list[BuiltImage] = []
        for plan in self.plans:
            record = records.get(plan.target.digest) if plan.target is not None else None
            files_only = form is FILES
            image = _files_image(plan) if files_only else assemble(plan, record, records, packer, self.epoch)
            images.append(
                replace(image, rootfs=_LazyView(self.worker, record.layers if record is not None else ()))
            )
        multi = dict(self.request.build_args).get("BUILDKIT_MULTI_PLATFORM", "").lower() in ("1", "t", "true")
        notes = [] if form is FILES else form.annotations
        return assemble_result(
            images, oci=form is FILES or form.oci, force_index=multi, created=self.epoch,
            annotations=[(a.key, a.value) for a in notes if a.level == "index"],
            descriptor_annotations=[(a.key, a.value) for a in notes if a.level == "index-descriptor"],
        )  # fmt: skip

    def _note(self, text: str) -> None:
        self.emit(Warned("", text))

    def _fetch(self, desc: Any, repo: str) -> None:
        from ..oci import reference

        if self.engine.content.has(desc.digest):
            return
        with self.engine.content.writer(desc.digest, desc.size) as out:
            self.engine.client().fetch_blob(reference.parse(repo), desc, out.write)


def _summary(skipped: tuple[str, ...]) -> str:
    """What a user may wonder about afterwards."""
    if not skipped:
        return ""
    plural = "s" if len(skipped) > 1 else ""
    return f"stage{plural} {', '.join(skipped)} not needed by the target: not run"


FILES = "files"  # outputs that need no image bytes: local, tar, cacheonly


def _form_of(spec: Any, epoch: int | None) -> Any:
    from ..export.options import attributes, form_options
    from ..values import replace

    if spec.type in ("local", "tar", "cacheonly"):
        return FILES
    form = form_options(attributes(spec))
    if form.epoch is None and not form.epoch_cleared and epoch is not None:
        form = replace(form, epoch=epoch)
    return form


def _forms(outputs: list[Any], epoch: int | None) -> list[Any]:
    return list(dict.fromkeys(f for f in (_form_of(s, epoch) for s in outputs) if f is not FILES))


def _files_image(plan: Plan) -> BuiltImage:
    """An image without layers: what a local or tar export needs to know."""
    from ..export.join import assemble_image

    return assemble_image(
        {
            "os": plan.platform.os,
            "architecture": plan.platform.arch,
            "variant": plan.platform.variant,
            "rootfs": {"diff_ids": []},
        },
        [],
    )


class _LazyView:
    """The merged tree, opened only when an exporter looks."""

    def __init__(self, worker: LocalWorker, layers: tuple[str, ...]) -> None:
        self._worker = worker
        self._layers = layers
        self._view: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._view is None:
            self._view = self._worker.view(self._layers)
        return getattr(self._view, name)


def _export_name(kind: str) -> str:
    return {
        "local": "client directory",
        "tar": "client tarball",
        "oci": "oci image format",
        "docker": "docker image format",
    }.get(kind, "image")


COMMON_IMAGES = ("alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora")


def _similar(name: str) -> str | None:
    from ..plan.stages import did_you_mean

    found = did_you_mean(name, COMMON_IMAGES)
    return found.strip(" ()") if found else None


def _shown(name: str) -> str:
    from ..oci import reference

    try:
        return str(reference.parse(name).full)
    except BuildError:
        return name


def _stdout() -> Any:
    import sys

    return sys.stdout.buffer
