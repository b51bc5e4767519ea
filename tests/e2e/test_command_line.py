"""The program as users of docker drive it: through the docker client's plugin, with source policies, by git labels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest
from tests.conftest import PROJECT, need
from tests.e2e.servers import http_files

pytestmark = pytest.mark.e2e

SMALL = {"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "a"}


class Docker:
    """The docker client, without an engine, with Lapstrake as its plugin in a home of its own."""

    def __init__(self, lap, home):
        need("docker")
        self.cwd = home
        self.env = {**lap.env, "HOME": str(home), "DOCKER_HOST": f"unix://{home}/nothing.sock"}
        plugin = home / ".docker/cli-plugins/docker-buildx"
        plugin.parent.mkdir(parents=True)
        plugin.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(PROJECT / 'src')!r})\n"
            "from lapstrake.cli.main import main\nsys.exit(main())\n"
        )
        plugin.chmod(0o755)

    def __call__(self, *words, code=0, env=None, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            ["docker", *map(str, words)], capture_output=True, text=True, cwd=self.cwd,
            env={**self.env, **(env or {})}, timeout=120, check=False, **kw,
        )  # fmt: skip
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done


@pytest.fixture
def docker(lap, tmp_path):
    (tmp_path / "home").mkdir()
    return Docker(lap, tmp_path / "home")


def test_docker_builds_in_every_way_it_is_asked(docker, context, tmp_path):
    directory = context(SMALL)
    first = docker("build", "-t", "app:1", "--rm", "--force-rm", "--compress", directory)
    assert 'building with "default" instance' in first.stderr
    image = docker("buildx", "build", "-q", directory).stdout
    assert image.startswith("sha256:")
    archive = tmp_path / "context.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(directory, ".")
    for words in (
        ["image", "build", "-q", directory],
        ["builder", "build", "-q", directory],
        ["--context", "default", "buildx", "build", "-q", directory],
        ["-D", "buildx", "build", "-q", directory],
        ["buildx", "--builder", "default", "build", "-q", directory],
        ["buildx", "b", "--builder=default", "-q", directory],
    ):
        assert docker(*words).stdout == image, words
    with archive.open("rb") as file:
        assert docker("build", "-q", "-", stdin=file).stdout == image
    with (directory / "Dockerfile").open("rb") as file:
        assert docker("build", "-q", "-f", "-", directory, stdin=file).stdout == image


def test_docker_manages_builders_and_is_told_what_is_wrong(docker, context):
    directory = context(SMALL)
    name = docker("buildx", "create", "--use").stdout.strip()
    assert f"{name}*" in docker("buildx", "ls").stdout
    assert docker("buildx", "inspect", "--bootstrap").stdout.startswith(f"Name:          {name}\n")
    assert docker("buildx", "inspect", env={"BUILDX_BUILDER": "default"}).stdout.startswith(
        "Name:          default\n"
    )
    assert docker("buildx", "rm").stdout == f"{name} removed\n"
    for words, code, message in (
        (["buildx", "inspect", "nope"], 1, 'ERROR: no builder "nope" found'),
        (["buildx", "build", "--builder", "nope", directory], 1, 'ERROR: no builder "nope" found'),
        (["buildx", "build", directory], 1, 'ERROR: no builder "nope" found'),
        (["buildx", "bogus"], 2, "ERROR: unknown command: bogus"),
        (["build", "--bogus", "."], 2, "ERROR: unknown flag: --bogus"),
        (["build"], 2, "ERROR: please specify build context"),
    ):
        env = {"BUILDX_BUILDER": "nope"} if words[-1] == directory and len(words) == 3 else None
        assert docker(*words, code=code, env=env).stderr.startswith(message), words
    version = docker("buildx", "version").stdout.split()
    assert version[0] == "lapstrake/buildx"
    assert version[1].startswith("v")


def rules(path, *given):
    path.write_text(json.dumps({"rules": list(given)}))
    return path


def test_source_policies_hold_for_images_and_downloads(lap, context, tmp_path):
    deny = rules(
        tmp_path / "deny.json", {"action": "DENY", "selector": {"identifier": "docker-image://*/busybox:*"}}
    )
    directory = context(SMALL)
    lap("build", directory)  # cached from now on, and forbidden all the same
    for more, env in (
        (["--source-policy-file", deny], {}),
        ([], {"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(deny)}),
    ):
        done = lap("build", *more, directory, check=False, env=env)
        assert done.returncode == 1
        assert (
            'failed to solve: source "docker-image://docker.io/library/busybox:latest" denied by policy'
            in done.stderr
        )
        assert ">>> FROM busybox" in done.stderr
    scratch = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}, "scanned")
    scan = ["-o", f"type=oci,dest={tmp_path}/o.tar", "--sbom=generator=busybox"]
    done = lap("build", *scan, "--source-policy-file", deny, scratch, check=False)
    assert 'busybox:latest" denied by policy' in done.stderr  # a scanner is an image like others
    convert = {
        "action": "CONVERT",
        "selector": {"identifier": "docker-image://docker.io/library/busybox:*"},
        "updates": {"identifier": "docker-image://docker.io/library/alpine:$1"},
    }
    steps = lap.build(directory, "--source-policy-file", rules(tmp_path / "convert.json", convert))
    assert any("FROM docker.io/library/alpine:latest@" in v.name for v in steps)
    with http_files({"/f": b"content"}) as url:
        checked = {
            "action": "CONVERT",
            "selector": {"identifier": f"{url}/f", "matchType": "EXACT"},
            "updates": {"attrs": {"http.checksum": "sha256:" + "0" * 64}},
        }
        policy = rules(tmp_path / "sum.json", checked)
        directory = context({"Dockerfile": f"FROM scratch\nADD {url}/f /\n"}, "download")
        lap("build", directory)
        done = lap("build", "--source-policy-file", policy, directory, check=False)
        assert "digest mismatch" in done.stderr
        assert done.returncode == 1


def test_git_labels_and_what_buildah_changes_of_an_image(lap, context):
    need("git")
    directory = context({"sub/Dockerfile": "FROM busybox\nLABEL a=1\n"})
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-C", str(directory)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    for words in (
        ["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["remote", "add", "origin", "https://u:pw@example.com/r.git"],
    ):  # fmt: skip
        subprocess.run([*git, *words], check=True, env=env)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, env=env, capture_output=True, text=True
    ).stdout.strip()
    flags = ["-t", "l:1", "--env", "X=1", "--unsetenv", "PATH", directory / "sub"]
    lap("build", *flags, env={"BUILDX_GIT_LABELS": "1"})
    config = json.loads(lap("inspect", "l:1").stdout)
    found = json.dumps(config)
    assert f'"org.opencontainers.image.revision": "{head}"' in found
    assert '"org.opencontainers.image.source": "https://example.com/r.git"' in found
    assert '"com.docker.image.source.entrypoint": "sub/Dockerfile"' in found
    assert '"Env": ["X=1"]' in found
    assert "pw@" not in found
    shutil.rmtree(directory / ".git")
    dockerfile = context({"Dockerfile": "FROM l:1\n"}, "next")
    lap("build", "-t", "l:2", "--inherit-labels=false", dockerfile)
    assert "revision" not in lap("inspect", "l:2").stdout


def test_a_containerfile_stands_in_for_a_dockerfile_that_is_not_there(lap, context, tmp_path):
    files = {
        "Containerfile": "FROM scratch\nCOPY . /\n",
        ".containerignore": "y\n*file\n.*\n",
        "x": "",
        "y": "",
    }
    lap("build", "-o", tmp_path / "one", context(files))
    assert os.listdir(tmp_path / "one") == ["x"]
    files |= {"Dockerfile": "FROM scratch\nCOPY x /first\n", ".dockerignore": "y\n"}
    lap("build", "-o", tmp_path / "two", context(files, "both"))
    assert os.listdir(tmp_path / "two") == ["first"]


def test_host_gateway_is_said_to_be_out_of_reach_of_a_private_network(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nRUN grep -q '^127.0.0.1.*gate$' /etc/hosts\n"})
    done = lap("build", "--add-host", "gate:host-gateway", directory)
    assert "WARNING: host-gateway: steps reach the host with --network=host only" in done.stderr
