from __future__ import annotations

import hashlib
import io
import os
import random
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from lapstrake.errors import StoreError
from lapstrake.layer import tar
from lapstrake.layer.diff import changes
from lapstrake.tree import DIR, FILE, SYMLINK, Entry, Node

ROOT = os.geteuid() == 0


def packed(entries: list[Entry], **kw: object) -> bytes:
    out: list[bytes] = []
    tar.write(entries, out.append, **kw)  # type: ignore[arg-type]
    return b"".join(out)


def file(path: str, data: bytes = b"", **kw: object) -> Entry:
    return Entry(path, Node(FILE, 0o644, size=len(data), **kw), data=data)  # type: ignore[arg-type]


def test_the_empty_layer() -> None:
    data = packed([])
    assert data == bytes(1024)
    assert (
        hashlib.sha256(data).hexdigest() == "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    )


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a" * 100,
        "a" * 101,
        "d" * 60 + "/" + "f" * 60,
        "d" * 155 + "/" + "f" * 100,
        "d" * 156 + "/" + "f" * 100,
        "d/" * 120 + "f" * 90,
        "ü",
        "x\udcff",
        "é" * 120,
        "sp ace\nnl",
    ],
)
@pytest.mark.parametrize("kind", [FILE, DIR, SYMLINK])
def test_names_survive_the_standard_library(path: str, kind: str) -> None:
    node = Node(
        kind,
        0o4755,
        70000,
        5,
        3 if kind == FILE else 0,
        1_600_000_000_999_999_999,
        linkname=path if kind == SYMLINK else "",
    )
    data = packed([Entry(path, node, data=b"abc" if kind == FILE else None)])
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        m = t.getmembers()[0]
        assert (m.name, m.mode, m.uid, m.gid, m.mtime) == (path, 0o4755, 70000, 5, 1_600_000_000)
        assert m.linkname == (path if kind == SYMLINK else "") and (m.uname, m.gname) == ("", "")
    header, content = next(iter(tar.read(io.BytesIO(data))))
    assert (header.name, header.kind, header.mode, header.uid, header.mtime_ns) == (
        path,
        kind,
        0o4755,
        70000,
        1_600_000_000_000_000_000,
    )
    if path.isascii() and len(path) < 100:
        assert data[156:157] != b"x", "PAX only when needed"


def test_big_numbers_and_old_times() -> None:
    e = Entry("f", Node(FILE, 0o644, 3_000_000, 2**32 - 2, 0, -5_000_000_000))
    with tarfile.open(fileobj=io.BytesIO(packed([e]))) as t:
        m = t.getmembers()[0]
        assert (m.uid, m.gid, m.mtime) == (3_000_000, 2**32 - 2, -5)
    h, _ = next(iter(tar.read(io.BytesIO(packed([e])))))
    assert (h.uid, h.gid, h.mtime_ns) == (3_000_000, 2**32 - 2, -5_000_000_000)


def test_whiteouts_opaque_and_links() -> None:
    entries = [
        Entry("a", Node(DIR, 0o755, mtime_ns=10**18), opaque=True), Entry("a/gone", Node(FILE, 0), whiteout=True),
        file("b", b"1"), Entry("c", Node(FILE, 0o644, size=1), hardlink="b"), Entry("top", Node(FILE, 0), whiteout=True),
    ]  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed(entries))) as t:
        got = [(m.name, m.type, m.mode, m.mtime, m.linkname, m.size) for m in t]
    assert got == [
        ("a", b"5", 0o755, 10**9, "", 0), ("a/.wh..wh..opq", b"0", 0, 0, "", 0), ("a/.wh.gone", b"0", 0, 0, "", 0),
        ("b", b"0", 0o644, 0, "", 1), ("c", b"1", 0o644, 0, "b", 0), (".wh.top", b"0", 0, 0, "", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "epoch,clamp,expected",
    [(None, False, [5, 50]), (10, False, [10, 10]), (10, True, [5, 10]), (0, False, [0, 0])],
)
def test_epoch(epoch: int | None, clamp: bool, expected: list[int]) -> None:
    data = packed([file("a", mtime_ns=5 * 10**9), file("b", mtime_ns=50 * 10**9)], epoch=epoch, clamp=clamp)
    assert [h.mtime_ns // 10**9 for h, _ in tar.read(io.BytesIO(data))] == expected


def test_xattrs_and_big_files(tmp_path: Path) -> None:
    big = random.Random(1).randbytes(3_000_001)
    (tmp_path / "big").write_bytes(big)
    os.setxattr(tmp_path / "big", "user.note", b"a\n=\0b")
    data = packed(list(changes(str(tmp_path))))
    h, content = next(iter(tar.read(io.BytesIO(data))))
    got = b""
    while part := content.read(70_000):
        got += part
    assert got == big and h.xattrs == (("user.note", b"a\n=\0b"),)


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_reading_what_others_write(style: int) -> None:
    names = ["a", "dir/b", "x" * 90 + "/" + "y" * 90] + (
        ["z" * 300, "ü" * 200] if style != tarfile.USTAR_FORMAT else []
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as t:
        for name in names:
            info = tarfile.TarInfo("./" + name)
            info.size, info.mtime, info.uid = (
                len(name),
                7,
                2**21 - 1 if style == tarfile.USTAR_FORMAT else 2**24,
            )
            t.addfile(info, io.BytesIO(b"q" * len(name)))
            link = tarfile.TarInfo(name + ".l")
            link.type, link.linkname = tarfile.SYMTYPE, name[:90]
            t.addfile(link)
    buffer.seek(0)
    got = [(h.name, h.kind, h.size, h.linkname) for h, _ in tar.read(buffer)]
    assert got == [x for n in names for x in ((n, FILE, len(n), ""), (n + ".l", SYMLINK, 0, n[:90]))]


def test_gnu_tar_reads_ours(tmp_path: Path) -> None:
    src, dst = tmp_path / "s", tmp_path / "d"
    (src / "d" / ("n" * 200)).mkdir(parents=True)
    (src / "d" / ("n" * 200) / "f").write_text("hi")
    (src / "l").symlink_to("d")
    os.link(src / "d" / ("n" * 200) / "f", src / "z")
    dst.mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", str(dst)], input=packed(list(changes(str(src)))), check=True)
    assert (
        (dst / "z").read_text() == "hi" and os.readlink(dst / "l") == "d" and os.stat(dst / "z").st_nlink == 2
    )


def mutate(data: bytes, at: int, new: bytes) -> bytes:
    block = bytearray(data)
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


GOOD = packed([file("name", b"content")])


@pytest.mark.parametrize(
    "data,message",
    [
        (b"x" * 512, "checksum"),
        (GOOD[:700], "ends"),
        (GOOD[:300], "ends"),
        (mutate(GOOD, 156, b"S"), "sparse"),
        (mutate(GOOD, 156, b"Q"), "unknown type"),
        (mutate(GOOD, 124, b"zzz"), "bad number"),
        (mutate(GOOD, 124, b"\xff" * 12), "negative"),
        (mutate(mutate(GOOD, 156, b"x"), 124, b"77777777777"), "header of"),
        (mutate(GOOD, 156, b"x"), "PAX"),
        (tar._record("path", b"x"), "ends"),
    ],
)
def test_malformed_tars(data: bytes, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        for _, content in tar.read(io.BytesIO(data)):
            content.read()


def test_random_damage_never_crashes() -> None:
    rng = random.Random(7)
    base = packed(
        [
            file("n" * 150, b"x" * 600),
            Entry("d", Node(DIR, 0o755)),
            Entry("l", Node(SYMLINK, 0o777, linkname="ü")),
        ]
    )
    for _ in range(400):
        data = bytearray(base)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            for _h, c in tar.read(io.BytesIO(bytes(data))):
                c.read()
        except StoreError:
            pass


# -- diff ------------------------------------------------------------------------------------


@pytest.mark.skipif(not ROOT, reason="makes overlayfs marks")
def test_changes_of_an_upper_directory(tmp_path: Path) -> None:
    d = tmp_path
    (d / "b").mkdir()
    os.setxattr(d / "b", "trusted.overlay.opaque", b"y")
    (d / "b" / "x").write_text("x")
    os.link(d / "b" / "x", d / "a")
    os.mknod(d / "gone", stat.S_IFCHR, 0)
    os.mkfifo(d / "fifo")
    (d / "marked").mkdir()
    os.setxattr(d / "marked", "trusted.overlay.opaque", b"x")
    (d / "marked" / "w").touch()
    os.setxattr(d / "marked" / "w", "trusted.overlay.whiteout", b"")
    (d / "Z").symlink_to("/etc/passwd")
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(d / "sock"))
    s.close()
    got = [(e.path, e.node.kind, e.hardlink, e.whiteout, e.opaque) for e in changes(str(d))]
    assert got == [
        ("Z", "symlink", "", False, False), ("a", "file", "", False, False), ("b", "dir", "", False, True), ("b/x", "file", "a", False, False),
        ("fifo", "fifo", "", False, False), ("gone", "file", "", True, False), ("marked", "dir", "", False, False), ("marked/w", "file", "", True, False),
    ]  # fmt: skip
    assert all(not e.node.xattrs for e in changes(str(d)))


def test_order_is_by_component_bytes(tmp_path: Path) -> None:
    for name in ("a", "a-b", "a.b", "ab", "é", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").touch()
    paths = [e.path for e in changes(str(tmp_path))]
    assert paths == sorted(paths, key=lambda p: [os.fsencode(c) for c in p.split("/")])


def test_wh_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".wh.x").touch()
    with pytest.raises(StoreError, match="cannot be stored"):
        list(changes(str(tmp_path)))


def test_too_deep_is_an_error_and_leaks_no_descriptor(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError, match="deep"):
        list(changes(str(tmp_path)))
    assert len(os.listdir("/proc/self/fd")) == before
    from lapstrake.store.remove import remove_tree

    remove_tree(str(tmp_path / "d"))
    assert not (tmp_path / "d").exists()
