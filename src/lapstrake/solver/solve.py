"""Obtain the results of target vertices.

Two passes.  The first walks the graph once, inputs before users, and answers from the cache with
definition keys alone: no thread, no pull.  Only when something misses does the second pass start
threads: it runs what the targets really need, asking for a content key first, so that a stage that
ran again and gave the same bytes stops the rebuild there.

Single flight: a step is looked up, run and stored under the lock of its key, so of all builds that
share the store one runs it and the others take its result.  This cannot deadlock: a thread takes
the lock of a step only when all inputs of the step are finished, holds one such lock at a time, and
takes no other step's lock before it lets go; so whoever waits for a key waits for a step that is
running, never for one that waits itself.  What a running step locks besides (layers, cache mounts)
comes after it in that order, and none of those holders ever asks for a key.
"""

from __future__ import annotations

from ..errors import BuildError, CacheError, Cancelled
from ..events import VertexCached, VertexDone, VertexFailed, VertexStarted
from ..graph.ops import SourceOp
from ..graph.vertex import Vertex, walk
from ..values import replace
from .keys import Keys, digest, local_identity
from .ports import LostLayer, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ..events import EventSink
    from .cancel import CancelToken
    from .ports import CacheIndex, Explainer, Worker


class Solver:
    """One solve: holds what is known of each vertex.

    ``lock``: single flight by key; ``on_done`` hears of every step that ran, ``on_kept`` of every result
    as the cache holds it, found or new; ``require_cached`` fails instead of running a step.
    """

    def __init__(
        self,
        worker: Worker,
        cache: CacheIndex,
        emit: EventSink,
        cancel: CancelToken,
        *,
        clock: Callable[[], float],
        jobs: int = 0,
        lock: Callable[[str], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.worker = worker
        self.cache = cache
        self.emit = emit
        self.cancel = cancel
        self.clock = clock
        self.jobs = jobs or 32
        self.lock = lock
        self.records: dict[str, Record] = {}
        self.keys: dict[str, tuple[str, ...]] = {}
        self.made = Keys(worker, self.records)
        self.ran = 0
        self.hits = 0
        self.require_cached = False
        self.on_done: Callable[[Vertex, Record], None] | None = None
        self.on_kept: Callable[[Vertex, Record, tuple[str, ...]], None] | None = None
        self.kept: dict[str, Record] = {}  # as the cache holds them
        self.fresh: set[str] = set()  # vertices that ran in this build
        self.told: set[str] = set()  # vertices whose end the display knows
        self.explainer: Callable[[], Explainer] | None = None  # made when a step misses
        self.stats: Callable[[Vertex], tuple[tuple[str, float], ...]] = lambda _v: ()

    def go_on_from(self, earlier: Solver) -> None:
        """Take over what an attempt that had to be given up has told and counted."""
        self.told, self.ran, self.hits = earlier.told, earlier.ran, earlier.hits
        self.fresh = earlier.fresh

    # -- pass one ---------------------------------------------------------------

    def look_up(self, targets: list[Vertex]) -> list[Vertex]:
        """Answer what the cache can; gives the vertices that must be worked on, inputs first."""
        order = walk(targets)
        for v in order:
            if isinstance(v.op, SourceOp):
                self._source_record(v, v.op)
                continue
            key = self.made.definition(v)
            if key is None:
                continue
            self.keys[v.digest] = (key,)
            if v.ignore_cache:
                continue
            record = self.cache.lookup(key, v)
            placed = None if record is None else self.made.place(v, record)
            if record is not None and placed is not None:
                self.kept[v.digest] = record
                self.records[v.digest] = placed
        needed: set[str] = set()
        stack = list(targets)
        while stack:
            v = stack.pop()
            if v.digest not in self.records and v.digest not in needed:
                needed.add(v.digest)
                stack.extend(v.inputs)
        return [v for v in order if v.digest in needed]

    def _source_record(self, v: Vertex, op: SourceOp) -> None:
        if op.scheme in ("scratch", "local"):
            identity = (
                local_identity(op.identifier) if op.scheme == "local" else digest("scratch", op.identifier)
            )
            self.records[v.digest] = Record(identity, (), True)
            return
        key = self.made.definition(v)
        if key is not None:
            self.keys[v.digest] = (key,)
            record = self.cache.lookup(key, v)
            if record is not None:
                self.records[v.digest] = record

    def announce(self, targets: list[Vertex], skip: set[str]) -> None:
        """Tell of every vertex that was answered from the cache."""
        now = self.clock()
        for v in walk(targets):
            if v.digest in self.records and v.digest not in skip and v.name != "scratch":
                self._hit(v, now)

    def _hit(self, v: Vertex, now: float) -> None:
        if v.digest not in self.told:
            self.told.add(v.digest)
            self.hits += 1
            self.emit(VertexCached(v.digest, v.name, now, tuple(i.digest for i in v.inputs)))
        self._tell_kept(v)

    def _tell_kept(self, v: Vertex) -> None:
        if self.on_kept is not None and v.digest in self.kept:
            self.on_kept(v, self.kept[v.digest], self.keys[v.digest])

    # -- pass two -------------------------------------------------------------

    def solve(self, targets: list[Vertex]) -> dict[str, Record]:
        """The records of all targets, by vertex digest."""
        todo = self.look_up(targets)
        self.announce(targets, {v.digest for v in todo})
        if todo:
            if self.require_cached:
                self.jobs = 1  # in order, so that the first miss is the one named
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
                    try:
                        t.start()
                        threads.append(t)
                    except RuntimeError as exc:
                        finish(v, _no_thread(exc))
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
        if self.lock is None or v.ignore_cache:  # what ignores the cache has a key of its own
            self._one_locked(v)
            return
        key = self.made.definition(v)
        with self.lock(v.digest if key is None else key):
            self._one_locked(v)

    def _one_locked(self, v: Vertex) -> None:
        if self.cancel.is_set():
            raise Cancelled("the build was cancelled")
        record, keys = self._answer(v)
        self.keys[v.digest] = keys
        if record is not None:
            self.records[v.digest] = record
            self._hit(v, self.clock())
            return
        step = not isinstance(v.op, SourceOp)
        explainer = self.explainer() if self.explainer is not None and step else None
        why = explainer.reason(v, self.records) if explainer is not None else ""
        if self.require_cached and step:
            raise CacheError(f"not everything is cached: {v.name}", span=v.span, hint=why or None)
        record = self._run(v, keys)
        parts = explainer.remember(v, why) if explainer is not None else {}
        kept = record if not v.stands_alone else replace(record, layers=record.layers[-1:])
        self.cache.store(kept, keys, v, {**parts, "why": why})
        if step:
            self.kept[v.digest] = kept
        placed = self.made.place(v, record)
        self.records[v.digest] = record = record if placed is None else placed
        self.ran += 1
        self.fresh.add(v.digest)
        if self.on_done is not None:
            self.on_done(v, record)
        self._tell_kept(v)
        self.told.add(v.digest)
        self.emit(VertexDone(v.digest, v.name, self.clock(), self.stats(v), why))

    def _answer(self, v: Vertex) -> tuple[Record | None, tuple[str, ...]]:
        """What the cache says now that all inputs are known, and the vertex's keys."""
        key = self.made.definition(v) or v.digest
        if v.ignore_cache:
            content = self.made.content(v)
            return None, (key, content) if content else (key,)
        record = self.cache.lookup(key, v)
        keys: tuple[str, ...] = (key,)
        if record is None:
            content = self.made.content(v)
            if content is not None:
                keys = (key, content)
                record = self.cache.lookup(content, v)
                if record is not None:
                    self.cache.alias(key, record)
        if record is None:
            return None, keys
        if not isinstance(v.op, SourceOp):
            self.kept[v.digest] = record
        return self.made.place(v, record), keys

    def _run(self, v: Vertex, keys: tuple[str, ...]) -> Record:
        start = self.clock()
        self.emit(VertexStarted(v.digest, v.name, start, tuple(i.digest for i in v.inputs)))
        try:
            identity = keys[0] if not v.ignore_cache else digest(keys[0], repr(start))
            inputs = tuple(self.records[i.digest] for i in v.inputs)
            return self.worker.run(v, identity, inputs, self.cancel)
        except LostLayer:
            raise  # not the step's failure: it is run again without the layer
        except BaseException as exc:
            message = exc.message if isinstance(exc, BuildError) else f"{type(exc).__name__}: {exc}"
            self.emit(
                VertexFailed(
                    v.digest, v.name, self.clock(), message, isinstance(exc, Cancelled), self.stats(v)
                )
            )
            raise


def _no_thread(error: BaseException) -> BuildError:
    return BuildError(f"cannot run one more step: {error}", hint="raise the limits on memory and processes")
