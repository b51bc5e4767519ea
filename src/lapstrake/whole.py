"""Small files that appear whole or not at all, whatever is at their place and whoever else writes."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO


class WholeFile:
    """``with WholeFile(path) as f:`` writes a hidden neighbour of ``path`` that takes its place at the end.

    A failure leaves what was there before.  ``mode`` is the new file's, less the umask; ``sync``: its
    bytes reach the disk before its name does.  Raises OSError.
    """

    def __init__(self, path: str, mode: int = 0o666, *, sync: bool = False) -> None:
        self.path = path
        self._mode = mode
        self._sync = sync
        parent, name = os.path.split(path)
        self._temporary = os.path.join(parent, f".{name[:60]}.{os.urandom(6).hex()}.tmp")

    def __enter__(self) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(self._temporary, flags, self._mode), "wb")
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            with self._file as f:
                if kind is None:
                    f.flush()
                    if self._sync:
                        os.fsync(f.fileno())
            if kind is None:
                os.replace(self._temporary, self.path)
                self._temporary = ""
        finally:
            if self._temporary:
                os.unlink(self._temporary)


def write_whole(path: str, data: bytes, mode: int = 0o666, *, sync: bool = False) -> None:
    """``WholeFile`` for bytes that are all there."""
    with WholeFile(path, mode, sync=sync) as f:
        f.write(data)
