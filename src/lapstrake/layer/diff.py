"""Reading a layer directory (overlayfs' upper format) as the records of a layer tar."""

from __future__ import annotations

import os
import stat

from ..dirview import DirView, IdMap, make_node, read_xattrs
from ..errors import StoreError
from ..tree import DIR, FILE, SOCKET, Entry, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 500
_WHITEOUT = Node(FILE, 0)
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def changes(dirpath: str, *, uid_map: IdMap | None = None) -> Iterator[Entry]:
    """The entries of a layer directory in path order (directories before what they hold, names by
    their bytes).  Whiteouts and opaque marks are recognised in both of overlayfs' forms; sockets
    and the kernel's own attributes are left out.  Raises StoreError for a directory that only
    overlayfs itself could read (redirects, metadata-only copies).
    """
    tree = DirView(dirpath, uid_map)
    links: dict[tuple[int, int], str] = {}
    stack: list[tuple[str, int, list[os.DirEntry[str]], bool]] = []
    try:
        fd = os.open(dirpath, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.append(("", fd, _scan(fd), False))
        while stack:
            prefix, fd, entries, marked = stack[-1]
            if not entries:
                os.close(stack.pop()[1])
                continue
            item = entries.pop()
            entry = _entry(tree, prefix, fd, item, marked, links)
            if entry is None:
                continue
            if entry.node.kind == DIR:
                if len(stack) >= MAX_DEPTH:
                    raise StoreError(
                        f"directories nested more than {MAX_DEPTH} deep in a layer: {entry.path[:200]}…"
                    )
                deeper = os.open(item.name, _DIR_FLAGS, dir_fd=fd)
                stack.append((entry.path + "/", deeper, _scan(deeper), _holds_marked(deeper)))
            yield entry
    finally:
        for level in stack:
            os.close(level[1])


def _scan(fd: int) -> list[os.DirEntry[str]]:
    with os.scandir(fd) as entries:
        found = list(entries)
    found.sort(key=_key, reverse=True)  # popped from the end
    return found


def _key(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)


def _holds_marked(fd: int) -> bool:
    """Whether overlayfs says that files here may be whiteouts by attribute (opaque = ``x``)."""
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(fd, name) == b"x":
                return True
        except OSError:
            continue
    return False


def _entry(
    tree: DirView,
    prefix: str,
    fd: int,
    item: os.DirEntry[str],
    marked: bool,
    links: dict[tuple[int, int], str],
) -> Entry | None:
    name = item.name
    path = prefix + name
    st = item.stat(follow_symlinks=False)
    mode = st.st_mode
    if stat.S_ISCHR(mode) and st.st_rdev == 0:
        return Entry(path, _WHITEOUT, "", True)
    if stat.S_ISSOCK(mode):
        return None
    if name.startswith(".wh."):
        raise StoreError(
            f"a file named {path} cannot be stored in a layer: names starting with .wh. mean deletions",
            hint="rename or remove it in the step that makes it",
        )
    xattrs, marks = read_xattrs(f"/proc/self/fd/{fd}/{name}")
    if marks:
        if marked and stat.S_ISREG(mode) and "overlay.whiteout" in marks:
            return Entry(path, _WHITEOUT, "", True)
        if "overlay.redirect" in marks or "overlay.metacopy" in marks:
            raise StoreError(
                f"{path} was written by overlayfs with redirect_dir or metacopy; its layer cannot be read",
                hint="mount with redirect_dir=off,metacopy=off",
            )
    link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(mode) else ""
    node = make_node(st, xattrs, marks, link, tree.idmap)
    if node.inode is not None:
        first = links.setdefault(node.inode, path)
        if first != path:
            return Entry(path, node, first)
    if node.kind == FILE:
        return Entry(path, node, "", False, False, tree, path)
    if node.kind == DIR and marks.get("overlay.opaque") == b"y":
        return Entry(path, node, "", False, True)
    return None if node.kind == SOCKET else Entry(path, node)


def size(dirpath: str) -> int:
    """Bytes of the regular files in a layer directory, hard links once."""
    return sum(
        e.node.size for e in changes(dirpath) if e.node.kind == FILE and not e.hardlink and not e.whiteout
    )
