"""What comes out: image forms, layers merged at export, and who accepts the result."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile

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


CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, as of ping


def awkward(path) -> None:
    """A tar of what formats and tools stumble over."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name, kind=tarfile.REGTYPE, data=b"", **fields):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode = kind, len(data), 0o755
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add("w", tarfile.DIRTYPE)
        add("w/" + "l" * 120, tarfile.DIRTYPE)
        add("w/" + "l" * 120 + "/" + "n" * 150, data=b"long")
        add("w/näme ✓", data=b"unicode", uid=3_000_000, gid=3_000_001)
        add(
            "w/ping",
            data=b"#!",
            pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")},
        )
        add("w/first", data=b"shared")
        add("w/" + "l" * 120 + "/second", tarfile.LNKTYPE, linkname="w/first")
        add("w/link", tarfile.SYMTYPE, linkname="t" * 200)
        add("w/setuid", data=b"s", mode=0o4711)
        add("w/sticky", tarfile.DIRTYPE, mode=0o1777)


def test_awkward_files_survive_every_format_and_reader(shared_lap, context, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("unpacks owners and capabilities")
    directory = context(
        {
            "Dockerfile": "FROM busybox\nADD a.tar /\nRUN rm /w/setuid && rm -r /w/sticky && mkdir /w/sticky && touch /w/sticky/new\n"
        }
    )
    awkward(directory / "a.tar")
    out = tmp_path / "layout"
    shared_lap(
        "build", directory, "-t", "awkward:1", "-o", f"type=oci,tar=false,dest={out}", "-o", f"type=docker,dest={tmp_path}/docker.tar",
        "-o", f"type=tar,dest={tmp_path}/files.tar", "-o", f"type=local,dest={tmp_path}/files",
    )  # fmt: skip
    from lapstrake.export.validate import validate

    assert validate(str(out)) == []
    tool("umoci", "unpack", "--image", f"{out}:1", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs" / "w"
    long = "l" * 120
    assert (root / long / ("n" * 150)).read_text() == "long"
    assert ((root / "näme ✓").stat().st_uid, (root / "näme ✓").stat().st_gid) == (3_000_000, 3_000_001)
    assert os.getxattr(root / "ping", "security.capability") == CAPABILITY
    assert (root / "first").stat().st_ino == (root / long / "second").stat().st_ino
    assert os.readlink(root / "link") == "t" * 200
    assert not (root / "setuid").exists() and [p.name for p in (root / "sticky").iterdir()] == ["new"]
    with tarfile.open(tmp_path / "files.tar") as tar:
        assert tar.getmember("w/näme ✓").uid == 3_000_000
        assert "SCHILY.xattr.security.capability" in tar.getmember("w/ping").pax_headers
        assert {tar.getmember("w/first").type, tar.getmember(f"w/{long}/second").type} == {
            tarfile.REGTYPE,
            tarfile.LNKTYPE,
        }
    local = tmp_path / "files" / "w"
    assert (local / "näme ✓").stat().st_uid == 0 and (local / "first").stat().st_nlink == 2
    podman = Podman(tmp_path / "p")
    try:
        podman("load", "-q", "-i", tmp_path / "docker.tar")
        said = podman.run(
            "docker.io/library/awkward:1",
            "sh",
            "-c",
            "cd /w && stat -c %u:%g n* && cat */nn* && ls sticky && stat -c %h first",
        )
        assert said.split() == ["3000000:3000001", "long", "new", "2"] or said.splitlines()[1:] == [
            "longnew",
            "2",
        ]
    finally:
        podman.close()


def test_windows_images_by_copy_alone(shared_lap, context, tmp_path):
    directory = context(
        {"Dockerfile": 'FROM scratch\nWORKDIR /app\nCOPY a b /app/\nCMD ["a.exe"]\n', "a": "a", "b": "b"}
    )
    out = tmp_path / "layout"
    shared_lap(
        "build",
        directory,
        "--platform=windows(10.0.20348.1)/amd64",
        "-t",
        "win:1",
        "-o",
        f"type=oci,tar=false,dest={out}",
    )
    doc, conf = raw(f"oci:{out}"), config(out)
    assert (conf["os"], conf["os.version"]) == ("windows", "10.0.20348.1")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blobs_of(out, doc)[-1]))) as tar:
        found = {m.name: m for m in tar}
    assert list(found) == ["Hives", "Files", "Files/app", "Files/app/a", "Files/app/b"]
    assert {n: m.pax_headers["MSWINDOWS.fileattr"] for n, m in found.items()} == {
        "Hives": "16", "Files": "16", "Files/app": "16", "Files/app/a": "32", "Files/app/b": "32",
    }  # fmt: skip
    from lapstrake.export.validate import validate

    assert validate(str(out)) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--annotation=index:a=b"], "index annotations not supported for single platform export"),
        (["--annotation=manifest[linux/s390x]:a=b"], "invalid annotation: no platform linux/s390x found in source"),
        (["--platform=linux/amd64,linux/arm64", "-o=type=docker,dest=x.tar"], "docker exporter does not support exporting manifest lists"),
        (["-o=type=local,dest=/proc/files,mode=delete"], "not below the current directory"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_said_before_anything_runs(shared_lap, context, flags, message):
    directory = context({"Dockerfile": "FROM busybox\nRUN exit 9\n"})
    done = shared_lap(
        "build",
        directory,
        *(flags if "-o=" in "".join(flags) else [*flags, "-o=type=oci,dest=x.tar"]),
        check=False,
        cwd=directory,
    )
    assert message in done.stderr and "exit code: 9" not in done.stderr
    assert not (directory / "x.tar").exists()


def test_save_validate_and_what_docker_users_expect_of_the_store(shared_lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY --link a /a\nCMD cat /a\n", "a": "kept"})
    shared_lap("build", directory, "-t", "kept:1", "-o", "type=image,compresion=zstd")
    shared_lap("tag", "kept:1", "localhost/other:2")
    assert shared_lap("validate", "kept:1").stdout == "kept:1: valid\n"
    shared_lap("save", "-o", tmp_path / "saved.tar", "kept:1", "localhost/other:2")
    with tarfile.open(tmp_path / "saved.tar") as tar:
        listed = json.load(tar.extractfile("manifest.json"))
    assert [i["RepoTags"] for i in listed] == [["kept:1", "localhost/other:2"]]
    podman = Podman(tmp_path / "p")
    try:
        podman("load", "-q", "-i", tmp_path / "saved.tar")
        assert podman.run("localhost/other:2") == "kept"
    finally:
        podman.close()
    assert "localhost/other:2" in shared_lap("images").stdout
    assert shared_lap("rmi", "localhost/other:2").stdout == "Untagged: localhost/other:2\n"
    assert "localhost/other:2" not in shared_lap("images").stdout
    assert "no such image" in shared_lap("save", "localhost/other:2", check=False).stderr


def test_a_damaged_image_is_not_valid(lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "a"})
    out = tmp_path / "layout"
    done = lap("build", directory, "-t", "x:1", "-o", f"type=oci,tar=false,dest={out},compresion=zstd")
    assert "the attribute compresion is not known" in done.stderr
    layer = out / "blobs/sha256" / raw(f"oci:{out}")["layers"][-1]["digest"][7:]
    layer.chmod(0o644)
    layer.write_bytes(layer.read_bytes()[:-9] + b"\0" * 9)
    done = lap("validate", f"oci:{out}:1", check=False)
    assert done.returncode == 1 and "content does not match the digest" in done.stdout


def test_buildahs_timestamp_is_exact(shared_lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nRUN mkdir /d\n", "a": "a"})
    os.utime(directory / "a", (1000, 1000))
    out = tmp_path / "layout"
    shared_lap("build", directory, "--timestamp=1600000000", "-o", f"type=oci,tar=false,dest={out}")
    assert config(out)["created"] == "2020-09-13T12:26:40Z"
    for blob in blobs_of(out, raw(f"oci:{out}"))[1:]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as tar:
            assert {m.mtime for m in tar} == {1600000000}


def test_when_one_output_fails_the_others_do_not_appear(shared_lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\n", "a": "a"})
    archive, files, layout = (tmp_path / n for n in ("x.tar", "files", "layout"))
    done = shared_lap(
        "build", directory, "-t", "localhost:5279/nobody/listens:1", "-o", f"type=oci,dest={archive}", "-o", f"type=local,dest={files}",
        "-o", f"type=oci,tar=false,dest={layout}", "-o", "type=image,push=true", check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode and "failed to push localhost:5279/nobody/listens" in done.stderr
    assert not archive.exists() and not files.exists() and not (layout / "index.json").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_results_on_standard_output(shared_lap, context, tmp_path):
    directory = context({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "a"})
    done = shared_lap("build", directory, "-t", "r:1", "--metadata-file=/dev/stdout")
    assert json.loads(done.stdout)["image.name"] == "docker.io/library/r:1"
    done = shared_lap("build", directory, "--iidfile=/dev/stdout")
    assert done.stdout.startswith("sha256:")
    with open(tmp_path / "out.tar", "wb") as out:
        subprocess.run(
            [*shared_lap.command, "build", "-o", "-", str(directory)],
            env=shared_lap.env,
            stdout=out,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["a"]
