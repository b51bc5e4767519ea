"""Bake with real images: several targets as one build, matrices, links on every way and platform."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.conftest import vertices
from tests.e2e.images import platforms, raw

pytestmark = pytest.mark.e2e


def test_a_matrix_shares_its_steps_and_links_are_built_first(lap, context, tmp_path):
    directory = context(
        {
            "docker-bake.hcl": """
                variable "TAG" { default = "dev" }
                group "default" { targets = ["app", "tool"] }
                target "base" {
                  dockerfile-inline = "FROM busybox\\nRUN echo slow > /base\\nENV FROM_BASE=yes"
                }
                target "app" {
                  name = "app-${v}"
                  matrix = { v = ["one", "two"] }
                  contexts = { base = "target:base" }
                  args = { V = v }
                  tags = ["app:${v}-${TAG}"]
                  dockerfile = "Dockerfile"
                }
                target "tool" {
                  contexts = { app = "target:app-one", data = "data" }
                  dockerfile-inline = <<-EOT
                    FROM busybox
                    COPY --from=app /v /got
                    RUN --mount=from=app,target=/app cat /app/base > /mounted
                    COPY --from=data f /f
                  EOT
                  output = ["type=local,dest=out"]
                }
            """,
            "Dockerfile": "FROM base\nRUN test $FROM_BASE = yes\nARG V\nCOPY file /file\nRUN echo $V > /v\n",
            "file": "content",
            "data/f": "data",
        }
    )
    done = lap(
        "bake", "--progress=rawjson", "--metadata-file", tmp_path / "meta", cwd=directory, env={"TAG": "x"}
    )
    steps = vertices(done.stderr)
    ran = [v.name for v in steps if v.ran]
    assert sum("RUN echo slow" in n for n in ran) == 1
    assert sum("COPY file /file" in n for n in ran) == 1
    assert sum(n.endswith("> /v") for n in ran) == 2
    assert (directory / "out/got").read_text() == "one\n"
    assert (directory / "out/mounted").read_text() == "slow\n"
    assert (directory / "out/f").read_text() == "data"
    meta = json.loads((tmp_path / "meta").read_text())
    assert list(meta) == ["app-one", "app-two", "base", "tool"]
    assert meta["app-one"]["containerimage.digest"] != meta["app-two"]["containerimage.digest"]
    assert lap("run", "app:two-x", "cat", "/v", "/base").stdout == "two\nslow\n"
    again = vertices(lap("bake", "--progress=rawjson", cwd=directory, env={"TAG": "x"}).stderr)
    assert not [v.name for v in again if v.ran and "] RUN" in v.name]


def test_links_follow_the_platform(lap, context, registry_address):
    name = f"{registry_address}/bake/multi:1"
    directory = context(
        {
            "docker-bake.json": json.dumps(
                {
                    "target": {
                        "default": {
                            "contexts": {"base": "target:base"},
                            "platforms": ["linux/amd64", "linux/arm64"],
                            "dockerfile-inline": "FROM base\nRUN read x < /arch && echo got=$x",
                            "tags": [name],
                        },
                        "base": {
                            "platforms": ["linux/amd64", "linux/arm64"],
                            "dockerfile-inline": "FROM busybox\nARG TARGETARCH\nRUN uname -m > /arch",
                        },
                    }
                }
            )
        }
    )
    done = lap("bake", "--progress=plain", "--push", cwd=directory)
    assert "got=x86_64" in done.stderr and "got=aarch64" in done.stderr
    assert platforms(raw(f"docker://{name}")) == ["linux/amd64", "linux/arm64"]


def test_a_failing_target_fails_the_bake_and_says_where(lap, context):
    directory = context(
        {"docker-bake.hcl": 'target "default" { dockerfile-inline = "FROM busybox\\nRUN false" }\n'}
    )
    done = lap("bake", "--progress=plain", cwd=directory, check=False)
    assert done.returncode == 1
    assert "ERROR: failed to build: failed to solve" in done.stderr and "RUN false" in done.stderr


def test_a_compose_file_and_an_hcl_override(lap, context):
    directory = context(
        {
            "compose.yaml": """
                services:
                  web:
                    image: web:${TAG:-none}
                    build: {context: ., args: {WHO: }, additional_contexts: {base: "service:base.img"}}
                    environment: {WHO: service}
                  base.img:
                    build: {dockerfile_inline: "FROM busybox\\nRUN echo base > /base"}
            """,
            ".env": "TAG=fromenv\n",
            "docker-bake.hcl": 'target "web" { labels = { by = "hcl" } }\n',
            "Dockerfile": "FROM base\nARG WHO\nRUN echo $WHO > /who\n",
        }
    )
    lap("bake", "--progress=plain", cwd=directory)
    assert lap("run", "web:fromenv", "cat", "/who", "/base").stdout == "service\nbase\n"
    assert '"by": "hcl"' in lap("inspect", "web:fromenv").stdout


@pytest.fixture
def served(tmp_path):
    """Files by path over HTTP."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    thread.join()
    server.server_close()


def archive(files: dict[str, str], links: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        for name, to in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            tar.addfile(entry)
    return out.getvalue()


def test_a_remote_definition_has_its_own_files_and_ours_only_by_name(lap, context, served):
    url, files = served
    files["/d.tar.gz"] = archive(
        {
            "docker-bake.hcl": """
                target "default" { dockerfile-inline = "FROM scratch\\nCOPY f /f", output = ["type=local,dest=out"] }
                target "mine" {
                  context = BAKE_CMD_CONTEXT
                  dockerfile-inline = "FROM scratch\\nCOPY own /own"
                  output = ["type=local,dest=out2"]
                }
                target "link" {
                  context = "etc"
                  dockerfile-inline = "FROM scratch\\nCOPY . /"
                }
                target "secret" {
                  dockerfile-inline = "FROM busybox\\nRUN --mount=type=secret,id=s cat /run/secrets/s"
                  secret = ["id=s,src=/etc/hostname"]
                }
            """.replace('", output', '"\n output'),
            "f": "theirs",
        },
        {"etc": "/etc"},
    )
    files["/single.hcl"] = (
        b'target "default" { dockerfile-inline = "FROM scratch\\nCOPY own /own"\n output = ["type=local,dest=out3"] }'
    )
    here = context({"own": "ours"})
    lap("bake", f"{url}/d.tar.gz", "default", "mine", cwd=here)
    assert (here / "out/f").read_text() == "theirs"
    assert (here / "out2/own").read_text() == "ours"
    lap("bake", f"{url}/single.hcl", cwd=here)
    assert (here / "out3/own").read_text() == "ours"
    done = lap("bake", f"{url}/d.tar.gz", "link", cwd=here, check=False)
    assert done.returncode and "etc leads out of the definition" in done.stderr
    done = lap("bake", f"{url}/d.tar.gz", "secret", cwd=here, check=False)
    assert done.returncode == 1 and "--allow=fs.read=/etc/hostname" in done.stderr
    assert "additional privileges requested" in done.stderr


def test_the_python_api(context, tmp_path, monkeypatch, bases):
    from lapstrake.api import bake
    from lapstrake.errors import BuildError

    directory = context(
        {
            "docker-bake.hcl": """
                variable "V" { default = "0" }
                target "default" {
                  dockerfile-inline = "FROM busybox\\nRUN echo ${V} > /v"
                  tags = ["api:${V}"]
                }
                target "out" {
                  dockerfile-inline = "FROM scratch"
                  output = ["type=local,dest=/opt/nowhere"]
                }
            """
        }
    )
    monkeypatch.chdir(directory)
    root = str(tmp_path / "root")
    events: list[object] = []
    found = bake(variables={"V": "7"}, root=root, config=str(bases), on_event=events.append)
    assert list(found) == ["default"] and found["default"].names == ("api:7",) and events
    with pytest.raises(BuildError, match="additional privileges requested"):
        bake("out", root=root, config=str(bases))


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_you_are_asked(lap, context, answer, code):
    directory = context(
        {
            "docker-bake.hcl": 'target "default" { dockerfile-inline = "FROM scratch", network = "host" }\n'.replace(
                ", ", "\n"
            )
        }
    )
    controller, terminal = os.openpty()
    try:
        process = subprocess.Popen(
            [*lap.command, "bake", "--progress=plain"], cwd=directory, env=lap.env, stdin=terminal,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        os.write(controller, answer.encode() + b"\n")
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(controller)
        os.close(terminal)
    assert "Do you want to grant requested privileges and continue? [y/N]" in out
    assert "--allow=network.host" in out
    assert process.returncode == code, out
    assert ("additional privileges requested" in out) == bool(code)
