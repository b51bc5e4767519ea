"""``local`` and ``tar`` outputs, with destinations and trees that mean harm."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest

from lapstrake.errors import ExportError, UsageError
from lapstrake.export.base import BuiltResult
from lapstrake.export.join import assemble_result
from lapstrake.export.open import open_exporter
from lapstrake.testing.images import MemoryTree, Output, environment, image
from lapstrake.tree import CHAR, DIR, FIFO, FILE, Node
from lapstrake.values import replace


def built(env, *trees, files=()):
    images = [
        replace(image(env.content, arch), rootfs=tree, files=files)
        for arch, tree in zip(("amd64", "arm64"), trees, strict=False)
    ]
    return assemble_result(images)


def export(env, spec, res: BuiltResult):
    exporter = open_exporter(spec, [], env)
    exporter.prepare(res)
    exporter.commit()


def test_local_writes_modes_times_and_links(tmp_path):
    env = environment(tmp_path)
    hard = (Node(FILE, 0o4755, size=2, mtime_ns=5_000_000_000, inode=(1, 7)), b"hi")
    tree = MemoryTree(
        {
            "bin/a": hard,
            "bin/b": hard,
            "lnk": "/etc/passwd",
            "d": (Node(DIR, 0o1777, mtime_ns=9_000_000_000), b""),
            "pipe": (Node(FIFO, 0o600), b""),
            "null": (Node(CHAR, 0o666, rdev=(1, 3)), b""),
        }
    )
    notes: list[str] = []
    for _ in range(2):  # the second time over its own output
        export(replace(env, note=notes.append), Output("local", "out"), built(env, tree))
    out = tmp_path / "out"
    assert sorted(os.listdir(out)) == ["bin", "d", "lnk", "pipe"]
    assert sorted(os.listdir(out / "bin")) == ["a", "b"]
    assert os.stat(out / "bin/a").st_ino == os.stat(out / "bin/b").st_ino
    assert stat.S_IMODE(os.stat(out / "bin/a").st_mode) == 0o755
    assert os.stat(out / "bin/a").st_mtime == 5 and os.stat(out / "d").st_mtime == 9
    assert stat.S_IMODE(os.stat(out / "d").st_mode) == 0o1777
    assert os.readlink(out / "lnk") == "/etc/passwd"
    assert notes and "null" in notes[0]


def test_epoch_sets_every_time(tmp_path):
    env = environment(tmp_path)
    export(
        env,
        Output("local", "out", (("source-date-epoch", "77"),)),
        built(env, MemoryTree({"a/b": b"1", "l": "a"}), files=(("provenance.json", b"{}"),)),
    )
    for name in ("a", "a/b", "l", "provenance.json"):
        assert os.lstat(tmp_path / "out" / name).st_mtime == 77
    assert stat.S_IMODE(os.stat(tmp_path / "out/provenance.json").st_mode) == 0o600


def test_destination_symlinks_are_not_followed(tmp_path):
    env = environment(tmp_path)
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "f").write_text("safe")
    out = tmp_path / "out"
    out.mkdir()
    (out / "dir").symlink_to(canary)
    (out / "file").symlink_to(canary / "f")
    (out / "was-dir").mkdir()
    (out / "was-dir" / "x").write_text("x")
    (out / "was-file").write_text("x")
    export(
        env,
        Output("local", "out"),
        built(env, MemoryTree({"dir/f": b"evil", "file": b"evil", "was-dir": b"1", "was-file/y": b"2"})),
    )
    assert (canary / "f").read_text() == "safe" and os.listdir(canary) == ["f"]
    assert (out / "dir/f").read_bytes() == b"evil" and not (out / "dir").is_symlink()
    assert (out / "file").read_bytes() == b"evil" and (out / "was-dir").read_bytes() == b"1"
    assert not [n for n in os.listdir(out) if "tmp" in n]


@pytest.mark.parametrize("name", ["..", ".", "a/../../b", "", "x\0y"])
@pytest.mark.parametrize("kind", ["local", "tar"])
def test_hostile_names(tmp_path, name, kind):
    class Bad(MemoryTree):
        def listdir(self, path):
            return [name]

        def lstat(self, path):
            return Node(FILE, 0o644)

    env = environment(tmp_path)
    with pytest.raises(ExportError, match="invalid file name"):
        export(env, Output(kind, "out"), built(env, Bad({})))
    assert not [n for n in os.listdir(tmp_path) if n.endswith(".tmp")]


def test_depth_is_bounded(tmp_path):
    class Deep(MemoryTree):
        def listdir(self, path):
            return ["d"]

        def lstat(self, path):
            return Node(DIR, 0o755)

    env = environment(tmp_path)
    for kind in ("local", "tar"):
        with pytest.raises(ExportError, match="nested too deeply"):
            export(env, Output(kind, "out-" + kind), built(env, Deep({})))


def test_platforms_split_merge_and_collide(tmp_path):
    env = environment(tmp_path)
    docs = (("provenance.json", b"{}"),)
    res = built(env, MemoryTree({"a": b"1", "d/x": b"1"}), MemoryTree({"b": b"2", "d/y": b"2"}), files=docs)
    export(env, Output("local", "split"), res)
    assert sorted(os.listdir(tmp_path / "split")) == ["linux_amd64", "linux_arm64"]
    export(env, Output("local", "merged", (("platform-split", "false"), ("attestation-prefix", "x-"))), res)
    assert sorted(os.listdir(tmp_path / "merged")) == [
        "a",
        "b",
        "d",
        "x-provenance.linux_amd64.json",
        "x-provenance.linux_arm64.json",
    ]
    both = built(env, MemoryTree({"a": b"1"}), MemoryTree({"a": b"2"}))
    with pytest.raises(
        ExportError,
        match="cannot overwrite a from linux/amd64 with linux/arm64 when split option is disabled",
    ):
        export(env, Output("local", "m2", (("platform-split", "false"),)), both)
    assert not (tmp_path / "m2").exists()
    export(env, Output("local", "one", (("platform-split", "true"),)), built(env, MemoryTree({"a": b"1"})))
    assert os.listdir(tmp_path / "one") == ["linux_amd64"]


def test_delete_mode(tmp_path):
    env = environment(tmp_path)
    outside = tmp_path / "canary"
    outside.mkdir()
    (outside / "f").write_text("safe")
    out = tmp_path / "out"
    (out / "d/old").mkdir(parents=True)
    (out / "stale").symlink_to(outside)
    export(
        env,
        Output("local", "out", (("mode", "delete"),)),
        built(env, MemoryTree({"d/new": b"1"}), files=(("provenance.json", b"{}"),)),
    )
    assert sorted(os.listdir(out)) == ["d", "provenance.json"] and os.listdir(out / "d") == ["new"]
    assert (outside / "f").read_text() == "safe"
    export(
        env,
        Output("local", "out", (("mode", "delete"),)),
        built(env, MemoryTree({"a": b"1"}), MemoryTree({"a": b"2"})),
    )
    assert sorted(os.listdir(out)) == ["linux_amd64", "linux_arm64"]
    merged = (("mode", "delete"), ("platform-split", "false"))
    export(env, Output("local", "out", merged), built(env, MemoryTree({"a": b"1"}), MemoryTree({"b": b"2"})))
    assert sorted(os.listdir(out)) == ["a", "b"]
    spec = Output("local", ".", (("mode", "delete"),))
    with pytest.raises(UsageError):
        open_exporter(spec, [], env)
    open_exporter(spec, [], replace(env, allow_delete=True))


def test_tar_keeps_owners(tmp_path):
    out = io.BytesIO()
    env = environment(tmp_path, stdout=out)
    long = "d/" + "n" * 120
    big = (
        Node(
            FILE,
            0o4755,
            uid=3_000_000,
            gid=5,
            size=3,
            mtime_ns=1_500_000_000,
            inode=(1, 1),
            xattrs=(("user.x", b"\0=\n"), ("trusted.overlay.opaque", b"y")),
        ),
        b"abc",
    )
    tree = MemoryTree(
        {long: big, "d/zlink": big, "ü": b"1", "l": "t" * 150, "null": (Node(CHAR, 0o666, rdev=(1, 3)), b"")}
    )
    export(env, Output("tar", "-"), built(env, tree))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        by = {m.name: m for m in tar.getmembers()}
        assert (
            by[long].uid == 3_000_000
            and by[long].gid == 5
            and by[long].mode == 0o4755
            and by[long].mtime == 1
        )
        assert by[long].pax_headers["SCHILY.xattr.user.x"] == "\0=\n" and not any(
            "trusted" in k for k in by[long].pax_headers
        )
        assert by["d/zlink"].islnk() and by["d/zlink"].linkname == long
        assert by["l"].linkname == "t" * 150 and "ü" in by
        assert by["null"].ischr() and (by["null"].devmajor, by["null"].devminor) == (1, 3)
        assert tar.extractfile(long).read() == b"abc"


def test_tar_of_platforms_to_file(tmp_path):
    env = environment(tmp_path)
    res = built(env, MemoryTree({"a": b"1"}), MemoryTree({"a": b"2"}), files=(("provenance.json", b"{}"),))
    export(env, Output("tar", "o.tar"), res)
    with tarfile.open(tmp_path / "o.tar") as tar:
        assert tar.getnames() == [
            "linux_amd64",
            "linux_amd64/a",
            "linux_amd64/provenance.json",
            "linux_arm64",
            "linux_arm64/a",
            "linux_arm64/provenance.json",
        ]
    first = (tmp_path / "o.tar").read_bytes()
    export(env, Output("tar", "o.tar"), res)
    assert (tmp_path / "o.tar").read_bytes() == first


def test_file_that_shrinks_while_read(tmp_path):
    env = environment(tmp_path)
    exporter = open_exporter(Output("tar", "o.tar"), [], env)
    with pytest.raises(ExportError, match="became shorter"):
        exporter.prepare(built(env, MemoryTree({"a": (Node(FILE, 0o644, size=10), b"1")})))
    exporter.abort()
    assert os.listdir(tmp_path) == ["lap"]
