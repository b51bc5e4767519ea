from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lapstrake.errors import StoreError
from lapstrake.snapshot.view import DirView, StackView, resolve

ROOT = os.geteuid() == 0
pytestmark = pytest.mark.skipif(not ROOT, reason="makes overlayfs marks")


def walk(tree: StackView | DirView, at: str = "") -> dict[str, tuple[object, ...]]:
    out: dict[str, tuple[object, ...]] = {}
    for name in tree.listdir(at):
        path = f"{at}/{name}" if at else name
        node = tree.lstat(path)
        assert node is not None
        content = b""
        if node.kind == "file":
            with tree.open(path) as f:
                content = f.read()
        out[path] = (node.kind, node.mode, node.linkname, content)
        if node.kind == "dir":
            out.update(walk(tree, path))
    return out


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    low, mid, top = (tmp_path / n for n in ("low", "mid", "top"))
    for d in (
        low / "etc/a",
        low / "op/sub",
        low / "gone/x",
        low / "tofile/d",
        low / "deep/1/2",
        mid / "etc",
        mid / "op",
        mid / "remade",
        top / "etc/a",
        top / "deep/1",
        top / "marked",
    ):
        d.mkdir(parents=True)
    (low / "etc/a/f").write_text("low")
    (low / "etc/keep").write_text("keep")
    (low / "op/hidden").write_text("h")
    (low / "deep/1/2/f").write_text("deep")
    (low / "todir").write_text("file")
    (low / "link").symlink_to("etc/keep")
    (low / "remade").mkdir()
    (low / "remade/old").touch()
    (low / "marked").mkdir()
    (low / "marked/w").touch()
    (low / "marked/empty").touch()
    os.setxattr(mid / "op", "trusted.overlay.opaque", b"y")
    (mid / "op/new").write_text("n")
    os.setxattr(mid / "remade", "user.overlay.opaque", b"y")
    os.mknod(mid / "gone", stat.S_IFCHR, 0)
    (mid / "tofile").write_text("now a file")
    (mid / "todir").mkdir()
    (mid / "todir/x").write_text("x")
    os.setxattr(top / "marked", "trusted.overlay.opaque", b"x")
    (top / "marked/w").touch()
    os.setxattr(top / "marked/w", "trusted.overlay.whiteout", b"")
    (top / "etc/a/f").write_text("top")
    os.mknod(top / "etc/keep", stat.S_IFCHR, 0)
    (top / "deep/1/new").write_text("new")
    return [str(top), str(mid), str(low)]


def test_merging(layers: list[str]) -> None:
    with StackView(layers) as view:
        assert sorted(walk(view)) == [
            "deep", "deep/1", "deep/1/2", "deep/1/2/f", "deep/1/new", "etc", "etc/a", "etc/a/f", "link", "marked", "marked/empty",
            "op", "op/new", "remade", "todir", "todir/x", "tofile",
        ]  # fmt: skip
        assert walk(view)["etc/a/f"][3] == b"top"
        for absent in (
            "gone",
            "gone/x",
            "op/hidden",
            "op/sub",
            "etc/keep",
            "tofile/d",
            "remade/old",
            "link/x",
            "nope/y",
            "marked/w",
        ):
            assert view.lstat(absent) is None, absent
            assert view.listdir(absent) == []
            with pytest.raises(StoreError):
                view.open(absent)
        assert (
            view.real_path("deep/1/2/f") == layers[2] + "/deep/1/2/f"
            and view.real_path("etc") is None
            and view.real_path("op") == layers[1] + "/op"
        )


def test_the_same_as_the_kernel(layers: list[str], tmp_path: Path) -> None:
    at = tmp_path / "mnt"
    at.mkdir()
    script = (
        f"import sys\nsys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "import json\nfrom lapstrake.snapshot.view import DirView\n"
        f"d = DirView({str(at)!r})\nout = {{}}\ntodo = ['']\n"
        "while todo:\n  p = todo.pop()\n  for n in d.listdir(p):\n    q = p + '/' + n if p else n\n    k = d.lstat(q)\n    out[q] = [k.kind, k.mode, k.linkname]\n    if k.kind == 'dir': todo.append(q)\n"
        "print(json.dumps(out))"
    )
    mount = f'mount -t overlay overlay -o lowerdir={":".join(layers)} {at} && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, script], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no overlayfs here: {done.stderr}")
    import json

    kernel = {k: tuple(v) for k, v in json.loads(done.stdout).items()}
    release = tuple(int(x) for x in os.uname().release.split(".")[:2])
    with StackView(layers) as view:
        ours = {k: v[:3] for k, v in walk(view).items()}
    if release < (6, 8):
        kernel.pop("marked/w", None)
    kernel.pop("remade/old", None)  # user.overlay.opaque is only the kernel's with userxattr
    assert ours == kernel


@pytest.mark.parametrize("bad", ["../x", "a/../b", "/etc", "a//b", "a/", "."])
def test_paths_that_could_leave(layers: list[str], bad: str) -> None:
    for tree in (StackView(layers), DirView(layers[2])):
        for ask in (tree.lstat, tree.listdir, tree.open):
            with pytest.raises(StoreError):
                ask(bad)  # type: ignore[operator]


def test_no_symlink_is_followed(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "t/up").symlink_to("..")
    (tmp_path / "t/file").symlink_to("../secret")
    for tree in (StackView([str(tmp_path / "t")]), DirView(str(tmp_path / "t"))):
        assert tree.lstat("up/secret") is None and list(tree.listdir("up")) == []
        for path in ("up/secret", "file"):
            with pytest.raises((StoreError, OSError)):
                tree.open(path)
    os.mkfifo(tmp_path / "t/fifo")
    with pytest.raises(StoreError, match="regular"):
        DirView(str(tmp_path / "t")).open("fifo")


@pytest.mark.parametrize(
    "path,follow,expected",
    [
        ("/a/l/f", True, "b/f"), ("a/abs/f", True, "b/f"), ("../../a", True, "a"), ("a/up/up/x", True, "up/x"), ("a/last", False, "a/last"),
        ("a/last", True, "b/f"), ("no/such/../x", True, "no/x"), ("a/dangling/z", True, "nowhere/z"), ("", True, ""), ("/", True, ""), ("a/l/../f", True, "f"),
    ],
)  # fmt: skip
def test_resolve(tmp_path: Path, path: str, follow: bool, expected: str) -> None:
    for d in ("a", "b"):
        (tmp_path / d).mkdir()
    (tmp_path / "b/f").touch()
    for name, target in (
        ("l", "../b"),
        ("abs", "/b"),
        ("up", "../../../.."),
        ("last", "l/f"),
        ("dangling", "/nowhere"),
        ("loop", "loop"),
    ):
        (tmp_path / "a" / name).symlink_to(target)
    view = StackView([str(tmp_path)])
    assert resolve(view, path, follow_last=follow) == expected
    with pytest.raises(StoreError, match="symbolic links"):
        resolve(view, "a/loop")


def test_an_empty_stack() -> None:
    view = StackView([])
    assert (
        list(view.listdir("")) == []
        and view.lstat("x") is None
        and (node := view.lstat("")) is not None
        and node.kind == "dir"
    )
