"""``type=image``: the local image store, names over the content store."""

from __future__ import annotations

from ..errors import ExportError
from ..oci import codec
from ..oci.descriptor import Descriptor
from ..oci.manifest import parse_descriptor
from ..values import Value
from .base import ResultBlobs, walk
from .names import metadata, reference
from .places import UNPUSHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .base import BuiltResult, ExportEnv
    from .options import ImageOptions

NAMESPACE = "image"


class StoredImage(Value):
    """One name of the local image store.

    ``created``: when the image says it was made, seconds since the epoch, or None.
    ``sources``: (layer digest, repository) of layers not pulled yet.
    """

    name: str
    descriptor: Descriptor
    created: int | None = None
    sources: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        """As it is stored: the descriptor with two more members."""
        return codec.dumps(
            {**self.descriptor.to_json(), "created": self.created, "sources": dict(self.sources)}
        )


def decode(name: str, raw: bytes) -> StoredImage:
    """A stored record; ResolveError when it is damaged."""
    doc = codec.loads(raw, f"image record {name}")
    created = doc.get("created")
    sources = doc.get("sources")
    return StoredImage(
        name, parse_descriptor(doc), created if isinstance(created, int) else None,
        tuple(sorted((str(k), str(v)) for k, v in sources.items())) if isinstance(sources, dict) else (),
    )  # fmt: skip


def save_documents(result: BuiltResult, content: Any) -> None:
    """Put configs, manifests, statements and the index into the content store."""
    docs = dict(result.documents)
    for image in result.images:
        docs[image.config_digest] = image.config
        docs[image.manifest_desc.digest] = image.manifest
        docs.update((d.digest, raw) for d, raw in image.attestations)
    if result.index is not None:
        docs[result.descriptor.digest] = result.index
    for digest, raw in docs.items():
        if not content.has(digest) and content.put(raw) != digest:
            raise ExportError(f"content of {digest} does not match its digest")


def put_names(index: Any, images: Iterable[StoredImage]) -> None:
    """Set names, all in one transaction; what could not be pushed under them before no longer counts."""
    rows = [(i.name, i.encode()) for i in images]
    index.put_many(NAMESPACE, rows)
    for name, _ in rows:
        if index.get(UNPUSHED, name) is not None:
            index.delete(UNPUSHED, name)


class ImageStore:
    """``type=image``: documents in ``prepare``, names in ``commit``."""

    def __init__(self, options: ImageOptions, env: ExportEnv) -> None:
        if env.index is None:
            raise ExportError("no local image store")
        self._options = options
        self._env = env
        self._names = [reference(n).full for n in options.names]
        self._result: BuiltResult | None = None

    def prepare(self, result: BuiltResult) -> None:
        """Store documents and see that every layer is there or can be had."""
        self._result = result
        save_documents(result, self._env.content)
        blobs = ResultBlobs(result, self._env.content)
        for desc, raw in walk(result.descriptor, blobs):
            if raw is None and not blobs.has(desc.digest) and not blobs.source_of(desc.digest):
                blobs.need(desc.digest)

    def commit(self) -> dict[str, Any]:
        """Set the names."""
        result = self._result
        if result is None:
            raise ExportError("nothing was prepared")
        names = list(self._names)
        if not names and self._options.dangling_prefix:
            names.append(f"{self._options.dangling_prefix}@{result.descriptor.digest}")
        if self._options.name_canonical:
            names += [f"{reference(n).name}@{result.descriptor.digest}" for n in self._names]
        sources = tuple(
            sorted({s for i in result.images for s in i.lazy_sources if not self._env.content.has(s[0])})
        )
        put_names(
            self._env.index,
            [StoredImage(n, result.descriptor, result.created, sources) for n in dict.fromkeys(names)],
        )
        return metadata(result, self._options.names)

    def abort(self) -> None:
        """Documents without a name are removed by the next prune."""
