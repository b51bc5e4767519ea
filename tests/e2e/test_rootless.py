"""Builds as an ordinary user, with and without subordinate ids."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from tests.conftest import Lap, need

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
        mine = (7, 7) if someone.subordinate else (0, 0)
        assert owners == {"mine": mine, "a": (5, 6), "d": (0, 0)}
        assert tar.extractfile("uid").read() == b"0\n"
    assert someone("run", "mine", "cat", "/mine").stdout == "mine\n"
