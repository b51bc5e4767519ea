"""``--verify-cache``: run a sample of the cached steps again and compare what they make, times aside."""

from __future__ import annotations

import os

from ..errors import BuildError, Cancelled
from ..events import Warned
from ..graph.ops import SourceOp
from ..graph.vertex import Vertex, walk
from ..solver.keys import digest
from ..solver.ports import LostLayer
from ..tree import FILE
from .steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..events import EventSink
    from ..sandbox.spec import Cancel
    from ..solver.ports import Worker
    from ..solver.solve import Solver
    from ..tree import Entry
    from ..worker.local import LocalWorker

SHOWN = 3


def sample(cached: Sequence[Vertex], share: float) -> list[Vertex]:
    """A share of the steps, at least one, others each time; in their order."""
    import random

    if not cached or share <= 0:
        return []
    n = min(len(cached), max(1, round(len(cached) * share)))
    chosen = {v.digest for v in random.SystemRandom().sample(list(cached), n)}
    return [v for v in cached if v.digest in chosen]


class Verifier:
    """Runs steps again under keys nobody else has.  ``crew`` runs them, ``worker`` owns the layers."""

    def __init__(self, solver: Solver, worker: LocalWorker, emit: EventSink, cancel: Cancel) -> None:
        self.solver = solver
        self.crew: Worker = solver.worker
        self.worker = worker
        self.emit = emit
        self.cancel = cancel

    def run(self, targets: list[Vertex], share: float) -> None:
        """Verify and warn."""
        ran = self.solver.fresh
        cached = [
            v for v in walk(targets) if not isinstance(v.op, SourceOp) and v.digest in self.solver.kept and v.digest not in ran
        ]  # fmt: skip
        for v in sample(cached, share):
            if self.cancel.is_set():
                raise Cancelled("the build was cancelled")
            self._one(v)

    def _one(self, v: Vertex) -> None:
        with Step(self.emit, f"[verify] {v.name}") as step:
            try:
                differs = self._differences(v, step.digest)
            except (Cancelled, LostLayer):
                raise
            except BuildError as e:
                self._warn(v, f"its cached result could not be verified: {e.message}")
                return
            if differs:
                more = f" and {len(differs) - SHOWN} more" if len(differs) > SHOWN else ""
                self._warn(
                    v, f"not reproducible: run again it gives other files: {', '.join(differs[:SHOWN])}{more}"
                )
            else:
                step.status("the same files as the cached result")

    def _warn(self, v: Vertex, text: str) -> None:
        self.emit(Warned(v.digest, f"{v.name}: {text}", span=v.span))

    def _differences(self, v: Vertex, shown: str) -> list[str]:
        from ..layer.digest import explain, manifest

        records = self.solver.records
        again = Vertex(v.op, v.inputs, v.name, span=v.span, stage=v.stage)
        again.digest = shown  # so that its output is not taken for the cached step's
        key = digest("verify", v.digest, os.urandom(16).hex())
        found = self.crew.run(again, key, tuple(records[i.digest] for i in v.inputs), self.cancel)
        old, new = records[v.digest].layers[-1], found.layers[-1]
        try:
            return explain(manifest(self._lines(old)), manifest(self._lines(new)))
        finally:
            self.worker.pending.pop(new, None)
            self.worker.p.layers.remove(new)

    def _lines(self, layer: str) -> list[str]:
        from ..layer.diff import changes

        entries = self.worker.pending.get(layer)
        if entries is None or self.worker.p.layers.has_dir(layer):
            return [_line(e) for e in changes(self.worker.ensure_dir(layer))]
        return [_line(e) for e in entries]


def _line(e: Entry) -> str:
    """One entry as the content digests have it."""
    from ..layer.digest import record, stream_digest

    if e.whiteout:
        return f"{e.path}\0w\0\0\0\0\0\0\0\n"
    content = ""
    if e.node.kind == FILE:
        if e.data is not None:
            from hashlib import sha256

            content = sha256(e.data).hexdigest()
        elif e.tree is not None:
            with e.tree.open(e.source) as f:
                content = stream_digest(f).hex()
        elif e.hardlink:
            content = f"hard link to {e.hardlink}"
    line = record(e.path, e.node, content)
    return line.replace("\0d\0", "\0D\0", 1) if e.opaque else line
