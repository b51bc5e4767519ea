"""Compressing and decompressing layers, with the same bytes out wherever it runs (oci.md §7).

gzip is isal's level 1 unless asked otherwise: its output depends on how it is fed, so it is fed
fixed blocks of 1 MiB; its level 3 differs between CPUs and is never used.
"""

from __future__ import annotations

from ..errors import StoreError
from ..values import Value
from .tar import BLOCK_SIZE, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from ..tree import Entry
    from .tar import Stream

    class Sink(Protocol):
        """Where a blob goes: ``store.content.Writer``, which hashes on the way."""

        @property
        def digest(self) -> str: ...
        @property
        def size(self) -> int: ...
        def write(self, data: bytes, /) -> object: ...


GZIP, ZSTD, UNCOMPRESSED = "gzip", "zstd", "uncompressed"
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name, no time, OS unknown
_MAGIC = ((b"\x1f\x8b", GZIP), (b"\x28\xb5\x2f\xfd", ZSTD), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))
_QUEUED = 4


class PackResult(Value):
    """A packed layer.  ``annotations``: what its descriptor must carry (estargz)."""

    diff_id: str
    digest: str
    size: int
    uncompressed_size: int
    annotations: tuple[tuple[str, str], ...] = ()


# -- compressing -------------------------------------------------------------------------------


class Compressor:
    """Compresses one stream: ``feed`` anything, ``finish`` once; each returns output.

    ``level``: None is ours (isal 1, zstd 1); gzip takes 0-9, zstd 0-22.
    """

    def __init__(self, compression: str = GZIP, level: int | None = None) -> None:
        self.compression = compression
        self._buffer = bytearray()
        self._crc = 0
        self._length = 0
        self._crc32: Callable[[Any, int], int] | None = None
        self._head = b""
        self._engine: Any = None
        if compression == GZIP:
            self._engine, self._crc32 = _gzip_engine(level)
            self._head = _GZIP_HEADER
        elif compression == ZSTD:
            self._engine = _zstd_engine(level)
        elif compression != UNCOMPRESSED:
            raise StoreError(f"unknown compression {compression!r}")

    def feed(self, data: bytes) -> bytes:
        """More input."""
        if self._engine is None:
            return data
        if not self._buffer and len(data) == BLOCK_SIZE:
            return self._block(data)
        out = []
        view = memoryview(data)
        while view:
            take = BLOCK_SIZE - len(self._buffer)
            self._buffer += view[:take]
            view = view[take:]
            if len(self._buffer) == BLOCK_SIZE:
                out.append(self._block(bytes(self._buffer)))
                self._buffer.clear()
        return b"".join(out)

    def _block(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        if self._crc32 is not None:
            self._crc = self._crc32(data, self._crc)
            self._length += len(data)
        return head + bytes(self._engine.compress(data))

    def finish(self) -> bytes:
        """The rest."""
        if self._engine is None:
            return b""
        out = self._block(bytes(self._buffer)) if self._buffer or self._head else b""
        self._buffer.clear()
        out += bytes(self._engine.flush())
        if self.compression == GZIP:
            out += self._crc.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little")
        return out


def _gzip_engine(level: int | None) -> tuple[Any, Callable[[Any, int], int]]:
    import zlib

    if level is not None and not -1 <= level <= 9:
        raise StoreError(f"gzip has no level {level}", hint="use 0 to 9")
    wanted = 1 if level is None or level < 0 else level
    if wanted in (1, 2):
        try:
            from isal import isal_zlib
        except ImportError:
            pass
        else:
            return isal_zlib.compressobj(wanted, isal_zlib.DEFLATED, -15), isal_zlib.crc32
    return zlib.compressobj(wanted, zlib.DEFLATED, -15), zlib.crc32


def _zstd_engine(level: int | None) -> Any:
    zstandard = _zstandard()
    if level is not None and not 0 <= level <= 22:
        raise StoreError(f"zstd has no level {level}", hint="use 0 to 22")
    params = zstandard.ZstdCompressor(
        level=1 if level is None else level, threads=0, write_checksum=True, write_content_size=False
    )
    return params.compressobj()


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise StoreError(
            "zstd needs the package zstandard", hint="pip install zstandard, or use compression=gzip"
        ) from None
    return zstandard


def pack(
    entries: Iterable[Entry],
    writer: Sink,
    compression: str = GZIP,
    level: int | None = None,
    epoch: int | None = None,
    *,
    clamp: bool = True,
) -> PackResult:
    """Write entries as a layer blob.  This thread reads files, a second one hashes the tar, a third
    compresses and writes.  ``writer`` must be a fresh one; committing it is the caller's."""
    import hashlib

    raw = hashlib.sha256()
    total = 0
    packer = Packing(Compressor(compression, level), writer)
    plain = compression == UNCOMPRESSED

    def out(data: bytes) -> None:
        nonlocal total
        total += len(data)
        behind.put(data)
        if hashing is not None:
            hashing.put(data)

    with _Behind(packer.feed, packer.finish) as behind:
        if plain:
            hashing = None
            write(entries, out, epoch=epoch, clamp=clamp)
        else:
            with _Behind(raw.update) as hashing:
                write(entries, out, epoch=epoch, clamp=clamp)
    digest = str(writer.digest)
    return PackResult(digest if plain else f"sha256:{raw.hexdigest()}", digest, int(writer.size), total)


class Packing:
    """A compressor and where its output goes."""

    def __init__(self, compressor: Compressor, writer: Sink) -> None:
        self._compressor = compressor
        self._writer = writer

    def feed(self, data: bytes) -> None:
        """More input."""
        if packed := self._compressor.feed(data):
            self._writer.write(packed)

    def finish(self) -> None:
        """The rest."""
        if packed := self._compressor.finish():
            self._writer.write(packed)


def repack(
    source: Stream, writer: Sink, compression: str = GZIP, level: int | None = None, diff_id: str = ""
) -> PackResult:
    """The tar in ``source`` compressed another way.  StoreError when it isn't the tar of ``diff_id``."""
    plain = HashingReader(decompressor(source))
    packer = Packing(Compressor(compression, level), writer)
    with _Behind(packer.feed, packer.finish) as behind:
        while block := plain.read(BLOCK_SIZE):
            behind.put(block)
    if diff_id and plain.digest != diff_id:
        raise StoreError(f"a layer that should have diffID {diff_id} has {plain.digest}")
    return PackResult(plain.digest, str(writer.digest), int(writer.size), plain.size)


class _Behind:
    """A thread that does ``work`` with what is put, at most a few blocks behind, and ``end`` at the end."""

    def __init__(self, work: Callable[[bytes], object], end: Callable[[], object] | None = None) -> None:
        import queue
        import threading

        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_QUEUED)
        self._error: BaseException | None = None
        self._work = work
        self._end = end
        self._thread = threading.Thread(target=self._run, name="compress", daemon=True)

    def __enter__(self) -> _Behind:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is not None and self._error is None:
            self._error = StoreError("abandoned")  # the thread only drains from now on
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, data: bytes) -> None:
        """Hand over a block; raises what went wrong behind."""
        self._room.acquire()
        if self._error is not None:
            raise self._error
        self._queue.put(data)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._work(data)
            except BaseException as e:  # raised again in the thread that feeds us
                self._error = e
            finally:
                self._room.release()
        if self._error is None and self._end is not None:
            try:
                self._end()
            except BaseException as e:
                self._error = e


# -- decompressing -----------------------------------------------------------------------------


def detect(head: bytes) -> str:
    """The compression of content that begins with ``head``."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return UNCOMPRESSED


def decompressor(stream: Stream, hint: str = "", *, limit: int | None = None) -> Stream:
    """``stream`` decompressed: gzip, zstd, xz, bzip2 or none, told by its first bytes.

    ``hint`` (a media type) is only used for the message when the bytes disagree with it.  More
    than ``limit`` bytes of output is a StoreError; so is damaged or truncated input.
    """
    head = stream.read(6)
    while 0 < len(head) < 6:
        more = stream.read(6 - len(head))
        if not more:
            break
        head += more
    name = detect(head)
    if name == UNCOMPRESSED:
        if hint.endswith(("gzip", "zstd")) and head:
            raise StoreError(f"content of type {hint} is not compressed that way")
        return _Plain(head, stream, limit)
    return _Decompressed(name, head, stream, limit)


class _Plain:
    def __init__(self, head: bytes, stream: Stream, limit: int | None) -> None:
        self._head = head
        self._stream = stream
        self._left = limit

    def read(self, n: int = -1, /) -> bytes:
        """At most ``n`` bytes; empty at the end."""
        if self._head:
            data, self._head = (self._head, b"") if n < 0 else (self._head[:n], self._head[n:])
        else:
            data = self._stream.read(BLOCK_SIZE if n < 0 else n)
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise StoreError("content is larger than allowed")
        return data


class _Decompressed:
    """Output in blocks of at most a MiB, whatever the input claims to grow to."""

    def __init__(self, name: str, head: bytes, stream: Stream, limit: int | None) -> None:
        self._name = name
        self._stream = stream
        self._left = limit
        self._input = head
        self._block = memoryview(b"")
        self._new, self._errors = _engine(name)
        self._engine: Any = self._new()
        self._ended = False

    def read(self, n: int = -1, /) -> bytes:
        """At most ``n`` bytes; empty at the end."""
        if not self._block:
            self._block = memoryview(self._more())
            if self._left is not None:
                self._left -= len(self._block)
                if self._left < 0:
                    raise StoreError("content grows larger than allowed")
        if n < 0 or n >= len(self._block):
            out, self._block = bytes(self._block), memoryview(b"")
        else:
            out, self._block = bytes(self._block[:n]), self._block[n:]
        return out

    def _more(self) -> bytes:
        while not self._ended:
            engine = self._engine
            if engine.eof:
                rest = engine.unused_data or self._stream.read(BLOCK_SIZE)
                if not rest or (self._name == GZIP and not rest.strip(b"\0")):
                    self._ended = True  # zeros after a gzip stream are padding
                    break
                self._engine = engine = self._new()
                self._input = rest
            if not self._input and getattr(engine, "needs_input", True):
                self._input = self._stream.read(BLOCK_SIZE)
                if not self._input:
                    raise StoreError(f"the {self._name} stream ends too early")
            try:
                out: bytes = engine.decompress(self._input, BLOCK_SIZE)
            except self._errors as e:
                if "memory" in str(e).lower():  # a window of gigabytes, in a file of a few bytes
                    raise StoreError(
                        f"the {self._name} stream needs too much memory: {e}",
                        hint="compress it with a window of at most 128 MiB, or COPY it as it is",
                    ) from e
                raise StoreError(f"the {self._name} stream is damaged: {e}") from e
            self._input = getattr(engine, "unconsumed_tail", b"")
            if out:
                return out
        return b""


def _engine(name: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    if name == GZIP:
        import zlib

        try:
            from isal import isal_zlib
        except ImportError:
            return (lambda: zlib.decompressobj(31)), (zlib.error,)
        errors: tuple[Any, ...] = (zlib.error, isal_zlib.IsalError)
        return (lambda: isal_zlib.decompressobj(31)), errors
    if name == "xz":
        import lzma

        return (lambda: lzma.LZMADecompressor(memlimit=256 << 20)), (lzma.LZMAError,)
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError,)
    zstandard = _zstandard()
    return (lambda: _ZstdFrame(zstandard)), (zstandard.ZstdError,)


class _ZstdFrame:
    """zstandard's decompressor with the bounded interface of the standard library's."""

    def __init__(self, zstandard: Any) -> None:
        self._pending: list[bytes] = []
        self._obj = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(write_size=BLOCK_SIZE)
        self.eof = False
        self.unused_data = b""
        self.unconsumed_tail = b""

    def decompress(self, data: bytes, _limit: int) -> bytes:
        """At most what 16 KiB of input give: a bomb grows in steps, and ``limit`` stops it."""
        out: bytes = self._obj.decompress(data[: 16 << 10])
        self.unconsumed_tail = data[16 << 10 :]
        if self._obj.eof:
            self.eof = True
            self.unused_data = self._obj.unused_data + self.unconsumed_tail
            self.unconsumed_tail = b""
        return out


class HashingReader:
    """Hashes what is read through it."""

    def __init__(self, stream: Stream) -> None:
        import hashlib

        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, n: int = -1, /) -> bytes:
        """As the stream's."""
        data = self._stream.read(n)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> str:
        """Of what was read."""
        return f"sha256:{self._hash.hexdigest()}"
