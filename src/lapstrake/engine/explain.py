"""Keeps the parts of each step's key beside its record and says why a step ran."""

from __future__ import annotations

import json

from ..solver.explain import parts_of, reason, slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..graph.vertex import Vertex
    from ..solver.ports import Record
    from ..store.index import Index
    from ..worker.local import LocalWorker

NAMESPACE = "explain"


class Explainer:
    """``scope`` tells builds apart: context, Dockerfile, platform."""

    def __init__(self, index: Index, worker: LocalWorker, scope: str) -> None:
        self.index = index
        self.worker = worker
        self.scope = scope

    def _key(self, vertex: Vertex) -> str:
        return f"{self.scope}|{slot(vertex)}"

    def why(self, vertex: Vertex, records: dict[str, Record]) -> str:
        """One line: why this vertex runs.  Remembers its parts for the next time."""
        if vertex.ignore_cache:
            return "caching was turned off for it (--no-cache)"
        identities, manifests = self._inputs(vertex, records)
        new = parts_of(vertex, identities)
        raw = self.index.get(NAMESPACE, self._key(vertex))
        found = "no earlier run of this step is known"
        if raw is not None:
            old = json.loads(raw)

            def files(i: int) -> list[str]:
                before = old.get("manifests", {}).get(str(i))
                if before is None or i not in manifests:
                    return []
                from ..layer.digest import explain

                return explain(bytes.fromhex(before), manifests[i])

            found = reason(old["parts"], new, inputs=tuple(i.name for i in vertex.inputs), files=files)
        value = {
            "parts": new,
            "manifests": {str(i): m.hex() for i, m in manifests.items()},
            "name": vertex.name,
            "why": found,
        }
        self.index.put(NAMESPACE, self._key(vertex), json.dumps(value).encode())
        return found

    def _inputs(self, vertex: Vertex, records: dict[str, Record]) -> tuple[tuple[str, ...], dict[int, bytes]]:
        from ..graph.ops import CopyOp
        from ..layer.digest import manifest, selection_records
        from ..layer.select import select
        from ..worker.run_file import copy_spec

        identities, manifests = [], {}
        for i, source in enumerate(vertex.inputs):
            record = records.get(source.digest)
            identity = record.identity if record is not None else ""
            if i in vertex.content_inputs and record is not None:
                identity = self.worker.content_key(source, record, vertex, i)
                if isinstance(vertex.op, CopyOp):
                    tree = self.worker.tree_of(source, record)
                    taken = [copy_spec(vertex.op, p) for p in vertex.op.taken() if p.input == i]
                    manifests[i] = manifest(
                        line for spec in taken for line in selection_records(tree, select(tree, spec))
                    )
            identities.append(identity)
        return tuple(identities), manifests
