"""A streaming, deterministic tar writer for whole archives (PAX only where ustar can't say it).

Layers have their own writer with whiteouts; this one writes what users unpack.
"""

from __future__ import annotations

from ..errors import ExportError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO, BinaryIO

BLOCK = 1 << 20
_OCTAL8 = 0o7777777
_OCTAL12 = 0o77777777777


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    kind: bytes,
    mode: int,
    size: int,
    mtime: int,
    ids: tuple[int, int] = (0, 0),
    link: bytes = b"",
    rdev: tuple[int, int] = (0, 0),
) -> bytes:
    """One ustar block; fields that don't fit must come by PAX and are cut or zeroed here."""
    ids = (ids[0] if ids[0] <= _OCTAL8 else 0, ids[1] if ids[1] <= _OCTAL8 else 0)
    size = size if size <= _OCTAL12 else 0
    mtime = mtime if 0 <= mtime <= _OCTAL12 else 0
    parts = [
        name[:100].ljust(100, b"\0"), _octal(mode & 0o7777, 8), _octal(ids[0], 8), _octal(ids[1], 8), _octal(size, 12), _octal(mtime, 12),
        b"        ", kind, link[:100].ljust(100, b"\0"), b"ustar\x0000", b"\0" * 64, _octal(rdev[0] & _OCTAL8, 8), _octal(rdev[1] & _OCTAL8, 8), b"\0" * 167,
    ]  # fmt: skip
    block = b"".join(parts)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """``<length> key=value`` and a newline for each."""
    out = []
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        n = len(body)
        while len(str(n)) + len(body) != n:
            n = len(str(n)) + len(body)
        out.append(str(n).encode() + body)
    return b"".join(out)


class TarOut:
    """Writes entries to a stream.  The caller closes the stream."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def _head(
        self,
        name: str,
        kind: bytes,
        mode: int,
        size: int,
        mtime: int,
        ids: tuple[int, int],
        link: str,
        rdev: tuple[int, int],
        xattrs: Iterable[tuple[str, bytes]],
    ) -> None:
        raw, target = name.encode("utf-8", "surrogateescape"), link.encode("utf-8", "surrogateescape")
        pax: list[tuple[bytes, bytes]] = []
        if ids[1] > _OCTAL8:
            pax.append((b"gid", b"%d" % ids[1]))
        if len(target) > 100 or not target.isascii():
            pax.append((b"linkpath", target))
        if mtime < 0:
            pax.append((b"mtime", b"%d" % mtime))
        if len(raw) > 100 or not raw.isascii():
            pax.append((b"path", raw))
        if size > _OCTAL12:
            pax.append((b"size", b"%d" % size))
        if ids[0] > _OCTAL8:
            pax.append((b"uid", b"%d" % ids[0]))
        pax += [(b"SCHILY.xattr." + k.encode("utf-8", "surrogateescape"), v) for k, v in sorted(xattrs)]
        if pax:
            body = pax_records(pax)
            tail = raw.rstrip(b"/").rsplit(b"/", 1)[-1]
            self._out.write(
                header(b"PaxHeaders.0/" + tail[:86], b"x", 0, len(body), 0)
                + body
                + b"\0" * (-len(body) % 512)
            )
        self._out.write(header(raw, kind, mode, size, mtime, ids, target, rdev))

    def directory(
        self,
        name: str,
        mode: int = 0o755,
        mtime: int = 0,
        ids: tuple[int, int] = (0, 0),
        xattrs: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """A directory; ``name`` without the trailing slash."""
        self._head(name + "/", b"5", mode, 0, mtime, ids, "", (0, 0), xattrs)

    def file(
        self,
        name: str,
        size: int,
        stream: BinaryIO,
        mode: int = 0o644,
        mtime: int = 0,
        ids: tuple[int, int] = (0, 0),
        xattrs: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """A regular file of exactly ``size`` bytes read from ``stream``."""
        self._head(name, b"0", mode, size, mtime, ids, "", (0, 0), xattrs)
        left = size
        while left:
            block = stream.read(min(BLOCK, left))
            if not block:
                raise ExportError(f"{name} became shorter while it was read")
            self._out.write(block)
            left -= len(block)
        if size % 512:
            self._out.write(b"\0" * (-size % 512))

    def special(
        self,
        name: str,
        kind: bytes,
        mode: int,
        mtime: int = 0,
        ids: tuple[int, int] = (0, 0),
        link: str = "",
        rdev: tuple[int, int] = (0, 0),
    ) -> None:
        """Anything without content: hard link ``1``, symlink ``2``, devices ``3`` ``4``, fifo ``6``."""
        self._head(name, kind, mode, 0, mtime, ids, link, rdev, ())

    def data(self, name: str, content: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """A small file from memory."""
        import io

        self.file(name, len(content), io.BytesIO(content), mode, mtime)

    def end(self) -> None:
        """The two zero blocks."""
        self._out.write(b"\0" * 1024)
        self._out.flush()
