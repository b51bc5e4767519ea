"""Several requests as one build: planned one after the other, solved in one solver, exported last.

Equal steps of different requests are one vertex and run once.  A request may name the result of
another as a context (``target:NAME``): its plan goes on where the other's ends.
"""

from __future__ import annotations

import threading
import time

from ..errors import UsageError
from ..solver.cancel import CancelToken
from ..values import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from ..config import Settings
    from ..events import EventSink
    from ..graph.vertex import Vertex
    from ..oci.platform import Platform
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest
    from ..sandbox.spec import Cancel
    from ..solver.ports import CacheIndex, Record
    from ..solver.solve import Solver
    from ..tree import Tree
    from ..worker.local import LocalWorker
    from .build import Build, BuildResult
    from .cache import LocalCache
    from .contexts import Inputs
    from .engine import Engine
    from .explain import Explainer
    from .pack import Packer, PackForm
    from .remote import RemoteCache
    from .save import Saver

LINK = "target:"
MAX_LOST = 100  # layers that caches fail to give, before a build gives up


class Job(Value):
    """One request of several; ``name`` is what others call it and what its steps are shown under."""

    name: str
    request: BuildRequest


class Shared:
    """What the builds of one run have in common."""

    def __init__(self, engine: Engine, emit: EventSink) -> None:
        self.engine = engine
        self.emit = emit
        self.worker: LocalWorker | None = None
        self.plans: dict[tuple[str, Platform], Plan] = {}
        self.trees: dict[str, tuple[tuple[str, object], Tree]] = {}

    def worker_for(self, build: Build) -> LocalWorker:
        """A worker with the build's own secrets, agents and times; layers and contexts are shared."""
        secrets, ssh = build.secrets(), build.ssh()
        if self.worker is None:
            self.worker = self.engine.worker(self.emit, secrets=secrets, ssh=ssh, epoch=build.epoch)
            self.worker.p.cache_dirs.update(build.request.cache_mounts)
            _apply(self.worker, build.request)
            return self.worker
        other = self.worker.beside(secrets=secrets, ssh=ssh, epoch=build.epoch)
        other.p.cache_dirs = dict(build.request.cache_mounts)
        _apply(other, build.request)
        return other

    def adopt(self, inputs: Inputs, worker: LocalWorker) -> tuple[Inputs, str]:
        """Give local contexts names that tell them apart, equal ones the same; also the main one's name."""
        names: dict[str, str] = {}
        contexts: dict[str, Tree] = {}
        for name, tree in inputs.contexts.items():
            same = (str(getattr(tree, "root", id(tree))), getattr(tree, "_ignore", None))
            ident = next((i for i, (known, _) in self.trees.items() if known == same), "")
            if not ident:
                ident = name if name not in self.trees else f"{name}@{len(self.trees)}"
                self.trees[ident] = (same, tree)
            names[name] = ident
            contexts[name] = self.trees[ident][1]
            worker.p.contexts[ident] = contexts[name]
        named = {
            key: (scheme, names.get(ident, ident) if scheme == "local" else ident)
            for key, (scheme, ident) in inputs.named.items()
        }
        return replace(inputs, contexts=contexts, named=named), names["context"]


class _Crew:
    """The workers of several builds as one: a step is run by the worker of the build that planned it first."""

    def __init__(self, builds: Sequence[Build]) -> None:
        from ..graph.vertex import walk

        self.first = builds[0].worker
        self.owner: dict[str, LocalWorker] = {}
        for build in builds:
            for v in walk(build.targets()):
                self.owner.setdefault(v.digest, build.worker)

    def source_key(self, vertex: Vertex) -> str | None:
        return self.first.source_key(vertex)

    def content_key(self, source: Vertex, record: Record, vertex: Vertex, index: int) -> str:
        return self.first.content_key(source, record, vertex, index)

    def run(self, vertex: Vertex, key: str, inputs: tuple[Record, ...], cancel: Cancel) -> Record:
        return self.owner.get(vertex.digest, self.first).run(vertex, key, inputs, cancel)


def run_jobs(
    jobs: Sequence[Job], settings: Settings, emit: EventSink, cancel: CancelToken | None = None
) -> list[BuildResult]:
    """Build all ``jobs`` as one; the results in their order.  Raises BuildError like ``run_build``."""
    from .build import Build
    from .engine import Engine
    from .recorder import Recorder

    cancel = cancel or CancelToken()
    ordered = _linked_here(in_order(jobs))
    recorder = Recorder(settings, [(j.name, j.request) for j in ordered], emit)
    with recorder.watch() as builds, Engine(settings) as engine:
        cancel.then(engine.stop_network)
        shared = Shared(engine, recorder.emit)
        by_name: dict[str, Build] = {}
        for job, ident in zip(ordered, recorder.ids, strict=True):
            build = by_name[job.name] = Build(engine, job.request, recorder.emit, cancel, job.name)
            build.id = ident
            builds.append(build)
            build.prepare(shared)
            for plan in build.plans:
                shared.plans[(job.name, plan.platform)] = plan
        results = recorder.done(builds, solve(builds, engine, recorder.emit, cancel))
        found = {j.name: r for j, r in zip(ordered, results, strict=True)}
        return [found[j.name] for j in jobs]


def _linked_here(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that are linked are built on this machine: a node would not know the others' results."""
    linked = {name for j in jobs for name in links(j.request)}
    return [
        Job(j.name, replace(j.request, nodes=())) if j.name in linked or links(j.request) else j for j in jobs
    ]


def links(request: BuildRequest) -> list[str]:
    """Names of the jobs whose results a request uses."""
    return [v[len(LINK) :] for _, v in request.named_contexts if v.startswith(LINK)]


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Jobs after those they use.  Raises UsageError on unknown names and cycles."""
    known = {j.name: j for j in jobs}
    out: dict[str, Job] = {}

    def visit(job: Job, path: tuple[str, ...]) -> None:
        if job.name in out:
            return
        for name in links(job.request):
            if name not in known:
                raise UsageError(f"failed to find target {name}")
            if name in (*path, job.name):
                raise UsageError(f"infinite loop from {job.name} to {name}")
            visit(known[name], (*path, job.name))
        out[job.name] = job

    for job in jobs:
        visit(job, ())
    return list(out.values())


def solve(builds: Sequence[Build], engine: Engine, emit: EventSink, cancel: CancelToken) -> list[BuildResult]:
    """Solve what all builds have planned, then export each.

    A layer that a cache promised and can't give is forgotten, and what needs it is done again."""
    from ..solver.ports import LostLayer
    from .cache import LocalCache

    worker = builds[0].worker
    local = LocalCache(engine.index, worker.usable, time.time, worker.sizes)
    remote = _remote(builds, engine, local, emit)
    earlier: Solver | None = None
    for left in range(MAX_LOST, -1, -1):
        token = cancel.child()
        run = _Run(builds, engine, emit, token)
        run.earlier = earlier
        try:
            results = run.go(remote or local)
            if remote is not None:
                remote.close()
            return results
        except LostLayer as e:
            earlier = run.solver
            run.close(cancelled=cancel.is_set())
            if not left or cancel.is_set():
                raise
            from .remote import RemoteCache

            (remote or RemoteCache(local, (), engine.index, emit)).lose(e.layer, e.message)
            for build in builds:
                build.exporting.reopen()
        finally:
            run.close(cancelled=cancel.is_set())
            token.close()
            local.flush()
    raise AssertionError


def _remote(
    builds: Sequence[Build], engine: Engine, local: LocalCache, emit: EventSink
) -> RemoteCache | None:
    if not any(b.request.cache_from or b.request.cache_to for b in builds):
        return None
    from .caches import open_caches

    return open_caches(builds, engine, local, emit)


class _Run:
    """One attempt: a solver, the packers and what is written to caches meanwhile."""

    def __init__(self, builds: Sequence[Build], engine: Engine, emit: EventSink, cancel: CancelToken) -> None:
        self.builds = builds
        self.engine = engine
        self.emit = emit
        self.cancel = cancel
        self.packers: dict[PackForm, Packer] = {}
        self.saver: Saver | None = None
        self.solver: Solver | None = None
        self._made: Explainer | None = None
        self._guard = threading.Lock()
        self.earlier: Solver | None = None  # of an attempt that was given up
        for build in builds:
            build.exporting.begin(build.plans, self.packers)
        if any(b.request.cache_to for b in builds):
            from .caches import open_saver

            self.saver = open_saver(builds, engine, self.packers, emit)

    def go(self, cache: CacheIndex) -> list[BuildResult]:
        """Solve and export."""
        solver = self.solver = self._solver(cache)
        if self.earlier is not None:
            solver.go_on_from(self.earlier)
        solver.solve([v for b in self.builds for v in b.targets()])
        self._verify(solver)
        for build in self.builds:
            build.exporting.kept, build.exporting.keys = solver.kept, solver.keys
        results = [b.export(solver) for b in self.builds]
        if self.saver is None:
            return results
        told = self.saver.finish()
        return [replace(r, metadata={**r.metadata, **told}) for r in results] if told else results

    def _solver(self, cache: CacheIndex) -> Solver:
        from ..solver.solve import Solver

        builds, worker = self.builds, self.builds[0].worker
        crew = worker if len(builds) == 1 else _Crew(builds)
        lock = _lock(self.engine, self.cancel)
        solver = Solver(crew, cache, self.emit, self.cancel, clock=time.time, lock=lock)

        def on_done(vertex: Vertex, record: Record) -> None:
            for build in builds:
                build.exporting.on_done(vertex, record)

        solver.on_done = on_done
        if self.saver is not None:
            solver.on_kept = self.saver.add
        solver.explainer = self._explainer
        solver.require_cached = any(b.request.require_cached for b in builds)
        solver.stats = worker.figures
        return solver

    def _explainer(self) -> Explainer:
        """Made when the first step misses: a build in which everything is cached never needs it."""
        with self._guard:
            if self._made is None:
                from .explain import Explainer

                told = [(b.scope(), b.targets()) for b in self.builds]
                self._made = Explainer(self.engine.index, self.builds[0].worker, told)
            return self._made

    def _verify(self, solver: Solver) -> None:
        for build in self.builds:
            if build.request.verify_cache:
                from .verify import Verifier

                verifier = Verifier(solver, build.worker, self.emit, self.cancel)
                verifier.run(build.targets(), build.request.verify_cache)

    def close(self, *, cancelled: bool) -> None:
        """Wait for what runs in the background; a user who said stop waits only for what has begun."""
        if self.saver is not None:
            self.saver.join(drop=cancelled)
        for packer in self.packers.values():
            packer.join()


def _lock(engine: Engine, cancel: CancelToken) -> Callable[[str], AbstractContextManager[object]]:
    """Single flight across processes: the second build of a key waits and takes the result."""
    return lambda key: engine.layers.locks.hold(key, cancel)


def _apply(worker: LocalWorker, request: BuildRequest) -> None:
    worker.p.step_timeout = request.step_timeout
    worker.p.keep_failed = bool(request.on_fail)
