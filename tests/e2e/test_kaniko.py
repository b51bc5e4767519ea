"""A CI file written for kaniko's executor."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.e2e.images import raw, tool

pytestmark = pytest.mark.e2e


def test_build_push_and_digest_file(lap, context, registry_address, tmp_path):
    directory = context({"Dockerfile": "ARG V\nFROM busybox\nARG V\nRUN echo $V > /v\n"})
    name = f"{registry_address}/e2e/kaniko:1"
    done = subprocess.run(
        [sys.executable, "-m", "lapstrake.cli.kaniko", "--context", f"dir://{directory}", "--dockerfile", "Dockerfile",
         "--destination", name, "--insecure", "--build-arg", "V=7", "--digest-file", tmp_path / "digest",
         "--snapshot-mode=redo", "--tar-path", tmp_path / "image.tar"],
        env=lap.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    digest = (tmp_path / "digest").read_text()
    shown = tool(
        "skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{name}"
    ).strip()
    assert shown == digest
    assert "--snapshot-mode: without effect here" in done.stderr
    assert len(raw(f"docker-archive:{tmp_path}/image.tar")["layers"]) == 2
