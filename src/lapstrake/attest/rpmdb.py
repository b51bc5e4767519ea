"""RPM databases without librpm: SQLite and ndb as written today, Berkeley DB hashes as written before 2020.

A database is hostile: every offset is checked, and a broken part is left out rather than fatal.
"""

from __future__ import annotations

from struct import error, unpack_from

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
FILES = ("rpmdb.sqlite", "Packages.db", "Packages")
MAX_ENTRIES = 100_000
_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1014, 1022, 1044
_INT32, _STRING, _I18N = 4, 6, 9
_SLOT, _BLOB = b"Slot", b"BlbS"
_BDB_HASH = 0x061561
_STEPS = 5_000_000  # of SQLite's virtual machine: a hostile schema can loop


class Rpm(Value):
    """One installed package, as its header tells."""

    name: str
    version: str  # version-release
    epoch: int = 0
    arch: str = ""
    license: str = ""
    source: str = ""


def packages(data: bytes) -> Iterator[Rpm]:
    """The packages of a database of any of the three kinds."""
    if data.startswith(b"SQLite format 3\0"):
        headers = _sqlite(data)
    elif data.startswith(b"RpmP"):
        headers = _ndb(data)
    else:
        headers = _bdb(data)
    for n, header in enumerate(headers):
        if n >= MAX_ENTRIES:
            return
        found = _header(header)
        if found is not None and found.name and found.name != "gpg-pubkey":
            yield found


def _header(raw: bytes) -> Rpm | None:
    """A package header: counts, an index of (tag, type, offset, count), the values."""
    try:
        count, size = unpack_from(">II", raw)
        start = 8 + count * 16
        if count > 65_536 or start + size > len(raw):
            return None
        values: dict[int, str] = {}
        epoch = 0
        for n in range(count):
            tag, kind, offset, _ = unpack_from(">IIII", raw, 8 + n * 16)
            if tag == _EPOCH and kind == _INT32:
                epoch = int(unpack_from(">I", raw, start + offset)[0])
            elif kind in (_STRING, _I18N) and tag in (_NAME, _VERSION, _RELEASE, _LICENSE, _ARCH, _SOURCE):
                end = raw.index(b"\0", start + offset)
                values[tag] = raw[start + offset : end].decode("utf-8", "replace")
    except (error, ValueError):
        return None
    return Rpm(
        values.get(_NAME, ""), "-".join(v for v in (values.get(_VERSION), values.get(_RELEASE)) if v), epoch,
        values.get(_ARCH, ""), values.get(_LICENSE, ""), values.get(_SOURCE, ""),
    )  # fmt: skip


def _sqlite(data: bytes) -> Iterator[bytes]:
    import sqlite3

    con = sqlite3.connect(":memory:")
    try:
        con.set_progress_handler(lambda: 1, _STEPS)
        con.deserialize(data[:18] + b"\1\1" + data[20:])  # not WAL: there is no file to log beside
        con.execute("PRAGMA trusted_schema=OFF")
        for (blob,) in con.execute("SELECT blob FROM Packages ORDER BY hnum"):
            if isinstance(blob, bytes):
                yield blob
    except sqlite3.Error:
        return
    finally:
        con.close()


def _ndb(data: bytes) -> Iterator[bytes]:
    """Slots of 16 bytes (magic, package, block, blocks) point at blobs in units of 16 bytes."""
    try:
        pages = unpack_from("<I", data, 12)[0]
        for at in range(32, min(pages * 4096, len(data) - 15), 16):
            magic, package, block, _ = unpack_from("<4sIII", data, at)
            if magic != _SLOT or not package:
                continue
            kind, _, _, size = unpack_from("<4sIII", data, block * 16)
            if kind == _BLOB and block * 16 + 16 + size <= len(data):
                yield data[block * 16 + 16 : block * 16 + 16 + size]
    except error:
        return


def _bdb(data: bytes) -> Iterator[bytes]:
    """A hash database: pages of key and value pairs, values in chains of overflow pages."""
    try:
        order = "<" if unpack_from("<I", data, 12)[0] == _BDB_HASH else ">"
        if unpack_from(order + "I", data, 12)[0] != _BDB_HASH:
            return
        size = unpack_from(order + "I", data, 20)[0]
        if size < 512 or size > 65536:
            return
        for page in range(size, len(data) - size + 1, size):
            if data[page + 25] not in (2, 13):
                continue
            count = unpack_from(order + "H", data, page + 20)[0]
            for n in range(1, min(count, (size - 26) // 2), 2):  # values stand at odd places
                at = page + unpack_from(order + "H", data, page + 26 + n * 2)[0]
                if data[at] == 3:
                    first, total = unpack_from(order + "II", data, at + 4)
                    yield _overflow(data, size, order, first, total)
    except (error, IndexError):
        return


def _overflow(data: bytes, size: int, order: str, page: int, total: int) -> bytes:
    out = bytearray()
    for _ in range(len(data) // size + 1):
        at = page * size
        if not page or len(out) >= total:
            break
        used = unpack_from(order + "H", data, at + 22)[0]
        out += data[at + 26 : at + 26 + min(used, size - 26)]
        page = unpack_from(order + "I", data, at + 16)[0]
    return bytes(out[:total])
