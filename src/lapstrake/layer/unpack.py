"""A blob into a layer directory: decompress, verify the diffID, extract."""

from __future__ import annotations

from ..errors import StoreError
from .apply import apply
from .compress import HashingReader, decompressor
from .tar import BLOCK_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..dirview import IdMap
    from .tar import Stream

DEFAULT_LIMIT = 1 << 40


def unpack(
    blob: Stream,
    media_type: str,
    dest: str,
    diff_id: str | None = None,
    *,
    limit_bytes: int = DEFAULT_LIMIT,
    can_chown: bool | None = None,
    userxattr: bool | None = None,
    idmap: IdMap | None = None,
) -> str:
    """Extract ``blob`` into the empty directory ``dest``; the diffID.  Raises StoreError if it is not
    ``diff_id`` (the caller then discards ``dest``)."""
    reader = _Ahead(HashingReader(decompressor(blob, media_type, limit=limit_bytes)))
    with reader:
        apply(reader, dest, limit_bytes=limit_bytes, can_chown=can_chown, userxattr=userxattr, idmap=idmap)
        while reader.read(BLOCK_SIZE):
            pass  # what follows the end mark belongs to the diffID too
    found = reader.source.digest
    if diff_id is not None and found != diff_id:
        raise StoreError(f"the layer's content has diffID {found}, expected {diff_id}")
    return found


class _Ahead:
    """Reads ahead in a second thread, which so does the decompressing and hashing."""

    def __init__(self, source: HashingReader) -> None:
        import queue
        import threading

        self.source = source
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(4)
        self._block = memoryview(b"")
        self._ended = False
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="decompress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._stop = True
        while self._thread.is_alive():
            if not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(0.001)

    def _run(self) -> None:
        try:
            while not self._stop:
                data = self.source.read(BLOCK_SIZE)
                self._queue.put(data)
                if not data:
                    return
        except BaseException as e:  # raised again in the reading thread
            self._queue.put(e)

    def read(self, n: int, /) -> bytes:
        """At most ``n`` bytes; empty at the end."""
        if not self._block:
            if self._ended:
                return b""
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._ended = not item
            self._block = memoryview(item)
        out = bytes(self._block[:n])
        self._block = self._block[n:]
        return out
