"""Bake with real images: several targets as one build, matrices, links on every way and platform."""

from __future__ import annotations

import json

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
    assert sum("RUN echo $V" in n for n in ran) == 2
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
