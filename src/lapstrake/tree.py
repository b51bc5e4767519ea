"""A read-only file tree seen through one small Protocol.

The build context, an image's layers and an extracted archive all look the same to whoever
selects, hashes or copies files.  Paths are ``bytes``-safe ``str`` (surrogateescape), relative
to the tree's root, ``/``-separated, without leading or trailing slash; ``""`` is the root.
No method follows a symlink; nobody can leave the root through this interface.
"""

from __future__ import annotations

from .values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO, Protocol

    class Names(Protocol):
        """What there is, without what is in it."""

        def lstat(self, path: str) -> Node | None: ...
        def listdir(self, path: str) -> Iterable[str]: ...
else:
    Protocol = object

FILE, DIR, SYMLINK, CHAR, BLOCK, FIFO, SOCKET = "file", "dir", "symlink", "char", "block", "fifo", "socket"


class Node(Value):
    """One entry's metadata.  ``uid``/``gid`` as inside the image (a build context gives 0:0)."""

    kind: str
    mode: int  # 0o7777 bits only
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    linkname: str = ""  # symlink target, verbatim
    rdev: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    inode: tuple[int, int] | None = None  # equal for hard links; None: unknown or nlink 1

    def __init__(
        self, kind: str, mode: int, uid: int = 0, gid: int = 0, size: int = 0, mtime_ns: int = 0, linkname: str = "",
        rdev: tuple[int, int] = (0, 0), xattrs: tuple[tuple[str, bytes], ...] = (), inode: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        # by hand: made 100,000 times for a large COPY, and half as dear as the general way
        put = object.__setattr__
        put(self, "kind", kind)
        put(self, "mode", mode)
        put(self, "uid", uid)
        put(self, "gid", gid)
        put(self, "size", size)
        put(self, "mtime_ns", mtime_ns)
        put(self, "linkname", linkname)
        put(self, "rdev", rdev)
        put(self, "xattrs", xattrs)
        put(self, "inode", inode)


class Tree(Protocol):
    """A file tree.  ``lstat`` gives None where nothing is."""

    def lstat(self, path: str) -> Node | None: ...
    def listdir(self, path: str) -> Iterable[str]: ...  # names, any order; [] for a non-directory
    def open(self, path: str) -> BinaryIO: ...  # a regular file; O_NOFOLLOW all the way
    def real_path(
        self, path: str
    ) -> str | None: ...  # host path for reflink/copy_file_range, if there is one


def walk(tree: Names) -> Iterator[tuple[str, Node]]:
    """Everything below the root in path order, parents first, without recursion.  Names that are none are
    passed over: a tree may come from elsewhere."""
    todo = [""]
    while todo:
        path = todo.pop()
        node = tree.lstat(path)
        if node is None:
            continue
        if path:
            yield path, node
        if node.kind == DIR:
            names = sorted(tree.listdir(path), reverse=True)
            todo += [f"{path}/{n}" if path else n for n in names if n not in ("", ".", "..") and "/" not in n]


class Entry(Value):
    """One record of a layer: what goes into a tar, in path order.

    ``whiteout``: the path is deleted; ``opaque``: a directory that hides the lower one's content.
    ``hardlink``: path of the earlier entry this one is a link to.
    ``tree``/``source``: where a regular file's content is read from.
    ``pax``: further PAX records, verbatim.
    """

    path: str
    node: Node
    hardlink: str = ""
    whiteout: bool = False
    opaque: bool = False
    tree: Tree | None = None
    source: str = ""
    data: bytes | None = None  # content given inline (heredocs, secrets never)
    pax: tuple[tuple[str, bytes], ...] = ()

    def __init__(
        self, path: str, node: Node, hardlink: str = "", whiteout: bool = False, opaque: bool = False, tree: Tree | None = None,
        source: str = "", data: bytes | None = None, pax: tuple[tuple[str, bytes], ...] = (),
    ) -> None:  # fmt: skip
        put = object.__setattr__
        put(self, "path", path)
        put(self, "node", node)
        put(self, "hardlink", hardlink)
        put(self, "whiteout", whiteout)
        put(self, "opaque", opaque)
        put(self, "tree", tree)
        put(self, "source", source)
        put(self, "data", data)
        put(self, "pax", pax)
