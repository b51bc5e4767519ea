"""Steps that fail, take too long or eat too much; and going back into them."""

from __future__ import annotations

import os
import pty
import subprocess
import time

import pytest

pytestmark = pytest.mark.e2e

BROKEN = """FROM busybox AS other
RUN mkdir /o && echo from-other > /o/f
FROM busybox
ENV COLOUR=blue
WORKDIR /work/here
RUN --mount=type=secret,id=token,env=TOKEN --mount=type=bind,from=other,source=/o,target=/other \\
    --mount=type=secret,id=token,target=/run/token echo half > done; test -s /run/token; false
"""


@pytest.fixture
def broken(lap, context, tmp_path):
    (tmp_path / "token").write_text("s3cr3t-canary")
    done = lap(
        "build", "--on-fail=save", "--secret", f"id=token,src={tmp_path}/token", context({"Dockerfile": BROKEN}), check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert "lapstrake debug" in done.stderr
    return done


def test_again_inside_the_failed_step(lap, broken):
    script = "pwd; echo $COLOUR; cat done; cat /other/f; id -u; echo [$TOKEN]; ls /run; echo more >> done"
    done = lap("debug", "--", "sh", "-c", script)
    assert done.stdout == "/work/here\nblue\nhalf\nfrom-other\n0\n[]\n"
    assert "without the secrets at /run/token" in done.stderr
    assert lap("debug", "--", "cat", "done").stdout == "half\nmore\n"  # what is changed there stays
    assert lap("debug", "--retry", check=False).returncode == 1
    assert lap("debug", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    listed = lap("debug", "--list").stdout.split()[0]
    assert lap("debug", listed[:4], "--", "echo", "hi").stdout == "hi\n"
    wrong = lap("debug", "zz", check=False)
    assert wrong.returncode != 0 and listed in wrong.stderr
    for parent, _, files in os.walk(lap.root / "failed"):
        for name in files:
            with open(os.path.join(parent, name), "rb") as file:
                assert b"s3cr3t-canary" not in file.read()


def test_nothing_is_kept_unasked(lap, context):
    assert lap("build", context({"Dockerfile": "FROM busybox\nRUN false\n"}), check=False).returncode == 1
    assert lap("debug", check=False).returncode == 1


def test_a_shell_at_once(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN echo here > /f; false\n"})
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*lap.command, "build", "--progress=plain", "--on-fail=shell", str(directory)],
        env={**lap.env, "TERM": "dumb"}, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    seen = _until(master, b"# ")
    os.write(master, b"cat /f; stty size; exit\n")
    seen += _until(master, b"lapstrake debug ")
    assert process.wait(20) == 1
    os.close(master)
    assert b"here" in seen


def _until(fd: int, mark: bytes) -> bytes:
    seen, end = b"", time.monotonic() + 20
    while mark not in seen and time.monotonic() < end:
        try:
            seen += os.read(fd, 4096)
        except OSError:
            break
    assert mark in seen, seen
    return seen


def test_a_step_may_take_only_so_long(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN sleep 60 & setsid sleep 61 & wait\n"})
    began = time.monotonic()
    done = lap("build", "--timeout", "1s", directory, check=False)
    assert time.monotonic() - began < 10
    assert done.returncode == 1
    assert "took longer than the 1." in done.stderr and "--timeout" in done.stderr


def test_out_of_memory_is_said(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN dd if=/dev/zero of=/dev/shm/x bs=1M count=60\n"})
    done = lap("build", "--resource", "memory=20m", directory, check=False)
    if "can't be applied" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 1
    assert "ran out of memory: peak " in done.stderr and " of 20.0 MiB" in done.stderr


def test_a_limit_that_cannot_be_applied_stops_the_build(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN true\n"})
    done = lap("build", "--resource", "cpuset-cpus=4000", directory, check=False)
    assert done.returncode != 0
    assert "resource limits can't be applied" in done.stderr


def test_what_stays_in_the_background_ends_with_its_step(lap, context):
    script = "(setsid sh -c 'sleep 77.123 & sleep 77.124' >/dev/null 2>&1 &) ; sleep 77.125 & echo done"
    directory = context({"Dockerfile": f"FROM busybox\nRUN {script}\nRUN echo next\n"})
    began = time.monotonic()
    for flags in ((), ("--isolation=oci",), ("--isolation=chroot",)):
        lap("build", "--no-cache", *flags, directory)
        assert subprocess.run(["pgrep", "-f", "sleep 77.12"], check=False, capture_output=True).stdout == b""
    assert time.monotonic() - began < 25


@pytest.mark.parametrize("isolation", ["namespaces", "oci", "chroot"])
def test_nothing_survives_a_killed_builder(lap, context, isolation):
    marker = f"88.{os.getpid() % 1000}{len(isolation)}"
    directory = context({"Dockerfile": f"FROM busybox\nRUN setsid sleep {marker} & sleep {marker}\n"})
    process = subprocess.Popen(
        [*lap.command, "build", f"--isolation={isolation}", str(directory)],
        env=lap.env,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(lambda: _found(marker))
    process.kill()
    process.wait()
    _wait_for(lambda: not _found(marker))


def _found(marker: str) -> bool:
    return (
        b"sleep"
        in subprocess.run(["pgrep", "-fl", f"^sleep {marker}"], check=False, capture_output=True).stdout
    )


def _wait_for(what) -> None:
    end = time.monotonic() + 15
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
