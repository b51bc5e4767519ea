"""A cache inside an image: its config says which steps its layers are the results of.

The key and the outer form are BuildKit's (``moby.buildkit.cache.v0``: base64 of ``layers`` and
``records``); the hashes of the steps are ours, so each tool skips the other's records.
"""

from __future__ import annotations

from .record import RemoteLayer, RemoteRecord, from_json, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..oci.descriptor import Descriptor

KEY = "moby.buildkit.cache.v0"
_MAX = 8 << 20


def inline_config(layers: Sequence[str], records: Iterable[tuple[RemoteRecord, Sequence[int]]]) -> str:
    """The config's value.  ``layers``: blob digests of the image; each record with the indexes of its own."""
    from base64 import b64encode

    from ..oci import codec

    listed = []
    for record, indexes in records:
        document = to_json(record)
        document["layers"] = list(indexes)
        listed.append(
            {
                "digest": f"sha256:{record.keys[0]}",
                "layers": [{"layer": indexes[-1]}] if indexes else [],
                "lapstrake": document,
            }
        )
    body = {"layers": [{"blob": d, "parent": i - 1} for i, d in enumerate(layers)], "records": listed}
    return b64encode(codec.dumps(body)).decode()


def read_inline(config: bytes, layers: Sequence[Descriptor]) -> dict[str, RemoteRecord]:
    """Records by key of an image's config; an image without an inline cache has none."""
    import json
    from base64 import b64decode

    from ..errors import CacheError

    try:
        doc = json.loads(config)
        text = doc.get(KEY)
        if not isinstance(text, str) or len(text) > _MAX:
            return {}
        body = json.loads(b64decode(text, validate=True))
        diff_ids = doc["rootfs"]["diff_ids"]
        listed = body["records"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise CacheError(f"the inline cache of an image can't be read: {e}") from e
    out: dict[str, RemoteRecord] = {}
    for item in listed[:10_000] if isinstance(listed, list) else []:
        try:
            record = _record(item, diff_ids, layers)
        except (CacheError, KeyError, IndexError, TypeError):
            continue
        for key in record.keys:
            out.setdefault(key, record)
    return out


def _record(item: Any, diff_ids: Sequence[str], layers: Sequence[Descriptor]) -> RemoteRecord:
    document = dict(item["lapstrake"])
    indexes = document["layers"]
    if len(diff_ids) != len(layers) or not all(type(i) is int and 0 <= i < len(layers) for i in indexes):
        raise IndexError
    found = [
        RemoteLayer(str(diff_ids[i]), layers[i].digest, layers[i].size, layers[i].media_type) for i in indexes
    ]
    shell = RemoteRecord((), "0" * 64, "", tuple(found))
    document["layers"] = to_json(shell)["layers"]
    return from_json(document)
