"""Blobs by digest, in a directory laid out as an OCI image layout's ``blobs``.

A blob is written beside its place, hashed on the way and renamed when complete, so nobody
ever sees half of one.  A writer holds a lock on its temporary file: what a killed process
left behind is known by being unlocked.
"""

from __future__ import annotations

import os

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, BinaryIO, Protocol

    from .lease import Lease
    from .verified import VerifiedReader

    class _Hash(Protocol):
        def update(self, data: Any, /) -> None: ...
        def hexdigest(self) -> str: ...


_LENGTHS = {"sha256": 64, "sha512": 128}
RESERVE = 1 << 20  # bytes reserved at once
_HEX = frozenset("0123456789abcdef")


def split_digest(digest: str) -> tuple[str, str]:
    """``(algorithm, hex)`` of a digest we accept.  Raises StoreError: it becomes a file name."""
    algorithm, _, value = digest.partition(":")
    if len(value) != _LENGTHS.get(algorithm, -1) or not _HEX.issuperset(value):
        raise StoreError(f"not a digest: {digest[:150]!r}")
    return algorithm, value


class Writer:
    """Takes one blob.  Commits when its ``with`` block ends cleanly, else leaves nothing.

    ``digest`` and ``size`` are right at any time; :meth:`commit` may be called early.  ``verified``: the
    caller hashes all it writes and raises inside the block when the digest is wrong, as the registry
    client does; hashing twice would cost a third of a pull's speed.
    """

    def __init__(
        self,
        store: ContentStore,
        expected_digest: str | None,
        expected_size: int | None,
        *,
        verified: bool = False,
    ) -> None:
        import hashlib

        self._store = store
        self._expected = expected_digest
        self._expected_size = expected_size
        self._algorithm = split_digest(expected_digest)[0] if expected_digest else "sha256"
        self._verified = verified and expected_digest is not None and expected_size is not None
        self._hash: _Hash = hashlib.new(self._algorithm)
        self.size = 0
        self._reserved = 0
        self._path, self._fd = store._temporary()
        self._done = False

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        if self._verified and self._expected is not None:
            return self._expected
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``."""
        n = len(data)
        self.size += n
        if self._expected_size is not None and self.size > self._expected_size:
            raise StoreError(
                f"content is larger than the {self._expected_size} bytes announced for {self._expected or 'it'}"
            )
        if self._store.reserve is not None and self.size > self._reserved:
            piece = max(RESERVE, n)
            self._store.reserve(piece)
            self._reserved += piece
        if not self._verified:
            self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as e:
            raise self._store._cannot(e) from e
        return n

    def commit(self) -> str:
        """Check and publish; idempotent.  Raises StoreError on a mismatch, leaving nothing."""
        if self._done:
            return self.digest
        try:
            digest = self.digest
            if self._expected_size is not None and self.size != self._expected_size:
                raise StoreError(
                    f"content of {self._expected or digest} is {self.size} bytes, expected {self._expected_size}"
                )
            if self._expected is not None and digest != self._expected:
                raise StoreError(f"content has digest {digest}, expected {self._expected}")
            self._store._publish(self._path, digest)
        except BaseException:
            self.abort()
            raise
        self._done = True
        os.close(self._fd)
        return digest

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._done:
            return
        self._done = True
        os.close(self._fd)
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()


class ContentStore:
    """Blobs by digest under ``root/blobs/<algorithm>/<hex>``.  Any number of threads and processes.

    ``lease`` keeps what is looked for and written from being deleted by a ``prune`` meanwhile."""

    def __init__(self, root: str, *, lease: Lease | None = None) -> None:
        self.root = root
        self.lease = lease
        self.reserve: Callable[[int], None] | None = None  # asked before bytes are written
        self.wrote = False

    def keep(self, digest: str) -> None:
        """Hold a blob, there or not yet, until the lease ends."""
        if self.lease is not None:
            self.lease.add(digest)

    def path(self, digest: str) -> str:
        """Where the blob is, or would be."""
        algorithm, value = split_digest(digest)
        return f"{self.root}/blobs/{algorithm}/{value}"

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here.  One that is not ``size`` bytes long is damaged: it is removed."""
        path = self.path(digest)
        self.keep(digest)
        if size is None:
            return os.path.exists(path)
        try:
            if os.stat(path).st_size == size:
                return True
        except FileNotFoundError:
            return False
        self.delete(digest)
        return False

    def size(self, digest: str) -> int:
        """Its size.  Raises StoreError when it is not here."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise StoreError(f"content {digest} is not in the store") from None

    def open(self, digest: str) -> BinaryIO:
        """The blob for reading (not verified again)."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise StoreError(f"content {digest} is not in the store") from None

    def open_verified(self, digest: str) -> VerifiedReader:
        """The blob for reading once, its digest checked by the end."""
        from .verified import VerifiedReader

        return VerifiedReader(self, digest, self.open(digest))

    def read(self, digest: str, limit: int = 32 << 20) -> bytes:
        """The whole blob, hashed again.  A damaged one is removed, so that it is fetched anew."""
        import hashlib

        algorithm, value = split_digest(digest)
        with self.open(digest) as f:
            data = f.read(limit + 1)
        if len(data) > limit:
            raise StoreError(f"content {digest} is larger than {limit} bytes")
        if hashlib.new(algorithm, data).hexdigest() != value:
            self.delete(digest)
            raise StoreError(
                f"content {digest} was damaged on disk",
                hint="it was removed; run the build again to fetch it anew",
            )
        return data

    def verify(self, digest: str) -> bool:
        """Whether the blob's bytes have its digest; any size.  Raises StoreError when it is not here."""
        import hashlib

        algorithm, value = split_digest(digest)
        found = hashlib.new(algorithm)
        with self.open(digest) as f:
            while data := f.read(1 << 20):
                found.update(data)
        return found.hexdigest() == value

    def put(self, data: bytes) -> str:
        """Store ``data``; its sha256 digest."""
        import hashlib

        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            with self.writer(digest, len(data)) as w:
                w.write(data)
        return digest

    def writer(
        self,
        expected_digest: str | None = None,
        expected_size: int | None = None,
        *,
        verified: bool = False,
    ) -> Writer:
        """Start a blob; use as a context manager.  ``verified``: the caller checks the digest itself."""
        return Writer(self, expected_digest, expected_size, verified=verified)

    def delete(self, digest: str) -> None:
        """Forget a blob."""
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            pass

    def digests(self) -> list[str]:
        """All that is here."""
        out = []
        for algorithm, length in _LENGTHS.items():
            try:
                names = os.listdir(f"{self.root}/blobs/{algorithm}")
            except FileNotFoundError:
                continue
            out += [f"{algorithm}:{n}" for n in names if len(n) == length]
        return sorted(out)

    def sweep(self) -> int:
        """Remove what killed writers left; how many files."""
        import fcntl

        removed = 0
        for path in self.leftovers():
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
                removed += 1
            except (BlockingIOError, FileNotFoundError):
                pass
            finally:
                os.close(fd)
        return removed

    def leftovers(self) -> list[str]:
        """Unfinished blobs nobody writes any more."""
        import fcntl

        ingest = f"{self.root}/ingest"
        found = []
        try:
            names = os.listdir(ingest)
        except FileNotFoundError:
            return []
        for name in names:
            try:
                fd = os.open(f"{ingest}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                found.append(f"{ingest}/{name}")
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
        return found

    def _temporary(self) -> tuple[str, int]:
        import fcntl

        ingest = f"{self.root}/ingest"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            while True:
                path = f"{ingest}/{os.urandom(12).hex()}"
                try:
                    fd = os.open(path, flags, 0o644)
                except FileNotFoundError:
                    os.makedirs(ingest, exist_ok=True)
                    continue
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.fstat(fd).st_nlink:  # else a sweep took it before it was locked
                    return path, fd
                os.close(fd)
        except OSError as e:
            raise self._cannot(e) from e

    def _publish(self, path: str, digest: str) -> None:
        target = self.path(digest)
        self.keep(digest)
        self.wrote = True
        try:
            try:
                os.rename(path, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(path, target)
        except OSError as e:
            raise self._cannot(e) from e

    def _cannot(self, error: OSError) -> StoreError:
        from .failures import cannot_write

        return cannot_write(self.root, error)
