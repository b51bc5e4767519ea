"""One cached step as it travels: a small JSON document, read with suspicion (docs/caching.md).

A record answers certain cache keys and says which layers the step's result is made of.  Whoever can
write to a cache can write anything into it, so nothing of a document is used before it was checked.
"""

from __future__ import annotations

from ..errors import CacheError
from ..graph.vertex import RECIPE
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

RECORD_TYPE = "application/vnd.lapstrake.cacherecord.v1+json"
CONFIG_TYPE = "application/vnd.lapstrake.cacheconfig.v1+json"
MAX_RECORD = 1 << 20
MAX_LAYERS = 1024
MAX_LAYER = 1 << 40
_HEX = frozenset("0123456789abcdef")
_TYPES = "application/vnd."


class RemoteLayer(Value):
    """One layer.  ``base``: it belongs to a base image, which is had from where that image is."""

    diff_id: str
    digest: str
    size: int
    media_type: str
    base: bool = False


class RemoteRecord(Value):
    """A finished step.  ``keys``: the cache keys it answers; ``layers``: lowest first; ``platform``: of a
    step that runs something, else empty."""

    keys: tuple[str, ...]
    identity: str
    op: str
    layers: tuple[RemoteLayer, ...]
    platform: str = ""
    name: str = ""
    created: float = 0.0


def to_json(record: RemoteRecord) -> dict[str, Any]:
    """The document."""
    return {
        "v": 1, "recipe": RECIPE, "keys": list(record.keys), "identity": record.identity, "op": record.op,
        "platform": record.platform, "name": record.name, "created": record.created,
        "layers": [
            {"diffID": x.diff_id, "digest": x.digest, "size": x.size, "mediaType": x.media_type, **({"base": True} if x.base else {})}
            for x in record.layers
        ],
    }  # fmt: skip


def encode(record: RemoteRecord) -> bytes:
    """The document's bytes, the same for the same record."""
    from ..oci import codec

    return codec.dumps(to_json(record))


def decode(raw: bytes) -> RemoteRecord:
    """Read a document.  Raises CacheError for anything but a good one."""
    import json

    if len(raw) > MAX_RECORD:
        raise CacheError(f"a cache record of {len(raw)} bytes is refused")
    try:
        doc = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise CacheError(f"a cache record is no valid JSON: {e}") from e
    return from_json(doc)


def from_json(doc: object) -> RemoteRecord:
    """Check a parsed document.  Raises CacheError."""
    if not isinstance(doc, dict) or doc.get("v") != 1:
        raise CacheError("a cache record is of an unknown form")
    if doc.get("recipe") != RECIPE:
        raise CacheError(f"a cache record was made with other keys ({str(doc.get('recipe'))[:40]!r})")
    keys, layers = _list(doc, "keys", 16), _list(doc, "layers", MAX_LAYERS)
    created = doc.get("created", 0)
    good = isinstance(created, (int, float)) and not isinstance(created, bool) and 0 <= created < 1e11
    return RemoteRecord(
        tuple(_hex(k) for k in keys), _hex(doc.get("identity")), _text(doc, "op", 40),
        tuple(_layer(x) for x in layers), _text(doc, "platform", 200), _text(doc, "name", 1 << 16), float(created) if good else 0.0,
    )  # fmt: skip


def _layer(doc: object) -> RemoteLayer:
    if not isinstance(doc, dict):
        raise CacheError("a layer of a cache record is no object")
    size = doc.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_LAYER:
        raise CacheError(f"a layer of a cache record has size {str(size)[:40]}")
    media_type = _text(doc, "mediaType", 200)
    if not media_type.startswith(_TYPES):
        raise CacheError(f"a layer of a cache record has type {media_type[:60]!r}")
    return RemoteLayer(
        _digest(doc.get("diffID")), _digest(doc.get("digest")), size, media_type, doc.get("base") is True
    )


def _list(doc: dict[str, Any], name: str, limit: int) -> list[object]:
    value = doc.get(name)
    if not isinstance(value, list) or len(value) > limit:
        raise CacheError(f"{name} of a cache record is no list of at most {limit}")
    return value


def _text(doc: dict[str, Any], name: str, limit: int) -> str:
    value = doc.get(name, "")
    if not isinstance(value, str) or len(value) > limit:
        raise CacheError(f"{name} of a cache record is no short text")
    return value


def _hex(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not _HEX.issuperset(value):
        raise CacheError("a key of a cache record is no hash")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("sha256:"):
        raise CacheError("a digest of a cache record is no sha256 digest")
    return "sha256:" + _hex(value[7:])


# -- as a file or an object ----------------------------------------------------------------------


def seal(raw: bytes) -> bytes:
    """A document with its own digest before it, so that damage shows."""
    from hashlib import sha256

    return b"sha256:%s\n" % sha256(raw).hexdigest().encode() + raw


def unseal(data: bytes) -> bytes:
    """The document of a sealed one.  Raises CacheError when it was damaged."""
    from hashlib import sha256

    head, _, raw = data.partition(b"\n")
    if head != b"sha256:" + sha256(raw).hexdigest().encode():
        raise CacheError("a cache record is damaged")
    return raw


# -- many in one -----------------------------------------------------------------------------------


def summary(records: Iterable[RemoteRecord]) -> bytes:
    """What the manifest under a cache's own name has as its config: all records of one build."""
    from ..oci import codec

    ordered = sorted(records, key=lambda r: (r.created, r.identity))
    return codec.dumps({"v": 1, "records": [to_json(r) for r in ordered]})


def read_summary(raw: bytes) -> dict[str, RemoteRecord]:
    """Records by key; what isn't good is left out."""
    import json

    try:
        listed = json.loads(raw)["records"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise CacheError(f"a cache's list of records can't be read: {e}") from e
    out: dict[str, RemoteRecord] = {}
    for doc in listed[:10_000] if isinstance(listed, list) else []:
        try:
            record = from_json(doc)
        except CacheError:
            continue
        for key in record.keys:
            out.setdefault(key, record)
    return out
