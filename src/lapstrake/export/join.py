"""Puts images and indexes together: pure functions, byte-stable output (spec oci.md §2, §3)."""

from __future__ import annotations

from ..errors import ExportError
from ..oci import codec
from ..oci.descriptor import (
    DOCKER_CONFIG,
    OCI_CONFIG,
    Descriptor,
    compression_of,
    layer_media_type,
)
from ..oci.digest import digest_of
from ..oci.manifest import exported_layer, make_index, make_manifest
from ..oci.platform import Platform
from ..values import replace
from .base import BuiltImage, BuiltResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ..tree import Tree

FILLER = "buildkit.exporter.image.v0"


def layer_descriptor(desc: Descriptor, *, oci: bool = True, keep_nondist: bool = False) -> Descriptor:
    """A layer's descriptor in the family asked for; foreign types become ordinary ones unless kept."""
    kind = compression_of(desc.media_type)
    if not oci and kind == "zstd":
        raise ExportError('exporter option "compression=zstd" conflicts with "oci-mediatypes=false"')
    desc = exported_layer(desc, oci=oci)
    return desc if keep_nondist else replace(desc, media_type=layer_media_type(kind, oci=oci))


def _history(config: Mapping[str, Any], layers: int) -> list[dict[str, Any]]:
    """History whose non-empty entries match the layers (oci.md §3)."""
    history = [dict(h) for h in config.get("history") or () if isinstance(h, dict)]
    surplus = sum(1 for h in history if not h.get("empty_layer")) - layers
    for h in reversed(history):
        if surplus <= 0:
            break
        if not h.get("empty_layer"):
            h["empty_layer"] = True
            surplus -= 1
    created = config.get("created")
    while surplus < 0:
        history.append(
            {**({"created": created} if created else {}), "created_by": "unknown", "comment": FILLER}
        )
        surplus += 1
    return history


def assemble_image(
    config: Mapping[str, Any],
    layers: Sequence[Descriptor],
    *,
    oci: bool = True,
    annotations: Iterable[tuple[str, str]] = (),
    descriptor_annotations: Iterable[tuple[str, str]] = (),
    rootfs: Tree | None = None,
    keep_nondist: bool = False,
) -> BuiltImage:
    """The config as given (history mended) and its manifest.

    ``config`` is the whole image config with ``rootfs.diff_ids`` filled in, one for each of ``layers``.
    """
    for key in ("os", "architecture"):
        if not config.get(key):
            raise ExportError(f"invalid image config for export: missing {key}")
    diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(layers):
        raise ExportError(f"mismatched image rootfs and manifest layers: {len(diff_ids)} and {len(layers)}")
    annotations, descriptor_annotations = sorted(annotations), tuple(sorted(descriptor_annotations))
    if not oci and (annotations or descriptor_annotations):
        raise ExportError('cannot export annotations with "oci-mediatypes=false"')
    full = {
        **config,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": _history(config, len(layers)),
    }
    raw_config = codec.dumps(full, replace=True)
    stack = tuple(layer_descriptor(d, oci=oci, keep_nondist=keep_nondist) for d in layers)
    config_desc = Descriptor(OCI_CONFIG if oci else DOCKER_CONFIG, digest_of(raw_config), len(raw_config))
    raw, desc = make_manifest(config_desc, stack, annotations=annotations, oci=oci)
    platform = Platform.from_json(dict(config))
    desc = replace(desc, platform=platform, annotations=descriptor_annotations)
    return BuiltImage(platform, raw_config, config_desc.digest, raw, desc, stack, rootfs)


def assemble_index(
    images: Sequence[BuiltImage],
    *,
    oci: bool = True,
    annotations: Iterable[tuple[str, str]] = (),
    descriptor_annotations: Iterable[tuple[str, str]] = (),
    attestations: Sequence[tuple[Descriptor, bytes]] = (),
    documents: Iterable[tuple[str, bytes]] = (),
    created: int | None = None,
) -> BuiltResult:
    """One index over ``images`` in their order, then the attestation manifests in theirs."""
    annotations = sorted(annotations)
    if not oci and attestations:
        raise ExportError('cannot export attestations with "oci-mediatypes=false"')
    descriptor_annotations = tuple(sorted(descriptor_annotations))
    if not oci and (annotations or descriptor_annotations):
        raise ExportError('cannot export annotations with "oci-mediatypes=false"')
    listed: list[Descriptor] = []
    for desc in [i.manifest_desc for i in images] + [d for d, _ in attestations]:
        if desc not in listed:
            listed.append(desc)
    raw, top = make_index(listed, annotations=annotations, oci=oci)
    top = replace(top, annotations=descriptor_annotations)
    docs = dict(documents)
    docs.update((d.digest, r) for d, r in attestations)
    return BuiltResult(tuple(images), raw, top, created, tuple(sorted(docs.items())))


def assemble_result(
    images: Sequence[BuiltImage],
    *,
    oci: bool = True,
    oci_artifact: bool = True,
    force_index: bool = False,
    annotations: Iterable[tuple[str, str]] = (),
    descriptor_annotations: Iterable[tuple[str, str]] = (),
    created: int | None = None,
    referrers: bool = False,
) -> BuiltResult:
    """A bare manifest when one image without statements is enough, else an index (oci.md §2).

    ``referrers``: statements become manifests beside the index, found by their subject.
    """
    attested = any(i.attestations for i in images)
    if attested and referrers:
        if not oci:
            raise ExportError('cannot export attestations with "oci-mediatypes=false"')
        return _with_referrers(
            assemble_result(
                [replace(i, attestations=()) for i in images], oci=oci, force_index=force_index, annotations=annotations,
                descriptor_annotations=descriptor_annotations, created=created,
            ), images,
        )  # fmt: skip
    annotations, descriptor_annotations = tuple(annotations), tuple(descriptor_annotations)
    if len(images) == 1 and not attested and not force_index:
        if annotations or descriptor_annotations:
            raise ExportError("index annotations not supported for single platform export")
        return BuiltResult(tuple(images), None, images[0].manifest_desc, created)
    manifests: tuple[tuple[Descriptor, bytes], ...] = ()
    documents: tuple[tuple[str, bytes], ...] = ()
    if attested:
        if not oci:
            raise ExportError('cannot export attestations with "oci-mediatypes=false"')
        from .attachment import attestation_manifests

        manifests, documents = attestation_manifests(images, oci_artifact=oci_artifact)
    return assemble_index(
        images, oci=oci, annotations=annotations, descriptor_annotations=descriptor_annotations,
        attestations=manifests, documents=documents, created=created,
    )  # fmt: skip


def _with_referrers(result: BuiltResult, images: Sequence[BuiltImage]) -> BuiltResult:
    from .attachment import ARTIFACT_TYPE, attestation_manifests

    manifests, documents = attestation_manifests(images)
    docs = {**dict(result.documents), **dict(documents), **{d.digest: raw for d, raw in manifests}}
    found = tuple(
        replace(d, platform=None, annotations=(), artifact_type=ARTIFACT_TYPE) for d, _ in manifests
    )
    return replace(result, documents=tuple(sorted(docs.items())), referrers=found)
