"""Full disks, read-only stores, few open files, jumping clocks: one clear error, and the next build works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Lap
from tests.e2e.images import tool

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM busybox AS a
RUN --mount=type=cache,target=/c mkdir /d && dd if=/dev/urandom of=/d/x bs=64k count=16 2>/dev/null && cp /d/x /c/x
FROM busybox
COPY --from=a /d /d
COPY data /data
RUN cat /data/* > /all && dd if=/dev/zero of=/z bs=64k count=8 2>/dev/null
WORKDIR /w
"""
NO_SPACE = ("No space left on device", "no space left", "disk is full", "Disk quota exceeded")


@pytest.fixture
def small(tmp_path: Path, bases: Path):
    """A root on a tmpfs of a size to be set; mounted in this test's own directory."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted: list[Path] = []

    def make(kib: int) -> Lap:
        place = tmp_path / f"small{len(mounted)}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=755", "none", place], check=True)
        mounted.append(place)
        return Lap(place / "root", bases)

    yield make
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def directory(context):
    return context({"Dockerfile": DOCKERFILE, **{f"data/{i}": f"{i}\n" * 4000 for i in range(40)}})


def told(stderr: str) -> bool:
    """One clear error: no traceback, and the cause by name."""
    return "Traceback" not in stderr and "This is a bug" not in stderr and any(t in stderr for t in NO_SPACE)


def sweep(small, directory: Path, out: Path, sizes: list[int]) -> dict[str, int]:
    """Build on disks of all these sizes, then give each more room and build again."""
    counts = {"failed": 0, "fine": 0}
    for kib in sizes:
        lap = small(kib)
        done = lap("build", directory, "-t", "x", "-o", f"type=oci,dest={out}.tar", check=False)
        if done.returncode:
            counts["failed"] += 1
            assert told(done.stderr), f"{kib} KiB:\n{done.stderr}"
        else:
            counts["fine"] += 1
        subprocess.run(["mount", "-o", "remount,size=256m", lap.root.parent], check=True)
        done = lap("build", directory, "-t", "x", "-o", f"type=oci,dest={out}.tar", check=False)
        assert done.returncode == 0, f"after {kib} KiB:\n{done.stderr}"
        tool("skopeo", "copy", "-q", f"oci-archive:{out}.tar", f"dir:{out}.dir")
        assert lap("fsck", check=False).stdout.endswith("no problems\n"), f"after {kib} KiB"
        assert lap.leftovers() == [] or all("tmpfs" in line for line in lap.leftovers())
    return counts


def test_a_full_disk_at_any_point(small, directory, tmp_path):
    counts = sweep(
        small,
        directory,
        tmp_path / "x",
        [64, 700, 2100, 3300, 4500, 5700, 7300, 12000],
    )
    assert counts["failed"] >= 5 and counts["fine"] >= 1, counts


@pytest.mark.soak
def test_a_full_disk_at_every_point(small, directory, tmp_path):
    print(sweep(small, directory, tmp_path / "x", list(range(40, 9_000, 180))))


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local", "layout"])
def test_a_full_destination(small, lap, directory, kind):
    lap.build(directory, "-t", "x")
    place = small(1500).root.parent
    dest = {"local": f"type=local,dest={place}/out", "layout": f"type=oci,tar=false,dest={place}/out"}
    spec = dest.get(kind, f"type={kind},dest={place}/out.tar")
    done = lap("build", directory, "-t", "x", "-o", spec, check=False)
    assert done.returncode == 1 and told(done.stderr), done.stderr
    if kind not in dest:
        assert os.listdir(place) == [], "half an archive was left"
    subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    lap.build(directory, "-t", "x", "-o", spec)


def test_a_store_that_cannot_be_written(small, directory):
    lap = small(65536)
    lap.build(directory, "-t", "x")
    subprocess.run(["mount", "-o", "remount,ro", lap.root.parent], check=True)
    done = lap("build", directory, "-t", "y", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr or "read-only" in done.stderr, done.stderr
    assert lap("images").returncode == 0
    assert lap("fsck", check=False).stdout.endswith("no problems\n")
    done = lap("prune", "-af", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    subprocess.run(["mount", "-o", "remount,rw", lap.root.parent], check=True)
    lap.build(directory, "-t", "y")


@pytest.mark.parametrize("limit", [8, 16, 24, 40])
def test_few_open_files(lap, directory, limit):
    code = (
        "import resource, os, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'lapstrake', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "build", "--progress=plain", str(directory), "-t", "x"],
        env=lap.env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "This is a bug" not in done.stderr, done.stderr
    assert done.returncode in (0, 1)
    lap.build(directory, "-t", "x")
    assert lap("fsck", check=False).stdout.endswith("no problems\n")


CLOCK = """
import runpy, sys, time
shift = float(sys.argv.pop(1))
real = time.time
time.time = lambda: real() + shift
time.time_ns = lambda: int((real() + shift) * 1e9)
sys.argv[0] = "lapstrake"
runpy.run_module("lapstrake", run_name="__main__")
"""


@pytest.mark.parametrize("shift", [-40 * 365 * 86400, 86400, 40 * 365 * 86400])
def test_the_clock_jumps(lap, directory, shift):
    def at(seconds: float, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CLOCK, str(seconds), *words],
            env=lap.env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    at(0, "build", str(directory), "-t", "x")
    again = at(shift, "build", "--progress=plain", str(directory), "-t", "x")
    assert "CACHED" in again and "RUN cat" in again
    at(shift, "build", "--no-cache", str(directory), "-t", "x")
    at(0, "du")
    at(shift, "du", "--verbose")
    at(0, "prune", "-f")
    at(0, "build", str(directory), "-t", "x")
    assert lap("fsck", check=False).stdout.endswith("no problems\n")
    shutil.rmtree(lap.root)
