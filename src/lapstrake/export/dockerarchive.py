"""``docker load`` archives: an OCI layout plus ``manifest.json`` (spec oci.md §5)."""

from __future__ import annotations

from ..errors import ExportError
from ..oci import codec
from ..oci.descriptor import INDEXES
from .layout import LayoutTar
from .names import familiar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .base import BuiltResult

LISTS_TO_FILE = "docker exporter does not support exporting manifest lists, use the oci exporter instead"
LISTS_TO_ENGINE = "docker exporter does not currently support exporting manifest lists"


def single(result: BuiltResult, message: str = LISTS_TO_FILE) -> None:
    """Refuse what an archive of one image can't hold."""
    if len(result.images) != 1 or result.descriptor.media_type in INDEXES:
        raise ExportError(message, hint="use type=oci, or build one platform without attestations")


def manifest_json(result: BuiltResult, names: tuple[str, ...]) -> bytes:
    """The list old engines read."""
    image = result.images[0]
    return codec.dumps(
        [
            {
                "Config": "blobs/sha256/" + image.config_digest[7:],
                "RepoTags": [familiar(n) for n in names] or None,
                "Layers": ["blobs/sha256/" + d.digest[7:] for d in image.layers],
            }
        ]
    )


class DockerArchive(LayoutTar):
    """``type=docker,dest=FILE``."""

    extra_kind = "docker"

    def prepare(self, result: BuiltResult) -> None:
        """Write beside the destination."""
        single(result)
        super().prepare(result)

    def extra(self, result: BuiltResult) -> dict[str, bytes]:
        """Layout files plus ``manifest.json``."""
        return {**super().extra(result), "manifest.json": manifest_json(result, self._options.names)}
