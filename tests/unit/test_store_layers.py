from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from lapstrake.errors import StoreError
from lapstrake.store.content import ContentStore
from lapstrake.store.index import Index
from lapstrake.store.layers import LayerBlob, LayerInfo, LayerStore


def make(root: Path, **kw: object) -> LayerStore:
    return LayerStore(str(root), ContentStore(str(root)), Index(str(root)), **kw)  # type: ignore[arg-type]


def test_commit_is_a_rename_and_idempotent(tmp_path: Path) -> None:
    store = make(tmp_path)
    for content in ("first", "second"):
        with store.new_active() as active:
            Path(active.upper, "f").write_text(content)
            assert store.commit(active, "sha256:abc").id == "sha256:abc"
    assert store.has_dir("sha256:abc") and Path(store.dir("sha256:abc"), "f").read_text() == "first"
    assert ":" not in store.dir("sha256:abc")
    assert os.listdir(tmp_path / "active") == []
    assert store.sweep() == 2 and os.listdir(tmp_path / "trash") == []


def test_the_root_has_mode_755_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        with make(tmp_path).new_active() as active:
            assert os.stat(active.upper).st_mode & 0o7777 == 0o755
    finally:
        os.umask(old)


def test_info_round_trip_and_registering(tmp_path: Path) -> None:
    store = make(tmp_path)
    assert store.info("x") is None
    gz = LayerBlob("application/x+gzip", "sha256:" + "1" * 64, 10, "gzip", 1)
    store.register_blob("x", "sha256:d", gz, [{"ref": "a"}])
    zs = LayerBlob("application/x+zstd", "sha256:" + "2" * 64, 9, "zstd")
    info = store.register_blob("x", None, zs, [{"ref": "a"}, {"ref": "b"}])
    assert info == store.info("x") == LayerInfo("x", "sha256:d", (gz, zs), 0, ({"ref": "a"}, {"ref": "b"}))
    os.makedirs(store.dir("x"))
    with pytest.raises(StoreError, match="diffID"):
        store.register_blob("x", "sha256:other", zs)
    os.rmdir(store.dir("x"))  # without a directory the step ran anew, and other bytes are the layer now
    assert store.register_blob("x", "sha256:other", zs).blobs == (zs,)
    assert [i.id for i in store.infos()] == ["x"]


@pytest.mark.parametrize("bad", ["", "..", "../x", "a/b", ".hidden", "x" * 300, "a\0b"])
def test_bad_ids(tmp_path: Path, bad: str) -> None:
    with pytest.raises(StoreError, match="not a layer id"):
        make(tmp_path).dir(bad)


def test_ensure_dir_extracts_once(tmp_path: Path) -> None:
    calls: list[str] = []

    def unpack(blob: BinaryIO, media_type: str, dest: str, diff_id: str | None) -> str:
        calls.append(media_type)
        Path(dest, "f").write_bytes(blob.read())
        return diff_id or "sha256:found"

    store = make(tmp_path, unpack=unpack)
    digest = "sha256:" + "ab" * 32
    fetched: list[str] = []

    def fetch(info: LayerInfo) -> None:
        fetched.append(info.id)
        real = store.content.put(b"data")
        store.register_blob(info.id, None, LayerBlob("m", real, 4))

    with pytest.raises(StoreError, match="neither"):
        store.ensure_dir(digest)
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda: results.append(store.ensure_dir(digest, fetch))) for _ in range(5)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [store.dir(digest)] * 5 and calls == ["m"] and fetched == [digest]
    info = store.info(digest)
    assert info is not None and info.diff_id == "sha256:found"
    assert Path(store.dir(digest), "f").read_bytes() == b"data"


def test_a_failed_extraction_leaves_nothing(tmp_path: Path) -> None:
    def unpack(blob: BinaryIO, media_type: str, dest: str, diff_id: str | None) -> str:
        Path(dest, "half").touch()
        raise StoreError("broken")

    store = make(tmp_path, unpack=unpack)
    store.register_blob("x", None, LayerBlob("m", store.content.put(b"d"), 1))
    with pytest.raises(StoreError, match="broken"):
        store.ensure_dir("x")
    assert not store.has_dir("x") and os.listdir(tmp_path / "active") == []


def test_remove_then_sweep(tmp_path: Path) -> None:
    store = make(tmp_path)
    with store.new_active() as active:
        deep = active.upper + "/d" * 200
        os.makedirs(deep)
        os.symlink("/", deep + "/out")
        Path(active.upper, "f").touch()
        store.commit(active, "x")
    store.remove("x")
    assert not store.has_dir("x") and store.info("x") is None
    assert store.sweep() == 2 and os.listdir(tmp_path / "trash") == []


def test_sweep_takes_the_dead_and_spares_the_living(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\nfrom lapstrake.store.content import ContentStore\nfrom lapstrake.store.index import Index\n"
        "from lapstrake.store.layers import LayerStore\nr = sys.argv[1]\n"
        "a = LayerStore(r, ContentStore(r), Index(r)).new_active()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(os.listdir(tmp_path / "active")) == 1
    store = make(tmp_path)
    with store.new_active() as alive:
        assert store.sweep() == 1
        assert os.listdir(tmp_path / "active") == [os.path.basename(alive.path)]
