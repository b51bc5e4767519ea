"""From results to what the user asked for: layers packed, images joined, exporters run together."""

from __future__ import annotations

import os
import time

from ..errors import ExportError
from ..events import Warned
from ..values import Value, replace
from .steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..export.base import BuiltImage, BuiltResult, Exporter
    from ..export.options import FormOptions
    from ..graph.vertex import Vertex
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest, OutputSpec
    from ..solver.ports import Record
    from ..worker.local import LocalWorker
    from .attesting import Attester
    from .build import Build
    from .pack import Blob, Group, Packer, PackForm

_NAMES = {
    "local": "client directory",
    "tar": "client tarball",
    "oci": "oci image format",
    "docker": "docker image format",
}
_FILES = ("local", "tar", "cacheonly")  # outputs that need no image bytes


class Exported(Value):
    """What the exporters gave.  ``result`` None: only files, or nothing, was asked for."""

    result: BuiltResult | None
    metadata: dict[str, Any]


class Output(Value):
    """One output: its exporter (None: nothing is written) and the form of its image (None: files)."""

    spec: OutputSpec
    exporter: Exporter | None
    form: FormOptions | None


class Export:
    """The outputs of one build.  Made before anything is built, so that what can't work fails at once."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.engine = build.engine
        self.request = build.request
        self.emit = build.emit
        self.worker = build.worker
        self.epoch = build.epoch
        self.platforms = build.platforms
        self.elsewhere = build.elsewhere
        self.build = build
        self._attester: Attester | None = None
        if build.request.attests:
            self.attester()  # what was asked for wrongly is said now
        self.title = f"[{build.name}] exporting to " if build.name else "exporting to "
        self.outputs = self._open()
        self.packers: dict[PackForm, Packer] = {}
        self.plans: list[Plan] = []
        self._wanted: dict[str, set[bool]] = {}  # vertex digest -> does Windows read its layer?
        self.kept: Mapping[str, Record] = {}  # steps as the cache holds them, by vertex digest
        self.keys: Mapping[str, tuple[str, ...]] = {}

    def reopen(self) -> None:
        """Begin again after a failed attempt, whose exporters have given up."""
        self.outputs = self._open()
        self.packers = {}

    def _open(self) -> list[Output]:
        from ..export.base import ExportEnv
        from ..export.dockerarchive import LISTS_TO_FILE
        from ..export.open import open_exporter
        from ..export.options import attributes, check_outputs, form_options, unknown_attributes

        specs = list(self.request.outputs) or [default_output(self.request)]
        check_outputs(specs)
        stdout = _stdout()
        env = ExportEnv(
            content=self.engine.content, index=self.engine.index, cwd=os.getcwd(), client=self.engine.client,
            fetch=self.fetch, stdout=stdout, search=tuple(self.engine.settings.environ.get("PATH", "").split(":")),
            allow_delete="buildx.local.delete" in self.request.allow, note=self._note, tmp=self.engine.settings.tmp,
        )  # fmt: skip
        out = []
        for spec in specs:
            form = None
            for key in unknown_attributes(attributes(spec)):
                self._note(f"{spec.type} output: the attribute {key} is not known and does nothing")
            if spec.type not in _FILES:
                form = form_options(attributes(spec))
                if form.epoch is None and not form.epoch_cleared and self.epoch is not None:
                    form = replace(form, epoch=self.epoch)
                if form.rewrite_timestamp and form.epoch is None:
                    self._note(
                        "rewrite-timestamp is specified, but no source-date-epoch was found: times are kept"
                    )
            if (
                spec.type == "docker"
                and spec.dest
                and len(self.platforms) > 1
                and spec.get("tar", "true") != "false"
            ):
                raise ExportError(LISTS_TO_FILE, hint="use type=oci, or build one platform")
            exporter = None if spec.type == "cacheonly" else open_exporter(spec, self.request.tags, env)
            out.append(Output(spec, exporter, form))
        return out

    def attester(self) -> Attester:
        """Who makes statements about this build."""
        if self._attester is None:
            from .attesting import Attester

            self._attester = Attester(self.build)
        return self._attester

    # -- while the build runs -----------------------------------------------------

    def begin(self, plans: list[Plan], packers: dict[PackForm, Packer]) -> None:
        """What will be built, and so what may be packed as soon as it is there.  ``packers`` are shared
        with the other builds of a run."""
        from .pack import Packer, pack_form

        self.plans = plans
        for output in self.outputs:
            if output.form is None:
                continue
            self._check_annotations(output.form)
            key = pack_form(output.form)
            if key not in packers:
                packers[key] = Packer(self.worker, key)
            self.packers[key] = packers[key]
            if output.form.layers == "all":
                for plan in plans:
                    for v in plan.layer_vertices:
                        self._wanted.setdefault(v.digest, set()).add(plan.platform.os == "windows")

    def on_done(self, vertex: Vertex, record: Record) -> None:
        """A step is done: pack its layer in the background if it goes into an image as it is."""
        from .pack import Group

        for windows in self._wanted.get(vertex.digest, ()):
            for packer in self.packers.values():
                packer.start(Group((record.layers[-1],), windows=windows))

    # -- afterwards ---------------------------------------------------------------

    def finish(self, records: dict[str, Record]) -> Exported:
        """Prepare all outputs, then commit all; when one fails, none of the others becomes visible
        that has not become so already."""
        results: dict[object, BuiltResult] = {}
        prepared: list[Exporter] = []
        done: list[Exporter] = []
        metadata: dict[str, Any] = {}
        shown: BuiltResult | None = None
        try:
            for output in self.outputs:
                if output.exporter is None:
                    continue
                with Step(self.emit, self.title + _NAMES.get(output.spec.type, "image")) as step:
                    names = output_names(output.spec, self.request.tags) if self._attester is not None else ()
                    key = (output.form, names)
                    if key not in results:
                        results[key] = self._join(records, output.form, names, step)
                    prepared.append(output.exporter)
                    self._prepare(output, output.exporter, results[key], step)
                    if len(self.outputs) == 1:
                        metadata.update(output.exporter.commit() or {})
                        done.append(output.exporter)
                        self._tell_names(output, results[key], step)
                if output.form is not None:
                    shown = results[key]
            for exporter in prepared:
                if exporter not in done:
                    metadata.update(exporter.commit() or {})
                    done.append(exporter)
        except BaseException:
            for exporter in prepared:
                if exporter not in done:
                    exporter.abort()
            raise
        return Exported(shown, metadata)

    def _prepare(self, output: Output, exporter: Exporter, result: BuiltResult, step: Step) -> None:
        if not _pushes(output.spec):
            exporter.prepare(result)
            return
        started = time.time()
        step.begin("pushing layers")
        exporter.prepare(result)
        step.status("pushing layers", started)

    def _tell_names(self, output: Output, result: BuiltResult, step: Step) -> None:
        """Where the image is to be found now."""
        from ..oci.reference import parse

        if output.spec.type not in ("image", "registry"):
            return
        for name in output_names(output.spec, self.request.tags):
            full = parse(name).full
            if output.spec.type == "image":
                step.status(f"naming to {full}")
            if _pushes(output.spec):
                step.status(f"pushing manifest for {full}@{result.descriptor.digest}")

    def _join(
        self, records: dict[str, Record], form: FormOptions | None, names: tuple[str, ...], step: Step
    ) -> BuiltResult:
        from ..export.join import assemble_result

        started = time.time()
        plans = {plan.platform: plan for plan in self.plans}
        images: list[BuiltImage] = []
        for platform in self.platforms:
            remote = self.elsewhere.get(platform)
            if remote is not None:
                images.append(remote.image(platform, form))
                if self._attester is not None:
                    self._note(f"no attestations for {platform}, which was built on another node")
                continue
            image = self._own(plans[platform], records, form)
            if self._attester is not None:
                image = self._attester.attest(image, plans[platform], records, form, names)
            images.append(image)
        if form is not None:
            step.status("exporting layers", started)
        if form is None:
            return assemble_result(images, created=self.epoch)
        notes = form.annotations
        result = assemble_result(
            images, oci=form.oci, oci_artifact=form.oci_artifact, force_index=self._multi(), created=form.epoch, referrers=form.referrers,
            annotations=[(a.key, a.value) for a in notes if a.level == "index"],
            descriptor_annotations=[(a.key, a.value) for a in notes if a.level == "index-descriptor"],
        )  # fmt: skip
        for image in result.images:
            step.status(f"exporting manifest {image.manifest_desc.digest}")
            step.status(f"exporting config {image.config_digest}")
        if result.index is not None:
            step.status(f"exporting manifest list {result.descriptor.digest}")
        return result

    def _multi(self) -> bool:
        """Whether even a single platform gets an index."""
        return dict(self.request.build_args).get("BUILDKIT_MULTI_PLATFORM", "").lower() in ("1", "t", "true")

    def forms(self) -> list[FormOptions]:
        """The forms of images that the outputs need, each once."""
        return list(dict.fromkeys(o.form for o in self.outputs if o.form is not None))

    def _own(self, plan: Plan, records: dict[str, Record], form: FormOptions | None) -> BuiltImage:
        record = records.get(plan.target.digest) if plan.target is not None else None
        image = _files_image(plan) if form is None else self.image(plan, record, records, form)
        return replace(image, rootfs=LazyView(self.worker, record.layers if record is not None else ()))

    def image(
        self, plan: Plan, record: Record | None, records: dict[str, Record], form: FormOptions
    ) -> BuiltImage:
        from .assemble import assemble
        from .pack import pack_form

        packer = self.packers[pack_form(form)]
        parts = self._groups(plan, record, form)
        for part in parts:
            if not part.layers[0].startswith("p"):
                packer.start(part)
        blobs: list[Blob] = [packer.blob(part) for part in parts]
        if not self._only_pushed(form):
            for part in parts:
                if part.layers[0].startswith("r"):
                    self.worker.fetch(part.layers[0])  # a cache may go, an image stays
        self._inline(plan, record, blobs)
        times = [records[v.digest].created if v.digest in records else 0.0 for v in plan.layer_vertices]
        return assemble(plan, blobs, [len(p.layers) for p in parts], times, form)

    def _only_pushed(self, form: FormOptions) -> bool:
        return all(o.spec.type == "registry" for o in self.outputs if o.form == form)

    def _inline(self, plan: Plan, record: Record | None, blobs: list[Blob]) -> None:
        """Let the image say which steps its layers are, if that was asked for; a base's word is not ours."""
        key = "moby.buildkit.cache.v0"
        plan.image.config.pop(key, None)
        if not self.request.cache_to and not any(
            n == "BUILDKIT_INLINE_CACHE" for n, _ in self.request.build_args
        ):
            return
        from .caches import inline_value, wants_inline

        if not wants_inline(self.request) or record is None:
            return
        if len(blobs) != len(record.layers):
            self._note("no inline cache is written: layers were merged")
            return
        digests = [b.descriptor.digest for b in blobs]
        plan.image.config[key] = inline_value(plan, record.layers, digests, self.kept, self.keys)

    def _groups(self, plan: Plan, record: Record | None, form: FormOptions) -> list[Group]:
        from .pack import groups

        if record is None or plan.target is None:
            return []
        own = plan.layer_vertices[-len(record.layers) :]
        windows = plan.platform.os == "windows"
        found = groups(
            record.layers, len(record.layers) - len(own), [v.stage for v in own], form.layers, windows=windows
        )
        if windows and any(len(g.layers) > 1 and g.layers[0].startswith("p") for g in found):
            raise ExportError(
                "the layers of a Windows base image cannot be merged", hint="use layers=squash-above-base"
            )
        return found

    def _check_annotations(self, form: FormOptions) -> None:
        known = {str(p) for p in self.platforms} | {p.full for p in self.platforms}
        one = len(self.platforms) == 1 and not self.request.attests and not self._multi()
        if one and any(n.level.startswith("index") for n in form.annotations):
            raise ExportError("index annotations not supported for single platform export")
        for note in form.annotations:
            if note.platform and note.platform not in known:
                raise ExportError(f"invalid annotation: no platform {note.platform} found in source")

    def _note(self, text: str) -> None:
        self.emit(Warned("", text))

    def fetch(self, desc: Any, repo: str) -> None:
        """Bring a base's layer into the store."""
        from ..oci import reference

        if self.engine.content.has(desc.digest):
            return
        layer = self.engine.images.borrowed.get(desc.digest)
        if layer is not None:
            self.worker.fetch(layer)
            return
        with self.engine.content.writer(desc.digest, desc.size, verified=True) as out:
            self.engine.client().fetch_blob(reference.parse(repo), desc, out.write)


def default_output(request: BuildRequest) -> OutputSpec:
    """Without ``--output``: the local image store, with the request's annotations."""
    from ..plan.request import OutputSpec

    return OutputSpec("image", "", tuple((a.attribute, a.value) for a in request.annotations))


def output_names(spec: OutputSpec, tags: tuple[str, ...]) -> tuple[str, ...]:
    """What an output's image is called."""
    given = [n.strip() for n in spec.get("name").split(",")]
    return tags or tuple(n for n in given if n and n != "*")


def _pushes(spec: OutputSpec) -> bool:
    return spec.type == "registry" or spec.get("push").lower() in ("1", "t", "true")


def _files_image(plan: Plan) -> BuiltImage:
    """An image without layers: what a local or tar export needs to know."""
    from ..export.join import assemble_image

    config = {
        "os": plan.platform.os,
        "architecture": plan.platform.arch,
        "variant": plan.platform.variant,
        "rootfs": {"diff_ids": []},
    }
    return assemble_image(config, [])


class LazyView:
    """The merged tree, opened only when somebody looks."""

    def __init__(self, worker: LocalWorker, layers: tuple[str, ...]) -> None:
        self._worker = worker
        self._layers = layers
        self._view: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._view is None:
            self._view = self._worker.view(self._layers)
        return getattr(self._view, name)


def _stdout() -> Any:
    import sys

    return sys.stdout.buffer
