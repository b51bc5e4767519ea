"""What differs between two layers, or two stacks of layers, down to single files."""

from __future__ import annotations

from ..tree import DIR, FILE, Entry, Node
from ..values import Value, replace
from .tar import BLOCK_SIZE, HARDLINK, OPAQUE_NAME, WHITEOUT_PREFIX, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .tar import Stream

_WHITEOUT = Node(FILE, 0)


class Difference(Value):
    """One thing that differs.  ``what``: only in first | only in second | what of it differs; ``first`` and
    ``second``: how it is in each."""

    path: str
    what: str
    first: str = ""
    second: str = ""

    def __str__(self) -> str:
        if not self.first and not self.second:
            return f"{self.path}: {self.what}"
        return f"{self.path}: {self.what}: {self.first} / {self.second}"


def entries_of(stream: Stream) -> list[Entry]:
    """A layer tar as entries; ``source`` of a regular file is its content's digest."""
    from hashlib import sha256

    found: dict[str, Entry] = {}
    opaque: set[str] = set()
    for header, content in read(stream):
        parent, _, name = header.name.rpartition("/")
        if name == OPAQUE_NAME:
            opaque.add(parent)
            continue
        if name.startswith(WHITEOUT_PREFIX):
            path = (parent + "/" if parent else "") + name[len(WHITEOUT_PREFIX) :]
            found[path] = Entry(path, _WHITEOUT, "", True)
            continue
        digest = ""
        if header.kind == FILE:
            total = sha256()
            while block := content.read(BLOCK_SIZE):
                total.update(block)
            digest = total.hexdigest()
        link = header.linkname.lstrip("/").removeprefix("./") if header.kind == HARDLINK else ""
        kind = FILE if header.kind == HARDLINK else header.kind
        node = Node(
            kind, header.mode, header.uid, header.gid, header.size, header.mtime_ns, "" if link else header.linkname,
            header.rdev, tuple(sorted(header.xattrs)),
        )  # fmt: skip
        found[header.name] = Entry(header.name, node, link, source=digest)
    for path in opaque:
        entry = found.get(path) or Entry(path, Node(DIR, 0o755))
        found[path] = replace(entry, opaque=True)
    return list(found.values())


def compare(first: Iterable[Entry], second: Iterable[Entry], *, times: bool = True) -> list[Difference]:
    """What differs, in path order.  ``times`` False: modification times don't count."""
    one, two = {e.path: e for e in first}, {e.path: e for e in second}
    out = []
    for path in sorted(one.keys() | two.keys(), key=_order):
        a, b = one.get(path), two.get(path)
        shown = "/" + path
        if a is None or b is None:
            there = a or b
            deleted = " (a deletion)" if there is not None and there.whiteout else ""
            out.append(Difference(shown, f"only in the {'second' if a is None else 'first'}{deleted}"))
        elif a != b:
            out += [Difference(shown, *d) for d in _fields(a, b, times=times)]
    return out


def _order(path: str) -> list[bytes]:
    return path.encode("utf-8", "surrogateescape").split(b"/")


def _fields(a: Entry, b: Entry, *, times: bool) -> list[tuple[str, str, str]]:
    """(what, first, second) of everything that differs; where the kinds do, only that."""
    if _kind(a) != _kind(b):
        return [("type", _kind(a), _kind(b))]
    x, y = a.node, b.node
    out = []
    if a.source != b.source:
        if x.size != y.size:
            out.append(("size", str(x.size), str(y.size)))
        out.append(("content", "sha256:" + a.source[:12], "sha256:" + b.source[:12]))
    for what, left, right in (
        ("mode", f"{x.mode:04o}", f"{y.mode:04o}"),
        ("owner", f"{x.uid}:{x.gid}", f"{y.uid}:{y.gid}"),
        ("link target", a.hardlink or x.linkname, b.hardlink or y.linkname),
        ("device", f"{x.rdev}", f"{y.rdev}"),
        ("extended attributes", _xattrs(x), _xattrs(y)),
        ("modification time", _time(x), _time(y)),
    ):
        if left != right and (times or what != "modification time"):
            out.append((what, left, right))
    return out


def _kind(entry: Entry) -> str:
    if entry.whiteout:
        return "deletion"
    if entry.hardlink:
        return "hard link"
    return "opaque directory" if entry.opaque else entry.node.kind


def _xattrs(node: Node) -> str:
    return ", ".join(f"{k}={v.hex()}" for k, v in node.xattrs) or "none"


def _time(node: Node) -> str:
    from time import gmtime, strftime

    seconds, nanos = divmod(node.mtime_ns, 1_000_000_000)
    try:
        text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
    return text + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"
