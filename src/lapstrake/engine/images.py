"""The local image store as its user sees it: list, inspect, remove, tag."""

from __future__ import annotations

from ..errors import ExportError, UsageError
from ..export.base import walk
from ..export.store import NAMESPACE, StoredImage, decode, put_names
from ..oci.descriptor import MANIFESTS, Descriptor
from ..oci.manifest import is_attestation
from ..oci.platform import Platform
from ..values import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from ..export.base import Blobs
    from ..layer.compare import Difference
    from ..store.content import ContentStore
    from ..store.index import Index

    class Settings(Protocol):
        """What is needed of the settings."""

        @property
        def root(self) -> str: ...


class ImageInfo(Value):
    """One line of a listing.  ``size``: bytes of everything it refers to, as stored."""

    name: str
    digest: str
    config_digest: str
    platforms: tuple[str, ...]
    created: str
    size: int
    complete: bool = True  # False: some layers would be pulled when needed


def _stores(settings: Settings) -> tuple[ContentStore, Index]:
    from ..store.content import ContentStore
    from ..store.index import Index

    return ContentStore(settings.root), Index(settings.root)


def list_images(settings: Settings) -> tuple[ImageInfo, ...]:
    """Every image name, sorted."""
    content, index = _stores(settings)
    try:
        rows = sorted(index.items(NAMESPACE))
    finally:
        index.close()
    return tuple(_info(content, decode(name, raw)) for name, raw in rows)


def _info(content: ContentStore, image: StoredImage) -> ImageInfo:
    from ..events import rfc3339
    from ..oci import codec

    platforms: list[str] = []
    configs: list[Descriptor] = []
    size, complete, created = 0, True, ""
    try:
        found = list(walk(image.descriptor, content))
    except Exception:  # a damaged image is listed, so that it can be removed
        return ImageInfo(image.name, image.descriptor.digest, "", (), "", 0, complete=False)
    for desc, raw in found:
        size += desc.size
        complete = complete and (raw is not None or content.has(desc.digest))
        if raw is not None and desc.media_type in MANIFESTS and not is_attestation(desc):
            below = codec.loads(raw).get("config") or {}
            configs += [d for d, _ in found if d.digest == below.get("digest")]
    for config in configs:
        if content.has(config.digest):
            doc = codec.loads(content.read(config.digest), "image config")
            platforms.append(str(Platform.from_json(doc)))
            created = created or str(doc.get("created") or "")
    if image.created is not None:
        created = rfc3339(image.created)
    only = configs[0].digest if len(configs) == 1 else ""
    return ImageInfo(image.name, image.descriptor.digest, only, tuple(platforms), created, size, complete)


def find(content: ContentStore, index: Index, name: str) -> StoredImage:
    """By name, by digest, or by an unambiguous prefix of a digest."""
    from ..errors import BuildError
    from ..oci.reference import parse

    try:
        full = parse(name).full
        raw = index.get(NAMESPACE, full)
        if raw is not None:
            return decode(full, raw)
    except BuildError:
        pass  # it may be a digest or a part of one
    wanted = name.removeprefix("sha256:")
    if len(wanted) >= 4 and set(wanted) <= set("0123456789abcdef"):
        rows = [decode(n, raw) for n, raw in sorted(index.items(NAMESPACE))]
        hits = [
            i
            for i in rows
            if any(
                d[7:].startswith(wanted) for d in (i.descriptor.digest, _info(content, i).config_digest) if d
            )
        ]
        if len({i.descriptor.digest for i in hits}) > 1:
            raise UsageError(f"{name} is ambiguous", hint="give more digits of the digest")
        if hits:
            return hits[0]
    raise ExportError(f"no such image: {name}", hint="`lapstrake images` lists what the local store has")


def inspect(settings: Settings, name: str, platform: Platform | None = None) -> dict[str, Any]:
    """Descriptor, manifest(s) and config(s) of one image, as stored; ``Size``: bytes of all it refers to,
    each once, in the platforms shown."""
    from ..oci import codec, manifest

    content, index = _stores(settings)
    try:
        image = find(content, index, name)
    finally:
        index.close()
    out: dict[str, Any] = {
        "name": image.name,
        "descriptor": image.descriptor.to_json(),
        "created": _info(content, image).created or None,
    }
    raw = content.read(image.descriptor.digest)
    top = manifest.parse(raw, image.descriptor.media_type)
    entries = [image.descriptor]
    if isinstance(top, manifest.Index):
        out["index"] = codec.loads(raw)
        entries = (
            [manifest.choose(top, platform)]
            if platform is not None
            else [d for d in top.manifests if not is_attestation(d)]
        )
    images: list[dict[str, Any]] = []
    for desc in entries:
        doc = codec.loads(content.read(desc.digest), "manifest")
        config = codec.loads(content.read(str(doc["config"]["digest"])), "image config")
        images.append(
            {
                "digest": desc.digest,
                "platform": str(Platform.from_json(config)),
                "manifest": doc,
                "config": config,
            }
        )
    out["images"] = images
    out["Size"] = sum({d["digest"]: int(d["size"]) for i in images for d in _parts(i["manifest"])}.values())
    return out


def _parts(doc: dict[str, Any]) -> list[dict[str, Any]]:
    return [doc["config"], *(doc.get("layers") or ())]


def compare_names(
    settings: Settings,
    names: tuple[str, str],
    platform: Platform | None = None,
    *,
    by_layer: bool = False,
    times: bool = True,
) -> list[Difference]:
    """What differs between two images, each a name of the store or ``oci:DIRECTORY[:TAG]``."""
    from .compare import compare_images, pictures

    content, index = _stores(settings)
    try:
        tops = [_top(content, index, n) for n in names]
    finally:
        index.close()
    images = [pictures(top, blobs, platform) for top, blobs in tops]
    return compare_images(images[0], images[1], (tops[0][1], tops[1][1]), by_layer=by_layer, times=times)


def validate_name(settings: Settings, name: str) -> list[str]:
    """What is wrong with an image of the store or a layout (``oci:DIRECTORY[:TAG]``); [] when nothing is."""
    from ..export.validate import validate_descriptor

    content, index = _stores(settings)
    try:
        top, blobs = _top(content, index, name)
        lazy = [] if name.startswith("oci:") else [d for d, _ in find(content, index, name).sources]
    finally:
        index.close()
    absent = tuple(f"{d}: " for d in lazy if not content.has(d))  # to be pulled when it is needed: no fault
    return [f for f in validate_descriptor(blobs, top) if not (absent and f.startswith(absent))]


def _top(content: ContentStore, index: Index, name: str) -> tuple[Descriptor, Blobs]:
    if not name.startswith("oci:"):
        return find(content, index, name).descriptor, content
    from ..export.layout import REF_NAME, LayoutBlobs, read_index
    from ..oci.manifest import parse_descriptor

    path, _, tag = name[4:].partition(":")
    entries = read_index(path)
    wanted = [e for e in entries if (e.get("annotations") or {}).get(REF_NAME) == tag] if tag else entries
    if len({e.get("digest") for e in wanted}) != 1:
        what = "no image" if not wanted else "several images"
        raise ExportError(f"{name}: {what} of that name", hint="name one by its tag: oci:DIRECTORY:TAG")
    return parse_descriptor(wanted[0]), LayoutBlobs(path)


def remove(settings: Settings, names: Sequence[str]) -> tuple[str, ...]:
    """Forget names; what nothing refers to any more goes with the next prune.  All or nothing."""
    content, index = _stores(settings)
    try:
        found = [find(content, index, n).name for n in names]
        for name in found:
            index.delete(NAMESPACE, name)
    finally:
        index.close()
    return tuple(dict.fromkeys(found))


def tag(settings: Settings, source: str, *targets: str) -> tuple[str, ...]:
    """Give an image further names."""
    from ..export.names import reference

    content, index = _stores(settings)
    try:
        image = find(content, index, source)
        names = tuple(reference(t).full for t in targets)
        for name in names:
            if "@" in name:
                raise UsageError(f"a tag can't hold a digest: {name}")
        put_names(index, [replace(image, name=n) for n in names])
    finally:
        index.close()
    return names
