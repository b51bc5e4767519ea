"""eStargz blobs, read the way a lazy puller reads them: footer, table, chunks."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib

import pytest

from lapstrake.errors import StoreError
from lapstrake.layer.compress import pack
from lapstrake.layer.estargz import TOC_DIGEST, UNCOMPRESSED_SIZE, pack_estargz, repack_estargz
from lapstrake.tree import DIR, FILE, SYMLINK, Entry, Node


class Blob:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data) -> None:
        self.data += data

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()


BIG = bytes(range(256)) * (9 << 12)  # 9 MiB: three chunks
ENTRIES = [
    Entry("d", Node(DIR, 0o755)),
    Entry("d/a", Node(FILE, 0o644, uid=3_000_000, size=3, xattrs=(("user.k", b"\0v"),)), data=b"abc"),
    Entry("d/big", Node(FILE, 0o644, size=len(BIG)), data=BIG),
    Entry("d/empty", Node(FILE, 0o600)),
    Entry("d/link", Node(FILE, 0o644, size=3), hardlink="d/a"),
    Entry("é" * 80, Node(SYMLINK, 0o777, linkname="x" * 200)),
]


def table(raw: bytes) -> dict[str, list[dict]]:
    footer = raw[-51:]
    assert gzip.decompress(footer) == b"" and footer[12:16] == b"SG\x16\0" and footer[32:38] == b"STARGZ"
    tar = tarfile.open(fileobj=io.BytesIO(gzip.decompress(raw[int(footer[16:32], 16) :])))
    toc = tar.extractfile("stargz.index.json").read()
    found: dict[str, list[dict]] = {}
    for entry in json.loads(toc)["entries"]:
        found.setdefault(entry["name"], []).append(entry)
    found["digest"] = [{"sha256": hashlib.sha256(toc).hexdigest()}]
    return found


def test_every_chunk_can_be_fetched_alone():
    blob = Blob()
    result = pack_estargz(ENTRIES, blob, None, None)
    toc = table(bytes(blob.data))
    assert dict(result.annotations)[TOC_DIGEST] == "sha256:" + toc["digest"][0]["sha256"]
    assert [e["type"] for e in toc["d/big"]] == ["reg", "chunk", "chunk"]
    for name, content in (("d/a", b"abc"), ("d/big", BIG)):
        at = 0
        for chunk in toc[name]:
            size = chunk.get("chunkSize") or toc[name][0]["size"] - chunk.get("chunkOffset", 0)
            data = zlib.decompressobj(31).decompress(bytes(blob.data[chunk["offset"] :]))[:size]
            assert data == content[at : at + size]
            assert chunk["chunkDigest"] == "sha256:" + hashlib.sha256(data).hexdigest()
            at += size
        assert toc[name][0]["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert toc["d/a"][0]["uid"] == 3_000_000 and toc["d/a"][0]["xattrs"] == {"user.k": "AHY="}
    assert toc["d/link"][0]["type"] == "hardlink" and toc["d/link"][0]["linkName"] == "d/a"
    assert toc["é" * 80][0]["linkName"] == "x" * 200


def test_plain_readers_see_an_ordinary_layer():
    blob = Blob()
    result = pack_estargz(ENTRIES, blob, 6, None)
    raw = gzip.decompress(bytes(blob.data))
    assert result.diff_id == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert dict(result.annotations)[UNCOMPRESSED_SIZE] == str(len(raw))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert tar.getnames() == [e.path for e in ENTRIES]


def test_repacking_an_ordinary_blob_gives_the_same_bytes():
    plain, first, second = Blob(), Blob(), Blob()
    diff_id = pack(ENTRIES, plain).diff_id
    pack_estargz(ENTRIES, first, None, None)
    repack_estargz(io.BytesIO(bytes(plain.data)), second, None, diff_id)
    assert first.data == second.data
    with pytest.raises(StoreError, match="should have diffID"):
        repack_estargz(io.BytesIO(bytes(plain.data)), Blob(), None, "sha256:" + "0" * 64)
