"""What comes out: image forms, layers merged at export, and who accepts the result."""

from __future__ import annotations

import json

import pytest
from tests.e2e.images import Podman, raw, tool

pytestmark = pytest.mark.e2e

STAGES = """\
FROM busybox AS one
RUN mkdir /d && echo low > /d/low && echo gone > /gone
RUN rm /gone
FROM one AS two
COPY a /a
RUN rm -r /d && mkdir /d && echo high > /d/high
"""


def config(layout) -> dict:
    return json.loads(tool("skopeo", "inspect", "--config", "--raw", f"oci:{layout}"))


def blobs_of(layout, doc) -> list[bytes]:
    return [(layout / "blobs/sha256" / d["digest"][7:]).read_bytes() for d in doc["layers"]]


@pytest.mark.parametrize(
    ("how", "layers"),
    [("all", 5), ("stage", 3), ("squash", 1), ("squash-above-base", 2), ("3", 3), ("1", 1), ("99", 5)],
)
def test_layers_are_merged_at_export_and_the_cache_stays(shared_lap, context, tmp_path, how, layers):
    directory = context({"Dockerfile": STAGES, "a": "a"})
    shared_lap.build(directory, "-o", "type=cacheonly")
    out = tmp_path / "layout"
    steps = shared_lap.build(
        directory, f"--layers={how}", "-t", "merged", "-o", f"type=oci,dest={out},tar=false"
    )
    assert not [s for s in steps if s.ran and not s.name.startswith(("[internal]", "exporting"))]
    doc, conf = raw(f"oci:{out}"), config(out)
    assert len(doc["layers"]) == len(conf["rootfs"]["diff_ids"]) == layers
    assert sum(not h.get("empty_layer") for h in conf["history"]) == layers
    tool("umoci", "unpack", "--image", f"{out}:latest", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    assert sorted(p.name for p in (root / "d").iterdir()) == ["high"]
    assert (root / "a").read_text() == "a" and not (root / "gone").exists()


@pytest.mark.parametrize(
    ("how", "magic", "media"),
    [
        ("compression=gzip,compression-level=9", b"\x1f\x8b", "+gzip"),
        ("compression=zstd,compression-level=3", b"\x28\xb5\x2f\xfd", "+zstd"),
        ("compression=estargz", b"\x1f\x8b", "+gzip"),
        ("compression=uncompressed", b"", ".tar"),
        ("oci-mediatypes=false", b"\x1f\x8b", ".gzip"),
    ],
)
@pytest.mark.parametrize("force", [False, True], ids=["own layers", "all layers"])
def test_forms_of_layers(shared_lap, context, tmp_path, how, magic, media, force):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nRUN echo b > /b\n", "a": "a"})
    out = tmp_path / "layout"
    spec = f"type=oci,dest={out},tar=false,{how},force-compression={str(force).lower()},name=forms:1"
    shared_lap.build(directory, "-o", spec)
    doc = raw(f"oci:{out}")
    checked = blobs_of(out, doc)
    for desc, blob in list(zip(doc["layers"], checked, strict=True))[0 if force else 1 :]:
        assert desc["mediaType"].endswith(media)
        assert blob.startswith(magic) and (magic or not blob.startswith(b"\x1f\x8b"))
        if "estargz" in how:
            assert "containerd.io/snapshot/stargz/toc.digest" in desc["annotations"]
    if "mediatypes" in how:
        assert "docker" in doc["mediaType"]
    from lapstrake.export.validate import validate

    assert validate(str(out)) == []
    if "mediatypes" not in how:  # skopeo finds no Docker manifest in a layout
        tool("skopeo", "copy", "-q", f"oci:{out}:1", f"dir:{tmp_path / 'copied'}")


def test_load_into_podman_moves_only_what_it_lacks(lap, context, tmp_path):
    podman = Podman(tmp_path / "p")
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    log = tmp_path / "calls"
    (bin_dir / "podman").write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {podman.command} "$@"\n')
    (bin_dir / "podman").chmod(0o755)
    env = {"PATH": f"{bin_dir}:/usr/bin:/bin"}
    directory = context({"Dockerfile": "FROM busybox\nCOPY --link a /a\nCMD cat /a\n", "a": "one"})
    try:
        lap("build", "-t", "loaded:1", "-t", "loaded:also", "--load", directory, env=env)
        assert podman.run("docker.io/library/loaded:1") == "one"
        names = podman("images", "--format={{.Repository}}:{{.Tag}}").split()
        assert sorted(names) == ["docker.io/library/loaded:1", "docker.io/library/loaded:also"]
        (directory / "a").write_text("two")
        fresh = type(lap)(tmp_path / "fresh", None)  # a store that has nothing of the base but its documents
        fresh.env = {**lap.env, "LAPSTRAKE_ROOT": str(fresh.root)}
        fresh("build", "-t", "loaded:2", "--load", directory, env=env)
        assert podman.run("docker.io/library/loaded:2") == "two"
        base = json.loads(fresh("inspect", "loaded:2", check=False).stdout or "{}")
        assert not base  # loaded, not kept
        assert (
            len(list((fresh.root / "blobs" / "sha256").iterdir())) <= 4
        )  # the base's layer was never pulled
    finally:
        podman.close()
