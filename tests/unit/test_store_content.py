from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from lapstrake.errors import StoreError
from lapstrake.store.content import ContentStore

HELLO = "sha256:" + hashlib.sha256(b"hello").hexdigest()


def leftovers(root: Path) -> list[str]:
    return [str(p) for p in root.rglob("*") if p.is_file()]


def test_put_read_and_layout(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    assert not store.has(HELLO)
    assert store.put(b"hello") == HELLO == store.put(b"hello")
    assert store.has(HELLO) and store.size(HELLO) == 5 and store.read(HELLO) == b"hello"
    assert leftovers(tmp_path) == [f"{tmp_path}/blobs/sha256/{HELLO[7:]}"] and store.digests() == [HELLO]


def test_writer_streams_and_knows_its_digest(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    with store.writer(HELLO, 5) as w:
        w.write(b"hel")
        w.write(memoryview(b"lo"))
    assert (w.digest, w.size) == (HELLO, 5) and store.read(HELLO) == b"hello"


@pytest.mark.parametrize(
    "digest,size,data",
    [(HELLO, 5, b"hellO"), (HELLO, 5, b"hell"), (HELLO, 5, b"hello!"), (HELLO, None, b"x"), (None, 3, b"xx")],
)
def test_mismatch_leaves_nothing(tmp_path: Path, digest: str | None, size: int | None, data: bytes) -> None:
    store = ContentStore(str(tmp_path))
    with pytest.raises(StoreError), store.writer(digest, size) as w:
        w.write(data)
    assert leftovers(tmp_path) == []


def test_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    with pytest.raises(RuntimeError), store.writer() as w:
        w.write(b"x")
        raise RuntimeError
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "sha256:../../etc/passwd",
        "md5:" + "0" * 32,
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 63,
        "sha256:" + "0" * 64 + "/..",
    ],
)
def test_bad_digests_never_become_paths(tmp_path: Path, digest: str) -> None:
    with pytest.raises(StoreError, match="not a digest"):
        ContentStore(str(tmp_path)).path(digest)


def test_damage_is_found_and_removed(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    store.put(b"hello")
    with open(store.path(HELLO), "wb") as f:
        f.write(b"jello")
    with pytest.raises(StoreError, match="damaged"):
        store.read(HELLO)
    assert not store.has(HELLO)


def test_read_is_bounded(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    with pytest.raises(StoreError, match="larger"):
        store.read(store.put(b"hello"), limit=4)


def test_sweep_spares_live_writers(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    w = store.writer()
    dead = tmp_path / "ingest" / "dead"
    dead.write_bytes(b"x")
    os.utime(dead, (1, 1))
    os.utime(w._path, (1, 1))
    assert store.sweep() == 1 and not dead.exists()
    w.write(b"hello")
    assert w.commit() == HELLO


def test_sha512(tmp_path: Path) -> None:
    digest = "sha512:" + hashlib.sha512(b"hello").hexdigest()
    store = ContentStore(str(tmp_path))
    with store.writer(digest) as w:
        w.write(b"hello")
    assert store.read(digest) == b"hello"
