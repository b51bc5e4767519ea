"""The rungs of isolation: chosen automatically, said, and never silently weaker than said."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.conftest import PROJECT, need

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="takes rights away from root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="system call numbers of x86_64"),
]
STATUS = "FROM busybox\nRUN cat /proc/self/status > /status 2>/dev/null; readlink /proc/self/ns/mnt > /ns; id -u > /uid\n"
DOCKER = 0xA80425FB


@pytest.fixture
def confined(lap):
    def run(
        *words: object, deny: tuple[str, ...] = (), container: bool = False
    ) -> subprocess.CompletedProcess[str]:
        options = [*deny, *(["--container"] if container else [])]
        script = PROJECT / "tests" / "e2e" / "confined.py"
        return subprocess.run(
            [sys.executable, script, *options, "--", *lap.command, *map(str, words)],
            env=lap.env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    return next((li.split("sandbox: ")[1] for li in done.stderr.splitlines() if "sandbox: " in li), "")


def files(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as tar:
        return {n: tar.extractfile(n).read().decode() for n in ("status", "ns", "uid")}


@pytest.mark.parametrize(
    "call",
    """clone3 unshare mount umount2 fsopen fsconfig fsmount move_mount open_tree mount_setattr pivot_root setns sethostname
    capset prctl:22 prctl:24 prctl:1 setresuid openat2 close_range setsid memfd_create pidfd_open""".split(),
)
def test_a_setup_call_that_fails(confined, context, tmp_path, call):
    """The build stops, or what runs has all that was said."""
    done = confined("build", "--progress=plain", "-o", f"type=tar,dest={tmp_path}/t.tar", context({"Dockerfile": STATUS}), deny=(call,))  # fmt: skip
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert "ERROR" in done.stderr
        return
    rung, seen = said(done), files(tmp_path / "t.tar")
    assert rung, done.stderr
    if rung.startswith("chroot, because "):
        assert seen["status"] == ""  # no /proc
        return
    assert rung.startswith("namespaces")
    status = dict(line.split(":\t", 1) for line in seen["status"].splitlines() if ":\t" in line)
    assert {int(status[n], 16) for n in ("CapPrm", "CapEff", "CapBnd")} == {DOCKER}
    assert status["Seccomp"].strip() == "2" and status["Pid"].strip() in "12345"
    assert seen["ns"].strip() not in ("", os.readlink("/proc/self/ns/mnt"))


def test_in_a_container_that_allows_user_namespaces(confined, context, tmp_path):
    directory = context({"Dockerfile": STATUS + "RUN echo x > /f && chown 5:6 /f\n"})
    done = confined(
        "build", "--progress=plain", "-o", f"type=tar,dest={tmp_path}/t.tar", directory, container=True
    )
    assert done.returncode == 0, done.stderr
    assert said(done).startswith("namespaces, own user namespace"), done.stderr
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert (tar.getmember("f").uid, tar.getmember("f").gid) == (5, 6)


BLOCKED = ("unshare", "mount", "setns", "fsopen", "open_tree", "clone3")  # as Docker's default profile does


def test_in_a_container_that_blocks_namespaces(confined, context, tmp_path):
    text = (
        STATUS
        + "COPY a /a\nRUN echo x > /f && chown 5:6 /f && cat /a /etc/hosts > /both && echo > /dev/null\n"
    )
    directory = context({"Dockerfile": text, "a": "from context\n"})
    flags = ("build", "--progress=plain", "-o", f"type=tar,dest={tmp_path}/t.tar")
    done = confined(*flags, directory, deny=BLOCKED, container=True)
    assert done.returncode == 0, done.stderr
    assert said(done).startswith("chroot, because "), done.stderr
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert (tar.getmember("f").uid, tar.getmember("f").gid) == (5, 6)
        assert (
            b"from context" in tar.extractfile("both").read()
            and b"localhost" in tar.extractfile("both").read()
        )
        assert not [n for n in tar.getnames() if n.startswith("dev/")]
    refused = confined(
        *flags, "--no-cache", "--min-isolation=namespaces", directory, deny=BLOCKED, container=True
    )
    assert refused.returncode != 0
    assert "weaker than namespaces" in refused.stderr


def test_apt_in_a_container_that_blocks_namespaces(confined, context, packages_in_reach):
    directory = context({"Dockerfile": "FROM debian\nRUN apt-get update && apt-get install -y --no-install-recommends at\n"})  # fmt: skip
    done = confined("build", "--progress=plain", directory, deny=BLOCKED, container=True)
    assert done.returncode == 0, done.stderr


def test_where_nothing_can_run(confined, context, tmp_path):
    """Even then files can be copied; and a RUN says what is missing."""
    deny = (*BLOCKED, "chroot")
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nENV A=b\n", "a": "a"})
    done = confined("build", "-o", f"type=tar,dest={tmp_path}/t.tar", directory, deny=deny, container=True)
    assert done.returncode == 0, done.stderr
    other = context({"Dockerfile": "FROM busybox\nRUN true\n"}, "other")
    assert confined("build", other, deny=deny, container=True).returncode != 0


def test_min_isolation_for_root(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN true\n"})
    lap("build", "--min-isolation=namespaces", directory)
    done = lap("build", "--no-cache", "--min-isolation=userns", directory, check=False)
    assert done.returncode != 0 and "weaker than userns" in done.stderr
    assert lap("build", "--min-isolation=strong", "--no-cache", directory, check=False).returncode != 0


PODMAN = """umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup
exec podman run --rm --cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --network=host \\
  -e PYTHONPATH -e LAPSTRAKE_CONFIG -e PYTHONDONTWRITEBYTECODE=1 --rootfs /:O "$@"
"""  # crun refuses hybrid cgroups


def test_in_a_container_of_podman(lap, context, tmp_path):
    """Its default capabilities and seccomp filter, this machine's files as its own; no flags for us."""
    need("podman", "unshare")
    words = ["unshare", "-m", "sh", "-c", PODMAN, "sh"]
    trial = subprocess.run([*words, "true"], capture_output=True, text=True, check=False, env=lap.env)
    if trial.returncode:
        pytest.skip(f"podman can't run here: {trial.stderr[-200:]}")
    script = "cat /proc/[0-9]*/environ > /seen 2>/dev/null; grep Cap /proc/self/status > /caps; echo x > /f && chown 5:6 /f"
    directory = context({"Dockerfile": f"FROM busybox\nRUN {script}\n"})
    flags = ("--root", "/root/store", "build", "--progress=plain", "-o", "type=tar,dest=-", directory)
    done = subprocess.run([*words, *lap.command, *flags], env={**lap.env, "CANARY": "c4n4ry"}, capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"sandbox: namespaces, own user namespace" in done.stderr, done.stderr.decode()
    (tmp_path / "t.tar").write_bytes(done.stdout)
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert (tar.getmember("f").uid, tar.getmember("f").gid) == (5, 6)
        assert b"PYTHONPATH" not in tar.extractfile("seen").read()  # the builder's environment
        caps = dict(line.split(b":\t") for line in tar.extractfile("caps").read().splitlines())
        assert {int(caps[n], 16) for n in (b"CapPrm", b"CapEff", b"CapBnd")} == {DOCKER}
