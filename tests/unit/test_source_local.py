"""The build context: same answers as the disk, nothing from outside, unchanged files not read again."""

import os
import time

import pytest

from lapstrake.errors import BuildError
from lapstrake.layer.digest import (
    explain,
    manifest,
    records_digest,
    selection_digest,
    selection_records,
    subtree_digest,
    tree_records,
)
from lapstrake.layer.select import CopySpec, select
from lapstrake.source.local import LocalTree


class Plain:
    """The same tree without the short cuts."""

    def __init__(self, tree):
        self.lstat, self.listdir, self.open = tree.lstat, tree.listdir, tree.open


@pytest.fixture
def ctx(tmp_path):
    root = tmp_path / "ctx"
    (root / "d" / "s").mkdir(parents=True)
    (root / "f").write_bytes(b"file")
    (root / "f").chmod(0o640)
    (root / "d" / "g").write_bytes(b"g" * 3_000_000)
    (root / "d" / "s" / "h").write_bytes(b"")
    (root / "d" / "ln").symlink_to("../f")
    (root / "d.x").write_bytes(b"between")
    os.link(root / "f", root / "hard")
    os.mkfifo(root / "pipe")
    os.symlink("/etc", root / "out")
    with open(os.fsencode(root) + b"/bad\xff\n", "wb") as f:
        f.write(b"name")
    old = time.time() - 100
    for where, _, names in os.walk(root):
        for name in names:
            os.utime(os.path.join(where, name), (old, old), follow_symlinks=False)
    return root


def settle():
    """Let the files' ctime get old enough to be trusted."""
    time.sleep(0.08)


def test_nodes(ctx):
    tree = LocalTree(str(ctx))
    node = tree.lstat("f")
    assert (node.kind, node.mode, node.uid, node.gid, node.size) == ("file", 0o640, 0, 0, 4)
    assert node.mtime_ns == os.stat(ctx / "f").st_mtime_ns
    assert node.inode == tree.lstat("hard").inode is not None
    assert tree.lstat("d/ln").linkname == "../f"
    assert tree.lstat("pipe").kind == "fifo"
    assert tree.lstat("").kind == "dir"
    assert tree.lstat("nope") is tree.lstat("nope/x") is tree.lstat("f/x") is None
    assert "bad\udcff\n" in tree.listdir("")
    assert tree.listdir("f") == []


def test_no_way_out_through_links(ctx):
    tree = LocalTree(str(ctx))
    assert tree.lstat("out/passwd") is None
    assert tree.listdir("out") == []
    for path in ("out/passwd", "out", "pipe", "d"):
        with pytest.raises(BuildError):
            tree.open(path)


def test_fast_records_equal_plain_ones(ctx):
    fast, plain = LocalTree(str(ctx)), Plain(LocalTree(str(ctx)))
    assert tree_records(fast, "", "x") == tree_records(plain, "", "x")
    assert tree_records(fast, "d", "") == tree_records(plain, "d", "")
    assert len(tree_records(fast, "", "")) == 11
    assert subtree_digest(fast, "") == subtree_digest(plain, "")


def test_digest_ignores_times_and_sees_the_rest(ctx):
    def digest():
        return subtree_digest(LocalTree(str(ctx)), "")

    before = digest()
    os.utime(ctx / "f")
    os.utime(ctx / "d")
    assert digest() == before
    seen = {before}
    for change in (
        lambda: (ctx / "f").chmod(0o644),
        lambda: (ctx / "d").chmod(0o700),
        lambda: (ctx / "f").write_bytes(b"FILE"),
        lambda: (ctx / "f").rename(ctx / "f2"),
        lambda: (ctx / "empty").mkdir(),
        lambda: ((ctx / "d" / "ln").unlink(), (ctx / "d" / "ln").symlink_to("../f2")),
    ):
        change()
        seen.add(digest())
    assert len(seen) == 7


def test_stat_cache_spares_reading(ctx, monkeypatch):
    settle()
    first = LocalTree(str(ctx))
    expected = subtree_digest(first, "")
    blob = first.dump_stat_cache()
    assert blob is not None
    monkeypatch.setattr("lapstrake.source.local._hash_fd", None)
    second = LocalTree(str(ctx), None, blob)
    assert subtree_digest(second, "") == expected
    assert second.dump_stat_cache() is None


def test_stat_cache_notices_changes(ctx):
    settle()
    first = LocalTree(str(ctx))
    subtree_digest(first, "")
    blob = first.dump_stat_cache()
    st = os.stat(ctx / "d.x")
    (ctx / "d.x").write_bytes(b"BETWEEN")
    os.utime(ctx / "d.x", ns=(st.st_atime_ns, st.st_mtime_ns))
    os.unlink(ctx / "pipe")
    os.unlink(ctx / "d" / "s" / "h")
    settle()
    second = LocalTree(str(ctx), None, blob)
    assert subtree_digest(second, "") == subtree_digest(LocalTree(str(ctx)), "")
    blob = second.dump_stat_cache()
    third = LocalTree(str(ctx), None, blob)
    assert sorted(third._cache) == sorted(["bad\udcff\n", "d.x", "d/g", "f", "hard"])


def test_racy_files_are_never_trusted(ctx):
    settle()
    (ctx / "new").write_bytes(b"1")
    tree = LocalTree(str(ctx))
    subtree_digest(tree, "")
    assert "new" not in LocalTree(str(ctx), None, tree.dump_stat_cache())._cache


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-1], lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:], lambda b: b"", lambda b: b + b"x"],
)
def test_damaged_cache_is_an_empty_one(ctx, damage):
    settle()
    first = LocalTree(str(ctx))
    expected = subtree_digest(first, "")
    blob = damage(first.dump_stat_cache())
    assert subtree_digest(LocalTree(str(ctx), None, blob), "") == expected


def test_change_during_the_build_is_an_error(ctx):
    tree = LocalTree(str(ctx))
    subtree_digest(tree, "")
    with open(ctx / "f", "ab") as f:
        f.write(b"!")
    with pytest.raises(BuildError, match="changed while"):
        tree.open("f")
    with pytest.raises(BuildError, match="changed while"), tree.open("d/g") as stream:
        stream.read(10)
        os.utime(ctx / "d" / "g")
    os.unlink(ctx / "d.x")
    os.symlink("/etc/passwd", ctx / "d.x")
    with pytest.raises(BuildError):
        tree.open("d.x")


def test_racy_file_is_hashed_again_when_opened(ctx):
    (ctx / "racy").write_bytes(b"1")
    tree = LocalTree(str(ctx))
    digest = tree.content_digest("racy")
    with tree.open("racy") as stream:
        assert stream.read() == b"1"
    key, _, trusted = tree._hashed["racy"]
    assert not trusted
    tree._hashed["racy"] = (key, "00" * 32, False)  # as if it had changed within one tick
    with pytest.raises(BuildError, match="changed while"):
        tree.open("racy")
    assert len(digest) == 32


def test_unreadable_and_missing_roots(tmp_path):
    with pytest.raises(BuildError, match="unable to read the build context"):
        LocalTree(str(tmp_path / "nope"))


def test_depth_is_bounded(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        new = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = new
    os.close(fd)
    with pytest.raises(BuildError, match="nested more than"):
        LocalTree(str(tmp_path)).scan()


def test_manifest_explains(ctx):
    spec = CopySpec(("d", "f"), "/x/")

    def pack():
        tree = LocalTree(str(ctx))
        return manifest(selection_records(tree, select(tree, spec)))

    before = pack()
    (ctx / "f").chmod(0o600)
    (ctx / "d" / "g").write_bytes(b"other")
    (ctx / "d" / "s" / "h").unlink()
    (ctx / "d" / "s" / "i").write_bytes(b"")
    assert explain(before, pack()) == ["f (mode 0640->0600)", "g (content)", "s/h (removed)", "s/i (added)"]
    assert explain(before, before) == []


def test_selection_digest_is_of_the_selection_only(ctx):
    def digest():
        tree = LocalTree(str(ctx))
        return selection_digest(tree, select(tree, CopySpec(("d",), "/x")))

    before = digest()
    (ctx / "f").write_bytes(b"not selected")
    (ctx / "d").chmod(0o711)  # the named directory's own mode is not copied
    assert digest() == before
    (ctx / "d" / "s").chmod(0o711)
    assert digest() != before
    assert before.startswith("sha256:")
    assert records_digest([]) != records_digest(["\0contents\n"])
