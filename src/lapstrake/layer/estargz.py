"""eStargz: gzip layers whose files can be fetched one by one (oci.md §7).

The tar stays as it is, cut into gzip members so that every chunk of a file begins one.  After it come
a table of contents, itself a tar entry in a member of its own, and a footer that says where it is.
Readers that know nothing of it see an ordinary gzip layer.
"""

from __future__ import annotations

from ..errors import StoreError
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK
from .compress import Compressor, HashingReader, PackResult, decompressor
from .tar import BLOCK_SIZE, END, HARDLINK, MAX_HEADER, header_block, parse_block, parse_pax, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..tree import Entry
    from .compress import Sink
    from .tar import Stream, TarHeader

TOC_NAME = "stargz.index.json"
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
CHUNK = 4 << 20
_TYPES = {
    FILE: "reg",
    DIR: "dir",
    SYMLINK: "symlink",
    HARDLINK: "hardlink",
    CHAR: "char",
    BLOCK: "block",
    FIFO: "fifo",
}


def pack_estargz(
    entries: Iterable[Entry], writer: Sink, level: int | None, epoch: int | None, *, clamp: bool = True
) -> PackResult:
    """Write entries as an eStargz blob."""
    cutter = Cutter(writer, level)
    write(entries, cutter.feed, epoch=epoch, clamp=clamp)
    return cutter.finish()


def repack_estargz(source: Stream, writer: Sink, level: int | None, diff_id: str = "") -> PackResult:
    """The same tar as eStargz.  Its table is part of what is uncompressed, so the diffID is another one."""
    plain = HashingReader(decompressor(source))
    cutter = Cutter(writer, level)
    while block := plain.read(BLOCK_SIZE):
        cutter.feed(block)
    if diff_id and plain.digest != diff_id:
        raise StoreError(f"a layer that should have diffID {diff_id} has {plain.digest}")
    return cutter.finish()


class Cutter:
    """Takes a tar in pieces of any size and writes it as eStargz."""

    def __init__(self, writer: Sink, level: int | None) -> None:
        import hashlib

        self._writer = writer
        self._level = level
        self._buffer = bytearray()
        self._member: Compressor | None = None
        self._raw = hashlib.sha256()
        self._total = 0
        self._pax: dict[str, bytes] = {}
        self._skip = 0  # bytes to pass on unread: the body of an extension, or padding
        self._extension = b""
        self._file: dict[str, Any] | None = None  # the entry whose content is coming
        self._left = 0
        self._pad = 0
        self._ended = False
        self._toc: list[dict[str, Any]] = []

    # -- gzip members -----------------------------------------------------------

    def _emit(self, data: bytes) -> None:
        if self._member is None:
            self._member = Compressor("gzip", self._level)
        self._raw.update(data)
        self._total += len(data)
        out = self._member.feed(data)
        if out:
            self._writer.write(out)

    def _cut(self) -> int:
        """End the member; where the next one begins."""
        if self._member is not None:
            self._writer.write(self._member.finish())
            self._member = None
        return int(self._writer.size)

    # -- the tar ----------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """More of the tar."""
        self._buffer += data
        while self._step():
            pass

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _step(self) -> bool:
        if self._ended:
            if self._buffer:
                self._emit(self._take(len(self._buffer)))
            return False
        if self._file is not None:
            return self._content(self._file)
        if self._pad:
            if len(self._buffer) < self._pad:
                return False
            self._emit(self._take(self._pad))
            self._pad = 0
            return True
        if self._extension:
            if len(self._buffer) < self._skip:
                return False
            self._extended(self._take(self._skip))
            return True
        if len(self._buffer) < 512:
            return False
        self._header(self._take(512))
        return True

    def _extended(self, body: bytes) -> None:
        size, kind = self._left, self._extension
        self._emit(body)
        if kind == b"x":
            parse_pax(body[:size], self._pax)
        elif kind in b"LK":
            self._pax["path" if kind == b"L" else "linkpath"] = body[:size].split(b"\0", 1)[0]
        self._extension, self._left = b"", 0

    def _header(self, block: bytes) -> None:
        self._emit(block)
        if block == bytes(512):
            self._ended = True
            return
        kind, size, header = parse_block(block, self._pax)
        if kind in b"xgLK":
            if size > MAX_HEADER:
                raise StoreError(f"the tar has a header of {size} bytes")
            self._extension, self._left, self._skip = kind, size, size + (-size % 512)
            return
        self._pax = {}
        if header is None:
            self._extension, self._left, self._skip = b"?", size, size + (-size % 512)
            return
        entry = _toc_entry(header)
        if entry["name"] == TOC_NAME:
            raise StoreError(f"a file named {TOC_NAME} cannot be stored in an estargz layer")
        self._left, self._pad = header.size, -header.size % 512
        if header.kind == FILE and header.size:
            import hashlib

            self._file = entry
            self._at = 0
            self._digest = hashlib.sha256()
        elif header.size:
            self._extension, self._skip, self._pad = b"?", header.size + self._pad, 0
        else:
            self._toc.append(entry)

    def _content(self, entry: dict[str, Any]) -> bool:
        want = min(CHUNK, self._left)
        if len(self._buffer) < want:
            return False
        import hashlib

        data = self._take(want)
        more = {} if self._at == 0 else {"name": entry["name"], "type": "chunk"}
        shown = entry if self._at == 0 else more
        shown["offset"] = self._cut()
        if self._at:
            shown["chunkOffset"] = self._at
        if entry["size"] > CHUNK and want < self._left:
            shown["chunkSize"] = want
        shown["chunkDigest"] = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._digest.update(data)
        self._toc.append(shown)
        self._emit(data)
        self._at += want
        self._left -= want
        if not self._left:
            entry["digest"] = f"sha256:{self._digest.hexdigest()}"
            self._file = None
        return True

    # -- the end ----------------------------------------------------------------

    def finish(self) -> PackResult:
        """Table and footer."""
        import hashlib

        from ..oci import codec

        if self._file is not None or self._extension or not self._ended:
            raise StoreError("the tar ends too early")
        toc = codec.dumps({"version": 1, "entries": self._toc})
        at = self._cut()
        self._emit(header_block(TOC_NAME.encode(), len(toc)) + toc + bytes(-len(toc) % 512) + END)
        self._cut()
        self._writer.write(_footer(at))
        notes = (
            (TOC_DIGEST, f"sha256:{hashlib.sha256(toc).hexdigest()}"),
            (UNCOMPRESSED_SIZE, str(self._total)),
        )
        return PackResult(
            f"sha256:{self._raw.hexdigest()}",
            str(self._writer.digest),
            int(self._writer.size),
            self._total,
            notes,
        )


def _footer(offset: int) -> bytes:
    """An empty gzip member of 51 bytes whose extra field is ``SG``, the table's place and a name."""
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % offset
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra
    return head + b"\x01\0\0\xff\xff" + bytes(8)


def _toc_entry(h: TarHeader) -> dict[str, Any]:
    from base64 import b64encode
    from time import gmtime, strftime

    name = h.name + "/" if h.kind == DIR and h.name else h.name
    out: dict[str, Any] = {"name": name, "type": _TYPES[h.kind], "mode": h.mode, "uid": h.uid, "gid": h.gid}
    if h.kind == FILE and h.size:
        out["size"] = h.size
    if h.linkname:
        out["linkName"] = h.linkname
    if h.mtime_ns > 0:
        out["modtime"] = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(h.mtime_ns // 1_000_000_000))
    if h.kind in (CHAR, BLOCK):
        out["devMajor"], out["devMinor"] = h.rdev
    if h.xattrs:
        out["xattrs"] = {k: b64encode(v).decode("ascii") for k, v in sorted(h.xattrs)}
    return out
