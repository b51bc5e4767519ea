"""Content digests of files and trees: what keys a COPY, an ADD or a bind mount.

One text record per entry, in path order, hashed together.  A record holds what ends up in the
layer (name, type, mode, owner, size, link target, device, xattrs, content) and never the
modification time (§12.3), so touching files or cloning a repository again changes no key.
Fields are separated by NUL, which neither names nor link targets can contain.
"""

from __future__ import annotations

import hashlib

from ..tree import BLOCK, CHAR, DIR, FILE, SYMLINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from ..tree import Node, Tree
    from .select import Excludes, Selection

RECIPE = "lapstrake-tree-1"
_CHUNK = 1 << 20
_KIND = {FILE: "f", DIR: "d", SYMLINK: "l", CHAR: "c", BLOCK: "b", "fifo": "p", "socket": "s"}


def keyed_xattr(name: str) -> bool:
    """Whether an extended attribute belongs to the content: capabilities and what is not the host's."""
    if name == "security.capability":
        return True
    return not name.startswith(("security.", "system.", "trusted.overlay.", "user.overlay."))


def record(rel: str, node: Node, content: str) -> str:
    """One entry's line.  ``content``: hex sha256 of a regular file, else ``""``."""
    kind = node.kind
    size = node.size if kind == FILE else 0
    link = node.linkname if kind == SYMLINK else ""
    dev = f"{node.rdev[0]}:{node.rdev[1]}" if kind in (CHAR, BLOCK) else ""
    attrs = (
        ",".join(f"{k}={v.hex()}" for k, v in sorted(node.xattrs) if keyed_xattr(k)) if node.xattrs else ""
    )
    # A symlink has no mode of its own; file systems disagree about what to report.
    mode = 0o777 if kind == SYMLINK else node.mode
    return (
        f"{rel}\0{_KIND[kind]}\0{mode:o}\0{node.uid}:{node.gid}\0{size}\0{link}\0{dev}\0{attrs}\0{content}\n"
    )


def stream_digest(stream: BinaryIO) -> bytes:
    """sha256 of what is left in a stream."""
    total = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        total.update(chunk)
    return total.digest()


def file_digester(tree: Tree) -> Callable[[str], bytes]:
    """How to hash a file of this tree: its own (cached) way when it has one."""
    own: Callable[[str], bytes] | None = getattr(tree, "content_digest", None)
    if own is not None:
        return own

    def read(path: str) -> bytes:
        with tree.open(path) as stream:
            return stream_digest(stream)

    return read


def tree_records(
    tree: Tree,
    path: str,
    rel: str,
    *,
    excludes: Excludes | None = None,
    base: str | None = None,
    file_digest: Callable[[str], bytes] | None = None,
) -> list[str]:
    """Records of everything below directory ``path`` (itself not included), named below ``rel``."""
    if excludes is None and file_digest is None:
        fast: Callable[[str, str], list[str]] | None = getattr(tree, "records", None)
        if fast is not None:
            return fast(path, rel)
    from .select import walk

    digest = file_digest or file_digester(tree)
    return [
        record(name, node, digest(src).hex() if node.kind == FILE else "")
        for src, name, node in walk(tree, path, rel, excludes, base)
    ]


def records_digest(records: Iterable[str]) -> bytes:
    """sha256 over records in the order given."""
    text = RECIPE + "\n" + "".join(records)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def subtree_digest(
    tree: Tree, path: str, *, follow: bool = True, file_digest: Callable[[str], bytes] | None = None
) -> bytes:
    """Digest of one file or of a directory with all below it; the name itself does not count."""
    return records_digest(subtree_records(tree, path, follow=follow, file_digest=file_digest))


def subtree_records(
    tree: Tree, path: str, *, follow: bool = True, file_digest: Callable[[str], bytes] | None = None
) -> list[str]:
    """The records that :func:`subtree_digest` hashes."""
    from .select import not_found, resolve

    named, path = path, resolve(tree.lstat, path, last=follow)
    node = tree.lstat(path)
    if node is None:
        raise not_found(tree, "context", named)
    if node.kind != DIR:
        content = (file_digest or file_digester(tree))(path).hex() if node.kind == FILE else ""
        return [record("", node, content)]
    return [record("", node, ""), *tree_records(tree, path, "", file_digest=file_digest)]


def selection_records(tree: Tree, selection: Selection) -> list[str]:
    """The records of everything a COPY selects, sources in order."""
    from .select import excludes_of

    digest = file_digester(tree)
    excludes = excludes_of(selection.exclude)
    out: list[str] = []
    for root in selection.roots:
        for src, rel in root.parents:
            node = tree.lstat(src)
            if node is not None:
                out.append(record(rel, node, ""))
        node = tree.lstat(root.path)
        if node is None:
            continue
        if node.kind == DIR:
            # The named directory's own metadata is not copied (§12.3), unless --parents names it.
            out.append("\0contents\n" if root.contents else record(root.rel, node, ""))
            prefix = "" if root.contents else root.rel
            base = None if root.contents else root.rel
            out += tree_records(tree, root.path, prefix, excludes=excludes, base=base)
        else:
            out.append(record(root.rel, node, digest(root.path).hex() if node.kind == FILE else ""))
    return out


def selection_digest(tree: Tree, selection: Selection) -> str:
    """``sha256:…`` of all that a COPY or ADD selects from ``tree``."""
    return "sha256:" + records_digest(selection_records(tree, selection)).hex()


def manifest(records: Iterable[str]) -> bytes:
    """Records shortened and packed, kept beside a cache record to explain a later miss."""
    import zlib

    lines = []
    for line in records:
        # Nearly all of them have neither link nor device nor attributes: one cut instead of nine.
        head, plain, content = line.partition("\0\0\0\0")
        if plain:
            lines.append(f"{head}\0\0{content[:12].rstrip()}")
            continue
        rel, kind, *rest = line[:-1].split("\0")
        if not rest:
            continue
        mode, owner, size, link, dev, attrs, content = rest
        meta = f"{link}|{dev}|{attrs}" if link or dev or attrs else ""
        short = hashlib.sha256(meta.encode("utf-8", "surrogateescape")).hexdigest()[:8] if meta else ""
        lines.append("\0".join((rel, kind, mode, owner, size, short, content[:12])))
    return zlib.compress("\n\0".join(lines).encode("utf-8", "surrogateescape"), 1)


def entries_in(packed: bytes) -> int:
    """How many files a manifest has (directories don't count)."""
    lines = _lines(packed)
    return len(lines) - sum("\0d\0" in line for line in lines)


_FIELDS = ("type", "mode", "owner", "size", "link or attributes", "content")


def explain(old: bytes, new: bytes) -> list[str]:
    """What differs between two manifests: ``src/a.py (content)``, ``b (added)``, ``run.sh (mode 644->755)``."""
    was_lines, now_lines = _lines(old), _lines(new)
    same = set(was_lines).intersection(now_lines)  # the most, as a rule: they need no closer look
    before, after = _rows(was_lines, same), _rows(now_lines, same)
    out = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        path = path or "."  # noqa: PLW2901 - the mounted directory itself
        if was is None or now is None:
            out.append(f"{path} ({'added' if was is None else 'removed'})")
        elif was != now:
            changed = [i for i in range(6) if was[i] != now[i]]
            if 5 in changed and 3 in changed:
                changed.remove(3)
            out.append(f"{path} ({', '.join(_change(i, was[i], now[i]) for i in changed)})")
    return out


def _change(field: int, was: str, now: str) -> str:
    if field == 1:
        return f"mode {int(was, 8):04o}->{int(now, 8):04o}"
    return f"owner {was}->{now}" if field == 2 else _FIELDS[field]


def _lines(packed: bytes) -> list[str]:
    import zlib

    text = zlib.decompress(packed).decode("utf-8", "surrogateescape")
    return [line for line in text.split("\n\0") if line]


def _rows(lines: Iterable[str], same: set[str]) -> dict[str, tuple[str, ...]]:
    rows = (line.split("\0") for line in lines if line not in same)
    return {row[0]: tuple(row[1:]) for row in rows}
