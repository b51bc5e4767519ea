"""Builds as an ordinary user, with and without subordinate ids."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from tests.conftest import Lap, need
from tests.e2e.layers import facts, layer_digest

pytestmark = pytest.mark.e2e
UID = 4242


class Someone:
    """An ordinary user with a home of their own, in a mount namespace with its own passwd and subuid,
    so that the machine's files stay as they are."""

    def __init__(self, home: Path, config: Path, subordinate: bool) -> None:
        self.home = home
        entries = {
            "passwd": f"someone:x:{UID}:{UID}::{home}:/bin/sh\n",
            "group": f"someone:x:{UID}:\n",
            "subuid": "someone:200000:65536\n" if subordinate else "",
            "subgid": "someone:200000:65536\n" if subordinate else "",
        }
        binds = []
        for name, text in entries.items():
            base = Path(f"/etc/{name}").read_text() if name in ("passwd", "group") else ""
            (home / name).write_text(base + text)
            binds.append(f"mount --bind {home / name} /etc/{name}")
        if not os.path.exists("/dev/net/tun") or os.stat("/dev/net/tun").st_mode & 0o006 != 0o006:
            os.mknod(home / "tun", 0o020666, os.makedev(10, 200))  # as it is on most machines
            os.chmod(home / "tun", 0o666)
            binds.append(
                f"mkdir -p /dev/net && touch /dev/net/tun && mount --bind {home / 'tun'} /dev/net/tun"
            )
        (home / "config.toml").write_text(config.read_text())
        program = Lap(home / "root", home / "config.toml")
        self.env = {**program.env, "HOME": str(home), "XDG_RUNTIME_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
        script = " && ".join([*binds, f'exec setpriv --reuid={UID} --regid={UID} --clear-groups "$@"'])
        self.words = ["unshare", "-m", "sh", "-c", script, "sh"]
        self.command = program.command
        self.leftovers = program.leftovers

    def run(self, *words: object, check: bool = True, **kw) -> subprocess.CompletedProcess[str]:
        """Run any program as this user."""
        done = subprocess.run(
            [*self.words, *map(str, words)], env=self.env, capture_output=True, text=True, timeout=300,
            stdin=subprocess.DEVNULL, check=False, cwd=self.home, **kw,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    def __call__(self, *words: object, check: bool = True, **kw) -> subprocess.CompletedProcess[str]:
        """Run lapstrake as this user."""
        return self.run(*self.command, *words, check=check, **kw)

    def context(self, text: str) -> Path:
        directory = Path(tempfile.mkdtemp(dir=self.home))
        (directory / "Dockerfile").write_text(text)
        (directory / "a").write_text("a")
        directory.chmod(0o755)
        return directory


@pytest.fixture(params=[True, False], ids=["subordinate ids", "one id"])
def someone(request, bases):
    if os.geteuid() != 0:
        pytest.skip("starts as root to become somebody else")
    need("unshare", "setpriv", "newuidmap")
    home = Path(
        tempfile.mkdtemp(prefix="lapstrake-home-", dir="/var/tmp")
    )  # pytest keeps its own from others
    os.chown(home, UID, UID)
    user = Someone(home, bases, request.param)
    user.subordinate = request.param
    reach = user.run(sys.executable, "-c", "import lapstrake", check=False)
    if reach.returncode:
        pytest.skip(f"an ordinary user cannot read the checkout: {reach.stderr[-200:]}")
    yield user
    assert user.leftovers() == []
    shutil.rmtree(home)


def test_a_build_and_a_run(someone):
    directory = someone.context(
        "FROM busybox\nRUN echo mine > /mine && id -u > /uid && mkdir /d\nCOPY --chown=5:6 a /a\nRUN chown 7:7 /mine\n"
    )
    home = someone.home
    done = someone(
        "build", "--progress=plain", "-t", "mine", "-o", "type=image", "-o", f"type=oci,dest={home}/out.tar",
        "-o", f"type=tar,dest={home}/files.tar", directory,
    )  # fmt: skip
    said = next(line for line in done.stderr.splitlines() if "[internal] sandbox:" in line)
    assert ("single id" in said) != someone.subordinate
    with tarfile.open(home / "files.tar") as tar:
        owners = {name: (tar.getmember(name).uid, tar.getmember(name).gid) for name in ("mine", "a", "d")}
        assert owners == {"mine": (7, 7), "a": (5, 6), "d": (0, 0)}
        assert tar.extractfile("uid").read() == b"0\n"
    assert someone("run", "mine", "cat", "/mine").stdout == "mine\n"


def test_a_private_network(someone):
    need("pasta")
    directory = someone.context("FROM busybox\nRUN ls /sys/class/net > /net\n")
    done = someone("build", "--progress=plain", "-o", f"type=tar,dest={someone.home}/files.tar", directory)
    assert "private network" in done.stderr and "host's network" not in done.stderr
    with tarfile.open(someone.home / "files.tar") as tar:
        names = tar.extractfile("net").read().decode().split()
    assert "lo" in names and len(names) == 2 and len(os.listdir("/sys/class/net")) > 2


DEBIAN = """FROM debian
RUN apt-get update && apt-get install -y --no-install-recommends openssh-client at \\
 && rm -rf /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache /var/lib/apt/lists/*
"""


def test_debian_packages_come_out_as_for_root(someone, lap, packages_in_reach):
    """Set-id programs, groups made by postinst, directories of daemons: byte for byte the same layer."""
    directory = someone.context(DEBIAN)
    flags = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--progress=plain")
    out = "type=oci,tar=false,rewrite-timestamp=true,dest="
    lap("build", *flags, "-o", f"{out}{someone.home}/of-root", directory)
    someone("build", *flags, "-o", f"{out}{someone.home}/mine", directory)
    theirs, mine = facts(someone.home / "of-root"), facts(someone.home / "mine")
    assert {n: (f, mine.get(n)) for n, f in theirs.items() if mine.get(n) != f} == {}
    assert {f[2:4] for f in mine.values()} > {(0, 0), (0, 42), (1, 1)}
    assert layer_digest(someone.home / "of-root") == layer_digest(someone.home / "mine")


def test_a_step_of_an_ordinary_user_owns_what_it_makes(someone):
    directory = someone.context(
        "FROM busybox\nRUN echo u:x:5:6::/:/bin/sh >> /etc/passwd && mkdir /w && chown 5:6 /w && echo a > /w/old\n"
        "USER u\nRUN id -u > /w/id && id -g >> /w/id && mkdir /w/d && echo b > /w/d/new && ln -s d /w/l\n"
    )
    someone("build", "-o", f"type=tar,dest={someone.home}/files.tar", directory)
    with tarfile.open(someone.home / "files.tar") as tar:
        assert tar.extractfile("w/id").read() == b"5\n6\n"
        owners = {m.name: (m.uid, m.gid) for m in tar if m.name.startswith(("w", "tmp"))}
    link = owners.pop("w/l")
    assert link == ((5, 6) if someone.subordinate else (0, 0))  # a link can't hold a note: docs/rootless.md
    assert owners == {
        "w": (5, 6), "w/old": (0, 0), "w/id": (5, 6), "w/d": (5, 6), "w/d/new": (5, 6), "tmp": (0, 0),
    }  # fmt: skip


def test_owners_are_seen_where_files_are_rewritten(someone):
    if someone.subordinate:
        pytest.skip("the kernel's own owners are seen")
    script = (
        "touch /f && chown 5:6 /f && chmod 4755 /f && mknod /n c 1 3 && sed -i s/a/b/ /f && ! chown 1:1 /none"
    )
    directory = someone.context(f"FROM debian\nRUN {script}\n")
    someone("build", "-o", f"type=tar,dest={someone.home}/files.tar", directory)
    with tarfile.open(someone.home / "files.tar") as tar:
        seen = {n: (tar.getmember(n).uid, tar.getmember(n).gid, tar.getmember(n).type) for n in ("f", "n")}
    assert seen == {"f": (5, 6, tarfile.REGTYPE), "n": (0, 0, tarfile.CHRTYPE)}


def test_the_store_is_tied_to_its_ids(someone, lap):
    directory = someone.context("FROM busybox\nRUN true\n")
    someone("build", directory)
    done = lap("--root", someone.home / "root", "build", directory, check=False)
    assert done.returncode != 0
    assert "other user ids" in done.stderr


def test_min_isolation_of_an_ordinary_user(someone):
    directory = someone.context("FROM busybox\nRUN true\n")
    someone("build", "--min-isolation=userns", directory)


def test_another_architecture(someone):
    """Registered for the step only; scripts whose interpreter is a script work too."""
    need("qemu-aarch64-static")
    directory = someone.context(
        "FROM busybox\nRUN printf '#!/b\\n' > /a && printf '#!/bin/sh\\necho nested $1\\n' > /b && chmod +x /a /b\n"
        "RUN (/a; uname -m; id -u) > /said && chown 5:6 /said\n"
    )
    done = someone("build", "--platform=linux/arm64", "-o", f"type=tar,dest={someone.home}/files.tar", directory, check=False)  # fmt: skip
    if "6.7" in done.stderr:
        pytest.skip("needs Linux 6.7")
    assert done.returncode == 0, done.stderr
    with tarfile.open(someone.home / "files.tar") as tar:
        assert tar.extractfile("said").read().split() == [b"nested", b"/a", b"aarch64", b"0"]
        assert (tar.getmember("said").uid, tar.getmember("said").gid) == (5, 6)


def test_doctor(someone):
    checks = {c["name"]: c for c in json.loads(someone("doctor", "--json").stdout)}
    assert checks["namespaces"]["ok"] and checks["subordinate ids"]["ok"] == someone.subordinate
    assert all(c["ok"] or c["fix"] for c in checks.values())


API = """
import sys, threading, lapstrake
seen = []
result = lapstrake.build(sys.argv[1], on_event=seen.append)
print(result.digest, len(seen) > 3, threading.active_count())
try:
    lapstrake.build(sys.argv[1], target="none")
except lapstrake.BuildError as error:
    print(type(error).__name__, error.message)
import os
print(os.getuid())
"""


def test_the_python_api(someone):
    directory = someone.context("FROM busybox\nRUN id -u\n")
    lines = someone.run(sys.executable, "-c", API, directory).stdout.splitlines()
    assert lines[0].startswith("sha256:") and lines[0].endswith(" True 1")
    assert "none" in lines[1] and lines[2] == str(UID)
