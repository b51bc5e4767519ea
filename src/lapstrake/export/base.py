"""What a finished build is, and what every exporter does with it (spec oci.md §2-5).

A result is a set of documents (configs, manifests, indexes, statements) held as raw bytes,
plus layer blobs in the content store.  Everything that writes images walks from the top
descriptor through ``ResultBlobs``; nobody needs to know how the result was put together.
"""

from __future__ import annotations

from ..errors import ExportError
from ..events import rfc3339
from ..oci.descriptor import INDEXES, MANIFESTS, Descriptor
from ..oci.platform import Platform
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, BinaryIO, Protocol

    from ..tree import Tree
else:
    Protocol = object

_HEX = frozenset("0123456789abcdef")
MAX_DOCUMENT = 16 << 20  # a manifest or config larger than this is refused
MAX_STATEMENT = 40 << 20  # oci.md §9.2
IN_TOTO_TYPE = "in-toto.io/predicate-type"
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION = "attestation-manifest"


class BuiltImage(Value):
    """One platform's image.

    ``lazy_sources``: (layer digest, full repository it can be had from) for base layers that
    may not be in the content store yet.  ``attestations``: in-toto statements about this image,
    each as (descriptor with the ``in-toto.io/predicate-type`` annotation, raw bytes).
    ``files``: the same statements under the names a local or tar export gives them.
    """

    platform: Platform
    config: bytes
    config_digest: str
    manifest: bytes
    manifest_desc: Descriptor
    layers: tuple[Descriptor, ...]
    rootfs: Tree | None = None
    attestations: tuple[tuple[Descriptor, bytes], ...] = ()
    lazy_sources: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()


class BuiltResult(Value):
    """Everything one build produced.

    ``images`` in the order the platforms were asked for.  ``descriptor`` is the top: the index
    when there is one, else the single image's manifest.  ``documents``: raw bytes by digest of
    whatever the top reaches apart from layers.  ``created``: seconds since the epoch.
    ``referrers``: manifests that name one of the images as their subject, kept out of the index.
    """

    images: tuple[BuiltImage, ...]
    index: bytes | None
    descriptor: Descriptor
    created: int | None = None
    documents: tuple[tuple[str, bytes], ...] = ()
    referrers: tuple[Descriptor, ...] = ()


class OutputLike(Protocol):
    """One ``--output`` record, as the command line parsed it."""

    @property
    def type(self) -> str: ...
    @property
    def dest(self) -> str: ...
    @property
    def attrs(self) -> Mapping[str, str] | tuple[tuple[str, str], ...]: ...


class Blobs(Protocol):
    """Content by digest (the content store is one)."""

    def has(self, digest: str) -> bool: ...
    def size(self, digest: str) -> int: ...
    def open(self, digest: str) -> BinaryIO: ...


class LazyBlobs(Blobs, Protocol):
    """Content that may still have to be brought here."""

    def source_of(self, digest: str) -> str: ...  # full repository it can be had from, or ""
    def need(self, digest: str) -> None: ...  # fetch it if it isn't here


class Exporter(Protocol):
    """Writes a result somewhere.  ``prepare`` may do slow work but makes nothing visible."""

    def prepare(self, result: BuiltResult) -> None: ...
    def commit(self) -> dict[str, Any]: ...
    def abort(self) -> None: ...


class ExportEnv(Value):
    """What exporters need of the world, handed in by the engine.

    ``client``: (registry host, insecure) -> registry client.  ``fetch``: (layer descriptor,
    repository) -> the blob is in ``content`` afterwards.  ``search``: directories for engine programs.
    """

    content: Any
    index: Any = None
    stdout: BinaryIO | None = None
    stdout_tty: bool = False
    cwd: str = "/"
    client: Callable[[str, bool], Any] | None = None
    fetch: Callable[[Descriptor, str], None] | None = None
    allow_delete: bool = False
    search: tuple[str, ...] = ()
    note: Callable[[str], None] | None = None
    tmp: str = "/tmp"


class ResultBlobs:
    """A result's documents and layers behind one ``Blobs``."""

    def __init__(
        self, result: BuiltResult, content: Blobs, fetch: Callable[[Descriptor, str], None] | None = None
    ) -> None:
        self._docs = dict(result.documents)
        self._content = content
        self._fetch = fetch
        self._lazy: dict[str, tuple[Descriptor, str]] = {}
        for image in result.images:
            self._docs[image.config_digest] = image.config
            self._docs[image.manifest_desc.digest] = image.manifest
            for desc, raw in image.attestations:
                self._docs[desc.digest] = raw
            where = dict(image.lazy_sources)
            for desc in image.layers:
                if desc.digest in where:
                    self._lazy[desc.digest] = (desc, where[desc.digest])
        if result.index is not None:
            self._docs[result.descriptor.digest] = result.index

    def has(self, digest: str) -> bool:
        """Whether the bytes are at hand, without fetching."""
        return digest in self._docs or bool(self._content.has(digest))

    def source_of(self, digest: str) -> str:
        """The repository a lazy layer comes from, or an empty string."""
        return self._lazy[digest][1] if digest in self._lazy else ""

    def need(self, digest: str) -> None:
        """Make sure the bytes are at hand; fetch a lazy layer if it comes to that."""
        if self.has(digest):
            return
        if digest in self._lazy and self._fetch is not None:
            self._fetch(*self._lazy[digest])
            if self._content.has(digest):
                return
        raise ExportError(
            f"content of {digest} is not in the store",
            hint="build again with --no-cache, or pull the base image",
        )

    def path(self, digest: str) -> str:
        """The file that holds a blob, where there is one."""
        find = getattr(self._content, "path", None)
        return "" if digest in self._docs or find is None else str(find(digest))

    def size(self, digest: str) -> int:
        """Size in bytes."""
        if digest in self._docs:
            return len(self._docs[digest])
        self.need(digest)
        return int(self._content.size(digest))

    def open(self, digest: str) -> BinaryIO:
        """A reader; the caller closes it."""
        if digest in self._docs:
            import io

            return io.BytesIO(self._docs[digest])
        self.need(digest)
        stream: BinaryIO = getattr(self._content, "open_verified", self._content.open)(digest)
        return stream


def read_document(blobs: Blobs, desc: Descriptor, limit: int = MAX_DOCUMENT) -> bytes:
    """A manifest, index or config, size-bounded and verified against its descriptor."""
    from ..oci.digest import digest_of

    if desc.size > limit:
        raise ExportError(f"{desc.digest} is too big for a document: {desc.size} bytes")
    with blobs.open(desc.digest) as f:
        raw = f.read(limit + 1)
    if len(raw) != desc.size or digest_of(raw) != desc.digest:
        raise ExportError(f"content of {desc.digest} does not match its descriptor")
    return raw


def is_digest(text: str) -> bool:
    """Whether ``text`` is a sha256 digest; nothing else ever becomes a file name."""
    return len(text) == 71 and text.startswith("sha256:") and _HEX.issuperset(text[7:])


def children(desc: Descriptor, raw: bytes) -> tuple[Descriptor, ...]:
    """What a manifest or index refers to, in order (config before layers)."""
    from ..oci.manifest import Index, parse

    doc = parse(raw, desc.media_type)
    below = doc.manifests if isinstance(doc, Index) else (doc.config, *doc.layers)
    for child in below:
        if not is_digest(child.digest):
            raise ExportError(f"{desc.digest}: unsupported digest {child.digest[:100]!r}")
    return below


def walk(top: Descriptor, blobs: Blobs) -> Iterator[tuple[Descriptor, bytes | None]]:
    """Every descriptor below ``top``, each digest once, children before parents.

    Manifests and indexes come with their raw bytes, blobs with None.
    """
    seen: set[str] = set()

    def visit(desc: Descriptor, depth: int) -> Iterator[tuple[Descriptor, bytes | None]]:
        if desc.digest in seen:
            return
        seen.add(desc.digest)
        if desc.media_type not in INDEXES and desc.media_type not in MANIFESTS:
            yield desc, None
            return
        if depth > 8:
            raise ExportError("index nested too deeply")
        raw = read_document(blobs, desc)
        for child in children(desc, raw):
            yield from visit(child, depth + 1)
        yield desc, raw

    yield from visit(top, 0)


def created_text(result: BuiltResult) -> str:
    """``org.opencontainers.image.created`` of archives: the epoch, else the first config's time."""
    if result.created is not None:
        return rfc3339(result.created)
    from ..oci import codec

    for image in result.images:
        created = codec.loads(image.config, "image config").get("created")
        if isinstance(created, str):
            return created
    return ""
