"""Keeps the parts of each step's key and says why a step ran, against the nearest earlier run."""

from __future__ import annotations

import json

from ..graph.ops import CopyOp, ExecOp
from ..graph.vertex import walk
from ..solver.explain import FIRST, GONE, likeness, parts_of, reason, slot, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..graph.vertex import Vertex
    from ..solver.ports import Record
    from ..store.index import Index
    from ..worker.local import LocalWorker

NAMESPACE = "explain"
FILES = "explain-files"  # the manifests, apart, since they are large and rarely needed


class Explainer:
    """Implements ``solver.ports.Explainer``.  ``builds``: (what tells a build apart, its results)."""

    def __init__(
        self, index: Index, worker: LocalWorker, builds: Sequence[tuple[str, Sequence[Vertex]]]
    ) -> None:
        self.index = index
        self._builds = builds
        self._scopes: dict[str, str] = {}
        self._texts: set[tuple[str, str]] = set()
        self.worker = worker
        self._now: dict[str, tuple[dict[str, str], dict[int, bytes]]] = {}
        self._known: list[tuple[str, dict[str, Any]]] | None = None

    def reason(self, vertex: Vertex, records: Mapping[str, Record]) -> str:
        """One line: why this vertex can't be taken from the cache."""
        identities, manifests = self._inputs(vertex, records)
        new = parts_of(vertex, identities)
        self._now[vertex.digest] = new, manifests
        if vertex.ignore_cache:
            return "caching was turned off for it (--no-cache)"
        found = self._nearest(vertex, new)
        if found is None:
            return FIRST
        key, old = found

        def files(i: int) -> tuple[list[str], int]:
            before = self.index.get(FILES, f"{key}|{i}")
            if before is None or i not in manifests:
                return [], 0
            from ..layer.digest import entries_in, explain

            return explain(before, manifests[i]), entries_in(manifests[i])

        return reason(old["parts"], new, inputs=tuple(i.name for i in vertex.inputs), files=files)

    def remember(self, vertex: Vertex, reason: str) -> dict[str, str]:
        """Keep what the vertex was made of for the next time; gives the parts."""
        parts, manifests = self._now.pop(vertex.digest)
        key = self._key(vertex)
        value = {"parts": parts, "name": vertex.name, "why": reason}
        self.index.put_many(FILES, [(f"{key}|{i}", m) for i, m in manifests.items()])
        self.index.put(NAMESPACE, key, json.dumps(value).encode())
        return parts

    def _key(self, vertex: Vertex) -> str:
        return f"{self._scope(vertex)}|{slot(vertex)}"

    def _scope(self, vertex: Vertex) -> str:
        if not self._scopes:
            for scope, targets in self._builds:
                for v in walk([*targets]):
                    self._scopes.setdefault(v.digest, scope)
                    self._texts.add((scope, text_of(v.name)))
        return self._scopes.get(vertex.digest, "")

    def _nearest(self, vertex: Vertex, new: dict[str, str]) -> tuple[str, dict[str, Any]] | None:
        """The earlier run that is most like this one: the same step if its text is the same, else the
        same text anywhere in this build, else the step in its place; another build's only when this
        one was never seen."""
        key, text, kind = self._key(vertex), text_of(vertex.name), slot(vertex).rpartition(" ")[0]
        raw = self.index.get(NAMESPACE, key)
        own = None if raw is None else (key, json.loads(raw))
        if own is not None and text_of(own[1]["name"]) == text:
            return own
        scope = self._scope(vertex)
        if own is not None and (scope, text_of(own[1]["name"])) in self._texts:
            own = None  # that step is still there, elsewhere: this one is new
        mine: list[tuple[str, dict[str, Any]]] = []
        others: list[tuple[str, dict[str, Any]]] = []
        for k, value in self._all():
            if text_of(value["name"]) == text:
                same = k.startswith(scope + "|") and k.rpartition("|")[2].rpartition(" ")[0] == kind
                (mine if same else others).append((k, value))
        best = mine or ([own] if own is not None else others)
        return max(best, key=lambda item: likeness(item[1]["parts"], new)) if best else None

    def _all(self) -> list[tuple[str, dict[str, Any]]]:
        if self._known is None:
            self._known = [(k, json.loads(raw)) for k, raw in self.index.items(NAMESPACE)]
        return self._known

    def _inputs(self, vertex: Vertex, records: Mapping[str, Record]) -> tuple[list[str], dict[int, bytes]]:
        identities, manifests = [], {}
        for i, source in enumerate(vertex.inputs):
            record = records.get(source.digest)
            identity = record.identity if record is not None else ""
            if i in vertex.content_inputs and record is not None:
                identity = self.worker.content_key(source, record, vertex, i)
                manifests[i] = self._manifest(vertex, source, record, i)
            identities.append(identity)
        return identities, manifests

    def _manifest(self, vertex: Vertex, source: Vertex, record: Record, index: int) -> bytes:
        from ..layer.digest import manifest, selection_records, subtree_records
        from ..layer.select import select
        from ..worker.run_file import copy_spec

        tree = self.worker.tree_of(source, record)
        if isinstance(vertex.op, CopyOp):
            taken = [copy_spec(vertex.op, p) for p in vertex.op.taken() if p.input == index]
            return manifest(line for spec in taken for line in selection_records(tree, select(tree, spec)))
        lines: list[str] = []
        if isinstance(vertex.op, ExecOp):
            for m in vertex.op.mounts:
                if m.input == index:
                    lines += subtree_records(tree, m.selector)
        return manifest(lines)


__all__ = ["FILES", "GONE", "NAMESPACE", "Explainer"]
