"""A builder with a node on another machine: a real sshd on loopback, with a root of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time

import pytest
from tests.conftest import Lap, need
from tests.e2e.images import is_of_platform, platforms, raw, tool, unpack

pytestmark = pytest.mark.e2e

TEXT = """\
FROM busybox
COPY . /src
ARG WHO
RUN --mount=type=secret,id=s,env=S read text < /src/d/f || true; echo "$(uname -m) $WHO $text $S" > /out
CMD ["cat", "/out"]
"""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def ssh_config(tmp_path_factory):
    """An ssh client configuration that reaches a server of our own as this user."""
    need("ssh", "ssh-keygen")
    sshd = "/usr/sbin/sshd"
    if not os.path.exists(sshd) or os.geteuid() != 0:
        pytest.skip("needs sshd and root to start it")
    home = tmp_path_factory.mktemp("sshd")
    home.chmod(0o700)
    for name in ("host", "user"):
        tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name)
    (home / "authorized").write_text((home / "user.pub").read_text())
    port = _free_port()
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile {home}/pid\nPermitRootLogin yes\n"
    )
    (home / "config").write_text(
        f"Host *\n  IdentityFile {home}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {home}/known\n"
        f"  StrictHostKeyChecking accept-new\n  Port {port}\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)
    server = subprocess.Popen([sshd, "-D", "-f", str(home / "sshd_config")], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield home / "config"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def farm(lap, ssh_config, tmp_path, bases):
    """A builder `farm`: this machine, and a node that claims arm64."""
    far = tmp_path / "far"
    wrapper = tmp_path / "far-lapstrake"
    words = " ".join(lap.command)
    wrapper.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={lap.env["PYTHONPATH"]} LAPSTRAKE_CONFIG={bases}\nexec {words} "$@"\n'
    )
    wrapper.chmod(0o755)
    lap("create", "--name", "farm", "--use")
    lap("create", "--name", "farm", "--append", "--node", "far", "--platform", "linux/arm64", "--bootstrap",
        "--driver-opt", f"ssh-config={ssh_config}", "--driver-opt", f"command={wrapper}",
        "--driver-opt", f"root={far}", "ssh://localhost")  # fmt: skip
    yield Lap(far, bases)
    assert Lap(far, bases).leftovers() == []


def test_each_platform_is_built_where_it_is_native(lap, farm, context, tmp_path):
    directory = context(
        {"Dockerfile": TEXT, "d/f": "content", "skipped": "x", ".dockerignore": "skipped\n", "empty": ""}
    )
    layout, files = tmp_path / "layout", tmp_path / "files"
    flags = ("--platform", "linux/amd64,linux/arm64", "--build-arg", "WHO=me", "--secret", "id=s,env=SECRET", "-t", "both",
             "-o", f"type=oci,dest={layout},tar=false,name=both", "-o", f"type=local,dest={files}", directory)  # fmt: skip
    lap("build", *flags, env={"SECRET": "hush"})
    index = raw(f"oci:{layout}:latest")
    assert platforms(index) == ["linux/amd64", "linux/arm64"]
    assert (files / "linux_amd64" / "out").read_text() == "x86_64 me content hush\n"
    assert (files / "linux_arm64" / "out").read_text() == "aarch64 me content hush\n"
    assert is_of_platform(files / "linux_arm64" / "bin" / "busybox", "linux/arm64")
    assert not (files / "linux_arm64" / "src" / "skipped").exists()
    tool("skopeo", "copy", "-q", "--all", f"oci:{layout}:latest", f"dir:{tmp_path}/copy")
    # the arm64 steps ran there and only there, and are cached there
    there = farm("du").stdout
    assert there and "busybox" not in lap("why", "RUN", check=False).stderr
    again = lap.build(*flags[-1:], *flags[:-1], env={"SECRET": "hush"})
    assert [s for s in again if s.ran and s.name.startswith("[linux")] == []
    assert raw(f"oci:{layout}:latest") == index


def test_a_failure_there_is_told_here(lap, farm, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN echo far away; test $(uname -m) != aarch64\n"})
    done = lap("build", "--platform", "linux/arm64", directory, check=False)
    assert done.returncode == 1
    for part in ("far away", "Dockerfile:2", "did not complete successfully: exit code: 1"):
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_that_does_not_answer(lap, ssh_config, context):
    lap("create", "--name", "gone", "--driver-opt", f"ssh-config={ssh_config}", "--driver-opt", "command=/nothing/here",
        "ssh://localhost")  # fmt: skip
    done = lap("build", "--builder", "gone", context({"Dockerfile": "FROM busybox\n"}), check=False)
    assert done.returncode == 1
    assert "node gone0: ssh://localhost does not answer" in done.stderr
    assert "/nothing/here" in done.stderr
    assert "Status:        error" in lap("inspect", "gone", "--bootstrap").stdout


@pytest.mark.parametrize(
    "endpoint", ["ssh://-oProxyCommand=x", "ssh://u@-x", "ssh://a b", "ssh://", "ssh://h:x"]
)
def test_endpoints_are_no_options(lap, endpoint):
    done = lap("create", "--name", "bad", endpoint, check=False)
    assert done.returncode == 2
    assert "invalid endpoint" in done.stderr


def test_the_image_runs_elsewhere_too(lap, farm, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nRUN uname -m > /m\n"})
    out = tmp_path / "layout"
    lap("build", "--platform", "linux/arm64", "-o", f"type=oci,dest={out},tar=false,name=far", directory)
    assert (unpack(out, "latest", tmp_path / "bundle") / "m").read_text() == "aarch64\n"
