from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from lapstrake import ids
from lapstrake.errors import StoreError
from lapstrake.layer import tar
from lapstrake.layer.apply import ApplyStats, apply
from lapstrake.layer.diff import changes

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(not ROOT, reason="sets ownership and overlayfs marks")


def member(name: str, kind: bytes = b"0", data: bytes = b"", **kw: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime, info.mode = (
        kind,
        len(data),
        1_500_000_000,
        0o755 if kind == b"5" else 0o644,
    )
    for k, v in kw.items():
        setattr(info, k, v)
    return info, data


def tarball(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as t:
        for info, data in members:
            t.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def extract(dest: Path, *members: tuple[tarfile.TarInfo, bytes], **kw: object) -> ApplyStats:
    dest.mkdir(exist_ok=True)
    return apply(io.BytesIO(tarball(*members)), str(dest), limit_bytes=1 << 24, **kw)  # type: ignore[arg-type]


def listing(root: str) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    for e in changes(root):
        n = e.node
        out.append(
            (
                e.path,
                n.kind,
                n.mode,
                n.uid,
                n.gid,
                n.size,
                n.mtime_ns,
                n.linkname,
                n.rdev,
                n.xattrs,
                e.hardlink,
                e.whiteout,
                e.opaque,
            )
        )
    return out


def test_everything_ordinary(tmp_path: Path) -> None:
    d = tmp_path / "d"
    caps = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    stats = extract(
        d,
        member("./"), member("usr/", b"5", mode=0o555), member("usr/f", data=b"hello", mode=0o4755, uid=7, gid=8, mtime=3.25),
        member("usr/cap", data=b"x", uid=1, pax_headers={"SCHILY.xattr.security.capability": caps.decode("latin-1"), "SCHILY.xattr.user.k": "v"}),
        member("bin", b"2", linkname="usr"), member("bin/g", data=b"through"), member("implied/deep/f"),
        member("l", b"1", linkname="usr/f"), member("fifo", b"6"), member("null", b"3", devmajor=1, devminor=3), member("usr/dup", data=b"1"), member("usr/dup", data=b"22"),
    )  # fmt: skip
    st = os.stat(d / "usr/f")
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime, st.st_nlink) == (0o4755, 7, 8, 3.25, 2)
    assert os.stat(d / "usr").st_mode & 0o7777 == 0o555 and os.stat(d / "usr").st_mtime == 1_500_000_000
    assert (
        os.getxattr(d / "usr/cap", "security.capability") == caps
        and os.getxattr(d / "usr/cap", "user.k") == b"v"
    )
    assert (d / "usr/g").read_bytes() == b"through" and os.readlink(d / "bin") == "usr"
    assert os.stat(d / "implied/deep").st_mode & 0o7777 == 0o755 and (d / "usr/dup").read_bytes() == b"22"
    assert stat.S_ISFIFO(os.stat(d / "fifo").st_mode) and os.stat(d / "null").st_rdev == os.makedev(1, 3)
    assert stats.entries == 12 and stats.size == 5 + 1 + 7 + 1 + 2


@pytest.mark.parametrize(
    "members,message",
    [
        ([member("../x")], "outside"),
        ([member("a/../../x")], "outside"),
        ([member("a/..")], "outside"),
        ([member("l", b"1", linkname="../../etc/passwd")], "outside"),
        ([member("l", b"1", linkname="/etc/passwd")], "not in this layer"),
        ([member("d", b"2", linkname="/etc"), member("l", b"1", linkname="d/passwd")], "not in this layer"),
        ([member("l", b"1", linkname="")], "nothing"),
        ([member("a", b"2", linkname="b"), member("b", b"2", linkname="a"), member("a/x")], "symlinks"),
        ([member("f"), member("f/x")], "extract"),
        ([member("w", b"3", devmajor=0, devminor=0)], "deletion"),
        ([member(".wh.")], "deletes nothing"),
        ([member(".wh...")], "deletes nothing"),
        ([member("d/" * 600 + "f")], "deep"),
        ([member("big", data=bytes(1 << 24))], "larger"),
        ([member("d", b"5"), member("l", b"1", linkname="d")], "extract"),
    ],
)
def test_hostile_tars(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        extract(tmp_path / "d", *members)


def test_nothing_is_written_through_symlinks(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("safe")
    d = tmp_path / "d"
    extract(
        d,
        member("abs", b"2", linkname=str(outside)), member("abs/new", data=b"evil"),
        member("rel", b"2", linkname="../outside"), member("rel/new", data=b"evil"),
        member("up", b"2", linkname="../../../../../.." + str(outside)), member("up/victim", data=b"evil"),
        member("file", b"2", linkname=str(outside / "victim")), member("file", data=b"evil"),
        member("dir", b"2", linkname=str(outside)), member("dir/", b"5", mode=0o777),
        member("x", b"2", linkname=str(outside)), member("x/.wh.victim"), member("x/.wh..wh..opq"),
    )  # fmt: skip
    assert os.listdir(outside) == ["victim"] and (outside / "victim").read_text() == "safe"
    assert os.stat(outside).st_mode & 0o777 == 0o755 and os.listxattr(outside) == []
    inside = str(d) + str(outside)
    assert Path(inside, "new").read_text() == "evil", "an absolute symlink starts at the layer's root"
    assert (d / "file").read_text() == "evil" and (d / "dir").is_dir()


def test_overlay_attributes_are_never_taken_from_a_tar(tmp_path: Path) -> None:
    headers = {
        f"SCHILY.xattr.{k}": "v"
        for k in (
            "trusted.overlay.redirect",
            "user.overlay.opaque",
            "user.lapstrake.owner",
            "security.selinux",
            "user.ok",
        )
    }
    extract(tmp_path / "d", member("f", pax_headers=headers), member("s", b"5", pax_headers=headers))
    assert os.listxattr(tmp_path / "d/f") == os.listxattr(tmp_path / "d/s") == ["user.ok"]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("userxattr", [False, True])
def test_whiteouts(tmp_path: Path, order: int, userxattr: bool) -> None:
    members = [
        member("d/", b"5"),
        member("d/new", data=b"x"),
        member("d/.wh..wh..opq"),
        member(".wh.gone"),
        member("d/.wh..wh.plnk"),
    ]
    extract(tmp_path / "d", *members[::order], userxattr=userxattr)
    assert os.getxattr(tmp_path / "d/d", ("user" if userxattr else "trusted") + ".overlay.opaque") == b"y"
    st = os.lstat(tmp_path / "d/gone")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    assert os.listdir(tmp_path / "d/d") == ["new"]


@pytest.mark.parametrize(
    "members",
    [
        [member(".wh.x"), member("x/", b"5"), member("x/f")],
        [member("x/", b"5"), member("x/f"), member(".wh.x")],
    ],
)
def test_a_deleted_and_remade_directory_hides_the_old_one(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    extract(tmp_path / "d", *members)
    assert [(e.path, e.opaque) for e in changes(str(tmp_path / "d"))] == [("x", True), ("x/f", False)]


def test_type_changes(tmp_path: Path) -> None:
    extract(
        tmp_path / "d", member("a/", b"5"), member("a/b/c/f"), member("a", data=b"file"), member("b"), member("b/", b"5"), member("b/f"),
        member("s/", b"5"), member("s/f"), member("s", b"2", linkname="b"), member("s/g"),
    )  # fmt: skip
    assert [(e.path, e.node.kind) for e in changes(str(tmp_path / "d"))] == [
        ("a", "file"),
        ("b", "dir"),
        ("b/f", "file"),
        ("b/g", "file"),
        ("s", "symlink"),
    ]


def test_ownership_beside_the_files(tmp_path: Path) -> None:
    d = tmp_path / "d"
    extract(
        d, member("f", data=b"x", uid=5, gid=6, mode=0o6000), member("dir/", b"5", uid=9, mode=0o555), member("dir/g"),
        member("null", b"3", devmajor=1, devminor=3, mode=0o666), can_chown=False,
    )  # fmt: skip
    assert os.stat(d / "f").st_uid == os.geteuid() and stat.S_ISREG(os.stat(d / "null").st_mode)
    assert {e.node.uid for e in changes(str(d))} == {os.geteuid()}  # not believed where owners can be set
    ids.assume(ids.Ids(chown=False, userxattr=True, root=True, first=False))
    try:
        got = {
            e.path: (e.node.kind, e.node.mode, e.node.uid, e.node.gid, e.node.rdev) for e in changes(str(d))
        }
    finally:
        ids.forget()
    assert (
        got["f"] == ("file", 0o6000, 5, 6, (0, 0))
        and got["dir"] == ("dir", 0o555, 9, 0, (0, 0))
        and got["null"] == ("char", 0o666, 0, 0, (1, 3))
    )


def test_round_trip(tmp_path: Path) -> None:
    d = tmp_path / "d"
    extract(
        d,
        member("a/", b"5"),
        member("a/f", data=b"1" * 5000, uid=3),
        member("h", b"1", linkname="a/f"),
        member(".wh.w"),
        member("a/.wh..wh..opq"),
        member("ü" * 60),
    )
    out: list[bytes] = []
    tar.write(changes(str(d)), out.append)
    (tmp_path / "e").mkdir()
    apply(io.BytesIO(b"".join(out)), str(tmp_path / "e"), limit_bytes=1 << 20)
    again: list[bytes] = []
    tar.write(changes(str(tmp_path / "e")), again.append)
    assert out == again


def busybox_image(base: Path) -> str:
    """An OCI layout with one layer, packed by umoci itself."""
    rootfs = base / "fs"
    (rootfs / "usr/bin").mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", str(rootfs / "usr/bin/busybox")], check=True)
    for name in ("sh", "ls", "cat"):
        os.symlink("busybox", rootfs / "usr/bin" / name)
    os.link(rootfs / "usr/bin/busybox", rootfs / "usr/bin/zcat")
    os.symlink("usr/bin", rootfs / "bin")
    (rootfs / "tmp").mkdir(mode=0o1777)
    os.chmod(rootfs / "tmp", 0o1777)
    (rootfs / "etc").mkdir()
    (rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    os.chown(rootfs / "etc/passwd", 3, 4)
    os.mkfifo(rootfs / "etc/fifo")
    layout = str(base / "img")
    run = ["umoci"]
    subprocess.run([*run, "init", "--layout", layout], check=True, capture_output=True)
    subprocess.run([*run, "new", "--image", layout + ":t"], check=True, capture_output=True)
    subprocess.run(
        [*run, "insert", "--image", layout + ":t", str(rootfs), "/"], check=True, capture_output=True
    )
    return layout


@pytest.mark.skipif(
    subprocess.run(["which", "umoci"], capture_output=True).returncode != 0, reason="needs umoci"
)
def test_the_same_as_umoci(tmp_path: Path) -> None:
    layout = busybox_image(tmp_path)
    subprocess.run(
        ["umoci", "raw", "unpack", "--image", layout + ":t", str(tmp_path / "theirs")],
        check=True,
        capture_output=True,
    )
    index = json.loads(Path(layout, "index.json").read_text())
    manifest = json.loads(Path(layout, "blobs/sha256", index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads(Path(layout, "blobs/sha256", manifest["config"]["digest"][7:]).read_text())
    from lapstrake.layer.unpack import unpack

    (tmp_path / "ours").mkdir()
    assert len(manifest["layers"]) == 1
    with open(Path(layout, "blobs/sha256", manifest["layers"][0]["digest"][7:]), "rb") as f:
        unpack(f, manifest["layers"][0]["mediaType"], str(tmp_path / "ours"), config["rootfs"]["diff_ids"][0])
    whole = [
        tuple(x if i != 6 else int(x) // 10**9 for i, x in enumerate(e))
        for e in listing(str(tmp_path / "ours"))
    ]  # type: ignore[call-overload]
    theirs = [
        tuple(x if i != 6 else int(x) // 10**9 for i, x in enumerate(e))
        for e in listing(str(tmp_path / "theirs"))
    ]  # type: ignore[call-overload]
    assert whole == theirs
    for e in changes(str(tmp_path / "ours")):
        if e.node.kind == "file":
            a, b = (hashlib.sha256((tmp_path / w / e.path).read_bytes()).digest() for w in ("ours", "theirs"))
            assert a == b
