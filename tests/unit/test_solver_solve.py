"""The solver with fake vertices that count calls: what runs, what does not, in which order."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from lapstrake.errors import BuildError, Cancelled
from lapstrake.events import Event, VertexCached, VertexDone, VertexFailed
from lapstrake.graph.ops import CopyOp, ExecOp, SourceOp
from lapstrake.graph.vertex import Vertex, encode, walk
from lapstrake.oci.platform import Platform
from lapstrake.solver.cancel import CancelToken
from lapstrake.solver.ports import Record
from lapstrake.solver.solve import Solver

AMD64 = Platform("linux", "amd64")


def run_(text: str, *inputs: Vertex, no_cache: bool = False) -> Vertex:
    return Vertex(ExecOp((text,), (), "/", "", AMD64), inputs, text, ignore_cache=no_cache)


def image(ref: str) -> Vertex:
    return Vertex(SourceOp("image", ref, AMD64), (), ref)


def copy(src: str, root: Vertex, source: Vertex) -> Vertex:
    return Vertex(CopyOp((src,), "/", "/"), (root, source), f"COPY {src}")


class Cache:
    def __init__(self) -> None:
        self.found: dict[str, Record] = {}

    def lookup(self, key: str, vertex: Vertex) -> Record | None:
        return self.found.get(key)

    def alias(self, key: str, record: Record) -> None:
        self.found[key] = record

    def store(self, record: Record, keys: tuple[str, ...], vertex: Vertex, parts: dict[str, str]) -> None:
        for key in keys:
            self.found[key] = record


class Worker:
    """``content``: what a stage's result holds, by command; unknown commands give their own name."""

    def __init__(self, content: dict[str, str] | None = None, context: str = "v1") -> None:
        self.content = content or {}
        self.context = context
        self.ran: list[str] = []
        self.fail: set[str] = set()
        self.sleep = 0.0
        self.made: dict[str, str] = {}

    def source_key(self, vertex: Vertex) -> str | None:
        return vertex.op.identifier  # type: ignore[union-attr]

    def content_key(self, source: Vertex, record: Record, vertex: Vertex, index: int) -> str:
        if isinstance(source.op, SourceOp) and source.op.scheme == "local":
            return self.context
        return self.made.get(record.identity, record.identity)

    def run(self, vertex: Vertex, key: str, inputs: tuple[Record, ...], cancel: Any) -> Record:
        if isinstance(vertex.op, SourceOp):
            return Record(key, ("base",))
        self.ran.append(vertex.name)
        if vertex.name in self.fail:
            raise BuildError(f"{vertex.name} failed")
        deadline = time.monotonic() + self.sleep
        while time.monotonic() < deadline:
            if cancel.is_set():
                raise Cancelled("stopped")
            time.sleep(0.005)
        self.made[key] = self.content.get(vertex.name, vertex.name)
        return Record(key, (*inputs[0].layers, key))


def solve(
    targets: list[Vertex], worker: Worker, cache: Cache, events: list[Event] | None = None
) -> dict[str, Record]:
    sink = events if events is not None else []
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            sink.append(event)

    return Solver(worker, cache, emit, CancelToken(), clock=time.time).solve(targets)


def test_second_build_runs_nothing_and_starts_no_thread() -> None:
    cache, base = Cache(), image("debian@sha256:1")
    target = run_("b", run_("a", base))
    first = solve([target], Worker(), cache)
    worker = Worker()
    before = threading.active_count()
    events: list[Event] = []
    second = solve([target], worker, cache, events)
    assert worker.ran == []
    assert threading.active_count() == before
    assert {k: v.layers for k, v in first.items()} == {k: v.layers for k, v in second.items()}
    assert all(isinstance(e, VertexCached) for e in events)


def test_changed_context_reruns_only_what_depends_on_it() -> None:
    context = Vertex(SourceOp("local", "context"), (), "context")
    base = image("debian@sha256:1")
    a = run_("a", base)
    target = run_("c", copy("src", a, context))
    cache = Cache()
    solve([target], Worker(), cache)
    worker = Worker(context="v2")
    solve([target], worker, cache)
    assert worker.ran == ["COPY src", "c"]


def test_stage_with_equal_content_stops_the_rebuild() -> None:
    base = image("debian@sha256:1")
    context = Vertex(SourceOp("local", "context"), (), "context")
    final = image("alpine@sha256:2")

    def graph() -> Vertex:
        build = run_("compile", copy("src", base, context))
        return run_("after", copy("/app", final, build))

    cache = Cache()
    same = {"compile": "same-bytes"}
    solve([graph()], Worker(same), cache)
    worker = Worker(same, context="v2")
    solve([graph()], worker, cache)
    assert worker.ran == ["COPY src", "compile"]
    worker = Worker(same, context="v2")
    solve([graph()], worker, cache)
    assert worker.ran == []


def test_equal_vertices_of_two_platforms_run_once() -> None:
    base = image("debian@sha256:1")
    shared = run_("shared", base)
    worker = Worker()
    solve([run_("x", shared), run_("y", run_("shared", base))], worker, Cache())
    assert sorted(worker.ran) == ["shared", "x", "y"]


def test_first_failure_cancels_siblings() -> None:
    base = image("debian@sha256:1")
    worker = Worker()
    worker.fail = {"bad"}
    worker.sleep = 5.0
    events: list[Event] = []
    targets = [run_("slow", base), run_("bad", base)]
    start = time.monotonic()
    with pytest.raises(BuildError, match="bad failed"):
        solve(targets, worker, Cache(), events)
    assert time.monotonic() - start < 4
    failed = {e.name: e.cancelled for e in events if isinstance(e, VertexFailed)}
    assert failed == {"bad": False, "slow": True}
    assert not any(isinstance(e, VertexDone) and e.name == "slow" for e in events)


def test_independent_vertices_run_side_by_side() -> None:
    base = image("debian@sha256:1")
    worker = Worker()
    worker.sleep = 0.2
    start = time.monotonic()
    solve([run_(str(i), base) for i in range(8)], worker, Cache())
    assert time.monotonic() - start < 1.0


def test_no_cache_runs_again_and_its_result_is_used_next_time() -> None:
    base = image("debian@sha256:1")
    cache = Cache()
    solve([run_("a", base)], Worker(), cache)
    worker = Worker()
    fresh = solve([run_("a", base, no_cache=True)], worker, cache)
    assert worker.ran == ["a"]
    worker = Worker()
    again = solve([run_("a", base)], worker, cache)
    assert worker.ran == []
    assert [r.identity for r in again.values()] == [r.identity for r in fresh.values()]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((("x", "y"),), (("x", "y", ""),)),
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((None,), ("",)),
        ((True,), (1,)),
        ((b"x",), ("x",)),
    ],
)
def test_encoding_is_injective(a: object, b: object) -> None:
    assert encode(a) != encode(b)


def test_walk_gives_inputs_first_and_each_once() -> None:
    base = image("b")
    left, right = run_("l", base), run_("r", base)
    top = copy("x", left, right)
    assert [v.name for v in walk([top, left])] == ["b", "l", "r", "COPY x"]


def test_keys_ignore_proxy_and_host_addresses_only() -> None:
    base = image("b")

    def v(**kw: Any) -> str:
        return Vertex(ExecOp(("x",), (), "/", "", AMD64, **kw), (base,), "x").digest

    assert v(proxy_env=("HTTP_PROXY=a",)) == v()
    assert v(extra_hosts=(("h", "1.2.3.4"),)) == v(extra_hosts=(("h", "4.3.2.1"),))
    assert v(extra_hosts=(("h", "1.2.3.4"),)) != v(extra_hosts=(("g", "1.2.3.4"),))
    assert len({v(network="none"), v(hostname="h"), v(security="insecure"), v(shm_size=1), v()}) == 5
