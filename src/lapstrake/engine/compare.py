"""What differs between two images: platforms, configs, then files, layer by layer or as a whole."""

from __future__ import annotations

from ..export.base import read_document
from ..layer.compare import Difference, compare, entries_of
from ..oci import codec
from ..oci.descriptor import INDEXES, Descriptor
from ..oci.manifest import is_attestation
from ..oci.platform import Platform
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..export.base import Blobs
    from ..tree import Entry

_ABSENT = "absent"


class Picture(Value):
    """One platform of an image, parsed."""

    platform: Platform
    descriptor: Descriptor
    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[Descriptor, ...]

    @property
    def diff_ids(self) -> list[str]:
        """Of its layers."""
        return [str(d) for d in (self.config.get("rootfs") or {}).get("diff_ids") or []]


def pictures(top: Descriptor, blobs: Blobs, only: Platform | None = None) -> dict[str, Picture]:
    """The images below ``top``, by platform; attestations left out."""
    from ..oci.manifest import Index, Manifest, parse

    doc = parse(read_document(blobs, top), top.media_type)
    found: dict[str, Picture] = {}
    entries = doc.manifests if isinstance(doc, Index) else (top,)
    for entry in entries:
        if is_attestation(entry) or entry.media_type in INDEXES:
            continue
        raw = read_document(blobs, entry)
        manifest = parse(raw, entry.media_type)
        if not isinstance(manifest, Manifest):
            continue
        config = codec.loads(read_document(blobs, manifest.config), "image config", 16 << 20)
        platform = Platform.from_json(config)
        if only is None or str(platform) == str(only):
            found[platform.full] = Picture(
                platform, entry, codec.loads(raw, "manifest"), config, manifest.layers
            )
    return found


def compare_images(
    first: dict[str, Picture],
    second: dict[str, Picture],
    blobs: tuple[Blobs, Blobs],
    *,
    by_layer: bool = False,
    times: bool = True,
) -> list[Difference]:
    """Everything that differs, platform by platform: the config, then the files.

    ``by_layer``: layers are compared one to one, compression included; otherwise what they amount to.
    """
    out: list[Difference] = []
    many = len(first.keys() | second.keys()) > 1
    for name in [*first, *(n for n in second if n not in first)]:
        prefix = f"{name} " if many else ""
        a, b = first.get(name), second.get(name)
        if a is None or b is None:
            out.append(Difference(f"platform {name}", f"only in the {'second' if a is None else 'first'}"))
            continue
        if a.descriptor.digest == b.descriptor.digest:
            continue
        found = _json("config", _without_layers(a.config), _without_layers(b.config))
        found += _json(
            "annotations", a.manifest.get("annotations") or {}, b.manifest.get("annotations") or {}
        )
        if by_layer and len(a.layers) == len(b.layers):
            found += _layers(a, b, blobs)
        elif a.diff_ids != b.diff_ids:
            found += compare(_whole(a, blobs[0]), _whole(b, blobs[1]), times=times)
        out += [Difference(prefix + d.path, d.what, d.first, d.second) for d in found]
    return out


def _without_layers(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k != "rootfs"}


def _json(path: str, a: Any, b: Any) -> list[Difference]:
    """Differing members, by their path."""
    if a == b:
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in _json(f"{path}.{k}", a.get(k, _ABSENT), b.get(k, _ABSENT))]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for n, (x, y) in enumerate(zip(a, b, strict=True)) for d in _json(f"{path}[{n}]", x, y)]
    return [Difference(path, "value", _text(a), _text(b))]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else codec.dumps(value).decode("utf-8", "replace")
    return text if len(text) <= 200 else text[:197] + "…"


def _open(desc: Descriptor, blobs: Blobs) -> list[Entry]:
    from ..layer.compress import decompressor

    with blobs.open(desc.digest) as f:
        return entries_of(decompressor(f))


def _layers(a: Picture, b: Picture, blobs: tuple[Blobs, Blobs]) -> list[Difference]:
    out: list[Difference] = []
    names = _created_by(a.config, len(a.layers))
    for n, (x, y) in enumerate(zip(a.layers, b.layers, strict=True)):
        if x.digest == y.digest and x.media_type == y.media_type:
            continue
        where = f"layer {n + 1} ({names[n]})"
        same = n < len(a.diff_ids) and n < len(b.diff_ids) and a.diff_ids[n] == b.diff_ids[n]
        if same:
            out.append(
                Difference(
                    where, "compressed differently", f"{x.media_type} {x.size}", f"{y.media_type} {y.size}"
                )
            )
            continue
        found = compare(_open(x, blobs[0]), _open(y, blobs[1]))
        out += [Difference(f"{where}: {d.path}", d.what, d.first, d.second) for d in found]
        if not found:
            out.append(Difference(where, "the same files in another order or with other headers"))
    return out


def _created_by(config: dict[str, Any], count: int) -> list[str]:
    steps = [h for h in config.get("history") or [] if isinstance(h, dict) and not h.get("empty_layer")]
    names = [str(h.get("created_by") or "?") for h in steps]
    names = [" ".join(n.split())[:60] for n in names]
    return (["?"] * count + names)[-count:] if count else []


def _whole(image: Picture, blobs: Blobs) -> list[Entry]:
    from ..layer.merge import merge

    return list(merge([_open(d, blobs) for d in image.layers], whiteouts=False))
