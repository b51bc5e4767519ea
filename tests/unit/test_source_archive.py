"""Archives: recognised by content, extracted as ADD and tar contexts need, never outside."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile

import pytest

from lapstrake.errors import BuildError
from lapstrake.layer.copy import plan_copy
from lapstrake.layer.materialize import materialize
from lapstrake.layer.select import CopySpec
from lapstrake.source.archive import Unpacker, extract, sniff
from lapstrake.source.local import LocalTree


def member(name, kind=tarfile.REGTYPE, data=b"", **kw):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = kind, len(data), kw.pop("mode", 0o644), 1_500_000_000
    for key, value in kw.items():
        setattr(info, key, value)
    return info, data


def make(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


BIG = os.urandom(200_000)
GOOD = make(
    member("./"),
    member("dir", tarfile.DIRTYPE, mode=0o750, uid=5, gid=6),
    member("dir/file", data=b"hello", mode=0o4755, uid=5, gid=6),
    member("dir/zhard", tarfile.LNKTYPE, linkname="dir/file"),
    member("ln", tarfile.SYMTYPE, linkname="dir/file"),
    member("big", data=BIG),
    member("made/parents/x", data=b"x"),
)


def zstd(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


PACKERS = {"tar": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}


def add(tmp_path, data, dest="/t/", below=(), **kw):
    ctx, root, out = tmp_path / "ctx", tmp_path / "root", tmp_path / "out"
    for path in (ctx, root, out):
        path.mkdir()
    (ctx / "a").write_bytes(data)
    for make_it in below:
        make_it(root)
    entries = plan_copy(
        LocalTree(str(ctx)),
        LocalTree(str(root)),
        CopySpec(("a",), dest, unpack=True, **kw),
        now_ns=0,
        unpack=Unpacker(str(tmp_path)),
    )
    materialize(entries, str(out))
    return out, {e.path: e for e in entries}


@pytest.mark.parametrize("kind", PACKERS)
def test_every_compression(tmp_path, kind):
    packed = PACKERS[kind](GOOD)
    assert sniff(packed[:512]) == kind
    out, entries = add(tmp_path, packed)
    assert sorted(entries) == [
        "t",
        "t/big",
        "t/dir",
        "t/dir/file",
        "t/dir/zhard",
        "t/ln",
        "t/made",
        "t/made/parents",
        "t/made/parents/x",
    ]
    assert (out / "t" / "big").read_bytes() == BIG
    st = os.stat(out / "t" / "dir" / "file")
    assert stat.S_IMODE(st.st_mode) == 0o4755
    assert st.st_mtime == 1_500_000_000
    assert st.st_ino == os.stat(out / "t" / "dir" / "zhard").st_ino
    assert (entries["t/dir/file"].node.uid, entries["t/dir"].node.gid, entries["t"].node.uid) == (5, 6, 0)
    assert os.readlink(out / "t" / "ln") == "dir/file"
    if os.geteuid() == 0:
        assert st.st_uid == 5


def test_chown_applies_to_all(tmp_path):
    _, entries = add(tmp_path, GOOD, chown=(9, 9))
    assert {(e.node.uid, e.node.gid) for e in entries.values()} == {(9, 9)}


@pytest.mark.parametrize(
    "data",
    [b"", b"text", gzip.compress(b""), gzip.compress(b"no tar"), make(), b"BZh91AY&SYbroken", b"\0" * 1024],
)
def test_anything_else_is_copied_as_a_file(tmp_path, data):
    out, entries = add(tmp_path, data)
    assert list(entries) == ["t", "t/a"]
    assert (out / "t" / "a").read_bytes() == data


BAD = [
    make(member("../x", data=b"x")),
    make(member("a/../../x", data=b"x")),
    make(member("h", tarfile.LNKTYPE, linkname="/etc/passwd")),
    make(member("h", tarfile.LNKTYPE, linkname="../../etc/passwd")),
    make(member("l", tarfile.SYMTYPE, linkname="/"), member("l/x", data=b"x")),
    make(member("l", tarfile.SYMTYPE, linkname="../.."), member("l/etc/x", data=b"x")),
    make(member("f", data=b""), member("f/x", data=b"x")),
    make(member(".wh.x", data=b"")),
    GOOD[:-11000],
]


@pytest.mark.parametrize("data", BAD)
def test_hostile_archives(tmp_path, data):
    with pytest.raises(BuildError):
        add(tmp_path, data)
    assert os.listdir(tmp_path / "out") == []


def test_links_inside_are_followed_for_members_below(tmp_path):
    _, entries = add(
        tmp_path,
        make(
            member("d", tarfile.DIRTYPE, mode=0o755),
            member("l", tarfile.SYMTYPE, linkname="d"),
            member("l/x", data=b"x"),
        ),
    )
    assert sorted(entries) == ["t", "t/d", "t/d/x", "t/l"]


def test_over_what_is_there(tmp_path):
    def below(root):
        (root / "t" / "was-dir" / "in").mkdir(parents=True)
        (root / "t" / "was-dir" / "in" / "f").write_bytes(b"")
        (root / "t").chmod(0o711)
        (root / "t" / "was-link").symlink_to("/elsewhere")

    data = make(
        member("was-dir", data=b"now a file"),
        member("was-link", tarfile.DIRTYPE, mode=0o700),
        member("was-link/x", data=b""),
    )
    _, entries = add(tmp_path, data, below=(below,))
    assert {p: (e.node.kind, e.node.mode) for p, e in entries.items()} == {
        "t": ("dir", 0o711),
        "t/was-dir": ("file", 0o644),
        "t/was-link": ("dir", 0o700),
        "t/was-link/x": ("file", 0o644),
    }


def test_extract_a_context(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    extract(io.BytesIO(gzip.compress(GOOD)), str(target))
    assert (target / "dir" / "file").read_bytes() == b"hello"
    assert (target / "big").read_bytes() == BIG
    assert sorted(os.listdir(tmp_path)) == ["target"]
    with pytest.raises(BuildError, match="not a tar archive"):
        extract(io.BytesIO(b"FROM scratch\n"), str(target))
