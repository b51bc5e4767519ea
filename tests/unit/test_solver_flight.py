"""Single flight: of many builds with the same steps on one store, each step runs once and none hangs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_solver_solve import Cache, Worker, copy, image, run_

from lapstrake.errors import BuildError, Cancelled
from lapstrake.graph.vertex import Vertex
from lapstrake.solver.cancel import CancelToken
from lapstrake.solver.ports import Record
from lapstrake.solver.solve import Solver
from lapstrake.store.locks import KeyLocks


class Slow(Worker):
    """Takes its time, so that the others arrive meanwhile."""

    def run(self, vertex: Vertex, key: str, inputs: tuple[Record, ...], cancel: Any) -> Record:
        self.sleep = 0.02 if vertex.inputs else 0.0
        return super().run(vertex, key, inputs, cancel)


def graph(n: int) -> Vertex:
    """Two shared stages, joined in either order, and one step of the build's own."""
    base = image("debian@sha256:1")
    left = run_("l2", run_("l1", base))
    right = run_("r2", run_("r1", base))
    first, second = (left, right) if n % 2 else (right, left)
    return run_(f"own {n}", copy("x", first, second))


def start(
    n: int, root: Path, worker: Worker, cache: Cache, failures: list[BaseException]
) -> threading.Thread:
    locks, token = KeyLocks(str(root)), CancelToken()

    def work() -> None:
        try:
            solver = Solver(
                worker, cache, lambda _e: None, token, clock=time.time, lock=lambda k: locks.hold(k, token)
            )
            solver.solve([graph(n)])
        except BaseException as e:
            failures.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_each_shared_step_runs_once(tmp_path: Path) -> None:
    worker, cache, failures = Slow(), Cache(), []  # type: ignore[var-annotated]
    threads = [start(n, tmp_path, worker, cache, failures) for n in range(12)]
    for t in threads:
        t.join(30)
    assert not any(t.is_alive() for t in threads)
    assert failures == []
    shared = [name for name in worker.ran if not name.startswith(("own", "COPY"))]
    assert sorted(shared) == ["l1", "l2", "r1", "r2"]
    assert sorted(n for n in worker.ran if n.startswith("own")) == sorted(f"own {n}" for n in range(12))
    assert worker.ran.count("COPY x") == 2  # one for each order


def test_who_waits_for_another_build_still_listens(tmp_path: Path) -> None:
    base = image("debian@sha256:1")
    first = Worker()
    worker, cache = Worker(), Cache()
    key = Solver(first, cache, lambda _e: None, CancelToken(), clock=time.time)
    key.look_up([run_("a", base)])
    solved: list[BaseException] = []
    token = CancelToken()
    with KeyLocks(str(tmp_path)).hold("everything"):

        def wait() -> None:
            locks = KeyLocks(str(tmp_path))
            solver = Solver(
                worker,
                cache,
                lambda _e: None,
                token,
                clock=time.time,
                lock=lambda _k: locks.hold("everything", token),
            )
            try:
                solver.solve([run_("a", base)])
            except BaseException as e:
                solved.append(e)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        assert thread.is_alive()
        began = time.monotonic()
        token.set()
        thread.join(5)
        assert time.monotonic() - began < 1
    assert isinstance(solved[0], Cancelled)
    assert worker.ran == []


def test_a_step_that_fails_elsewhere_is_tried_here(tmp_path: Path) -> None:
    base = image("debian@sha256:1")
    cache, locks = Cache(), KeyLocks(str(tmp_path))
    bad, good = Worker(), Worker()
    bad.fail = {"a"}
    bad.sleep = 0.1

    def solver(worker: Worker) -> Solver:
        return Solver(worker, cache, lambda _e: None, CancelToken(), clock=time.time, lock=locks.hold)

    failed: list[BaseException] = []

    def run_bad() -> None:
        try:
            solver(bad).solve([run_("a", base)])
        except BuildError as e:
            failed.append(e)

    thread = threading.Thread(target=run_bad)
    thread.start()
    time.sleep(0.03)
    solver(good).solve([run_("a", base)])
    thread.join()
    assert failed
    assert good.ran == ["a"]


def test_what_ignores_the_cache_does_not_wait(tmp_path: Path) -> None:
    base, locks = image("debian@sha256:1"), KeyLocks(str(tmp_path))
    asked: list[str] = []

    def lock(key: str) -> Any:
        asked.append(key)
        return locks.hold(key)

    worker = Worker()
    Solver(worker, Cache(), lambda _e: None, CancelToken(), clock=time.time, lock=lock).solve(
        [run_("a", base, no_cache=True)]
    )
    assert worker.ran == ["a"]
    assert len(asked) == 1  # the base's


@pytest.mark.parametrize("lost", [1, 3])
def test_a_given_up_attempt_tells_nothing_twice(lost: int) -> None:
    from lapstrake.events import VertexCached, VertexDone

    base, cache, events = image("debian@sha256:1"), Cache(), []  # type: ignore[var-annotated]
    target = run_("b", run_("a", base))
    earlier = None
    for _ in range(lost + 1):
        solver = Solver(Worker(), cache, events.append, CancelToken(), clock=time.time)
        if earlier is not None:
            solver.go_on_from(earlier)
        solver.solve([target])
        earlier = solver
    assert earlier is not None
    assert (earlier.ran, earlier.hits) == (3, 0)
    assert [type(e) for e in events if isinstance(e, (VertexCached, VertexDone))] == [VertexDone] * 3
