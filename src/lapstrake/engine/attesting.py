"""The attestations of one build: when they were asked for, what they say, which files they become."""

from __future__ import annotations

import time

from ..attest.attach import Attested, Sbom, provenance_statement, sbom_statement
from ..attest.provenance import Mode, mode_of
from ..errors import UsageError
from ..events import rfc3339
from ..values import Value, replace
from .facts import build_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..attest.provenance import BuildFacts
    from ..attest.statement import Subject
    from ..export.base import BuiltImage
    from ..export.options import FormOptions
    from ..plan.lower import Plan
    from ..solver.ports import Record
    from ..tree import Tree
    from .build import Build

TRUE = ("1", "t", "true")


class Target(Value):
    """Something to scan.  ``name``: sbom, sbom-context or sbom-STAGE; files are named after it."""

    name: str
    tree: Tree
    layers: tuple[str, ...] = ()


class Attester:
    """Makes statements; the expensive parts of them once for each platform."""

    def __init__(self, build: Build) -> None:
        self.build = build
        specs = {s.type: dict(s.attrs) for s in build.request.attests}
        self.sbom = specs.get("sbom")
        self.provenance = specs.get("provenance")
        self.mode: Mode | None = None
        self.inline_only = False
        if self.provenance is not None:
            self.mode = mode_of(self.provenance)
            self.inline_only = self.provenance.get("inline-only", "").lower() in TRUE
        if self.sbom is not None:
            self.format()
        self.started = time.time()
        self._facts: dict[int, BuildFacts] = {}
        self._scans: dict[tuple[int, str], Any] = {}
        self._id = ""

    # -- one image ----------------------------------------------------------------

    def attest(
        self,
        image: BuiltImage,
        plan: Plan,
        records: dict[str, Record],
        form: FormOptions | None,
        names: Sequence[str],
    ) -> BuiltImage:
        """``image`` with its statements: SBOMs first, then provenance."""
        from ..attest.statement import image_subjects
        from ..export.attachment import with_statements

        subjects: list[Subject]
        if form is None:
            subjects = self._files(plan, image)
        else:
            subjects = image_subjects(list(names), plan.platform, image.manifest_desc.digest)
        found: list[Attested] = []
        if self.sbom is not None:
            found += self._sboms(plan, image, records, subjects)
        if self.mode is not None and not (form is None and self.inline_only):
            facts = self.facts(plan, records, image)
            name = (self.provenance or {}).get("filename") or "provenance.json"
            found.append(provenance_statement(facts, self.mode, subjects, name, self.inline_only))
        if form is not None and not form.attestation_inline:
            return image
        attested = with_statements(image, found)
        return attested if form is not None else replace(attested, attestations=())

    def _files(self, plan: Plan, image: BuiltImage) -> list[Subject]:
        from ..attest.statement import file_subjects

        key = (id(plan), "files")
        if key not in self._scans:
            self._scans[key] = list(file_subjects(image.rootfs)) if image.rootfs is not None else []
        found: list[Subject] = self._scans[key]
        return found

    # -- provenance ---------------------------------------------------------------

    def facts(self, plan: Plan, records: dict[str, Record], image: BuiltImage | None) -> BuildFacts:
        """What happened, for one platform.  With an epoch everything in it is the same each time."""
        build = self.build
        if id(plan) not in self._facts:
            self._facts[id(plan)] = build_facts(
                plan,
                build.request,
                build.worker,
                build.inputs,
                build.dockerfile,
                build.engine.settings.environ,
            )
        facts = self._facts[id(plan)]
        epoch = build.epoch
        started, finished = (self.started, time.time()) if epoch is None else (float(epoch), float(epoch))
        details = facts.details
        if details is not None and image is not None and image.layers and plan.target is not None:
            details = replace(details, layers=_layers(details, plan, records, image))
        return replace(
            facts,
            started=started,
            finished=finished,
            invocation_id=self.invocation(build, facts),
            details=details,
        )

    def invocation(self, build: Build, facts: BuildFacts | None = None) -> str:
        """The build's id: random, or with an epoch one that follows from what the build is."""
        if not self._id:
            self._id = (
                _identity(facts) if build.epoch is not None and facts is not None else build.id or _random()
            )
        return self._id

    # -- SBOM ---------------------------------------------------------------------

    def format(self) -> str:
        """``spdx`` or ``cyclonedx``; buildah's presets (``syft-cyclonedx``) only choose between the two."""
        attrs = self.sbom or {}
        preset = attrs.get("preset", "")
        known = ("", "syft", "syft-spdx", "syft-cyclonedx", "trivy", "trivy-spdx", "trivy-cyclonedx")
        if preset not in known:
            raise UsageError(f'unknown sbom preset "{preset}"', hint="use one of " + ", ".join(known[1:]))
        wanted = attrs.get("format", "cyclonedx" if preset.endswith("cyclonedx") else "spdx")
        if wanted not in ("spdx", "cyclonedx"):
            raise UsageError(f'unknown sbom format "{wanted}"', hint="use spdx or cyclonedx")
        return wanted

    def _sboms(
        self, plan: Plan, image: BuiltImage, records: dict[str, Record], subjects: list[Subject]
    ) -> list[Attested]:
        generator = (self.sbom or {}).get("generator", "")
        targets = self._targets(plan, image, records)
        if generator:
            from .scanner import scan_with_image

            return scan_with_image(self.build, self.sbom or {}, targets, subjects, image)
        epoch = self.build.epoch
        created = rfc3339(epoch if epoch is not None else int(self.started))
        from ..version import VERSION

        ending = "cdx.json" if self.format() == "cyclonedx" else "spdx.json"
        out = []
        for target in targets:
            options = Sbom(self.format(), created, VERSION, f"{target.name}.{ending}")
            out.append(sbom_statement(target.tree, options, subjects, target.name))
        return out

    def _targets(self, plan: Plan, image: BuiltImage, records: dict[str, Record]) -> list[Target]:
        build = self.build
        from .export import LazyView

        target = records.get(plan.target.digest) if plan.target is not None else None
        out = (
            [Target("sbom", image.rootfs, target.layers if target else ())]
            if image.rootfs is not None
            else []
        )
        if self.wanted("BUILDKIT_SBOM_SCAN_CONTEXT", ""):
            out.append(Target("sbom-context", build.inputs.contexts["context"]))
        for name, vertex in stage_results(plan).items():
            record = records.get(vertex.digest)
            if record is not None and self.wanted("BUILDKIT_SBOM_SCAN_STAGE", name):
                out.append(Target(f"sbom-{name}", LazyView(build.worker, record.layers), record.layers))
        return out

    def wanted(self, name: str, stage: str) -> bool:
        """A scan's switch: a build argument wins over an ARG's default, a stage's ARG over a global one.
        The value is a boolean or a list of stages."""
        from ..dockerfile.instructions import Arg

        dockerfile = self.build.dockerfile
        own = [
            i
            for s in dockerfile.stages
            if not stage or s.name == stage
            for i in s.instructions
            if isinstance(i, Arg)
        ]
        defaults = [
            a.default for i in (*dockerfile.global_args, *own) for a in i.args if a.name == name and a.default
        ]
        value = dict(self.build.request.build_args).get(name, defaults[-1] if defaults else "").lower()
        return value in TRUE or bool(stage and stage in [s.strip() for s in value.split(",")])


def stage_results(plan: Plan) -> dict[str, Any]:
    """The last vertex of each named stage below the target, the target's own left out."""
    from ..graph.vertex import walk

    if plan.target is None:
        return {}
    found = {v.stage: v for v in walk([plan.target]) if v.stage}
    return {name: v for name, v in found.items() if v.digest != plan.target.digest}


def _layers(details: Any, plan: Plan, records: dict[str, Record], image: BuiltImage) -> Any:
    """Which layers of the image each step's result consists of."""
    steps = dict(details.digest_mapping)
    whole = records.get(plan.target.digest) if plan.target is not None else None
    if whole is None or len(whole.layers) != len(image.layers):
        return ()  # merged: no step's result is a number of the image's layers
    out = []
    for v in plan.layer_vertices:
        record = records.get(v.digest)
        if record is not None and v.digest in steps and len(record.layers) <= len(image.layers):
            descriptors = [d.to_json() for d in image.layers[: len(record.layers)]]
            out.append((f"{steps[v.digest]}:0", (descriptors,)))
    return tuple(out)


def _identity(facts: BuildFacts) -> str:
    """An invocation's name that follows from what it did."""
    from hashlib import sha256

    parts = (
        facts.config.uri,
        facts.config.digest,
        *(k for k, _ in facts.args),
        *((m.uri, m.digest) for m in facts.materials),
    )
    return sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:25]


def _random() -> str:
    import os

    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    number = int.from_bytes(os.urandom(20), "big")
    out = ""
    while len(out) < 25:
        number, rest = divmod(number, 36)
        out += digits[rest]
    return out
