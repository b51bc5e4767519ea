"""``validate``: every invariant an image must keep; a command, and the tests' oracle."""

from __future__ import annotations

from ..errors import BuildError
from ..oci.descriptor import DOCKER_MANIFEST, INDEXES, MANIFESTS, OCI_MANIFEST, Descriptor, compression_of
from ..oci.manifest import is_attestation, parse_descriptor
from .base import REFERENCE_DIGEST, children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .base import Blobs

MAX_LAYER = 1 << 40


def validate(layout: str) -> list[str]:
    """Problems of a layout directory; [] when all is well."""
    import json
    import os

    from .layout import LayoutBlobs, read_index

    faults: list[str] = []
    try:
        with open(os.path.join(layout, "oci-layout"), "rb") as f:
            if json.loads(f.read(4096)).get("imageLayoutVersion") != "1.0.0":
                faults.append("oci-layout: unknown version")
    except (OSError, ValueError) as e:
        faults.append(f"oci-layout: {e}")
    try:
        entries = read_index(layout)
    except BuildError as e:
        return [*faults, e.message]
    if not entries:
        faults.append("index.json: no entries")
    blobs = LayoutBlobs(layout)
    for entry in entries:
        try:
            faults += validate_descriptor(blobs, parse_descriptor(entry))
        except BuildError as e:
            faults.append(f"index.json: {e.message}")
    return list(dict.fromkeys(faults))


def validate_descriptor(blobs: Blobs, top: Descriptor) -> list[str]:
    """Problems of everything below ``top``."""
    check = _Check(blobs)
    check.any(top, 0)
    return list(dict.fromkeys(check.faults))


class _Check:
    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.faults: list[str] = []
        self.seen: set[str] = set()

    def bytes_of(self, desc: Descriptor, limit: int = 64 << 20) -> bytes | None:
        """The verified content of a document."""
        from hashlib import sha256

        try:
            with self.blobs.open(desc.digest) as f:
                raw = f.read(limit + 1)
        except (BuildError, OSError) as e:
            self.faults.append(f"{desc.digest}: {e}")
            return None
        if len(raw) != desc.size:
            self.faults.append(f"{desc.digest}: {len(raw)} bytes, descriptor says {desc.size}")
        if "sha256:" + sha256(raw).hexdigest() != desc.digest:
            self.faults.append(f"{desc.digest}: content does not match the digest")
            return None
        return raw

    def json_of(self, desc: Descriptor, raw: bytes) -> dict[str, Any]:
        """Parsed, and duplicate-free as far as JSON goes."""
        import json

        try:
            doc = json.loads(raw)
        except (ValueError, RecursionError):
            doc = None
        if not isinstance(doc, dict):
            self.faults.append(f"{desc.digest}: not a JSON object")
            return {}
        return doc

    def any(self, desc: Descriptor, depth: int) -> None:
        """An index or a manifest."""
        if desc.digest in self.seen:
            return
        self.seen.add(desc.digest)
        if depth > 8:
            self.faults.append(f"{desc.digest}: nested too deeply")
            return
        if desc.media_type not in INDEXES and desc.media_type not in MANIFESTS:
            self.faults.append(f"{desc.digest}: unexpected media type {desc.media_type!r}")
            return
        raw = self.bytes_of(desc)
        if raw is None:
            return
        doc = self.json_of(desc, raw)
        if doc.get("schemaVersion") != 2:
            self.faults.append(f"{desc.digest}: schemaVersion is not 2")
        if doc.get("mediaType", desc.media_type) != desc.media_type:
            self.faults.append(
                f"{desc.digest}: mediaType {doc.get('mediaType')!r} in the document, {desc.media_type!r} in its descriptor"
            )
        try:
            below = children(desc, raw)
        except BuildError as e:
            self.faults.append(f"{desc.digest}: {e.message}")
            return
        if desc.media_type in INDEXES:
            self.index(desc, below, depth)
        else:
            self.manifest(desc, doc, below)

    def index(self, desc: Descriptor, below: tuple[Descriptor, ...], depth: int) -> None:
        """Images first, each platform once, attestations pointing at images beside them."""
        images = {d.digest for d in below if not is_attestation(d)}
        attesting = False
        platforms: set[str] = set()
        for child in below:
            if is_attestation(child):
                attesting = True
                if dict(child.annotations).get(REFERENCE_DIGEST) not in images:
                    self.faults.append(f"{child.digest}: attests an image that is not in the index")
            else:
                if attesting:
                    self.faults.append(f"{desc.digest}: an image is listed after an attestation")
                if child.platform is not None and child.media_type in MANIFESTS:
                    if child.platform.full in platforms:
                        self.faults.append(f"{desc.digest}: {child.platform.full} twice")
                    platforms.add(child.platform.full)
            self.any(child, depth + 1)

    def manifest(self, desc: Descriptor, doc: dict[str, Any], below: tuple[Descriptor, ...]) -> None:
        """Config, layers, and what ties them together."""
        config_desc, layers = below[0], below[1:]
        raw = self.bytes_of(config_desc)
        media = [d.media_type for d in (config_desc, *layers)]
        family = (
            ".docker."
            if desc.media_type == DOCKER_MANIFEST
            else ".oci."
            if desc.media_type == OCI_MANIFEST
            else ""
        )
        if is_attestation(desc) or doc.get("artifactType"):
            for layer in layers:
                self.bytes_of(layer)
            return
        if any(family not in m for m in media):
            self.faults.append(f"{desc.digest}: media types of two families")
        if raw is None:
            return
        config = self.json_of(config_desc, raw)
        for key in ("os", "architecture"):
            if not config.get(key):
                self.faults.append(f"{config_desc.digest}: missing {key}")
            elif desc.platform is not None and desc.platform.to_json().get(key) != _normal(config).get(key):
                self.faults.append(f"{desc.digest}: {key} differs between the config and the index")
        rootfs = config.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
            self.faults.append(
                f"{config_desc.digest}: {len(diff_ids or ())} diff_ids for {len(layers)} layers"
            )
            diff_ids = []
        history = [h for h in config.get("history") or () if isinstance(h, dict) and not h.get("empty_layer")]
        if config.get("history") and len(history) != len(layers):
            self.faults.append(
                f"{config_desc.digest}: {len(history)} history entries for {len(layers)} layers"
            )
        for layer, diff_id in zip(layers, diff_ids, strict=False):
            self.layer(layer, str(diff_id))

    def layer(self, desc: Descriptor, diff_id: str) -> None:
        """Digest and size of the blob, and its diffID."""
        from hashlib import sha256

        key = f"{desc.digest} {diff_id}"
        if key in self.seen:
            return
        self.seen.add(key)
        outer, inner, size = sha256(), sha256(), 0
        expand = _expander(desc.media_type)
        try:
            with self.blobs.open(desc.digest) as f:
                while block := f.read(1 << 20):
                    size += len(block)
                    outer.update(block)
                    for piece in expand(block):
                        inner.update(piece)
        except (BuildError, OSError, ValueError) as e:
            self.faults.append(f"{desc.digest}: {e}")
            return
        if size != desc.size:
            self.faults.append(f"{desc.digest}: {size} bytes, descriptor says {desc.size}")
        if "sha256:" + outer.hexdigest() != desc.digest:
            self.faults.append(f"{desc.digest}: content does not match the digest")
        if "sha256:" + inner.hexdigest() != diff_id:
            self.faults.append(f"{desc.digest}: uncompressed it is not {diff_id}")


def _normal(config: dict[str, Any]) -> dict[str, object]:
    from ..oci.platform import Platform

    return Platform.from_json(config).to_json()


def _expander(media_type: str) -> Any:
    """block -> uncompressed pieces, bounded memory."""
    kind = compression_of(media_type)
    if kind == "uncompressed":
        return lambda block: (block,)
    if kind == "zstd":
        import zstandard

        zctx = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        state = [zctx.decompressobj()]

        def zstd_pieces(block: bytes) -> Any:
            try:
                while block:
                    yield state[0].decompress(block)
                    block = state[0].unused_data if state[0].eof else b""
                    if state[0].eof:
                        state[0] = zctx.decompressobj()
            except zstandard.ZstdError as e:
                raise ValueError(f"not valid zstd: {e}") from e

        return zstd_pieces
    import zlib

    stream = [zlib.decompressobj(31)]

    def gzip_pieces(block: bytes) -> Any:
        try:
            while block:
                yield stream[0].decompress(block, 4 << 20)
                block = stream[0].unconsumed_tail
                if stream[0].eof:
                    block = stream[0].unused_data
                    stream[0] = zlib.decompressobj(31)
        except zlib.error as e:
            raise ValueError(f"not valid gzip: {e}") from e

    return gzip_pieces
