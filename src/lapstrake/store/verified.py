"""Reading a blob with its digest checked on the way: what the disk damaged is never handed on."""

from __future__ import annotations

import hashlib
import os

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    from .content import ContentStore


class VerifiedReader:
    """A blob from its beginning to its end.  The read that gives the last byte raises StoreError when the
    bytes don't have the digest; the blob is then removed.  After a ``seek`` elsewhere nothing is checked:
    whoever does that has somebody else check (a registry checks what is uploaded)."""

    def __init__(self, store: ContentStore, digest: str, file: BinaryIO) -> None:
        self._store = store
        self._digest = digest
        self._file = file
        self._left = os.fstat(file.fileno()).st_size
        self._hash = hashlib.new(digest.partition(":")[0])
        self._checks = True

    def read(self, n: int = -1, /) -> bytes:
        """At most ``n`` bytes."""
        data = self._file.read(n)
        if self._checks:
            self._hash.update(data)
            self._left -= len(data)
            if self._left <= 0 or not data:
                self._check()
        return data

    def _check(self) -> None:
        self._checks = False
        if self._hash.hexdigest() != self._digest.partition(":")[2]:
            self._store.delete(self._digest)
            raise StoreError(
                f"content {self._digest} was damaged on disk",
                hint="it was removed; run the build again to make or fetch it anew",
            )

    def seek(self, position: int, whence: int = 0, /) -> int:
        """Go elsewhere."""
        self._checks = False
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """Where the next read begins."""
        return self._file.tell()

    def fileno(self) -> int:
        """The descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def __enter__(self) -> VerifiedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
