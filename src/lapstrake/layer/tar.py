"""Layer tars: a fast, deterministic writer and a strict streaming reader (spec oci.md §6).

The writer puts a PAX header before an entry only when ustar can't hold it.  The reader takes
ustar, PAX, GNU long names and base-256 numbers, bounds every header, and refuses sparse files.
"""

from __future__ import annotations

import os
from zlib import adler32

from ..errors import StoreError
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK, Node
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    from ..tree import Entry

    Pax = tuple[tuple[str, bytes], ...]

    class Stream(Protocol):
        def read(self, n: int, /) -> bytes: ...


BLOCK_SIZE = 1 << 20
MAX_HEADER = 1 << 20  # bytes of the PAX and long-name records before one entry, and of all global ones
MAX_GLOBAL = 64  # global headers: those in force are gone through for every entry
END = bytes(1024)
OPAQUE_NAME = ".wh..wh..opq"
WHITEOUT_PREFIX = ".wh."
_XATTR = "SCHILY.xattr."
_TYPES = {FILE: b"0", SYMLINK: b"2", CHAR: b"3", BLOCK: b"4", DIR: b"5", FIFO: b"6"}
_ZEROS = bytes(512)
_MAX_SIZE = 0o77777777777
_MAX_ID = 0o7777777
_TAIL = b"ustar\x0000" + bytes(64)  # magic, version, empty uname and gname
_TAIL_SUM = sum(_TAIL)
_NO_NODE = Node(FILE, 0)


# -- writing -----------------------------------------------------------------------------------


def _field(mode: int, uid: int, gid: int, size: int, mtime: int) -> bytes:
    return b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)


def _header(
    name: bytes,
    fields: bytes,
    kind: bytes,
    link: bytes = b"",
    dev: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
) -> bytes:
    """One 512-byte header.  adler32's low half is 1 + the sum of the bytes: the quickest checksum."""
    fields_kind = kind if not link else kind + link
    device = b"%07o\0%07o\0" % dev
    total = (
        (adler32(name) & 0xFFFF)
        + (adler32(fields) & 0xFFFF)
        + (adler32(fields_kind) & 0xFFFF)
        + (adler32(device) & 0xFFFF)
        - 4
    )
    total += _TAIL_SUM + 256  # the checksum field itself counts as eight spaces
    if prefix:
        total += (adler32(prefix) & 0xFFFF) - 1
    return b"%b%b%06o\0 %b%b%b%b%b" % (
        name.ljust(100, b"\0"), fields, total, fields_kind.ljust(101, b"\0"), _TAIL, device, prefix.ljust(155, b"\0"), b"\0" * 12,
    )  # fmt: skip


def _record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    n = len(body) + 1
    while n != len(body) + len(str(n)):
        n = len(body) + len(str(n))
    return str(n).encode() + body


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """(prefix, name) of a ustar path that is too long for the name field alone."""
    if len(name) > 256:
        return None
    at = name.find(b"/", max(0, len(name) - 101))
    if at <= 0 or at > 155 or at == len(name) - 1 or len(name) - at - 1 > 100:
        return None
    return name[:at], name[at + 1 :]


def _slow_header(
    name: bytes, node: Node, kind: bytes, size: int, mtime: int, link: bytes, pax: Pax = ()
) -> bytes:
    """A header whose values may not fit: what doesn't goes into a PAX header before it."""
    records: dict[str, bytes] = dict(pax)
    prefix, short = b"", name
    if not name.isascii():
        records["path"] = name
        short = _ascii(name)[:100]
    elif len(name) > 100:
        split = _split(name)
        if split is None:
            records["path"] = name
            short = name[:100]
        else:
            prefix, short = split
    if len(link) > 100 or not link.isascii():
        records["linkpath"] = link
        link = _ascii(link)[:100]
    uid, gid = node.uid, node.gid
    if not 0 <= uid <= _MAX_ID:
        records["uid"], uid = b"%d" % uid, 0
    if not 0 <= gid <= _MAX_ID:
        records["gid"], gid = b"%d" % gid, 0
    if size > _MAX_SIZE:
        records["size"], size = b"%d" % size, 0
    if not 0 <= mtime <= _MAX_SIZE:
        records["mtime"], mtime = b"%d" % mtime, 0
    for key, value in node.xattrs:
        if "=" in key:
            raise StoreError(f"the extended attribute {key!r} of {name!r} cannot be stored in a tar")
        records[_XATTR + key] = value
    dev = node.rdev if kind in b"34" else (0, 0)
    if max(dev) > _MAX_ID:
        raise StoreError(f"device number too large for a tar: {name!r}")
    main = _header(short, _field(node.mode, uid, gid, size, mtime), kind, link, dev, prefix)
    if not records:
        return main
    body = b"".join(_record(k, records[k]) for k in sorted(records))
    base = _ascii(name.rstrip(b"/").rpartition(b"/")[2])[:80]
    head = _header(b"PaxHeaders.0/" + base, _field(0o644, 0, 0, len(body), 0), b"x")
    return head + body + bytes(-len(body) % 512) + main


def _ascii(raw: bytes) -> bytes:
    return raw if raw.isascii() else bytes(c for c in raw if c < 128) or b"_"


def header_block(name: bytes, size: int) -> bytes:
    """The header of a plain file of root's, dated 1970."""
    return _header(name, _field(0o444, 0, 0, size, 0), b"0")


class _Sink:
    """Gathers small pieces into blocks of about a MiB."""

    def __init__(self, out: Callable[[bytes], object]) -> None:
        self.out = out
        self.parts: list[bytes] = []
        self.held = 0

    def add(self, data: bytes) -> None:
        self.parts.append(data)
        self.held += len(data)
        if self.held >= BLOCK_SIZE:
            self.flush()

    def flush(self) -> None:
        if self.parts:
            self.out(b"".join(self.parts))
            self.parts, self.held = [], 0


def write(
    entries: Iterable[Entry], out: Callable[[bytes], object], *, epoch: int | None = None, clamp: bool = False
) -> None:
    """Write a layer tar to ``out``, in pieces of about a MiB.

    ``epoch`` replaces every modification time, or with ``clamp`` only later ones.  Times are whole
    seconds; deletions are dated 1970.  Entries are written as they come: sorted is their maker's duty.
    """
    sink = _Sink(out)
    add = sink.add
    encode = os.fsencode
    for e in entries:
        node, path = e.node, e.path
        if e.whiteout:
            head, _, tail = path.rpartition("/")
            add(_special(f"{head}/{WHITEOUT_PREFIX}{tail}" if head else WHITEOUT_PREFIX + tail))
            continue
        mtime = node.mtime_ns // 1_000_000_000
        if epoch is not None:
            mtime = min(mtime, epoch) if clamp else epoch
        name = encode(path)
        kind = _TYPES.get(node.kind)
        if kind is None:
            continue
        size, link = 0, b""
        if e.hardlink:
            kind, link = b"1", encode(e.hardlink)
        elif kind == b"0":
            size = node.size if e.data is None else len(e.data)
        elif kind == b"2":
            link = encode(node.linkname)
        elif kind == b"5":
            name += b"/"
        if (
            len(name) <= 100
            and not node.xattrs
            and not e.pax
            and kind in b"05"
            and size <= _MAX_SIZE
            and 0 <= mtime <= _MAX_SIZE
            and 0 <= node.uid <= _MAX_ID
            and 0 <= node.gid <= _MAX_ID
            and name.isascii()
        ):
            add(_header(name, _field(node.mode, node.uid, node.gid, size, mtime), kind))
        else:
            add(_slow_header(name, node, kind, size, mtime, link, e.pax))
        if size:
            _content(e, size, sink)
        elif e.opaque:
            add(_special(f"{path}/{OPAQUE_NAME}" if path else OPAQUE_NAME))
    add(END)
    sink.flush()


def _special(name: str) -> bytes:
    return _slow_header(os.fsencode(name), _NO_NODE, b"0", 0, 0, b"")


def _content(e: Entry, size: int, sink: _Sink) -> None:
    if e.data is not None:
        sink.add(e.data)
    elif e.tree is None:
        raise StoreError(f"{e.path} has no content")
    else:
        source = e.source or e.path
        open_fd = getattr(e.tree, "open_fd", None)  # a plain descriptor where the tree offers one: quicker
        if open_fd is None:
            with e.tree.open(source) as f:
                _copy(e, f.read, size, sink)
        else:
            fd = open_fd(source)
            try:
                if size < BLOCK_SIZE and len(data := os.read(fd, size)) == size:
                    sink.add(data)
                else:
                    os.lseek(fd, 0, os.SEEK_SET)
                    _copy(e, lambda n: os.read(fd, n), size, sink)
            finally:
                os.close(fd)
    if size & 511:
        sink.add(_ZEROS[: -size & 511])


def _copy(e: Entry, read: Callable[[int], bytes], size: int, sink: _Sink) -> None:
    left = size
    while left:
        data = read(min(BLOCK_SIZE, left))
        if not data:
            raise StoreError(f"{e.path} became shorter while it was read")
        left -= len(data)
        sink.add(data)


# -- reading -----------------------------------------------------------------------------------


class TarHeader(Value):
    """One entry as it stands in the tar.  ``kind``: a tree kind, or ``link`` for a hard link."""

    name: str  # without leading "./" or trailing "/"
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    linkname: str = ""
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    raw_name: str = ""


HARDLINK = "link"
_KINDS = {
    b"0": FILE,
    b"\0": FILE,
    b"7": FILE,
    b"1": HARDLINK,
    b"2": SYMLINK,
    b"3": CHAR,
    b"4": BLOCK,
    b"5": DIR,
    b"6": FIFO,
}


class EntryReader:
    """The content of the current entry; what is not read is skipped."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self.left = size
        self._pad = -size % 512

    def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes; empty at the end.  Raises StoreError if the tar ends early."""
        want = self.left if n < 0 else min(n, self.left)
        if want <= 0:
            return b""
        data = self._stream.read(want)
        if not data:
            raise StoreError("the tar ends in the middle of a file")
        self.left -= len(data)
        return data

    def skip(self) -> None:
        """Go to the next header."""
        while self.left:
            self.read(min(self.left, BLOCK_SIZE))
        if self._pad:
            _exactly(self._stream, self._pad)
            self._pad = 0


def _exactly(stream: Stream, n: int) -> bytes:
    data = stream.read(n)
    if len(data) == n:
        return data
    parts = [data]
    got = len(data)
    while got < n:
        data = stream.read(n - got)
        if not data:
            raise StoreError("the tar ends too early")
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def _number(field: bytes) -> int:
    """An octal or base-256 number."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
        return value - (1 << (len(field) * 8 - 1)) if field[0] & 0x40 else value
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise StoreError("the tar has a header with a bad number") from None


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def parse_pax(data: bytes, into: dict[str, bytes]) -> None:
    """The records of a PAX header's body, added to ``into``."""
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > 0 else b""
        n = int(length) if length.isdigit() else 0
        record = data[space + 1 : at + n]
        key, eq, value = record.partition(b"=")
        if n <= 0 or at + n > end or not eq or record[-1:] != b"\n":
            if not data[at:].strip(b"\0"):
                return
            raise StoreError("the tar has a malformed PAX header")
        into[key.decode("utf-8", "surrogateescape")] = value[:-1]
        at += n


def _long(stream: Stream, size: int, total: int) -> bytes:
    if max(size, total) > MAX_HEADER:
        raise StoreError(f"the tar has a header of {max(size, total)} bytes")
    data = _exactly(stream, size)
    _exactly(stream, -size % 512)
    return data


def _few(shared: dict[str, bytes]) -> None:
    if len(shared) > MAX_GLOBAL:
        raise StoreError(f"the tar has more than {MAX_GLOBAL} global records")


def _checked(block: bytes) -> None:
    try:
        want = int(block[148:156].split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        want = -1
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2 - sum(block[148:156]) + 256
    if total != want:
        signed = total - 256 * sum(1 for i, c in enumerate(block) if c > 127 and not 148 <= i < 156)
        if signed != want:
            raise StoreError("this is not a tar: a header's checksum is wrong")


def read(stream: Stream) -> Iterator[tuple[TarHeader, EntryReader]]:
    """The entries of a tar, with their content.  Each reader is good until the next entry."""
    shared: dict[str, bytes] = {}
    pax: dict[str, bytes] = {}
    before = everywhere = globals_seen = 0
    while True:
        block = stream.read(512)
        if not block:
            return  # no end mark: accepted, as everybody does
        if len(block) < 512:
            block += _exactly(stream, 512 - len(block))
        if block == _ZEROS:
            return
        _checked(block)
        kind = block[156:157]
        size = _number(block[124:136])
        if size < 0:
            raise StoreError("the tar has a file of negative size")
        if kind in b"xgLK":
            if kind == b"g":
                everywhere, globals_seen = everywhere + size, globals_seen + 1
            else:
                before += size + 1  # an empty one is no way to go on for ever
            if globals_seen > MAX_GLOBAL:
                raise StoreError(f"the tar has more than {MAX_GLOBAL} global headers")
            data = _long(stream, size, everywhere if kind == b"g" else before)
            if kind == b"x":
                parse_pax(data, pax)
            elif kind == b"g":
                parse_pax(data, shared)
                _few(shared)
            else:
                pax["path" if kind == b"L" else "linkpath"] = data.split(b"\0", 1)[0]
            continue
        header = _parse(block, kind, size, {**shared, **pax} if shared else pax)
        pax, before = {}, 0
        if header is None:
            EntryReader(stream, size).skip()
            continue
        reader = EntryReader(stream, header.size)
        yield header, reader
        reader.skip()


def parse_block(block: bytes, pax: dict[str, bytes]) -> tuple[bytes, int, TarHeader | None]:
    """(type, size, entry) of one header; None for extension headers and notes of other vendors."""
    _checked(block)
    kind, size = block[156:157], _number(block[124:136])
    if size < 0:
        raise StoreError("the tar has a file of negative size")
    return kind, size, None if kind in b"xgLK" else _parse(block, kind, size, pax)


def _parse(block: bytes, kind: bytes, size: int, pax: dict[str, bytes]) -> TarHeader | None:
    if kind == b"S" or "GNU.sparse.major" in pax or "GNU.sparse.map" in pax or "GNU.sparse.size" in pax:
        raise StoreError(
            "the tar holds a sparse file, which is not supported", hint="repack the layer without --sparse"
        )
    what = _KINDS.get(kind)
    if what is None:
        if kind in b"VXNDM":  # volume labels and other vendors' notes
            return None
        raise StoreError(f"the tar has an entry of unknown type {kind!r}")
    name = _text(block[:100])
    ustar = block[257:262] == b"ustar"
    if ustar and block[345] and block[257:265] != b"ustar  \0":
        name = _text(block[345:500]) + "/" + name
    link = _text(block[157:257]) if what in (HARDLINK, SYMLINK) else ""
    uid, gid, mtime_ns = (
        _number(block[108:116]),
        _number(block[116:124]),
        _number(block[136:148]) * 1_000_000_000,
    )
    xattrs: tuple[tuple[str, bytes], ...] = ()
    if pax:
        name = pax["path"].decode("utf-8", "surrogateescape") if "path" in pax else name
        link = (
            pax["linkpath"].decode("utf-8", "surrogateescape")
            if "linkpath" in pax and what in (HARDLINK, SYMLINK)
            else link
        )
        uid, gid = _pax_int(pax, "uid", uid), _pax_int(pax, "gid", gid)
        size = _pax_int(pax, "size", size)
        if "mtime" in pax:
            mtime_ns = _pax_time(pax["mtime"])
        xattrs = tuple((k[len(_XATTR) :], v) for k, v in pax.items() if k.startswith(_XATTR))
    if "\0" in name or "\0" in link:
        raise StoreError("the tar has a name with a NUL in it")
    if what == FILE and name.endswith("/"):
        what = DIR  # as written before ustar
    if what != FILE:
        size = 0  # whatever it says: such entries have no content
    rdev = (_number(block[329:337]), _number(block[337:345])) if what in (CHAR, BLOCK) and ustar else (0, 0)
    return TarHeader(
        _clean(name),
        what,
        _number(block[100:108]) & 0o7777,
        uid,
        gid,
        size,
        mtime_ns,
        link,
        rdev,
        xattrs,
        name,
    )


def _clean(name: str) -> str:
    """Without leading ``/`` and ``./`` and empty components; ``..`` stays for the caller to refuse."""
    if name and name[0] not in "./" and "//" not in name and "/." not in name:
        return name.rstrip("/")
    return "/".join(p for p in name.split("/") if p not in ("", "."))


def _pax_int(pax: dict[str, bytes], key: str, default: int) -> int:
    if key not in pax:
        return default
    value = pax[key]
    if not value.isdigit() or len(value) > 20:
        raise StoreError(f"the tar has a malformed PAX {key}")
    return int(value)


def _pax_time(value: bytes) -> int:
    whole, _, fraction = value.partition(b".")
    digits = (fraction + b"000000000")[:9]
    if not whole.lstrip(b"-").isdigit() or not digits.isdigit() or len(whole) > 20:
        raise StoreError("the tar has a malformed PAX mtime")
    ns = int(whole) * 1_000_000_000
    return ns - int(digits) if whole.startswith(b"-") else ns + int(digits)
