"""Overlay and copying roots give byte-identical layers; long chains; what overlayfs keeps in attributes."""

from __future__ import annotations

import json

import pytest
from tests.conftest import Lap
from tests.e2e.images import tool

pytestmark = pytest.mark.e2e

STEPS = [
    # names, kinds and metadata
    "mkdir -p /t/a/b/c && echo 1 > /t/a/b/c/f && chmod 4711 /t/a/b/c/f && chown 12:34 /t/a/b/c/f",
    "mkfifo /t/fifo && ln -s ../nowhere /t/dangling && ln -s /t/a /t/abs && mknod /t/null c 1 3",
    "touch '/t/with space' '/t/-rf' '/t/üñï' \"$(printf '/t/new\\nline')\" && : > /t/empty",
    "cp /t/a/b/c/f /t/orig && ln /t/orig /t/hard1 && ln /t/orig /t/a/hard2",
    "dd if=/dev/zero of=/t/sparse bs=1 count=1 seek=3000000 2>/dev/null; touch -d @915246245 /t/old",
    # changes of what lies below
    "echo more >> /t/a/b/c/f",
    "chmod 600 /t/old",
    "chown 7:8 /t/empty && chmod 1777 /t/a",
    "rm /t/hard1",
    "rm -r /t/a/b && mkdir /t/a/b && echo 2 > /t/a/b/new",
    "rm -r /t/a && echo file > /t/a",
    "rm /t/a && mkdir -p /t/a/again",
    "rm /t/dangling && mkdir /t/dangling && touch /t/dangling/in",
    "mkdir -p /t/deep/1/2/3 && touch /t/deep/1/2/3/x /t/deep/y",
    "mv /t/deep /t/moved",
    "mv /t/moved/1/2 /t/moved/up && rm /t/moved/y",
    "rm -r /t/moved && mkdir /t/moved",
    "mkdir /tmp/x && touch /tmp/x/y && rm -r /tmp/x",
    "true",
    "touch -d @86400 /t/old /t",
    "rm -rf /t/moved /t/a && mkdir /t/a && rmdir /t/a",
    "ln -f /t/orig /t/empty",
    "echo x > /etc/hosts.new && rm -r /bin/ls; mv /etc/passwd /etc/passwd.old && cp -p /etc/passwd.old /etc/passwd",
    "find /t -xdev | sort > /list; chmod -R go-w /t; chown -R 3:3 /t",
    "rm -r /t && mkdir -m 750 /t",
]
DOCKERFILE = "FROM busybox\n" + "".join(f"RUN {s}\n" for s in STEPS)


def layers(lap: Lap, directory, out) -> list[str]:
    lap(
        "build", directory, "--source-date-epoch=1700000000", "-o", f"type=oci,dest={out},rewrite-timestamp=true,compression=uncompressed",
    )  # fmt: skip
    return json.loads(tool("skopeo", "inspect", f"oci-archive:{out}"))["Layers"]


def test_copying_gives_the_layers_that_overlay_gives(lap, context, tmp_path, bases):
    directory = context({"Dockerfile": DOCKERFILE})
    other = Lap(tmp_path / "copying", bases)
    other.env["LAPSTRAKE_SNAPSHOTTER"] = "copying"
    lap.env["LAPSTRAKE_SNAPSHOTTER"] = "overlay"
    one, two = layers(lap, directory, tmp_path / "a.tar"), layers(other, directory, tmp_path / "b.tar")
    different = [(n, ["busybox", *STEPS][n]) for n, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    assert different == []


def test_a_chain_of_more_layers_than_overlayfs_options_hold(lap, context, tmp_path):
    steps = "".join(f"RUN echo {n} > /f{n}; rm -f /f{n - 1}; mkdir -p /d/{n}\n" for n in range(140))
    directory = context({"Dockerfile": "FROM busybox\n" + steps})
    lap.build(directory, "-o", f"type=local,dest={tmp_path}/out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert "f139" in names and not {f"f{n}" for n in range(139)} & names
    assert len(list((tmp_path / "out/d").iterdir())) == 140


def test_overlay_attributes_of_an_image_mean_nothing_here(lap, context, tmp_path):
    directory = context(
        {
            "Dockerfile": """\
FROM debian
RUN mkdir -p /d && touch /d/kept && (setfattr -n user.overlay.opaque -v y /d; setfattr -n user.overlay.whiteout -v y /d/kept; true)
RUN ls /d && touch /d/more
"""
        }
    )
    lap.build(directory, "-o", f"type=local,dest={tmp_path}/out")
    assert sorted(p.name for p in (tmp_path / "out/d").iterdir()) == ["kept", "more"]
