"""Local archives: recognised by content, read without ever trusting a path in them (§12.6)."""

from __future__ import annotations

import io
import os

from ..errors import BuildError, StoreError
from ..tree import BLOCK, CHAR, DIR, FILE, Entry, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, BinaryIO

    from _typeshed import WriteableBuffer

    from ..layer.tar import EntryReader, TarHeader
    from ..tree import Tree

MAX_BYTES = 64 << 30
MAX_ENTRIES = 10_000_000
_INLINE = 64 << 10
_INLINE_TOTAL = 64 << 20
_CHUNK = 1 << 20
_MAGIC = ((b"\x1f\x8b\x08", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"))


def sniff(head: bytes) -> str:
    """``gzip``, ``bzip2``, ``xz``, ``zstd`` or ``tar`` by the first bytes (512 for tar), else ``""``."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return "tar" if _is_header(head[:512]) else ""


def _is_header(block: bytes) -> bool:
    """Whether this is a tar header: its checksum holds (old tars have no ``ustar`` in them)."""
    if len(block) < 512 or not block[0]:
        return False
    try:
        want = int(block[148:156].split(b"\0", 1)[0].strip(), 8)
    except ValueError:
        return False
    return sum(block) - sum(block[148:156]) + 256 == want


def decompressed(stream: BinaryIO, kind: str) -> BinaryIO:
    """What is inside a compressed stream; no window, dictionary or block takes memory without bound."""
    from ..layer.compress import decompressor

    return stream if kind == "tar" else _binary(decompressor(stream))


def _binary(stream: Any) -> BinaryIO:
    """Decompressors read as files do, but don't say so to a type checker."""
    opened: BinaryIO = stream
    return opened


class Spool:
    """``Tree`` of the files read out of an archive; also counts what they take."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.count = 0
        self.total = 0
        self.inline = 0

    def lstat(self, path: str) -> Node | None:
        """A spooled file's size."""
        try:
            return Node(
                FILE, 0o644, size=os.stat(os.path.join(self.directory, path), follow_symlinks=False).st_size
            )
        except OSError:
            return None

    def listdir(self, path: str) -> Iterable[str]:
        """Nothing: files are named by entries only."""
        return []

    def open(self, path: str) -> BinaryIO:
        """A spooled file."""
        return open(os.path.join(self.directory, path), "rb")

    def real_path(self, path: str) -> str | None:
        """Where it is."""
        return os.path.join(self.directory, path)

    def take(self, reader: EntryReader, size: int) -> tuple[str, bytes | None]:
        """One file's content: kept in memory when small, else (name in the spool, None)."""
        self.total += size
        if self.total > MAX_BYTES:
            raise BuildError(f"the archive holds more than {MAX_BYTES >> 30} GiB")
        if size <= _INLINE and self.inline + size <= _INLINE_TOTAL:
            self.inline += size
            parts = []
            while chunk := reader.read():
                parts.append(chunk)
            return "", b"".join(parts)
        self.count += 1
        name = str(self.count)
        fd = os.open(
            os.path.join(self.directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        with open(fd, "wb", 0) as out:
            while chunk := reader.read(_CHUNK):
                out.write(chunk)
        return name, None


def read_members(stream: BinaryIO, spool: Spool) -> list[Entry] | None:
    """A tar's members in its own order; None when there is not one member.

    Names are cleaned and may not leave the archive's root.  Hard links share an ``inode``.
    """
    from ..layer import tar

    out: list[Entry] = []
    at: dict[str, int] = {}
    links = 0
    for header, reader in tar.read(stream):
        if len(out) >= MAX_ENTRIES:
            raise BuildError(f"the archive holds more than {MAX_ENTRIES} entries")
        path = _safe(header.name)
        if header.kind == tar.HARDLINK:
            target = at.get(_safe(header.linkname))
            if target is None:
                raise BuildError(
                    f"the archive's /{path} is a link to {header.linkname}, which is not in the archive"
                )
            first = out[target]
            if first.node.inode is None and first.node.kind == FILE:
                links += 1
                out[target] = first = _with_inode(first, (0, links))
            entry = Entry(path, first.node, tree=first.tree, source=first.source, data=first.data)
        else:
            entry = _member(header, path, reader, spool)
        at[path] = len(out)
        out.append(entry)
    return out or None


def _member(header: TarHeader, path: str, reader: EntryReader, spool: Spool) -> Entry:
    h = header
    size = h.size if h.kind == FILE else 0
    node = Node(h.kind, h.mode, h.uid, h.gid, size, h.mtime_ns, h.linkname, h.rdev, h.xattrs)
    if h.kind != FILE:
        return Entry(path, node)
    source, data = spool.take(reader, size)
    return Entry(path, node, tree=None if data is not None else spool, source=source, data=data)


def _with_inode(e: Entry, inode: tuple[int, int]) -> Entry:
    n = e.node
    node = Node(n.kind, n.mode, n.uid, n.gid, n.size, n.mtime_ns, n.linkname, n.rdev, n.xattrs, inode)
    return Entry(e.path, node, tree=e.tree, source=e.source, data=e.data)


def _safe(name: str) -> str:
    out: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not out:
                raise BuildError(f"the archive has an entry outside of it: {name}")
            out.pop()
        elif part and part != ".":
            out.append(part)
    return "/".join(out)


class Unpacker:
    """Reads local archives for ADD: ``plan_copy``'s ``unpack``.

    Large members are spooled below ``scratch``, which must outlive the entries.
    """

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch

    def __call__(self, tree: Tree, path: str) -> list[Entry] | None:
        """The members of an archive, None for any other file."""
        with tree.open(path) as stream:
            kind = sniff(stream.read(512))
            if not kind:
                return None
            stream.seek(0)
            if kind != "tar" and not _tar_inside(stream, kind):
                return None
            stream.seek(0)
            import tempfile

            spool = Spool(tempfile.mkdtemp(prefix="add-", dir=self.scratch))
            try:
                return read_members(_buffered(decompressed(stream, kind)), spool)
            except (OSError, EOFError, StoreError) as e:
                raise BuildError(f"failed to extract /{path}: {e}") from e


def _tar_inside(stream: BinaryIO, kind: str) -> bool:
    try:
        return _is_header(_buffered(decompressed(stream, kind)).read(512))
    except StoreError as e:  # damaged: not an archive then
        if e.hint:
            raise  # it may be one, which can't be read here
        return False


class _Raw(io.RawIOBase):
    """A stream lent out: closing this leaves it open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


def _buffered(stream: BinaryIO) -> io.BufferedReader:
    """Whole reads: decompressors may give less than asked for."""
    return io.BufferedReader(_Raw(stream), _CHUNK)


def extract(stream: BinaryIO, directory: str) -> None:
    """Unpack a whole (compressed) tar, a build context, into an existing empty directory.

    Owners are not kept; device nodes are left out when the kernel won't let us make them.
    """
    import shutil
    import tempfile

    from ..layer.copy import plan_copy
    from ..layer.materialize import materialize
    from ..layer.select import CopySpec, Root, Selection

    whole = _buffered(stream)
    kind = sniff(whole.peek(512)[:512])
    scratch = tempfile.mkdtemp(prefix=".unpack-", dir=os.path.dirname(os.path.abspath(directory)))
    try:
        members = read_members(_buffered(decompressed(whole, kind)), Spool(scratch)) if kind else None
        if members is None:
            raise BuildError("this is not a tar archive, or it is empty")
        if os.geteuid() != 0:
            members = [m for m in members if m.node.kind not in (CHAR, BLOCK)]
        picked = Selection((Root("a", "a"),))
        plan = plan_copy(
            _OneFile(),
            _Nothing(),
            CopySpec(("a",), "/", unpack=True),
            selection=picked,
            unpack=lambda _t, _p: members,
        )
        materialize(plan, directory, owners=False)
    except (OSError, EOFError, StoreError) as e:
        raise BuildError(f"failed to extract the archive: {e}") from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Nothing:
    """An empty root."""

    def lstat(self, path: str) -> Node | None:
        return None if path else Node(DIR, 0o755)

    def listdir(self, path: str) -> Iterable[str]:
        return []

    def open(self, path: str) -> BinaryIO:
        raise FileNotFoundError(path)

    def real_path(self, path: str) -> str | None:
        return None


class _OneFile(_Nothing):
    def lstat(self, path: str) -> Node | None:
        return Node(FILE, 0o644) if path else Node(DIR, 0o755)
