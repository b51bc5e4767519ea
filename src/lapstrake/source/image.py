"""Base images: tag to pinned digest, config, and layers fetched only when somebody needs them."""

from __future__ import annotations

import json

from ..errors import BuildError, ResolveError, StoreError
from ..oci.descriptor import INDEXES, MANIFESTS
from ..oci.platform import Platform, host_platform
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..oci.descriptor import Descriptor
    from ..registry.client import Client
    from ..store.content import ContentStore
    from ..store.index import Index


class ResolvedImage(Value):
    """A pinned image: ``ref`` with the digest of the platform's manifest, parsed ``config``,
    ``layers``: layer ids, lowest first."""

    ref: str
    config: dict[str, Any]
    layers: tuple[str, ...]
    digest: str
    from_network: bool = False


def pulled_layer_id(diff_id: str) -> str:
    """The store's name of a pulled layer: its diffID is known at once."""
    return "p" + diff_id.rpartition(":")[2]


def claimed_layer_id(diff_id: str, digest: str) -> str:
    """The name of a pulled layer whose diffID another image claims for another blob.  Until a blob is read
    nobody knows which of them is right, and one image's claim must not become part of another image."""
    from hashlib import sha256

    return "p" + sha256(f"{diff_id} {digest}".encode()).hexdigest()


def borrowed_layer_id(diff_id: str, digest: str) -> str:
    """The store's name of a layer that a cache outside the store has: nothing built begins so.  The blob
    is part of it, since what a cache says of a blob is not known to be true."""
    from hashlib import sha256

    return "r" + sha256(f"{diff_id} {digest}".encode()).hexdigest()[:47]


def is_borrowed(layer_id: str) -> bool:
    """Whether a layer's content, unless it is here, is had from a cache outside the store."""
    return layer_id.startswith("r")


class ImageSource:
    """Resolves and fetches images.  ``client`` is made on first use, so that a build whose bases are
    known never imports the network."""

    def __init__(self, content: ContentStore, index: Index, client: Callable[[], Client]) -> None:
        self.content = content
        self.index = index
        self.client = client
        # How to fetch a layer from a cache: (where it was found, descriptor, write).
        self.from_cache: (
            Callable[[dict[str, Any], Descriptor, Callable[[bytes | memoryview], object]], None] | None
        ) = None
        self.borrowed: dict[str, str] = {}  # blob digest -> layer, of what this process was told of

    def resolve(self, name: str, platform: Platform, *, pull: str = "", strict: bool = True) -> ResolvedImage:
        """Pin ``name`` for ``platform``.

        ``pull``: ``""``/``missing`` uses what the store knows, ``always``/``newer`` asks, ``never`` fails
        rather than ask.  Raises ResolveError."""
        full = _full(name)
        memo_key = f"{full}|{platform.full}"
        top = self._known_top(full)
        if pull not in ("always", "newer"):
            memo = self.index.get("base", memo_key)
            if memo is not None:
                found = json.loads(memo)
                if found["top"] == (top or {}).get("digest", found["top"]):
                    return ResolvedImage(
                        found["ref"], found["config"], tuple(found["layers"]), found["digest"]
                    )
        network = False
        if top is None or pull in ("always", "newer"):
            if pull == "never":
                raise ResolveError(
                    f"{name}: image is not in the store and --pull=never was given", hint="drop --pull=never"
                )
            try:
                top = self._ask(full)
                network = True
            except ResolveError:
                if pull != "newer" or top is None:
                    raise
        resolved = self._pin(full, top, platform, network)
        memo_value = {
            "top": top["digest"],
            "ref": resolved.ref,
            "config": resolved.config,
            "layers": resolved.layers,
            "digest": resolved.digest,
        }
        self.index.put("base", memo_key, json.dumps(memo_value).encode())
        return resolved

    def known_digest(self, full: str) -> str:
        """What a full name stands for in the store: a manifest's digest or an index's, or empty."""
        top = self._known_top(full)
        return str(top["digest"]) if top is not None else ""

    def _known_top(self, full: str) -> dict[str, Any] | None:
        if "@" in full:
            raw = self.index.get("ref", full)
            return json.loads(raw) if raw else self._held(full.rpartition("@")[2])
        for ns in ("image", "ref"):
            raw = self.index.get(ns, full)
            if raw is not None:
                value = json.loads(raw)
                value = value.get("descriptor", value)
                if self.content.has(value["digest"]):
                    return value  # type: ignore[no-any-return]
        return None

    def _held(self, digest: str) -> dict[str, Any] | None:
        """A manifest or index that the store has already: nobody needs to be asked for it by digest."""
        if not self.content.has(digest):
            return None
        from ..oci.codec import MAX_DOCUMENT, loads

        if self.content.size(digest) > MAX_DOCUMENT:
            return None  # a layer
        raw = self.content.read(digest)
        try:
            media_type = loads(raw).get("mediaType")
        except ResolveError:
            return None
        known = isinstance(media_type, str) and media_type in (*MANIFESTS, *INDEXES)
        return {"mediaType": media_type, "digest": digest, "size": len(raw)} if known else None

    def _ask(self, full: str) -> dict[str, Any]:
        from ..oci import reference

        # HEAD does not count as a pull on Hub, and says whether the store has it already
        ref = reference.parse(full)
        found = self.client().head(ref)
        if found is not None and (held := self._held(found.digest)) is not None:
            top = held
        else:
            pinned = ref if found is None else ref.with_digest(found.digest)
            raw, media_type, digest = self.client().get_manifest(pinned)
            self.content.put(raw)
            top = {"mediaType": media_type, "digest": digest, "size": len(raw)}
        self.index.put("ref", full, json.dumps(top).encode())
        return top

    def _manifest(self, full: str, digest: str, media_type: str) -> tuple[bytes, str]:
        if self.content.has(digest):
            try:
                return self.content.read(digest), media_type
            except StoreError:
                pass  # damaged, and removed: it is fetched anew
        from ..oci import reference

        ref = reference.parse(full).with_digest(digest)
        raw, got_type, _ = self.client().get_manifest(ref)
        self.content.put(raw)
        return raw, got_type

    def _pin(self, full: str, top: dict[str, Any], platform: Platform, network: bool) -> ResolvedImage:
        from ..oci import imageconfig, reference
        from ..oci import manifest as m

        raw, media_type = self._manifest(full, top["digest"], top["mediaType"])
        digest = top["digest"]
        if media_type in INDEXES:
            desc = m.choose(m.parse(raw, media_type), platform)  # type: ignore[arg-type]
            digest = desc.digest
            raw, media_type = self._manifest(full, digest, desc.media_type)
        parsed = m.parse(raw, media_type)
        if not isinstance(parsed, m.Manifest):
            raise ResolveError(f"{full}: nested image index", hint="ask for a platform that the index lists")
        ref = reference.parse(full)
        config_raw = self._blob(ref, parsed.config)
        config = imageconfig.parse(config_raw, full)
        diff_ids = config["rootfs"].get("diff_ids") or []
        if len(diff_ids) != len(parsed.layers):
            raise ResolveError(f"{full}: {len(parsed.layers)} layers but {len(diff_ids)} diffIDs")
        ids = []
        urls = dict(parsed.urls)
        for diff_id, desc in zip(diff_ids, parsed.layers, strict=True):
            layer = pulled_layer_id(diff_id)
            known = self.pull_info(layer)
            if known is not None and known["digest"] != desc.digest:
                layer = claimed_layer_id(diff_id, desc.digest)
                known = self.pull_info(layer)
            ids.append(layer)
            if known is not None and (known.get("ref") == full or self.content.has(desc.digest)):
                continue
            # where it was first seen, it may be gone
            source = {
                "ref": full,
                "diff_id": diff_id,
                "mediaType": desc.media_type,
                "digest": desc.digest,
                "size": desc.size,
            }
            if desc.digest in urls:
                source["urls"] = urls[desc.digest]
            self.index.put("pull", layer, json.dumps(source).encode())
        pinned = str(ref.with_digest(digest).full)
        return ResolvedImage(pinned, config, tuple(ids), digest, network)

    def _blob(self, ref: object, desc: Any) -> bytes:
        from ..oci.imageconfig import MAX_CONFIG

        if self.content.has(desc.digest):
            try:
                return self.content.read(desc.digest, MAX_CONFIG)
            except StoreError:
                pass  # damaged, and removed: it is fetched anew
        if not self.content.has(desc.digest):
            if desc.size > MAX_CONFIG:
                raise ResolveError(f"image config of {desc.size} bytes refused")
            with self.content.writer(desc.digest, desc.size, verified=True) as out:
                self.client().fetch_blob(ref, desc, out.write)  # type: ignore[arg-type]
        return self.content.read(desc.digest, MAX_CONFIG)

    def pull_info(self, layer_id: str) -> dict[str, Any] | None:
        """Where a pulled layer's blob comes from."""
        raw = self.index.get("pull", layer_id)
        return json.loads(raw) if raw else None

    def mark_checked(self, layer_id: str) -> None:
        """Remember that a borrowed layer's blob is what it was said to be."""
        info = self.pull_info(layer_id)
        if info is not None:
            self.index.put("pull", layer_id, json.dumps({**info, "checked": True}).encode())

    def fetch_layer(self, layer_id: str, progress: Callable[[str, int, int], None] | None = None) -> str:
        """Bring a pulled layer's blob into the content store; gives its digest."""
        from ..oci import reference
        from ..oci.descriptor import Descriptor

        info = self.pull_info(layer_id)
        if info is None:
            raise BuildError(f"layer {layer_id} has no source", hint="run the build again with --pull")
        digest = str(info["digest"])
        if not self.content.has(digest, int(info["size"])):
            desc = Descriptor(info["mediaType"], digest, int(info["size"]))
            done = 0
            cached = "cache" in info and self.from_cache is not None
            with self.content.writer(digest, desc.size, verified=not cached) as out:

                def write(data: bytes | memoryview) -> None:
                    nonlocal done
                    out.write(data)
                    done += len(data)
                    if progress is not None:
                        progress(digest, done, desc.size)

                if "cache" in info and self.from_cache is not None:
                    self.from_cache(info["cache"], desc, write)
                else:
                    urls = tuple(str(u) for u in info.get("urls", ()))
                    self.client().fetch_blob(reference.parse(info["ref"]), desc, write, urls=urls)
        return digest


def _full(name: str) -> str:
    from ..oci import reference

    try:
        return str(reference.parse(name).full)
    except BuildError as exc:
        reason = exc.message.partition(": '")[0]  # the name itself is said already
        raise ResolveError(f'failed to parse stage name "{name}": {reason}', hint=exc.hint) from exc


__all__ = ["ImageSource", "ResolvedImage", "host_platform", "pulled_layer_id"]
