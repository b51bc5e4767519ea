"""Descriptors and media types (spec oci.md §1)."""

from __future__ import annotations

from ..values import Value
from .platform import Platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
INTOTO = "application/vnd.in-toto+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)


class Descriptor(Value):
    """(media type, digest, size, platform, annotations); ``digest`` is ``sha256:<hex>``."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    artifact_type: str = ""
    data: str = ""  # base64, inline content

    def to_json(self) -> dict[str, object]:
        """As it stands in a manifest or index."""
        d: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            d["annotations"] = dict(self.annotations)
        if self.data:
            d["data"] = self.data
        if self.platform is not None:
            d["platform"] = self.platform.to_json()
        if self.artifact_type:
            d["artifactType"] = self.artifact_type
        return d


def compression_of(media_type: str) -> str:
    """``gzip``, ``zstd`` or ``uncompressed`` of a layer's media type."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "gzip"
    if media_type.endswith(("+zstd", ".zstd")):
        return "zstd"
    return "uncompressed"


def layer_media_type(compression: str, *, oci: bool = True) -> str:
    """The layer media type of one family."""
    if oci:
        return {"gzip": OCI_LAYER_GZIP, "estargz": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}.get(
            compression, OCI_LAYER
        )
    return {"gzip": DOCKER_LAYER_GZIP, "zstd": DOCKER_LAYER_ZSTD}.get(compression, DOCKER_LAYER)
