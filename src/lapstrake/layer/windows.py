"""Layers as Windows reads them: everything below ``Files``, attributes in PAX records (oci.md §6)."""

from __future__ import annotations

import struct
from base64 import b64encode

from ..tree import DIR, Entry, Node
from ..values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DIRECTORY, _ARCHIVE = b"16", b"32"  # FILE_ATTRIBUTE_*
_ADMINISTRATORS = 544  # S-1-5-32-544


def _descriptor(group: int) -> bytes:
    """A self-relative security descriptor, base64: owner and group S-1-5-32-``group``, no lists."""
    sid = struct.pack("<BB6sII", 1, 2, b"\0\0\0\0\0\5", 32, group)
    head = struct.pack("<BBHIIII", 1, 0, 0x8000, 20, 20 + len(sid), 0, 0)
    return b64encode(head + sid + sid)


_RAWSD = _descriptor(_ADMINISTRATORS)


def _records(node: Node) -> tuple[tuple[str, bytes], ...]:
    seconds, nanos = divmod(node.mtime_ns, 1_000_000_000)
    created = b"%d" % seconds + (b".%09d" % nanos if nanos else b"")
    return (
        ("LIBARCHIVE.creationtime", created),
        ("MSWINDOWS.fileattr", _DIRECTORY if node.kind == DIR else _ARCHIVE),
        ("MSWINDOWS.rawsd", _RAWSD),
    )


def windows_entries(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same entries below ``Files``; link targets move along, whiteouts keep their meaning."""
    top = Node(DIR, 0o755)
    for name in ("Hives", "Files"):
        yield Entry(name, top, pax=_records(top))
    for e in entries:
        if not e.path:
            continue
        node = replace(e.node, mtime_ns=e.node.mtime_ns // 1_000_000_000 * 1_000_000_000, xattrs=())
        yield replace(
            e, path=f"Files/{e.path}", node=node, source=e.source or e.path, hardlink=f"Files/{e.hardlink}" if e.hardlink else "",
            pax=() if e.whiteout else _records(node),
        )  # fmt: skip
