"""The cache index over the store's SQLite file."""

from __future__ import annotations

from ..solver.ports import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..graph.vertex import Vertex
    from ..store.index import Index


class LocalCache:
    """Records by key.  ``usable(layer_id)`` says whether a layer can still be had; a record that
    lost a layer is a miss.  ``sizes``: bytes by layer, filled from what is looked up."""

    def __init__(
        self,
        index: Index,
        usable: Callable[[str], bool],
        clock: Callable[[], float],
        sizes: dict[str, int] | None = None,
    ) -> None:
        self.index = index
        self.usable = usable
        self.clock = clock
        self.sizes = sizes if sizes is not None else {}
        self.touched: list[str] = []

    def lookup(self, key: str, vertex: Vertex) -> Record | None:
        """The record stored under ``key``, if all its layers are there."""
        found = self.index.get_record(key)
        if found is None:
            return None
        ident, value = found
        layers = tuple(value.get("layers", ()))
        if not all(map(self.usable, layers)):
            return None
        self.touched.append(ident)
        if layers and "size" in value:
            self.sizes[layers[-1]] = value["size"]
        return Record(value.get("identity", ident), layers, True, float(value.get("created", 0)))

    def alias(self, key: str, record: Record) -> None:
        """Lead one more key to a record that is stored already."""
        self.index.add_key(key, record.identity)

    def store(self, record: Record, keys: tuple[str, ...], vertex: Vertex, parts: Mapping[str, str]) -> None:
        """Remember a finished vertex under all its keys."""
        value = {
            "identity": record.identity, "layers": list(record.layers), "name": vertex.name, "parts": dict(parts),
            "op": type(vertex.op).__name__, "created": record.created or self.clock(),
        }  # fmt: skip
        if record.layers and record.layers[-1] in self.sizes:
            value["size"] = self.sizes[record.layers[-1]]
        self.index.put_record(record.identity, value, list(keys))

    def flush(self) -> None:
        """Write the last-used times in one go."""
        if self.touched:
            self.index.touch(self.touched)
            self.touched = []
