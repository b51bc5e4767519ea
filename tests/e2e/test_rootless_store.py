"""du, prune, fsck and cache mounts as an ordinary user, with and without subordinate ids."""

from __future__ import annotations

import subprocess

import pytest
from tests.e2e.test_rootless import someone  # noqa: F401

pytestmark = pytest.mark.e2e


def test_the_store_of_an_ordinary_user(someone):  # noqa: F811
    home = someone.home
    directory = someone.context(
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=c,sharing=private mkdir -p /c/d && echo kept > /c/d/f\nCOPY a /a\n"
    )
    someone("build", "-t", "x", directory)
    someone("cache", "export", "c", home / "c.tar.zst")
    someone("cache", "rm", "c")
    someone("cache", "import", "c", home / "c.tar.zst")
    again = someone.context(
        "FROM busybox\nRUN --mount=type=cache,target=/c,id=c,sharing=private cat /c/d/f\n"
    )
    assert "kept" in someone("build", "--progress=plain", again).stderr
    assert someone("fsck").stdout.endswith("no problems\n")
    sizes = [int(size[:-1]) for size in someone("du", "--format={{.Size}}").stdout.split()]
    on_disk = subprocess.run(
        ["du", "-s", "--block-size=1", home / "root"], capture_output=True, text=True, check=True
    )
    assert sum(sizes) == int(on_disk.stdout.split()[0])
    someone("rmi", "x")
    someone("prune", "-af")
    assert someone("fsck").stdout.startswith("0 blobs, 0 layers")
