from __future__ import annotations

from pathlib import Path

import pytest

from lapstrake.errors import StoreError
from lapstrake.store.content import ContentStore


@pytest.mark.parametrize("piece", [1, 7, 1000, -1])
def test_whole_blobs_are_read_and_damaged_ones_go(tmp_path: Path, piece: int) -> None:
    store = ContentStore(str(tmp_path))
    digest = store.put(b"some content" * 20)
    with store.open_verified(digest) as f:
        assert b"".join(iter(lambda: f.read(piece), b"")) == b"some content" * 20
    Path(store.path(digest)).write_bytes(b"Some content" * 20)
    with store.open_verified(digest) as f, pytest.raises(StoreError, match="damaged"):
        while f.read(piece):
            pass
    assert not store.has(digest)


def test_the_last_byte_is_not_given_unchecked(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path))
    digest = store.put(b"0123456789")
    Path(store.path(digest)).write_bytes(b"0123456780")
    with store.open_verified(digest) as f, pytest.raises(StoreError):
        f.read(10)
    empty = store.put(b"")
    with store.open_verified(empty) as f:
        assert f.read(5) == b""
