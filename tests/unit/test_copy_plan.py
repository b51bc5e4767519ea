"""COPY's results (§12, the table of §18): planned, written to a directory, compared."""

import os
import stat

import pytest

from lapstrake.dockerfile.numbers import parse_chmod
from lapstrake.errors import BuildError
from lapstrake.layer.copy import merge_entries, mkdir_entries, path_key, plan_copy
from lapstrake.layer.digest import selection_digest
from lapstrake.layer.materialize import materialize
from lapstrake.layer.select import CopySpec, InlineFile, clean, has_wildcard, resolve, select
from lapstrake.source.local import LocalTree
from lapstrake.tree import Entry, Node

NOW = 1_700_000_000_123_456_789


class Empty:
    """A root with nothing in it."""

    def lstat(self, path):
        return None if path else Node("dir", 0o755)

    def listdir(self, path):
        return []

    def open(self, path):
        raise FileNotFoundError(path)

    def real_path(self, path):
        return None


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "ctx"
    (root / "d" / "s").mkdir(parents=True)
    for name, data in (("f", b"F"), ("d/g", b"G"), ("d/s/h", b"H")):
        (root / name).write_bytes(data)
        (root / name).chmod(0o600)
    (root / "f").chmod(0o640)
    (root / "d").chmod(0o700)
    (root / "d" / "s").chmod(0o750)
    return root


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    for name in ("etc", "exist", "w"):
        (root / name).mkdir(parents=True)
    (root / "exist").chmod(0o711)
    (root / "ln").symlink_to("/exist")
    (root / "file").write_bytes(b"old")
    return root


def run(source, rootfs, *sources, dest, out=None, **kw):
    spec = CopySpec(sources, dest, kw.pop("workdir", "/w"), **kw)
    tree = LocalTree(str(source))
    entries = plan_copy(tree, LocalTree(str(rootfs)) if rootfs else Empty(), spec, now_ns=NOW)
    assert [e.path for e in entries] == sorted((e.path for e in entries), key=path_key)
    if out is not None:
        out.mkdir()
        materialize(entries, str(out))
        assert listing(out) == {e.path: f"{e.node.mode:o}" for e in entries}
    return {e.path: f"{e.node.mode:o}" for e in entries if e.path != "w" or not rootfs}


def listing(root):
    found = {}
    for where, dirs, names in os.walk(root):
        for name in dirs + names:
            path = os.path.join(where, name)
            found[os.path.relpath(path, root)] = f"{stat.S_IMODE(os.lstat(path).st_mode):o}"
    return found


D, T = {"t": "755"}, "t"
TABLE = [
    ("COPY f new", ["f"], "new", {}, {"w/new": "640"}),
    ("COPY f new/", ["f"], "new/", {}, {"w/new": "755", "w/new/f": "640"}),
    ("COPY f /exist", ["f"], "/exist", {}, {"exist": "711", "exist/f": "640"}),
    ("COPY f /ln", ["f"], "/ln", {}, {"exist": "711", "exist/f": "640"}),
    (
        "COPY d /exist",
        ["d"],
        "/exist",
        {},
        {"exist": "711", "exist/g": "600", "exist/s": "750", "exist/s/h": "600"},
    ),
    (
        "COPY d /fresh",
        ["d"],
        "/fresh",
        {},
        {"fresh": "755", "fresh/g": "600", "fresh/s": "750", "fresh/s/h": "600"},
    ),
    (
        "COPY . .",
        ["."],
        ".",
        {},
        {"w/d": "700", "w/d/g": "600", "w/d/s": "750", "w/d/s/h": "600", "w/f": "640"},
    ),
    ("COPY * /t/", ["*"], "/t/", {}, {**D, "t/f": "640", "t/g": "600", "t/s": "750", "t/s/h": "600"}),
    ("COPY d/* /t/", ["d/*"], "/t/", {}, {**D, "t/g": "600", "t/h": "600"}),
    (
        "COPY --parents d/s/h f /t/",
        ["d/s/h", "f"],
        "/t/",
        {"parents": True},
        {**D, "t/d": "700", "t/d/s": "750", "t/d/s/h": "600", "t/f": "640"},
    ),
    (
        "COPY --parents d/./s/h /t/",
        ["d/./s/h"],
        "/t/",
        {"parents": True},
        {**D, "t/s": "750", "t/s/h": "600"},
    ),
    (
        "COPY --parents ./d/./s/h /t/",
        ["./d/./s/h"],
        "/t/",
        {"parents": True},
        {**D, "t/s": "750", "t/s/h": "600"},
    ),
    (
        "COPY --parents **/h /t",
        ["**/h"],
        "/t",
        {"parents": True},
        {**D, "t/d": "700", "t/d/s": "750", "t/d/s/h": "600"},
    ),
    (
        "COPY --parents d /t",
        ["d"],
        "/t",
        {"parents": True},
        {**D, "t/d": "700", "t/d/g": "600", "t/d/s": "750", "t/d/s/h": "600"},
    ),
    ("COPY --parents ./d/g /t", ["./d/g"], "/t", {"parents": True}, {**D, "t/d": "700", "t/d/g": "600"}),
    ("COPY --parents nope*/x /t", ["nope*/x"], "/t", {"parents": True}, {}),
    ("COPY --exclude=s d /t/", ["d"], "/t/", {"exclude": ("s",)}, {**D, "t/g": "600"}),
    ("COPY --exclude=f f d/g /t/", ["f", "d/g"], "/t/", {"exclude": ("f",)}, {**D, "t/g": "600"}),
    (
        "COPY --exclude=* --exclude=!s/h d /t/",
        ["d"],
        "/t/",
        {"exclude": ("*", "!s/h")},
        {**D, "t/s": "750", "t/s/h": "600"},
    ),
    ("COPY ../../f /t", ["../../f"], "/t", {}, {"t": "640"}),
    ("COPY nope* /t/", ["nope*"], "/t/", {}, {}),
    (
        "COPY --chmod=u=rwX,go=rX d /t/",
        ["d"],
        "/t/",
        {"chmod": "u=rwX,go=rX"},
        {**D, "t/g": "644", "t/s": "755", "t/s/h": "644"},
    ),
    ("COPY --chmod=600 f /n/x", ["f"], "/n/x", {"chmod": "600"}, {"n": "600", "n/x": "600"}),
    ("COPY f /a/b/c", ["f"], "/a/b/c", {}, {"a": "755", "a/b": "755", "a/b/c": "640"}),
    ("COPY f /file", ["f"], "/file", {}, {"file": "640"}),
    ("COPY f d/g /new", ["f", "d/g"], "/new", {}, {"new": "600"}),
    ("COPY [f]* /t/", ["[f]*"], "/t/", {}, {**D, "t/f": "640"}),
    ("COPY f /", ["f"], "/", {}, {"f": "640"}),
    ("COPY d /", ["d"], "/", {}, {"g": "600", "s": "750", "s/h": "600"}),
    ("COPY f .", ["f"], ".", {}, {"w/f": "640"}),
    ("COPY /f/ /t", ["/f/"], "/t", {}, {"t": "640"}),
]


@pytest.mark.parametrize(
    ("sources", "dest", "flags", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_table(source, rootfs, tmp_path, sources, dest, flags, expected):
    flags = dict(flags)
    if "chmod" in flags:
        flags["chmod"] = parse_chmod(flags["chmod"])
    assert run(source, rootfs, *sources, dest=dest, out=tmp_path / "out", **flags) == expected


def test_link_makes_a_real_directory(source, tmp_path):
    assert run(source, None, "f", dest="/ln/", out=tmp_path / "out", link=True) == {
        "ln": "755",
        "ln/f": "640",
    }


def test_chown_and_times(source, rootfs, tmp_path):
    os.utime(source / "f", ns=(5, 1_234_567_890_987_654_321))
    out = tmp_path / "out"
    out.mkdir()
    entries = plan_copy(
        LocalTree(str(source)), LocalTree(str(rootfs)), CopySpec(("f",), "/t/", chown=(7, 7)), now_ns=NOW
    )
    assert [(e.path, e.node.uid, e.node.gid, e.node.mtime_ns) for e in entries] == [
        ("t", 7, 7, NOW),
        ("t/f", 7, 7, 1_234_567_890_987_654_321),
    ]
    materialize(entries, str(out))
    st = os.stat(out / "t" / "f")
    assert (st.st_uid, st.st_gid, st.st_mtime_ns) == (
        (7, 7) if os.geteuid() == 0 else (st.st_uid, st.st_gid)
    ) + (1_234_567_890_987_654_321,)
    assert os.stat(out / "t").st_mtime_ns == NOW


ERRORS = [
    (["nope"], "/t/", {}, r'failed to calculate checksum of ref context: "/nope": not found'),
    (["../nope"], "/t/", {}, r'"/nope": not found'),
    (["d/nope"], "/t/", {"parents": True}, r'"/d/nope": not found'),
    (["nope/./x"], "/t/", {"parents": True}, r"not found"),
    (["d"], "/file", {}, "cannot copy to non-directory: /file"),
    (["f"], "/file/x", {}, "not a directory"),
    (["f"], "/file/", {}, "cannot copy to non-directory: /file"),
    (["loop"], "/t", {}, "too many levels of symbolic links"),
    (["f", "d"], "/exist/dir/", {}, "cannot replace to directory /exist/dir/f with file"),
    (["d"], "/over", {}, "cannot copy to non-directory: /over/s"),
]


@pytest.mark.parametrize(("sources", "dest", "flags", "message"), ERRORS)
def test_errors(source, rootfs, sources, dest, flags, message):
    os.symlink("loop", source / "loop")
    (rootfs / "exist" / "dir" / "f").mkdir(parents=True)
    (rootfs / "over").mkdir()
    (rootfs / "over" / "s").symlink_to("/etc")
    with pytest.raises(BuildError, match=message):
        run(source, rootfs, *sources, dest=dest, **flags)


def test_hint_of_a_missing_file(source, rootfs):
    (source / "entrypoint.sh").write_bytes(b"")
    for name, hint in (
        ("entrypiont.sh", "did you mean entrypoint.sh?"),
        ("h", "did you mean d/s/h?"),
        ("zzzz", None),
    ):
        with pytest.raises(BuildError) as caught:
            run(source, rootfs, name, dest="/t/")
        assert caught.value.hint == hint


def test_links_in_the_source_stay_inside(source, rootfs, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"canary")
    os.symlink(str(secret), source / "abs")
    os.symlink("../secret", source / "rel")
    os.symlink("/d", source / "dir")
    os.symlink("d/s/../g", source / "chain")
    for name in ("abs", "rel"):
        with pytest.raises(BuildError, match="not found"):
            run(source, rootfs, name, dest="/t")
    assert run(source, rootfs, "dir", dest="/t") == {"t": "755", "t/g": "600", "t/s": "750", "t/s/h": "600"}
    assert run(source, rootfs, "chain", dest="/t/") == {"t": "755", "t/chain": "600"}
    assert run(source, rootfs, "dir/g", dest="/t") == {"t": "600"}
    # Met inside a directory they are copied as links, wherever they point.
    entries = plan_copy(LocalTree(str(source)), Empty(), CopySpec((".",), "/"), now_ns=NOW)
    assert {e.path: e.node.linkname for e in entries if e.node.kind == "symlink"} == {
        "abs": str(secret),
        "rel": "../secret",
        "dir": "/d",
        "chain": "d/s/../g",
    }


def test_wildcard_matches_links_and_hidden_files(source, rootfs):
    (source / ".hidden").write_bytes(b"")
    os.symlink("d", source / "dlink")
    assert set(run(source, rootfs, ".h*", "dl*", dest="/t/")) == {"t", "t/.hidden", "t/g", "t/s", "t/s/h"}
    assert set(run(source, rootfs, "d*/g", dest="/t/")) == {"t", "t/g"}


def test_dest_links_stay_inside(source, rootfs):
    os.symlink("../../../../exist", rootfs / "up")
    os.symlink("/nowhere/deep", rootfs / "dangling")
    os.symlink("file", rootfs / "tofile")
    assert run(source, rootfs, "f", dest="/up/x") == {"exist": "711", "exist/x": "640"}
    assert run(source, rootfs, "f", dest="/dangling/") == {
        "nowhere": "755",
        "nowhere/deep": "755",
        "nowhere/deep/f": "640",
    }
    assert run(source, rootfs, "f", dest="/tofile") == {"file": "640"}


def test_a_link_of_the_files_name_is_replaced(source, rootfs):
    os.symlink("/etc/x", rootfs / "exist" / "f")
    assert run(source, rootfs, "f", dest="/exist/") == {"exist": "711", "exist/f": "640"}


def test_hard_links_are_kept_within_a_source(source, tmp_path):
    os.link(source / "d" / "g", source / "d" / "z")
    os.link(source / "d" / "g", source / "d" / "s" / "a")
    out = tmp_path / "out"
    out.mkdir()
    entries = plan_copy(LocalTree(str(source)), Empty(), CopySpec(("d",), "/x/"), now_ns=NOW)
    assert {e.path: e.hardlink for e in entries if e.hardlink} == {"x/s/a": "x/g", "x/z": "x/g"}
    materialize(entries, str(out))
    assert len({os.stat(out / "x" / n).st_ino for n in ("g", "z", "s/a")}) == 1
    other = plan_copy(LocalTree(str(source)), Empty(), CopySpec(("d/g", "d/z"), "/x/"), now_ns=NOW)
    assert not [e for e in other if e.hardlink]


def test_special_files_and_sizes(source, tmp_path):
    os.mkfifo(source / "p")
    (source / "big").write_bytes(os.urandom(700_001))
    if os.geteuid() == 0:
        os.mknod(source / "dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(source / "f", 12, 13)
    out = tmp_path / "out"
    out.mkdir()
    materialize(plan_copy(LocalTree(str(source)), Empty(), CopySpec((".",), "/"), now_ns=NOW), str(out))
    assert stat.S_ISFIFO(os.stat(out / "p").st_mode)
    assert (out / "big").read_bytes() == (source / "big").read_bytes()
    if os.geteuid() == 0:
        assert os.stat(out / "dev").st_rdev == os.makedev(1, 3)
        assert os.stat(out / "f").st_uid == 0


def test_inline_files(rootfs, tmp_path):
    spec = CopySpec((), "/dir/", inline=(InlineFile("a.txt", b"one"), InlineFile("b.txt", b"two")))
    out = tmp_path / "out"
    out.mkdir()
    entries = plan_copy(Empty(), LocalTree(str(rootfs)), spec, now_ns=NOW)
    assert [(e.path, e.node.mode, e.data) for e in entries] == [
        ("dir", 0o755, None),
        ("dir/a.txt", 0o644, b"one"),
        ("dir/b.txt", 0o644, b"two"),
    ]
    materialize(entries, str(out))
    assert (out / "dir" / "b.txt").read_bytes() == b"two"


def test_mkdir(rootfs):
    tree = LocalTree(str(rootfs))
    assert mkdir_entries(tree, "/exist") == mkdir_entries(tree, "/ln") == mkdir_entries(tree, "/") == []
    made = mkdir_entries(tree, "/ln/a/b", uid=5, gid=6, now_ns=NOW)
    assert [(e.path, e.node.mode, e.node.uid) for e in made] == [
        ("exist", 0o711, 0),
        ("exist/a", 0o755, 5),
        ("exist/a/b", 0o755, 5),
    ]
    with pytest.raises(BuildError, match="not a directory"):
        mkdir_entries(tree, "/file/x")


def entry(path, kind="file", **kw):
    return Entry(path, Node(kind, 0o644, inode=kw.pop("inode", None)), **kw)


def test_merge():
    low = [
        entry("a", "dir"),
        entry("a/x", data=b"1"),
        entry("a/y", hardlink="a/x", data=b"1"),
        entry("b", data=b"b"),
    ]
    assert [e.path for e in merge_entries([low, [entry("a", data=b"now a file")]])] == ["a", "b"]
    merged = merge_entries([low, [entry("a", "dir"), entry("a/x", data=b"2")]])
    assert [(e.path, e.hardlink, e.data) for e in merged] == [
        ("a", "", None),
        ("a/x", "", b"2"),
        ("a/y", "", b"1"),
        ("b", "", b"b"),
    ]
    assert [e.path for e in merge_entries([low, [entry("a", "dir", opaque=True), entry("a/z")]])] == [
        "a",
        "a/z",
        "b",
    ]


def test_whiteouts_and_opaque_directories(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("trusted.* attributes need root")
    materialize([entry("d", "dir", opaque=True), entry("d/gone", whiteout=True)], str(tmp_path))
    st = os.lstat(tmp_path / "d" / "gone")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
    assert os.getxattr(tmp_path / "d", "trusted.overlay.opaque") == b"y"


@pytest.mark.usefixtures("one_id")
def test_without_the_right_to_chown(tmp_path):
    from lapstrake.dirview import DirView

    nodes = [
        Node("dir", 0o511, 5, 6, mtime_ns=NOW),
        Node("char", 0o666, 0, 0, mtime_ns=NOW, rdev=(1, 3)),
        Node("file", 0o4000, 7, 8, 1, NOW),
    ]
    entries = [
        Entry(p, n, data=b"x" if n.kind == "file" else None)
        for p, n in zip(("d", "d/dev", "d/f"), nodes, strict=True)
    ]
    materialize(entries, str(tmp_path), can_chown=False, userxattr=True)
    view = DirView(str(tmp_path))
    for e in entries:
        node = view.lstat(e.path)
        assert (node.kind, node.mode, node.uid, node.gid, node.rdev, node.mtime_ns) == (
            e.node.kind,
            e.node.mode,
            e.node.uid,
            e.node.gid,
            e.node.rdev,
            NOW,
        )
    assert os.stat(tmp_path / "d" / "f").st_uid == os.geteuid()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a/..", ".", "a//x", "link/x"])
def test_materialize_never_leaves_its_directory(tmp_path, path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").mkdir()
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(BuildError):
        materialize([entry(path, data=b"x")], str(out))
    assert sorted(os.listdir(tmp_path)) == ["out"]


def test_names_a_layer_cannot_hold(source, rootfs):
    (source / ".wh.x").write_bytes(b"")
    with pytest.raises(BuildError, match=r"\.wh\."):
        run(source, rootfs, ".", dest="/")


def test_changed_source_is_noticed(source, tmp_path):
    tree = LocalTree(str(source))
    spec = CopySpec(("f",), "/x")
    selection_digest(tree, select(tree, spec))
    (source / "f").write_bytes(b"longer now")
    with pytest.raises(BuildError, match="changed while"):
        materialize(plan_copy(tree, Empty(), spec), str(tmp_path))


def test_paths():
    assert [clean(p) for p in ("/a//b/../c/", "..", "../../x", ".", "")] == ["a/c", "", "x", "", ""]
    assert [has_wildcard(p) for p in ("a*", "a?", "[a]", r"a\*", r"a\\*", "a")] == [
        True,
        True,
        True,
        False,
        True,
        False,
    ]
    links = {"a": "/b", "b": "c/../d", "s": "."}
    nodes = {k: Node("symlink", 0o777, linkname=v) for k, v in links.items()}
    assert resolve(nodes.get, "a/x") == "d/x"
    assert resolve(nodes.get, "x/a", last=False) == "x/a"
    assert resolve(nodes.get, "a", last=False) == "a"
    assert resolve(nodes.get, "s/s/q/../../../z") == "z"
