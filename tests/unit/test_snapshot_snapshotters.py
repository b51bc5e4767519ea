from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from lapstrake.layer.diff import changes
from lapstrake.snapshot.base import Snapshotter, choose
from lapstrake.snapshot.copying import CopyingSnapshotter
from lapstrake.snapshot.overlay import OverlaySnapshotter
from lapstrake.snapshot.view import StackView
from lapstrake.store.content import ContentStore
from lapstrake.store.index import Index
from lapstrake.store.layers import LayerStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and sets ownership")

STEP = """
set -e
cd "$1"
echo new > new
mkdir -p d/e && echo deep > d/e/f && chown 5:6 d/e/f && chmod 4755 d/e/f
echo more >> base/keep
rm base/gone
rm -r tree
rm -r again && mkdir again && echo 2 > again/two
rm tofile/x && rmdir tofile && echo file > tofile
rm todir && mkdir todir && touch todir/in
chmod 700 mode
chown 9:9 owner
ln -sf elsewhere link
mv base/moved base/renamed
cp -p same same2 && ln same2 same3
mkfifo fifo
touch -d @1000 dated
mkdir temporary && touch temporary/x && rm -r temporary
touch quiet/t && rm quiet/t
"""


def lower(root: Path) -> str:
    for d in ("base", "tree/a/b", "again/old", "tofile", "mode", "quiet", "untouched/x"):
        (root / d).mkdir(parents=True)
    for f in (
        "base/keep",
        "base/gone",
        "tree/a/b/f",
        "again/one",
        "tofile/x",
        "todir",
        "owner",
        "same",
        "dated",
        "base/moved",
        "untouched/x/y",
    ):
        (root / f).write_text(f)
    (root / "link").symlink_to("base/keep")
    os.link(root / "same", root / "untouched/hard")
    for dirpath, dirs, files in os.walk(root):
        for n in dirs + files:
            os.utime(os.path.join(dirpath, n), (1_000_000, 1_000_000), follow_symlinks=False)
    return str(root)


def run_step(
    snapshotter: Snapshotter, store: LayerStore, layers: list[str], layer_id: str, step: str = STEP
) -> str:
    with store.new_active() as active:
        rootfs = snapshotter.prepare(layers, active)
        if rootfs.lowers:
            at = active.path + "/at"
            os.mkdir(at)
            options = f"lowerdir={':'.join(rootfs.lowers)},upperdir={rootfs.upper},workdir={rootfs.work}"
            done = subprocess.run(
                [
                    "unshare",
                    "-m",
                    "sh",
                    "-c",
                    f"mount -t overlay overlay -o {options} {at} && sh -c '{step}' step {at}",
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if "mount" in done.stderr:
                pytest.skip("no overlayfs here")
        else:
            done = subprocess.run(
                ["sh", "-c", step, "step", rootfs.upper], capture_output=True, text=True, check=False
            )
        assert done.returncode == 0, done.stderr
        store.commit(snapshotter.finish(active, rootfs), layer_id)
    return store.dir(layer_id)


def listing(layer: str) -> dict[str, tuple[object, ...]]:
    out: dict[str, tuple[object, ...]] = {}
    for e in changes(layer):
        n = e.node
        digest = ""
        if n.kind == "file" and not e.whiteout and e.tree is not None:
            with e.tree.open(e.source) as f:
                digest = hashlib.sha256(f.read()).hexdigest()
        mtime = n.mtime_ns if n.mtime_ns < 10**18 else "now"
        out[e.path] = (n.kind, n.mode, n.uid, n.gid, mtime, n.linkname, e.hardlink, e.whiteout, digest)
    return out


def merged(layers: list[str]) -> dict[str, tuple[object, ...]]:
    out: dict[str, tuple[object, ...]] = {}
    with StackView(layers) as view:
        todo = [""]
        while todo:
            at = todo.pop()
            for name in view.listdir(at):
                path = f"{at}/{name}" if at else name
                n = view.lstat(path)
                assert n is not None
                out[path] = (
                    n.kind,
                    n.mode,
                    n.uid,
                    n.gid,
                    n.size,
                    n.linkname,
                    n.mtime_ns if n.mtime_ns < 10**18 else "now",
                )
                if n.kind == "dir":
                    todo.append(path)
    return out


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    root = str(tmp_path / "store")
    return LayerStore(root, ContentStore(root), Index(root))


def test_both_give_the_same(tmp_path: Path, store: LayerStore) -> None:
    base = lower(tmp_path / "base")
    one = run_step(OverlaySnapshotter(), store, [base], "overlay")
    two = run_step(CopyingSnapshotter(), store, [base], "copying")
    a, b = merged([one, base]), merged([two, base])
    assert a == b
    assert "tree" not in a and "base/gone" not in a and "again/old" not in a and a["todir"][0] == "dir"
    gone = {p for p, e in listing(one).items() if e[7]}
    assert gone == {"base/gone", "base/moved", "tree"}
    # A directory made anew may get the old one's inode: then its old names are deleted one by one.
    assert {p for p, e in listing(two).items() if e[7]} - {"again/old", "again/one"} == gone
    assert not {p for p in listing(two) if p.startswith("untouched/x")}, "unchanged files are not in the diff"


@pytest.mark.parametrize("snapshotter", [OverlaySnapshotter(), CopyingSnapshotter()])
def test_steps_pile_up_and_base_stays(tmp_path: Path, store: LayerStore, snapshotter: Snapshotter) -> None:
    base = lower(tmp_path / "base")
    before = merged([base])
    one = run_step(snapshotter, store, [base], "one")
    two = run_step(
        snapshotter, store, [one, base], "two", 'cd "$1"; rm new; mkdir tree; echo 3 > again/three'
    )
    assert merged([base]) == before
    assert set(listing(two)) == {"new", "tree", "again", "again/three"}
    all_ = merged([two, one, base])
    assert "new" not in all_ and {p for p in all_ if p.startswith(("tree", "again"))} == {
        "tree",
        "again",
        "again/two",
        "again/three",
    }


@pytest.mark.parametrize("snapshotter", [OverlaySnapshotter(), CopyingSnapshotter()])
def test_from_scratch(tmp_path: Path, store: LayerStore, snapshotter: Snapshotter) -> None:
    one = run_step(snapshotter, store, [], "one", 'cd "$1"; mkdir a; echo x > a/f')
    assert set(listing(one)) == {"a", "a/f"}


def test_a_step_that_changes_nothing_gives_nothing(tmp_path: Path, store: LayerStore) -> None:
    base = lower(tmp_path / "base")
    assert listing(run_step(CopyingSnapshotter(), store, [base], "c", "true")) == {}
    assert listing(run_step(OverlaySnapshotter(), store, [base], "o", "true")) == {}


def test_hostile_layers_are_copied_without_leaving(tmp_path: Path, store: LayerStore) -> None:
    low, top = tmp_path / "low", tmp_path / "top"
    (low / "d").mkdir(parents=True)
    (low / "d/f").write_text("x")
    top.mkdir()
    victim = tmp_path / "victim"
    victim.mkdir()
    (top / "d").symlink_to(victim)
    layer = run_step(CopyingSnapshotter(), store, [str(top), str(low)], "x", "true")
    assert listing(layer) == {} and os.listdir(victim) == []


def test_choosing_is_remembered(tmp_path: Path) -> None:
    root = str(tmp_path / "s")
    first = choose(root)
    assert first.name in ("overlay", "copying")
    assert [n for n in os.listdir(root) if n.startswith("probe")] == []
    note = Path(root, "snapshotter")
    assert os.uname().release in note.read_text()
    note.write_text(note.read_text().replace(first.name, "copying"))
    assert choose(root).name == "copying" and choose(root, "copying").name == "copying"
    note.write_text("some other kernel 0 copying\n")
    assert choose(root).name == first.name
