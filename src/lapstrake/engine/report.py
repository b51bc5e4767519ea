"""Collects what the page of a build shows: logs, cut where they are long, and the layers of its images."""

from __future__ import annotations

import heapq
import json
import os

from ..errors import BuildError
from ..progress.html.page import ImageView, LayerView, page
from ..progress.html.parts import LogView
from ..progress.model import decode_line
from .steplog import read_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .engine import Engine
    from .history import History

HEAD_LINES, TAIL_LINES = 200, 1800
MAX_LINE = 4096
LARGEST = 12
MAX_UNPACK = 16 << 30  # bytes of a layer that are read to find its files
_ATTESTATION = "attestation-manifest"


def report(engine: Engine, history: History, record: dict[str, Any]) -> str:
    """The page of a build."""
    logs = {}
    for step in record["steps"]:
        path = history.log_path(record, step)
        if path:
            logs[step["digest"]] = (log_view(path, float(step.get("started", record["started"]))), path)
    return page(record, logs, images(engine, (record.get("result") or {}).get("digest", "")))


def log_view(path: str, start: float) -> LogView:
    """The first and the last lines of a log with their times; memory is bounded whatever its size."""
    from collections import deque

    head: list[tuple[float, int, bytes]] = []
    rest: deque[tuple[float, int, bytes]] = deque(maxlen=TAIL_LINES)
    cut = size = 0
    for line in _lines(path):
        size += len(line[2]) + 1
        if len(head) < HEAD_LINES:
            head.append(line)
        else:
            if len(rest) == TAIL_LINES:
                cut += len(rest[0][2]) + 1
            rest.append(line)
    shown = [
        (max(at - start, 0.0), stream, decode_line(raw[:MAX_LINE])) for at, stream, raw in (*head, *rest)
    ]
    return LogView(tuple(shown), size, cut, len(head))


def _lines(path: str) -> Iterator[tuple[float, int, bytes]]:
    left: dict[int, tuple[float, bytes]] = {}
    for at, stream, data in read_log(path):
        began, before = left.pop(stream, (at, b""))
        *whole, rest = (before + data).split(b"\n")
        for raw in whole:
            yield began, stream, raw
            began = at
        if len(rest) > 16 * MAX_LINE:
            yield began, stream, rest
        elif rest:
            left[stream] = (began, rest)
    for stream, (at, rest) in sorted(left.items()):
        yield at, stream, rest


# -- layers ---------------------------------------------------------------------------------------


def images(engine: Engine, digest: str) -> list[ImageView]:
    """The images of a result that are still in the store."""
    top = _document(engine, digest)
    if top is None:
        return []
    found = []
    entries: list[dict[str, Any]] = [{"digest": digest}]
    if isinstance(top.get("manifests"), list):
        entries = top["manifests"]
    for m in entries:
        if (m.get("annotations") or {}).get("vnd.docker.reference.type") != _ATTESTATION:
            view = _image(engine, str(m.get("digest", "")))
            if view is not None:
                found.append(view)
    return found


def _image(engine: Engine, digest: str) -> ImageView | None:
    manifest = _document(engine, digest)
    if manifest is None or not isinstance(manifest.get("layers"), list):
        return None
    config = _document(engine, str((manifest.get("config") or {}).get("digest", ""))) or {}
    made = [str(h.get("created_by", "")) for h in config.get("history") or () if not h.get("empty_layer")]
    made = [""] * (len(manifest["layers"]) - len(made)) + made
    known = _by_blob(engine)
    layers = tuple(
        _layer(engine, layer, by, known.get(str(layer["digest"]), ""))
        for layer, by in zip(manifest["layers"], made, strict=False)
    )
    platform = "/".join(str(config[k]) for k in ("os", "architecture", "variant") if config.get(k))
    return ImageView(platform, digest, layers)


def _by_blob(engine: Engine) -> dict[str, str]:
    """Layer id by the digest of a packed form."""
    found = {json.loads(raw)["digest"]: layer for layer, raw in engine.index.items("pull")}
    found.update({b.digest: info.id for info in engine.layers.infos() for b in info.blobs})
    return found


def _layer(engine: Engine, desc: dict[str, Any], made: str, layer: str) -> LayerView:
    digest, packed = str(desc["digest"]), int(desc.get("size", 0))
    files: Iterator[tuple[str, int]] = iter(())
    if layer and engine.layers.has_dir(layer):
        files = _walk(engine.layers.dir(layer))
    elif engine.content.has(digest):
        files = _unpacked(engine, digest, str(desc.get("mediaType", "")))
    count = total = 0
    largest: list[tuple[int, str]] = []
    try:
        for path, size in files:
            count += 1
            total += size
            (heapq.heappush if len(largest) < LARGEST else heapq.heappushpop)(largest, (size, path))
    except (BuildError, OSError, ValueError):
        pass  # a damaged blob costs the list of its files
    shown = tuple((p, n) for n, p in sorted(largest, key=lambda x: (-x[0], x[1])))
    return LayerView(digest, made, packed, shown, count, total)


def _walk(root: str) -> Iterator[tuple[str, int]]:
    stack = [root]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        yield entry.path[len(root) + 1 :], entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue


def _unpacked(engine: Engine, digest: str, media_type: str) -> Iterator[tuple[str, int]]:
    from ..layer.compress import decompressor
    from ..layer.tar import read
    from ..tree import FILE

    with engine.content.open(digest) as f:
        for header, _ in read(decompressor(f, media_type, limit=MAX_UNPACK)):
            if header.kind == FILE and not header.name.rpartition("/")[2].startswith(".wh."):
                yield header.name, header.size


def _document(engine: Engine, digest: str) -> dict[str, Any] | None:
    try:
        found = json.loads(engine.content.read(digest)) if digest and engine.content.has(digest) else None
    except (BuildError, ValueError):
        return None
    return found if isinstance(found, dict) else None
