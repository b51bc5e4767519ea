"""Between the local image store and registries, without building: push and pull."""

from __future__ import annotations

import threading

from ..errors import ExportError
from ..export.base import children
from ..export.places import UNPUSHED
from ..export.store import NAMESPACE, StoredImage, decode, put_names
from ..oci.descriptor import INDEXES, MANIFESTS, Descriptor
from ..oci.manifest import is_attestation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from ..oci.platform import Platform
    from ..oci.reference import Reference
    from .engine import Engine

    Tell = Callable[[str], None]

_MAX_DOCUMENT = 64 << 20  # configs and statements
_MAX_DEPTH = 4


class StoreBlobs:
    """An image of the local store, to be pushed; layers not pulled yet come from where they are."""

    def __init__(self, engine: Engine, image: StoredImage) -> None:
        self._engine = engine
        self._sources = dict(image.sources)
        self._layers: dict[str, Descriptor] = {}
        self._learn(image.descriptor, 0)

    def _learn(self, desc: Descriptor, depth: int) -> None:
        """The descriptors of layers, for those that have to be fetched."""
        if desc.media_type not in (*INDEXES, *MANIFESTS) or depth > _MAX_DEPTH or not self.has(desc.digest):
            self._layers[desc.digest] = desc
            return
        for child in children(desc, self._engine.content.read(desc.digest)):
            self._learn(child, depth + 1)

    def has(self, digest: str) -> bool:
        """Whether the bytes are here."""
        return self._engine.content.has(digest)

    def size(self, digest: str) -> int:
        """Size in bytes."""
        return self._engine.content.size(digest)

    def open(self, digest: str) -> BinaryIO:
        """A reader."""
        return self._engine.content.open(digest)

    def source_of(self, digest: str) -> str:
        """The repository a layer can be had from."""
        return self._sources.get(digest, "")

    def need(self, digest: str) -> None:
        """Fetch a layer that was never needed before."""
        if self.has(digest):
            return
        source, desc = self._sources.get(digest), self._layers.get(digest)
        if not source or desc is None:
            raise ExportError(
                f"content of {digest} is not in the store", hint="build or pull the image again"
            )
        from ..oci.reference import parse

        fetch(self._engine, parse(source), desc)


def push_image(engine: Engine, name: str, tell: Tell) -> str:
    """Push what the local store has under ``name``, or what a build could not push; its digest."""
    from ..export.registry import start_pushes, targets_of
    from ..oci.reference import parse
    from .images import find

    full = parse(name).full
    raw = engine.index.get(UNPUSHED, full)
    image = decode(full, raw) if raw is not None else find(engine.content, engine.index, name)
    if image.name != full and "@" not in image.name:
        full = image.name  # found by its digest
    blobs = StoreBlobs(engine, image)
    tell(f"The push refers to repository [{parse(full).name}]")
    for item in start_pushes(
        (image.descriptor,), blobs, targets_of([full]), engine.client, index=engine.index
    ):
        tell(f"{item.pushed} pushed, {item.mounted} mounted, {item.skipped} already there")
        item.finish()
    engine.index.delete(UNPUSHED, full)
    tell(f"{parse(full).identifier}: digest: {image.descriptor.digest} size: {image.descriptor.size}")
    return image.descriptor.digest


def pull_image(engine: Engine, name: str, platforms: Sequence[Platform] | None, tell: Tell) -> str:
    """Bring an image into the local store; its digest.

    ``platforms``: whose layers are fetched now (None: all); the others' are fetched when needed.
    """
    from ..oci.reference import parse

    ref = parse(name)
    raw, media_type, digest = engine.client().get_manifest(ref)
    engine.content.put(raw)
    top = Descriptor(media_type, digest, len(raw))
    tell(f"{ref.identifier}: pulling from {ref.name}")
    found = _documents(engine, ref, top, raw)
    wanted: dict[str, Descriptor] = {}
    later: dict[str, Descriptor] = {}
    matched = False
    for desc, layers in found:
        now = platforms is None or is_attestation(desc) or _matches(engine, desc, platforms)
        matched = matched or (now and not is_attestation(desc))
        (wanted if now else later).update((d.digest, d) for d in layers)
    if not matched:
        raise ExportError(
            f"no match for platform in manifest of {name}: not found",
            hint="see --platform and --all-platforms",
        )
    _layers(engine, ref, list(wanted.values()), tell)
    sources = [(d, ref.name) for d in later if d not in wanted and not engine.content.has(d)]
    put_names(engine.index, [StoredImage(ref.full, top, None, tuple(sorted(sources)))])
    tell(f"Digest: {digest}")
    return digest


def _documents(
    engine: Engine, ref: Reference, top: Descriptor, raw: bytes, depth: int = 0
) -> list[tuple[Descriptor, list[Descriptor]]]:
    """(manifest, its layers) of every manifest below ``top``; all documents are in the store afterwards."""
    below = children(top, raw)
    if top.media_type not in INDEXES:
        config, *layers = below
        fetch(engine, ref, config)
        return [(top, layers)]
    out = []
    for desc in below:
        if depth >= _MAX_DEPTH or desc.media_type not in (*INDEXES, *MANIFESTS):
            continue
        if not engine.content.has(desc.digest):
            engine.content.put(engine.client().get_manifest(ref.with_tag("").with_digest(desc.digest))[0])
        out += _documents(engine, ref, desc, engine.content.read(desc.digest), depth + 1)
    return out


def _matches(engine: Engine, desc: Descriptor, platforms: Sequence[Platform]) -> bool:
    from ..oci import codec
    from ..oci.platform import Platform

    own = desc.platform
    if own is None:
        config = children(desc, engine.content.read(desc.digest))[0]
        own = Platform.from_json(
            codec.loads(engine.content.read(config.digest, _MAX_DOCUMENT), "image config")
        )
    return any(str(own) == str(p) for p in platforms)


def _layers(engine: Engine, ref: Reference, layers: list[Descriptor], tell: Tell) -> None:
    from ..export.registry import PARALLEL, in_parallel, undistributable

    lock = threading.Lock()

    def one(desc: Descriptor) -> None:
        here = engine.content.has(desc.digest)
        if not here:
            fetch(engine, ref, desc)
        with lock:
            tell(f"{desc.digest[7:19]}: {'Already exists' if here else 'Pull complete'}")

    in_parallel(one, [d for d in layers if not undistributable(d)], PARALLEL)


def fetch(engine: Engine, ref: Reference, desc: Descriptor) -> None:
    """Bring one blob into the content store, verified on the way."""
    if not engine.content.has(desc.digest):
        with engine.content.writer(desc.digest, desc.size, verified=True) as out:
            engine.client().fetch_blob(ref, desc, out.write)


__all__ = ["NAMESPACE", "StoreBlobs", "fetch", "pull_image", "push_image"]
