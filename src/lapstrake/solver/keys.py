"""Cache keys of vertices (docs/dev/cache-keys.md): what the executor is given, and only that."""

from __future__ import annotations

from hashlib import sha256

from ..errors import BuildError
from ..graph.ops import SourceOp
from ..graph.vertex import RECIPE, Vertex
from .ports import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .ports import Worker

NOTHING = Record("", ())


def digest(*parts: str) -> str:
    """Hex sha256 of the recipe's name and ``parts``, none of which holds a NUL."""
    return sha256("\0".join((RECIPE, *parts)).encode()).hexdigest()


def local_identity(identifier: str) -> str:
    """What stands for a build context: only the files taken from it count, not which one it is."""
    return digest("local", identifier)


class Keys:
    """The keys of one solve.  ``records``: what is known so far, by vertex digest."""

    def __init__(self, worker: Worker, records: Mapping[str, Record]) -> None:
        self.worker = worker
        self.records = records

    def definition(self, v: Vertex) -> str | None:
        """The key by how the inputs were made; build contexts by content.  None: an input isn't known yet."""
        op = v.op
        if isinstance(op, SourceOp):
            own = self.worker.source_key(v)
            if own is None:
                return None
            # An image is its manifest's digest, whatever name it goes by.
            return digest("image", own) if op.scheme == "image" else digest("source", v.op_digest, own)
        parts = [v.op_digest]
        for i, source in enumerate(v.inputs):
            if i == 0 and v.stands_alone:
                continue
            if isinstance(source.op, SourceOp) and source.op.scheme == "local":
                parts.append("content:" + self._content(source, NOTHING, v, i))
                continue
            record = self.records.get(source.digest)
            if record is None:
                return None
            parts.append("def:" + record.identity)
        return digest(*parts)

    def content(self, v: Vertex) -> str | None:
        """The key with every content input by content; None when the vertex has none."""
        if not v.content_inputs:
            return None
        parts = ["content-key", v.op_digest]
        for i, source in enumerate(v.inputs):
            record = self.records.get(source.digest, NOTHING)
            if i in v.content_inputs:
                parts.append("content:" + self._content(source, record, v, i))
            elif not (i == 0 and v.stands_alone):
                parts.append("def:" + record.identity)
        return digest(*parts)

    def _content(self, source: Vertex, record: Record, v: Vertex, index: int) -> str:
        try:
            return self.worker.content_key(source, record, v, index)
        except BuildError as exc:
            if exc.span is None:
                exc.span = v.span
            raise

    def place(self, v: Vertex, record: Record) -> Record | None:
        """A record as it stands in this graph: a linked layer goes on top of whatever its root is.
        None while that isn't known."""
        if not v.stands_alone:
            return record
        base = self.records.get(v.inputs[0].digest)
        if base is None:
            return None
        identity = digest("link", base.identity, record.identity)
        return Record(identity, (*base.layers, *record.layers[-1:]), record.cached, record.created)
