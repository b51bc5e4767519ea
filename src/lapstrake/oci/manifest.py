"""Manifests and indexes: read strictly, chosen from by platform, written byte-stable (spec oci.md §2, §10.3)."""

from __future__ import annotations

from ..errors import ResolveError
from ..values import Value, replace
from . import codec
from .descriptor import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    compression_of,
    layer_media_type,
)
from .digest import digest_of, is_digest
from .platform import Platform, compatible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Annotations = tuple[tuple[str, str], ...]

ATTESTATION_TYPE = "vnd.docker.reference.type"
_MAX_ENTRIES = 10_000
_MAX_BLOB = 1 << 50
_FOREIGN_OCI = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_FOREIGN_DOCKER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_INTERNAL = ("containerd.io/uncompressed", "buildkit/createdat")
_INTERNAL_PREFIX = "containerd.io/distribution.source."


class Manifest(Value):
    """One image (or artifact).  ``raw`` is what the digest is of; ``urls``: digest -> where a foreign layer is."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Annotations = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    urls: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def descriptor(self) -> Descriptor:
        """What points at this manifest."""
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


class Index(Value):
    """Several manifests under one name."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Annotations = ()
    subject: Descriptor | None = None
    artifact_type: str = ""

    @property
    def descriptor(self) -> Descriptor:
        """What points at this index."""
        return Descriptor(self.media_type, digest_of(self.raw), len(self.raw))


def _bad(why: str) -> ResolveError:
    return ResolveError(f"invalid manifest: {why}", code="MANIFEST_INVALID")


def _text(doc: dict[str, Any], key: str) -> str:
    value = doc.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1 << 20:
        raise _bad(f"{key} is not a string")
    return value


def _annotations(doc: dict[str, Any]) -> Annotations:
    value = doc.get("annotations")
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _bad("annotations is not a map of strings")
    return tuple(value.items())


def parse_descriptor(doc: object, what: str = "descriptor") -> Descriptor:
    """One descriptor of a manifest; ResolveError when it is malformed."""
    if not isinstance(doc, dict):
        raise _bad(f"{what} is not an object")
    digest, size = _text(doc, "digest"), doc.get("size")
    if not is_digest(digest):
        raise _bad(f"{what} has the invalid digest {digest[:160]!r}")
    if type(size) is not int or not 0 <= size <= _MAX_BLOB:
        raise _bad(f"{what} has an invalid size")
    place = doc.get("platform")
    if place is not None and not isinstance(place, dict):
        raise _bad(f"{what} has an invalid platform")
    return Descriptor(
        _text(doc, "mediaType"), digest, size, Platform.from_json(place) if place else None,
        _annotations(doc), _text(doc, "artifactType"), _text(doc, "data"),
    )  # fmt: skip


def _list(doc: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    value = doc.get(key)
    if value is None:
        value = []
    if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
        raise _bad(f"{key} is not a list of at most {_MAX_ENTRIES} descriptors")
    return tuple(parse_descriptor(d, f"{key}[{i}]") for i, d in enumerate(value))


def _urls(doc: dict[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    out = []
    for layer in doc.get("layers") or ():
        urls = layer.get("urls")
        if urls:
            if not isinstance(urls, list) or not all(isinstance(u, str) for u in urls):
                raise _bad("urls is not a list of strings")
            out.append((layer["digest"], tuple(urls)))
    return tuple(out)


def _kind(doc: dict[str, Any], media_type: str) -> str:
    """The media type, as the transport and the document agree on it."""
    own, given = _text(doc, "mediaType"), media_type.partition(";")[0].strip()
    known = INDEXES + MANIFESTS
    if given in known and own in known and given != own:
        raise _bad(f"it says {own}, but was served as {given}")
    kind = given if given in known else own
    if not kind:
        kind = OCI_INDEX if "manifests" in doc else OCI_MANIFEST
    if doc.get("schemaVersion") == 1 or "vnd.docker.distribution.manifest.v1" in kind:
        raise ResolveError(
            "schema 1 manifests are not supported",
            code="UNSUPPORTED",
            hint="push the image again with a current tool",
        )
    if kind not in known:
        raise ResolveError(f"unsupported manifest media type {kind[:160]!r}", code="UNSUPPORTED")
    return kind


def parse(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index.  Raises ResolveError, also for one that could be read as both."""
    doc = codec.loads(raw, "manifest")
    kind = _kind(doc, media_type)
    if doc.get("schemaVersion") != 2:
        raise _bad("schemaVersion is not 2")
    subject = parse_descriptor(doc["subject"], "subject") if doc.get("subject") is not None else None
    annotations, artifact = _annotations(doc), _text(doc, "artifactType")
    if kind in INDEXES:
        if "layers" in doc or "config" in doc or "fsLayers" in doc:
            raise _bad("an index with layers or a config")
        return Index(raw, kind, _list(doc, "manifests"), annotations, subject, artifact)
    if "manifests" in doc or "fsLayers" in doc:
        raise _bad("an image manifest with a list of manifests")
    return Manifest(
        raw,
        kind,
        parse_descriptor(doc.get("config"), "config"),
        _list(doc, "layers"),
        annotations,
        subject,
        artifact,
        _urls(doc),
    )


def is_attestation(d: Descriptor) -> bool:
    """Whether an index entry holds attestations, not an image."""
    return dict(d.annotations).get(ATTESTATION_TYPE) == "attestation-manifest"


def _selectable(d: Descriptor) -> bool:
    return not is_attestation(d) and (
        d.platform is None or (d.platform.os, d.platform.arch) != ("unknown", "unknown")
    )


def _matches(found: Platform | None, wanted: Platform) -> bool:
    if found is None or (found.os, found.arch, found.variant) != (wanted.os, wanted.arch, wanted.variant):
        return False
    if wanted.os_version:  # Windows: the build number decides, the revision does not
        return found.os_version.split(".")[:3] == wanted.os_version.split(".")[:3]
    return True


def choose(index: Index, platform: Platform) -> Descriptor:
    """The entry for a platform: exact, then compatible, then one that names no platform."""
    entries = [d for d in index.manifests if _selectable(d)]
    for wanted in compatible(platform):
        for d in entries:
            if _matches(d.platform, wanted):
                return d
    for d in entries:
        if d.platform is None:
            return d
    have = ", ".join(dict.fromkeys(str(d.platform) for d in entries)) or "none"
    raise ResolveError(
        "no match for platform in manifest: not found",
        code="NOT_FOUND",
        status=404,
        hint=f"wanted {platform}; the image has: {have}",
    )


def in_family(layer: Descriptor, *, oci: bool) -> Descriptor:
    """A layer descriptor with its media type of the chosen family; the bytes stay the same."""
    kind = layer.media_type
    for prefix in (_FOREIGN_OCI, _FOREIGN_DOCKER):
        if kind.startswith(prefix):
            mark = {"gzip": "gzip", "zstd": "zstd"}.get(compression_of(kind))
            tail = f"{'+' if oci else '.'}{mark}" if mark else ""
            return replace(layer, media_type=(_FOREIGN_OCI if oci else _FOREIGN_DOCKER) + tail)
    if "image.layer.v1.tar" in kind or "image.rootfs.diff.tar" in kind:
        return replace(layer, media_type=layer_media_type(compression_of(kind), oci=oci))
    return layer


def exported_layer(layer: Descriptor, *, oci: bool) -> Descriptor:
    """As a layer stands in an image: without internal annotations, with none at all in Docker's family."""
    kept = tuple(
        (k, v)
        for k, v in layer.annotations
        if oci and k not in _INTERNAL and not k.startswith(_INTERNAL_PREFIX)
    )
    return replace(in_family(layer, oci=oci), annotations=kept, platform=None)


def _extras(
    annotations: Iterable[tuple[str, str]], subject: Descriptor | None, artifact_type: str
) -> dict[str, object]:
    out: dict[str, object] = {}
    if notes := dict(annotations):
        out["annotations"] = notes
    if subject is not None:
        out["subject"] = subject.to_json()
    if artifact_type:
        out["artifactType"] = artifact_type
    return out


def make_manifest(
    config: Descriptor, layers: Iterable[Descriptor], *, annotations: Iterable[tuple[str, str]] = (),
    oci: bool = True, subject: Descriptor | None = None, artifact_type: str = "",
) -> tuple[bytes, Descriptor]:  # fmt: skip
    """A manifest and its descriptor.  Images lose internal layer annotations; caches and artifacts keep theirs."""
    image = config.media_type in (OCI_CONFIG, DOCKER_CONFIG)
    kind = OCI_MANIFEST if oci else DOCKER_MANIFEST
    if image:
        config = replace(config, media_type=OCI_CONFIG if oci else DOCKER_CONFIG)
    listed = [(exported_layer(d, oci=oci) if image else in_family(d, oci=oci)).to_json() for d in layers]
    doc: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": config.to_json(),
        "layers": listed,
    }
    if oci:
        doc.update(_extras(annotations, subject, artifact_type))
    raw = codec.dumps(doc)
    return raw, Descriptor(kind, digest_of(raw), len(raw), artifact_type=artifact_type if oci else "")


def make_index(
    manifests: Iterable[Descriptor], *, annotations: Iterable[tuple[str, str]] = (),
    oci: bool = True, subject: Descriptor | None = None, artifact_type: str = "",
) -> tuple[bytes, Descriptor]:  # fmt: skip
    """An index (or Docker manifest list) in the order given, and its descriptor."""
    kind = OCI_INDEX if oci else DOCKER_LIST
    listed = [
        (d if oci else replace(d, annotations=(), artifact_type="", data="")).to_json() for d in manifests
    ]
    doc: dict[str, object] = {"schemaVersion": 2, "mediaType": kind, "manifests": listed}
    if oci:
        doc.update(_extras(annotations, subject, artifact_type))
    raw = codec.dumps(doc)
    return raw, Descriptor(kind, digest_of(raw), len(raw), artifact_type=artifact_type if oci else "")
