"""What ``--metadata-file`` holds beyond what the exporters say (spec cli.md §2.9)."""

from __future__ import annotations

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..events import Warned
    from ..export.base import BuiltResult
    from ..solver.ports import Record
    from .attesting import Attester
    from .build import Build

_ON, _OFF = ("1", "t", "true"), ("0", "f", "false", "disabled")


def build_metadata(build: Build, result: BuiltResult | None, records: dict[str, Record]) -> dict[str, Any]:
    """The build's reference, its provenance and, when BUILDX_METADATA_WARNINGS asks, its warnings."""
    environ = build.engine.settings.environ
    attester = build.exporting.attester()
    out: dict[str, Any] = {}
    mode = environ.get("BUILDX_METADATA_PROVENANCE", "min").lower()
    if mode in _ON:
        mode = "min"
    if mode not in _OFF:
        if mode not in ("min", "max"):
            raise UsageError(
                f'invalid provenance type "{mode}"', hint="BUILDX_METADATA_PROVENANCE is min, max or disabled"
            )
        out.update(_provenance(build, attester, result, records, mode))
    out["buildx.build.ref"] = f"{_builder(build)}/{build.id or attester.invocation(build)}"
    if environ.get("BUILDX_METADATA_WARNINGS", "").lower() in _ON:
        out["buildx.build.warnings"] = [_warning(w) for w in build.warnings]
    return out


def _builder(build: Build) -> str:
    name = build.request.builder or build.engine.settings.builder or "default"
    return f"{name}/{name}0"


def _provenance(
    build: Build, attester: Attester, result: BuiltResult | None, records: dict[str, Record], mode: str
) -> dict[str, Any]:
    from ..attest.provenance import Mode, provenance
    from ..values import replace

    base = attester.mode or Mode()
    images = {i.platform: i for i in result.images} if result is not None else {}
    out = {}
    for plan in build.plans:
        image = images.get(plan.platform)
        facts = attester.facts(plan, records, image)
        key = "buildx.build.provenance" + (f"/{plan.platform}" if len(build.platforms) > 1 else "")
        out[key] = provenance(facts, replace(base, max=mode == "max"))[1]
    return out


def _warning(w: Warned) -> dict[str, Any]:
    from base64 import b64encode

    def packed(text: str) -> str:
        return b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")

    doc: dict[str, Any] = {"vertex": w.digest, "level": 1, "short": packed(w.short)}
    if w.detail:
        doc["detail"] = [packed(w.detail)]
    if w.url:
        doc["url"] = w.url
    if w.span is not None:
        doc["sourceInfo"] = {
            "filename": w.span.filename,
            "data": packed(w.span.source),
            "language": "Dockerfile",
        }
        doc["range"] = [{"start": {"line": w.span.first}, "end": {"line": w.span.last}}]
    return doc
