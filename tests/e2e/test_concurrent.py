"""Many builds on one store at once: what they share is built once, and nobody waits forever."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import Counter

import pytest
from tests.conftest import Lap, vertices

pytestmark = pytest.mark.e2e

SHARED = """\
FROM busybox AS left
RUN sleep 1 && echo l1 > /l1
RUN --mount=type=cache,id=one,target=/c1,sharing=locked --mount=type=cache,id=two,target=/c2,sharing=locked sleep 0.2 && echo l2 > /l2
FROM busybox AS right
RUN sleep 1 && echo r1 > /r1
RUN --mount=type=cache,id=two,target=/c2,sharing=locked --mount=type=cache,id=one,target=/c1,sharing=locked sleep 0.2 && echo r2 > /r2
"""
ENDS = (
    "FROM left\nCOPY --from=right /r2 /r2\nRUN sleep 0.5 && echo {n} > /own\n",
    "FROM right\nCOPY --from=left /l2 /l2\nRUN sleep 0.5 && echo {n} > /own\n",
)


def start(lap: Lap, context, n: int) -> subprocess.Popen[str]:
    project = context({"Dockerfile": SHARED + ENDS[n % 2].format(n=n)}, f"p{n}")
    return subprocess.Popen(
        [*lap.command, "build", "--progress=rawjson", "-t", f"app{n}", str(project)],
        env=lap.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("count", [12, pytest.param(40, marks=pytest.mark.soak)])
def test_builds_that_share_steps(tmp_path, bases, context, count, record_property):
    alone = Lap(tmp_path / "alone", bases)
    times = []
    for n in range(4):
        began = time.monotonic()
        start(alone, context, n).communicate(timeout=120)
        times.append(time.monotonic() - began)
    serial = sum(times[:2]) + sum(times[2:]) / 2 * (count - 2)  # the first two pay for what is shared
    together = Lap(tmp_path / "together", bases)
    began = time.monotonic()
    children = [start(together, context, n) for n in range(count)]
    told = [c.communicate(timeout=300)[1] for c in children]
    took = time.monotonic() - began
    assert [c.returncode for c in children] == [0] * count, told
    runs: Counter[str] = Counter()
    for text in told:
        runs.update(v.name.partition("] ")[2] for v in vertices(text) if v.ran and "] RUN" in v.name)
    shared = {name: times for name, times in runs.items() if "/own" not in name}
    assert len(shared) == 4, runs
    assert set(shared.values()) == {1}, runs
    assert sum(times for name, times in runs.items() if "/own" in name) == count
    assert took < serial
    assert together.leftovers() == []
    assert together("fsck", check=False).returncode == 0
    print(f"{count} builds together: {took:.1f} s; one after another: {serial:.1f} s")


def test_a_build_that_waits_for_another_follows_ctrl_c(tmp_path, bases, context):
    lap = Lap(tmp_path / "root", bases)
    project = context({"Dockerfile": "FROM busybox\nRUN sleep 20\n"})
    words = [*lap.command, "build", "--progress=plain", str(project)]
    first = subprocess.Popen(words, env=lap.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if "RUN sleep 20" in line:
            break
    second = subprocess.Popen(words, env=lap.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)
    assert second.poll() is None
    began = time.monotonic()
    os.kill(second.pid, signal.SIGINT)
    assert second.wait(10) == 130
    assert time.monotonic() - began < 3
    assert first.poll() is None  # the one it waited for goes on
    os.kill(first.pid, signal.SIGINT)
    first.wait(20)
    first.stderr.close()
    assert lap.leftovers() == []


@pytest.mark.parametrize("where", ["base", "cache"])
def test_a_registry_that_never_answers_does_not_hold_ctrl_c(tmp_path, bases, context, where):
    lap = Lap(tmp_path / "root", bases)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"localhost:{silent.getsockname()[1]}"
        base = f"{host}/x" if where == "base" else "busybox"
        project = context({"Dockerfile": f"FROM {base}\nRUN true\n"})
        flags = [] if where == "base" else ["--cache-to", f"type=registry,ref={host}/cache:x"]
        child = subprocess.Popen(
            [*lap.command, "build", *flags, str(project)],
            env=lap.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.5)
            began = time.monotonic()
            os.kill(child.pid, signal.SIGINT)
            assert child.wait(20) == 130
            assert time.monotonic() - began < 3
    assert lap.leftovers() == []
