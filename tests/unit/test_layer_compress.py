from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import subprocess
from pathlib import Path

import pytest

from lapstrake.errors import StoreError
from lapstrake.layer.compress import Compressor, decompressor, pack
from lapstrake.layer.diff import changes
from lapstrake.layer.unpack import unpack
from lapstrake.store.content import ContentStore
from lapstrake.tree import FILE, Entry, Node

DATA = b"".join(random.Random(3).choices([b"alpha ", b"beta ", b"gamma\n", b"\0\0\0\0"], k=600_000))


def compress(data: bytes, kind: str, level: int | None = None, step: int = 1 << 20) -> bytes:
    c = Compressor(kind, level)
    return b"".join([c.feed(data[i : i + step]) for i in range(0, len(data), step)]) + c.finish()


def drain(stream: object, n: int = 65536) -> bytes:
    out = []
    while part := stream.read(n):  # type: ignore[attr-defined]
        out.append(part)
    return b"".join(out)


@pytest.mark.parametrize(
    "kind,level",
    [
        ("gzip", None),
        ("gzip", 0),
        ("gzip", 1),
        ("gzip", 2),
        ("gzip", 6),
        ("gzip", 9),
        ("zstd", None),
        ("zstd", 0),
        ("zstd", 6),
        ("uncompressed", None),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 1 << 20, len(DATA)])
def test_round_trip_and_independence_of_the_feed(kind: str, level: int | None, size: int) -> None:
    data = DATA[:size]
    packed = compress(data, kind, level)
    assert packed == compress(data, kind, level, 12_345) == compress(data, kind, level, 1 << 23)
    assert drain(decompressor(io.BytesIO(packed))) == data


def test_others_read_ours() -> None:
    packed = compress(DATA, "gzip")
    assert gzip.decompress(packed) == DATA
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == DATA


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(DATA[:5000]) + gzip.compress(DATA[5000:]),
        gzip.compress(DATA) + bytes(512),
        bz2.compress(DATA),
        lzma.compress(DATA),
        compress(DATA[:99], "zstd") + compress(DATA[99:], "zstd"),
    ],
)
def test_other_forms(packed: bytes) -> None:
    assert drain(decompressor(io.BytesIO(packed))) == DATA


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damage_truncation_and_bombs(kind: str) -> None:
    packed = compress(DATA, kind)
    for bad in (packed[:-9], packed[: len(packed) // 2], packed[:1000] + b"\xff" * 50 + packed[1050:]):
        with pytest.raises(StoreError):
            drain(decompressor(io.BytesIO(bad)))
    bomb = compress(bytes(64 << 20), kind)
    with pytest.raises(StoreError, match="larger"):
        drain(decompressor(io.BytesIO(bomb), limit=1 << 20))
    with pytest.raises(StoreError, match="not compressed"):
        decompressor(io.BytesIO(b"plain text"), "application/x+" + kind)


@pytest.mark.parametrize("kind,level", [("gzip", 10), ("zstd", 23), ("lz4", None)])
def test_bad_settings(kind: str, level: int | None) -> None:
    with pytest.raises(StoreError):
        Compressor(kind, level)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "uncompressed"])
def test_pack_and_unpack(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "src"
    (source / "d").mkdir(parents=True)
    (source / "d/big").write_bytes(DATA)
    for i in range(50):
        (source / f"f{i}").write_text(str(i))
    store = ContentStore(str(tmp_path))
    with store.writer() as w:
        result = pack(changes(str(source)), w, kind)
    with store.open(result.digest) as f:
        raw = drain(decompressor(f))
    assert (result.size, result.uncompressed_size) == (store.size(result.digest), len(raw))
    assert result.diff_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    for diff_id, ok in ((None, True), (result.diff_id, True), ("sha256:" + "0" * 64, False)):
        dest = tmp_path / f"d{diff_id}"
        dest.mkdir()
        with store.open(result.digest) as f:
            if ok:
                assert unpack(f, "", str(dest), diff_id) == result.diff_id
                assert (dest / "d/big").read_bytes() == DATA
            else:
                with pytest.raises(StoreError, match="diffID"):
                    unpack(f, "", str(dest), diff_id)


def test_errors_on_either_side_stop_both(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    missing = Entry("f", Node(FILE, 0o644, size=5))
    with pytest.raises(StoreError, match="no content"), store.writer() as w:
        pack([missing], w)
    entries = [
        Entry(f"f{i}", Node(FILE, 0o644, size=1 << 20), data=random.Random(i).randbytes(1 << 20))
        for i in range(20)
    ]
    with pytest.raises(StoreError, match="larger"), store.writer(None, 5) as w:
        pack(entries, w)
    assert store.digests() == []
