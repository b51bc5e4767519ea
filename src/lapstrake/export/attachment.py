"""Attestation manifests the way BuildKit stores them: in the same index (spec oci.md §9.1)."""

from __future__ import annotations

from ..oci import codec
from ..oci.descriptor import INTOTO, OCI_CONFIG, OCI_EMPTY, Descriptor
from ..oci.digest import digest_of
from ..oci.manifest import make_manifest
from ..oci.platform import Platform
from ..values import replace
from .base import ATTESTATION, IN_TOTO_TYPE, REFERENCE_DIGEST, REFERENCE_TYPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol

    from .base import BuiltImage

    class StatementLike(Protocol):
        """A statement's predicate type, bytes, and its name in file outputs."""

        @property
        def predicate_type(self) -> str: ...
        @property
        def raw(self) -> bytes: ...
        @property
        def filename(self) -> str: ...
        @property
        def inline_only(self) -> bool: ...


ARTIFACT_TYPE = "application/vnd.docker.attestation.manifest.v1+json"
EMPTY = Descriptor(
    OCI_EMPTY, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", 2, data="e30="
)
UNKNOWN = Platform("unknown", "unknown")


def statement_descriptor(predicate_type: str, raw: bytes) -> Descriptor:
    """The descriptor of one in-toto statement."""
    return Descriptor(INTOTO, digest_of(raw), len(raw), None, ((IN_TOTO_TYPE, predicate_type),))


def attestation_manifest(
    image: BuiltImage, *, oci_artifact: bool = True
) -> tuple[Descriptor, bytes, tuple[tuple[str, bytes], ...]]:
    """(descriptor for the index, manifest, further documents) of one image's statements."""
    layers = [d for d, _ in image.attestations]
    documents = [(d.digest, raw) for d, raw in image.attestations]
    if oci_artifact:
        documents.append((EMPTY.digest, b"{}"))
        subject = Descriptor(
            image.manifest_desc.media_type, image.manifest_desc.digest, image.manifest_desc.size
        )
        raw, desc = make_manifest(EMPTY, layers, subject=subject, artifact_type=ARTIFACT_TYPE)
    else:
        config = codec.dumps(
            {
                "architecture": "unknown",
                "os": "unknown",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [d.digest for d in layers]},
            }
        )
        documents.append((digest_of(config), config))
        raw, desc = make_manifest(Descriptor(OCI_CONFIG, digest_of(config), len(config)), layers)
    notes = ((REFERENCE_DIGEST, image.manifest_desc.digest), (REFERENCE_TYPE, ATTESTATION))
    return replace(desc, platform=UNKNOWN, annotations=notes, artifact_type=""), raw, tuple(documents)


def attestation_manifests(
    images: Sequence[BuiltImage], *, oci_artifact: bool = True
) -> tuple[tuple[tuple[Descriptor, bytes], ...], tuple[tuple[str, bytes], ...]]:
    """((descriptor, manifest) per image that has statements, all further documents)."""
    manifests: list[tuple[Descriptor, bytes]] = []
    documents: dict[str, bytes] = {}
    for image in images:
        if image.attestations:
            desc, raw, more = attestation_manifest(image, oci_artifact=oci_artifact)
            manifests.append((desc, raw))
            documents.update(more)
    return tuple(manifests), tuple(sorted(documents.items()))


def with_statements(image: BuiltImage, statements: Iterable[StatementLike]) -> BuiltImage:
    """``image`` with in-toto statements about it (``attest.attach.Attested`` fits)."""
    attestations = list(image.attestations)
    files = list(image.files)
    for one in statements:
        attestations.append((statement_descriptor(one.predicate_type, one.raw), one.raw))
        if not one.inline_only:
            files.append((one.filename, one.raw))
    return replace(image, attestations=tuple(attestations), files=tuple(files))
