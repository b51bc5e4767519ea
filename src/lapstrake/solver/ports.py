"""The solver's seams: it knows keys, results and three verbs, and no nouns of containers."""

from __future__ import annotations

from ..errors import CacheError
from ..graph.vertex import Vertex
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from ..sandbox.spec import Cancel
else:
    Protocol = object


class Record(Value):
    """A finished vertex.  ``identity``: the key under which it was first stored (it keys what stands
    on it); ``layers``: layer ids, lowest first; ``created``: when it was first run."""

    identity: str
    layers: tuple[str, ...]
    cached: bool = False
    created: float = 0.0  # seconds since the epoch


class LostLayer(CacheError):
    """A layer that a cache promised can't be had after all: its records are misses."""

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(message)
        self.layer = layer


class Worker(Protocol):
    """Runs vertices on one machine and owns their results."""

    def source_key(self, vertex: Vertex) -> str | None: ...  # content identity of a root input
    def content_key(self, source: Vertex, record: Record, vertex: Vertex, index: int) -> str: ...
    def run(self, vertex: Vertex, key: str, inputs: tuple[Record, ...], cancel: Cancel) -> Record: ...


class CacheIndex(Protocol):
    """Records by key.  A wrong record must never be given; a lost one is only slow."""

    def lookup(self, key: str, vertex: Vertex) -> Record | None: ...
    def store(
        self, record: Record, keys: tuple[str, ...], vertex: Vertex, parts: Mapping[str, str]
    ) -> None: ...
    def alias(self, key: str, record: Record) -> None: ...


class Explainer(Protocol):
    """Says why a vertex runs, and remembers what it was made of once it has run."""

    def reason(self, vertex: Vertex, records: Mapping[str, Record]) -> str: ...
    def remember(self, vertex: Vertex, reason: str) -> Mapping[str, str]: ...
