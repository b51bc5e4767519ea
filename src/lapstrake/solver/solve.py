"""Obtain the results of target vertices.

Two passes.  The first walks the graph once, inputs before users, and answers from the cache with
definition keys alone: no thread, no pull.  Only when something misses does the second pass start
threads: it runs what the targets really need, asking for a content key first, so that a stage that
ran again and gave the same bytes stops the rebuild there.
"""

from __future__ import annotations

from hashlib import sha256

from ..errors import BuildError, Cancelled
from ..events import VertexCached, VertexDone, VertexFailed, VertexStarted
from ..graph.ops import SourceOp
from ..graph.vertex import RECIPE, Vertex, walk
from .ports import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..events import EventSink
    from .cancel import CancelToken
    from .ports import CacheIndex, Worker


def _h(*parts: str) -> str:
    return sha256("\0".join((RECIPE, *parts)).encode()).hexdigest()


class Solver:
    """One solve: holds what is known of each vertex."""

    def __init__(
        self,
        worker: Worker,
        cache: CacheIndex,
        emit: EventSink,
        cancel: CancelToken,
        *,
        clock: Callable[[], float],
        jobs: int = 0,
        lock: Callable[[str], object] | None = None,
    ) -> None:
        self.worker = worker
        self.cache = cache
        self.emit = emit
        self.cancel = cancel
        self.clock = clock
        self.jobs = jobs or 32
        self.lock = lock
        self.records: dict[str, Record] = {}
        self.keys: dict[str, str] = {}
        self.ran = 0
        self.hits = 0
        self.on_done: Callable[[Vertex, Record], None] | None = None
        self.why: Callable[[Vertex, dict[str, Record]], str] | None = None

    # -- keys -----------------------------------------------------------------

    def key_of(self, v: Vertex) -> str | None:
        """The definition key, with content in place of definition where only content counts.

        None while an input isn't known yet."""
        parts = [v.op_digest]
        if isinstance(v.op, SourceOp):
            own = self.worker.source_key(v)
            return None if own is None else _h("source", v.op_digest, own)
        for i, source in enumerate(v.inputs):
            local = isinstance(source.op, SourceOp) and source.op.scheme == "local"
            if local:
                parts.append("content:" + self._content(source, _NOTHING, v, i))
                continue
            record = self.records.get(source.digest)
            if record is None:
                return None
            parts.append("def:" + record.identity)
        return _h(*parts)

    def _content(self, source: Vertex, record: Record, v: Vertex, index: int) -> str:
        try:
            return self.worker.content_key(source, record, v, index)
        except BuildError as exc:
            if exc.span is None:
                exc.span = v.span
            raise

    def content_key_of(self, v: Vertex) -> str | None:
        """The key with every content input by content; None when the vertex has none."""
        if not v.content_inputs:
            return None
        parts = ["content-key", v.op_digest]
        for i, source in enumerate(v.inputs):
            record = self.records.get(source.digest, _NOTHING)
            if i in v.content_inputs:
                parts.append("content:" + self._content(source, record, v, i))
            else:
                parts.append("def:" + record.identity)
        return _h(*parts)

    # -- pass one ---------------------------------------------------------------

    def look_up(self, targets: list[Vertex]) -> list[Vertex]:
        """Answer what the cache can; gives the vertices that must be worked on, inputs first."""
        order = walk(targets)
        for v in order:
            if isinstance(v.op, SourceOp):
                self._source_record(v)
                continue
            key = self.key_of(v)
            if key is None:
                continue
            self.keys[v.digest] = key
            if v.ignore_cache:
                continue
            record = self.cache.lookup(key)
            if record is not None:
                self.records[v.digest] = record
        needed: dict[str, Vertex] = {}

        def need(v: Vertex) -> None:
            if v.digest in self.records or v.digest in needed:
                return
            needed[v.digest] = v
            for i in v.inputs:
                need(i)

        for t in targets:
            need(t)
        return [v for v in order if v.digest in needed]

    def _source_record(self, v: Vertex) -> None:
        op = v.op
        if op.scheme in ("scratch", "local"):  # type: ignore[union-attr]
            self.records[v.digest] = Record(_h(op.scheme, op.identifier), (), True)  # type: ignore[union-attr]
            return
        key = self.key_of(v)
        if key is not None:
            self.keys[v.digest] = key
            record = self.cache.lookup(key)
            if record is not None:
                self.records[v.digest] = record

    def announce(self, targets: list[Vertex], skip: set[str]) -> None:
        """Tell the display about every vertex that was answered from the cache."""
        now = self.clock()
        for v in walk(targets):
            if v.digest in self.records and v.digest not in skip and v.name != "scratch":
                self.hits += 1
                self.emit(VertexCached(v.digest, v.name, now, tuple(i.digest for i in v.inputs)))

    # -- pass two -------------------------------------------------------------

    def solve(self, targets: list[Vertex]) -> dict[str, Record]:
        """The records of all targets, by vertex digest."""
        todo = self.look_up(targets)
        self.announce(targets, {v.digest for v in todo})
        if todo:
            self._run_all(todo)
        return {t.digest: self.records[t.digest] for t in targets}

    def _run_all(self, todo: list[Vertex]) -> None:
        import threading

        waiting = {v.digest: {i.digest for i in v.inputs if i.digest not in self.records} for v in todo}
        pending = {v.digest: v for v in todo}
        cond = threading.Condition()
        errors: list[tuple[Vertex, BaseException]] = []
        ready = [v for v in todo if not waiting[v.digest]]
        running: set[str] = set()

        def finish(v: Vertex, error: BaseException | None) -> None:
            with cond:
                running.discard(v.digest)
                pending.pop(v.digest, None)
                if error is not None:
                    errors.append((v, error))
                    self.cancel.set()
                else:
                    for other in list(pending.values()):
                        waits = waiting[other.digest]
                        if v.digest in waits:
                            waits.discard(v.digest)
                            if not waits:
                                ready.append(other)
                cond.notify_all()

        def work(v: Vertex) -> None:
            try:
                self._one(v)
            except BaseException as exc:
                finish(v, exc)
            else:
                finish(v, None)

        threads = []
        with cond:
            while pending:
                while ready and len(running) < self.jobs and not self.cancel.is_set():
                    v = ready.pop(0)
                    running.add(v.digest)
                    t = threading.Thread(target=work, args=(v,), name=v.name[:40], daemon=True)
                    threads.append(t)
                    t.start()
                if not running:
                    break
                cond.wait(0.5)
        for t in threads:
            t.join()
        self._raise_first(errors)
        if self.cancel.is_set():
            raise Cancelled("the build was cancelled")

    def _raise_first(self, errors: list[tuple[Vertex, BaseException]]) -> None:
        real = [(v, e) for v, e in errors if not isinstance(e, Cancelled)]
        for v, error in real or errors:
            if isinstance(error, BuildError) and error.span is None:
                error.span = v.span
            raise error

    def _one(self, v: Vertex) -> None:
        key = self.key_of(v)
        if key is None:
            key = v.digest
        if self.lock is None:
            self._one_locked(v, key)
            return
        with self.lock(key):  # type: ignore[attr-defined]
            self._one_locked(v, key)

    def _one_locked(self, v: Vertex, key: str) -> None:
        ins = tuple(i.digest for i in v.inputs)
        if self.cancel.is_set():
            raise Cancelled("the build was cancelled")
        keys: tuple[str, ...] = (key,)
        if not v.ignore_cache:
            record = self.cache.lookup(key)
            if record is None:
                content = self.content_key_of(v)
                if content is not None:
                    keys = (key, content)
                    record = self.cache.lookup(content)
                    if record is not None:
                        self.cache.store(record, (key,), v, {})
            if record is not None:
                self.records[v.digest] = record
                self.hits += 1
                self.emit(VertexCached(v.digest, v.name, self.clock(), ins))
                return
        else:
            content = self.content_key_of(v)
            keys = (key, content) if content else (key,)
        start = self.clock()
        self.emit(VertexStarted(v.digest, v.name, start, ins))
        try:
            identity = key if not v.ignore_cache else _h(key, repr(start))
            record = self.worker.run(
                v, identity, tuple(self.records[i.digest] for i in v.inputs), self.cancel
            )
        except BaseException as exc:
            message = exc.message if isinstance(exc, BuildError) else f"{type(exc).__name__}: {exc}"
            self.emit(VertexFailed(v.digest, v.name, self.clock(), message, isinstance(exc, Cancelled)))
            raise
        self.cache.store(record, keys, v, self._parts(v))
        self.records[v.digest] = record
        self.ran += 1
        if self.on_done is not None:
            self.on_done(v, record)
        why = self.why(v, self.records) if self.why is not None and v.inputs else ""
        self.emit(VertexDone(v.digest, v.name, self.clock(), (), why))

    def _parts(self, v: Vertex) -> dict[str, str]:
        parts = {"op": v.op_digest}
        for i, source in enumerate(v.inputs):
            record = self.records.get(source.digest)
            parts[f"input{i}"] = record.identity if record else ""
        return parts


_NOTHING = Record("", ())
