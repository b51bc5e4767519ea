"""Whole builds that pull from and push to guarded, private and failing registries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lapstrake.testing.faultproxy import FaultProxy
from lapstrake.testing.httpfaults import FaultServer
from lapstrake.testing.registry import Registry, free_port
from lapstrake.testing.tokens import TokenIssuer

pytestmark = pytest.mark.e2e


@pytest.fixture
def lap(lap):
    """The program, with exit codes that say what failed."""
    lap.env["LAPSTRAKE_EXIT_CODES"] = "detailed"
    return lap


DOCKERFILE = "FROM busybox\nRUN echo one > /one\nCOPY . /src\nRUN echo two > /two\n"


def test_tls_passwords_and_a_directory_of_certificates(lap, context, tmp_path):
    directory = context({"Dockerfile": DOCKERFILE, "a": "a"})
    certificates = tmp_path / "certs"
    certificates.mkdir()
    with Registry(tls=True, htpasswd={"ann": "secret"}) as r:
        name = f"{r.host}/team/app:1"
        (certificates / "ca.crt").write_bytes(Path(r.ca).read_bytes())
        build = ["build", "--progress=plain", "--push", "-t", name, directory]
        unknown = lap(*build, check=False)
        assert unknown.returncode == 5 and "self-signed certificate" in unknown.stderr
        stranger = lap(*build, "--cert-dir", certificates, check=False)
        assert stranger.returncode == 4 and "docker login" in stranger.stderr
        done = lap("push", name, "--cert-dir", certificates, "--creds", "ann:secret")  # not built again
        digest = done.stdout.rpartition("digest: ")[2].split()[0]
        again = lap(
            *build, "--cert-dir", certificates, "--creds", "ann:secret", "--metadata-file", tmp_path / "m"
        )
        assert json.loads((tmp_path / "m").read_text())["containerimage.digest"] == digest
        assert "secret" not in again.stderr + done.stdout
        # as a base image: credentials only for the registry they were given for
        child = context({"Dockerfile": f"FROM {name}\nRUN cat /one /two\n"}, "child")
        other = {"LAPSTRAKE_ROOT": str(tmp_path / "root" / "other")}
        refused = lap(
            "build",
            "--cert-dir",
            certificates,
            "--creds",
            "other.example=ann:secret",
            child,
            check=False,
            env=other,
        )
        assert refused.returncode == 4 and "pull access denied" in refused.stderr
        lap("build", "--cert-dir", certificates, "--creds", f"{r.host}=ann:secret", child, env=other)


def test_tokens_from_a_file(lap, context, tmp_path):
    directory = context({"Dockerfile": DOCKERFILE})
    with FaultServer() as server:
        issuer = TokenIssuer(str(tmp_path), {"ann": "secret"})
        issuer.serve(server)
        with Registry(token=issuer.auth(server.url)) as r:
            authfile = tmp_path / "auth.json"
            authfile.write_text(json.dumps({"auths": {f"{r.host}/team": {"auth": "YW5uOnNlY3JldA=="}}}))
            env = {"REGISTRY_AUTH_FILE": str(authfile)}
            lap("build", "--push", "-t", f"{r.host}/team/app:1", directory, env=env)
            denied = lap("build", "--push", "-t", f"{r.host}/public/app:1", directory, env=env, check=False)
            assert denied.returncode == 4
            lap("imagetools", "create", "-t", f"{r.host}/team/copy:1", f"{r.host}/team/app:1", env=env)
            assert lap("imagetools", "inspect", f"{r.host}/team/copy:1", env=env).stdout.startswith("Name:")


def test_a_build_is_pushed_through_a_storm(lap, context):
    lines = ["FROM busybox", *(f"RUN echo {n} > /f{n}" for n in range(8))]
    directory = context({"Dockerfile": "\n".join(lines)})
    with Registry() as r, FaultProxy(r.host, share=0.3, seed=11) as proxy:
        lap("build", "--push", "-t", f"{proxy.host}/storm:1", directory)
        assert sum(proxy.count.values()) > 5
        assert (
            len(json.loads(lap("imagetools", "inspect", "--raw", f"{r.host}/storm:1").stdout)["layers"]) == 9
        )


def test_a_registry_that_is_down_costs_no_rebuild(lap, context):
    directory = context({"Dockerfile": DOCKERFILE})
    port = free_port()
    name = f"127.0.0.1:{port}/app:1"
    failed = lap("build", "--push", "-t", name, directory, check=False)
    assert failed.returncode == 5 and "lapstrake push" in failed.stderr
    with Registry() as r, FaultProxy(r.host, share=0, port=port):
        lap("push", name)
        assert lap("imagetools", "inspect", name).returncode == 0
