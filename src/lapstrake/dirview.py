"""A plain directory as a ``Tree``: descriptor-relative, never through a symlink.

Also the one place that turns what the kernel says about a file into a ``Node``, so that
layer diffs, layer stacks and build contexts agree about it.
"""

from __future__ import annotations

import os
import stat
import threading

from .errors import StoreError
from .ids import ids
from .tree import BLOCK, CHAR, DIR, FIFO, FILE, SOCKET, SYMLINK, Node
from .values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, BinaryIO

OWNER_XATTR = "user.lapstrake.owner"
"""Real ownership of a file whose owner could not be set: ``uid:gid:mode[:kind:major:minor]``.

``mode`` is ``-`` where the file itself has it.  Believed only where owners can't be set: elsewhere
anybody inside of a step could forge one."""

_OVERLAY = ("trusted.overlay.", "user.overlay.")
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: DIR, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK, stat.S_IFIFO: FIFO, stat.S_IFSOCK: SOCKET,
}  # fmt: skip
_NOTHING: dict[str, bytes] = {}


class IdMap(Value):
    """A user namespace's maps: ranges ``(inside, outside, count)``."""

    uids: tuple[tuple[int, int, int], ...] = ()
    gids: tuple[tuple[int, int, int], ...] = ()

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """Host ids to image ids; an unmapped id becomes 65534, as the kernel shows it."""
        return _shift(uid, self.uids, 1), _shift(gid, self.gids, 1)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """Image ids to host ids."""
        return _shift(uid, self.uids, 0), _shift(gid, self.gids, 0)


def _shift(value: int, ranges: tuple[tuple[int, int, int], ...], source: int) -> int:
    if not ranges:
        return value
    for r in ranges:
        if 0 <= value - r[source] < r[2]:
            return value - r[source] + r[1 - source]
    return 65534


def read_xattrs(target: str | int) -> tuple[tuple[tuple[str, bytes], ...], Mapping[str, bytes]]:
    """(what belongs in a layer, sorted; overlayfs' and our own marks by bare name)."""
    try:
        names = (
            os.listxattr(target, follow_symlinks=False) if isinstance(target, str) else os.listxattr(target)
        )
    except OSError:
        return (), _NOTHING
    if not names:
        return (), _NOTHING
    keep: list[tuple[str, bytes]] = []
    marks: dict[str, bytes] = {}
    for name in names:
        if name == "security.selinux" or name.startswith("system."):
            continue
        try:
            value = (
                os.getxattr(target, name, follow_symlinks=False)
                if isinstance(target, str)
                else os.getxattr(target, name)
            )
        except OSError:
            continue
        if name.startswith(_OVERLAY):
            marks["overlay." + name.split(".overlay.", 1)[1]] = value
        elif name == OWNER_XATTR:
            marks["owner"] = value
        elif not name.startswith("user.lapstrake."):
            keep.append((name, value))
    keep.sort()
    return tuple(keep), marks


def make_node(
    st: os.stat_result,
    xattrs: tuple[tuple[str, bytes], ...],
    marks: Mapping[str, bytes],
    linkname: str = "",
    idmap: IdMap | None = None,
) -> Node:
    """The ``Node`` of a stat result."""
    mode = st.st_mode
    kind = _KINDS.get(mode & 0o170000, FILE)
    uid, gid = st.st_uid, st.st_gid
    rdev = (os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in (CHAR, BLOCK) else (0, 0)
    size = st.st_size if kind == FILE else 0
    owner = marks.get("owner")
    if owner is not None and not ids().chown:
        try:
            parts = owner.decode("ascii").split(":")
            uid, gid = int(parts[0]), int(parts[1])
            mode = mode if parts[2] == "-" else int(parts[2], 8)
            if len(parts) == 6 and parts[3] in (CHAR, BLOCK):
                kind, size, rdev = parts[3], 0, (int(parts[4]), int(parts[5]))
        except (ValueError, IndexError):
            uid, gid = 0, 0  # someone else's attribute of that name
    elif idmap is not None:
        uid, gid = idmap.inside(uid, gid)
    inode = (st.st_dev, st.st_ino) if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode) else None
    return Node(kind, mode & 0o7777, uid, gid, size, st.st_mtime_ns, linkname, rdev, xattrs, inode)


def note_owner(fd: int, node: Any) -> None:
    """Keep what can't be set of owner, mode and device in an attribute of the open file.

    ``node``: or anything with its ``kind``, ``mode``, ``uid``, ``gid`` and ``rdev``.  What is only ours stays
    readable and writable to us.
    """
    if ids().root:
        os.fchmod(fd, node.mode)
        mode = "-"
    else:
        need = 0o700 if node.kind == DIR else 0o600
        os.fchmod(fd, node.mode & 0o777 | need)
        mode = "-" if node.mode & (0o7000 | need) == need else f"{node.mode:o}"
    device = f":{node.kind}:{node.rdev[0]}:{node.rdev[1]}" if node.kind in (CHAR, BLOCK) else ""
    if device or node.uid or node.gid or mode != "-":
        os.setxattr(fd, OWNER_XATTR, f"{node.uid}:{node.gid}:{mode}{device}".encode())


def split_path(path: str) -> list[str]:
    """The components of a tree path.  Raises StoreError for one that could leave the root."""
    if not path:
        return []
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or "\0" in path:
        raise StoreError(f"not a path inside a tree: {path!r}")
    return parts


def open_dir(root_fd: int, parts: Iterable[str]) -> int:
    """A new descriptor of a directory below ``root_fd``, no component being a symlink."""
    fd = os.open(".", _DIR_FLAGS, dir_fd=root_fd)
    try:
        for part in parts:
            deeper = os.open(part, _DIR_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = deeper
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_regular(fd: int, path: str) -> BinaryIO:
    """The file behind a descriptor, which is taken over; StoreError when it isn't a regular one."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"{path} is not a regular file")
    return os.fdopen(fd, "rb")


class DirView:
    """A directory as a read-only tree.  Thread-safe; close it, or leave that to the collector."""

    def __init__(self, root: str, idmap: IdMap | None = None) -> None:
        self.root = root
        self.idmap = idmap
        self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[str, int] = ("", self._fd)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            fds = {self._fd, self._last[1]}
            self._fd, self._last = -1, ("", -1)
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()

    def _parent(self, parent: str) -> int:
        """Descriptor of a directory, kept until the next one is asked for; call with the lock held."""
        last, fd = self._last
        if last == parent and fd >= 0:
            return fd
        if not parent:
            return self._fd
        new = open_dir(self._fd, split_path(parent))
        if fd != self._fd:
            os.close(fd)
        self._last = (parent, new)
        return new

    def open_fd(self, path: str) -> int:
        """A descriptor of a regular file; the caller closes it."""
        parent, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise StoreError(f"not a path inside a tree: {path!r}")
        with self._lock:
            return os.open(name, _FILE_FLAGS, dir_fd=self._parent(parent))

    def open(self, path: str) -> BinaryIO:
        """A regular file for reading."""
        return open_regular(self.open_fd(path), path)

    def lstat(self, path: str) -> Node | None:
        """What is at ``path``, symlinks not followed."""
        parts = split_path(path)
        try:
            if not parts:
                xattrs, marks = read_xattrs(self._fd)
                return make_node(os.fstat(self._fd), xattrs, marks, "", self.idmap)
            with self._lock:
                fd = self._parent(path.rpartition("/")[0])
                st = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
                link = os.readlink(parts[-1], dir_fd=fd) if stat.S_ISLNK(st.st_mode) else ""
                xattrs, marks = read_xattrs(f"/proc/self/fd/{fd}/{parts[-1]}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            if e.errno == 40:  # ELOOP: a symlink on the way
                return None
            raise StoreError(f"cannot look at {path!r} in {self.root}: {e.strerror}") from e
        return make_node(st, xattrs, marks, link, self.idmap)

    def listdir(self, path: str) -> Iterable[str]:
        """The names in a directory; nothing for anything else."""
        try:
            fd = open_dir(self._fd, split_path(path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as e:
            if e.errno == 40:
                return []
            raise StoreError(f"cannot list {path!r} in {self.root}: {e.strerror}") from e
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def real_path(self, path: str) -> str | None:
        """The host path of a regular file or directory."""
        split_path(path)
        return f"{self.root}/{path}" if path else self.root
