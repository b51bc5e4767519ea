"""Caches outside the store, as one build sees them: asked when the store has no answer.

What is found is adopted: the record goes into the store's index, its layers stay where they are
until somebody needs them.  Whatever is wrong with a cache is a miss and a warning, never an error.
"""

from __future__ import annotations

import json
import threading

from ..errors import BuildError, CacheError, Cancelled
from ..events import Warned
from ..graph.ops import ExecOp, SourceOp
from ..solver.ports import Record
from ..source.image import borrowed_layer_id, claimed_layer_id, pulled_layer_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..events import EventSink
    from ..graph.vertex import Vertex
    from ..remotecache.base import Source
    from ..remotecache.record import RemoteLayer, RemoteRecord
    from ..store.index import Index
    from .cache import LocalCache
    from .engine import Engine

MAX_WARNINGS = 5


class _Opened:
    """One source and what became of it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.lock = threading.Lock()
        self.state = ""  # "", "open", "empty" or "dead"
        self.warned = 0
        self.hits = 0


class RemoteCache:
    """Implements ``solver.ports.CacheIndex`` over the store's cache and others behind it."""

    def __init__(self, local: LocalCache, sources: Sequence[Source], index: Index, emit: EventSink) -> None:
        self.local = local
        self.sources = [_Opened(s) for s in sources]
        self.index = index
        self.emit = emit
        self._missed: set[str] = set()
        self._bad: set[str] = set()  # digests of blobs that could not be had

    def lookup(self, key: str, vertex: Vertex) -> Record | None:
        """The store's answer, else that of the first cache that has one."""
        found = self.local.lookup(key, vertex)
        if found is not None or isinstance(vertex.op, SourceOp) or key in self._missed:
            return found
        for opened in self.sources:
            record = self._ask(opened, key, vertex)
            if record is not None:
                return record
        self._missed.add(key)
        return None

    def alias(self, key: str, record: Record) -> None:
        """As the store's cache."""
        self.local.alias(key, record)

    def store(self, record: Record, keys: tuple[str, ...], vertex: Vertex, parts: Mapping[str, str]) -> None:
        """As the store's cache; writing elsewhere is the saver's business."""
        self.local.store(record, keys, vertex, parts)

    def lose(self, layer: str, message: str) -> None:
        """A layer can't be had: forget it and every record that needs it."""
        raw = self.index.get("pull", layer)
        info = json.loads(raw) if raw else {}
        self._bad.add(str(info.get("digest", "")))
        self.index.delete("pull", layer)
        for ident, value, *_ in self.index.records():
            if layer in (value.get("layers") or ()):
                self.index.delete_record(ident)
        self._missed.clear()
        self.emit(Warned("", f"a cached layer could not be used, its steps are run again: {message}"))

    def close(self) -> None:
        """Say which caches had nothing at all, once."""
        sources, self.sources = self.sources, []
        for opened in sources:
            if opened.state == "empty" and not opened.hits:
                self.emit(Warned("", f"importing cache from {opened.source.title}: nothing is there yet"))

    # -- one source ------------------------------------------------------------

    def _ask(self, opened: _Opened, key: str, vertex: Vertex) -> Record | None:
        if opened.state == "dead" or not self._open(opened):
            return None
        try:
            found = opened.source.record(key)
            if found is None:
                return None
            record = self._adopt(opened.source, found, key, vertex)
        except Cancelled:
            raise
        except CacheError as e:  # this record is bad, the next may be good
            self._warn(opened, f"importing cache from {opened.source.title}: {e.message}")
            return None
        except (BuildError, OSError) as e:
            self._dead(opened, e)
            return None
        opened.hits += 1
        return record

    def _open(self, opened: _Opened) -> bool:
        with opened.lock:
            if not opened.state:
                try:
                    opened.state = "open" if opened.source.open() else "empty"
                except Cancelled:
                    raise
                except (BuildError, OSError) as e:
                    self._dead(opened, e)
            return opened.state != "dead"

    def _dead(self, opened: _Opened, error: BaseException) -> None:
        opened.state = "dead"
        message = error.message if isinstance(error, BuildError) else str(error)
        self._warn(opened, f"importing cache from {opened.source.title}: {message}")

    def _warn(self, opened: _Opened, text: str) -> None:
        opened.warned += 1
        if opened.warned <= MAX_WARNINGS:
            self.emit(Warned("", text))

    # -- adopting --------------------------------------------------------------

    def _adopt(self, source: Source, found: RemoteRecord, key: str, vertex: Vertex) -> Record:
        check(found, key, vertex)
        layers: list[str] = []
        pulls: list[tuple[str, bytes]] = []
        for x in found.layers:
            if x.digest in self._bad:
                raise CacheError(f"its layer {x.digest} can't be used")
            layers.append(self._layer(source, x, pulls))
        if pulls:
            self.index.put_many("pull", pulls)
        record = Record(found.identity, tuple(layers), True, found.created)
        self.local.store(record, (key,), vertex, {"why": f"found in {source.title}"})
        return record

    def _layer(self, source: Source, x: RemoteLayer, pulls: list[tuple[str, bytes]]) -> str:
        for pulled in (pulled_layer_id(x.diff_id), claimed_layer_id(x.diff_id, x.digest)):
            raw = self.index.get("pull", pulled)
            if raw is not None and json.loads(raw)["digest"] == x.digest:
                return pulled
        if x.base:
            raise CacheError(f"a base image of a cached step is not known here (layer {x.diff_id})")
        layer = borrowed_layer_id(x.diff_id, x.digest)
        if self.index.get("pull", layer) is None:
            origin = source.origin()
            plain = origin.get("type") == "registry" and not origin.get("insecure")
            info = {
                "ref": origin["ref"] if plain else "", "diff_id": x.diff_id, "mediaType": x.media_type, "digest": x.digest,
                "size": x.size, "cache": origin,
            }  # fmt: skip
            pulls.append((layer, json.dumps(info).encode()))
        return layer


def check(found: RemoteRecord, key: str, vertex: Vertex) -> None:
    """Whether a record can be the result of this vertex.  Raises CacheError."""
    if key not in found.keys:
        raise CacheError("a cache record answers another key than it was found under")
    op = type(vertex.op).__name__
    if found.op != op:
        raise CacheError(f"a cache record is of another kind of step: {found.op[:40]} instead of {op}")
    wanted = platform_of(vertex)
    if found.platform != wanted:
        raise CacheError(
            f"a cache record is of another platform: {found.platform[:60]!r} instead of {wanted!r}"
        )


def platform_of(vertex: Vertex) -> str:
    """The platform a step runs on; empty when it runs nothing."""
    return vertex.op.platform.full if isinstance(vertex.op, ExecOp) else ""


def fetch_from_cache(engine: Engine, origin: dict[str, Any], desc: Any, write: Any) -> None:
    """Fetch a layer from the cache it was found in, in this build or an earlier one."""
    from ..remotecache.open import reopen

    name = json.dumps(origin, sort_keys=True)
    source = engine.caches.get(name)
    if source is None:
        source = engine.caches[name] = reopen(origin, engine.client, engine.settings.environ)
    try:
        source.fetch(desc, write)
    except OSError as e:
        raise CacheError(f"{source.title}: {e.strerror or e}") from e
