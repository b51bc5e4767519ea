"""A stack of layer directories seen as one tree, without mounting anything."""

from __future__ import annotations

import os
import stat
import threading

from ..dirview import DirView, IdMap, make_node, open_dir, open_regular, read_xattrs, split_path
from ..errors import StoreError
from ..tree import DIR, SYMLINK, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import BinaryIO

    from ..tree import Tree

MAX_SYMLINKS = 255
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MARKS = ("trusted.overlay.", "user.overlay.")
_CACHED_DIRS = 20_000


class StackView:
    """Layer directories, topmost first, as a read-only tree.  Thread-safe.

    Does in user space what overlayfs does: whiteouts (device 0:0 or by attribute) and opaque
    directories hide what lies below.  The layers must not change meanwhile.
    """

    def __init__(self, dirs: Sequence[str], idmap: IdMap | None = None) -> None:
        self.dirs = tuple(dirs)
        self.idmap = idmap
        self._fds: list[int] = []
        self._lock = threading.Lock()
        self._merged: dict[str, tuple[int, ...]] = {}
        try:
            for d in self.dirs:
                self._fds.append(os.open(d, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as e:
            self.close()
            raise StoreError(f"cannot open the layer directory {e.filename}: {e.strerror}") from e
        root = []
        for i, fd in enumerate(self._fds):
            root.append(i)
            if _opaque(fd):
                break
        self._merged[""] = tuple(root)

    def close(self) -> None:
        """Give the descriptors back."""
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)

    def __enter__(self) -> StackView:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fds", None):
            self.close()

    # -- the Tree --------------------------------------------------------------------------

    def lstat(self, path: str) -> Node | None:
        """What is at ``path``, symlinks not followed."""
        parts = split_path(path)
        if not parts:
            return self._node(self._merged[""][0], path) if self._fds else Node(DIR, 0o755)
        found = self._find(path)
        return None if found is None else self._node(found, path)

    def listdir(self, path: str) -> Iterable[str]:
        """The names in a directory; nothing for anything else."""
        split_path(path)
        hidden: set[str] = set()
        names: list[str] = []
        for i in self._contributing(path):
            fd = self._open_dir(i, path)
            try:
                with os.scandir(fd) as entries:
                    for e in entries:
                        if e.name in hidden:
                            continue
                        hidden.add(e.name)
                        if (
                            e.is_file(follow_symlinks=False)
                            or e.is_dir(follow_symlinks=False)
                            or e.is_symlink()
                        ):
                            if not (
                                e.is_file(follow_symlinks=False)
                                and self._marked(i, f"{path}/{e.name}" if path else e.name)
                            ):
                                names.append(e.name)
                        elif not _whiteout(e.stat(follow_symlinks=False)):
                            names.append(e.name)
            finally:
                os.close(fd)
        return names

    def open_fd(self, path: str) -> int:
        """A descriptor of a regular file; the caller closes it."""
        found = self._find(path) if split_path(path) else None
        if found is None:
            raise StoreError(f"{path or '/'} does not exist or is a directory")
        parent, _, name = path.rpartition("/")
        fd = self._open_dir(found, parent)
        try:
            file = os.open(name, _FILE_FLAGS, dir_fd=fd)
        except OSError as e:
            raise StoreError(f"cannot open {path}: {e.strerror}") from e
        finally:
            os.close(fd)
        return file

    def open(self, path: str) -> BinaryIO:
        """A regular file for reading."""
        return open_regular(self.open_fd(path), path)

    def real_path(self, path: str) -> str | None:
        """The host path of the topmost file; None for a directory made of several."""
        if not path:
            return self.dirs[0] if len(self._merged[""]) == 1 else None
        found = self._find(path)
        if found is None or len(self._contributing(path)) > 1:
            return None
        return f"{self.dirs[found]}/{path}"

    # -- merging ---------------------------------------------------------------------------

    def _contributing(self, path: str) -> tuple[int, ...]:
        """The layers whose directory ``path`` is part of the merged one; () if it is not a directory."""
        known = self._merged.get(path)
        if known is not None:
            return known
        at = path.rfind("/")
        while at >= 0 and path[:at] not in self._merged:  # the deepest known parent, then down again
            at = path.rfind("/", 0, at)
        here = path[: max(at, 0)]
        found = self._merged[here]
        for name in path[at + 1 :].split("/"):
            here = f"{here}/{name}" if here else name
            found = tuple(self._merge(found, here))
            with self._lock:
                if len(self._merged) > _CACHED_DIRS:
                    self._merged = {"": self._merged[""]}
                self._merged[here] = found
        return found

    def _merge(self, above: tuple[int, ...], path: str) -> Iterable[int]:
        for i in above:
            st = self._stat(i, path)
            if st is None:
                continue
            if not stat.S_ISDIR(st.st_mode):
                return
            yield i
            fd = self._open_dir(i, path)
            try:
                if _opaque(fd):
                    return
            finally:
                os.close(fd)

    def _find(self, path: str) -> int | None:
        """The layer whose entry ``path`` is seen."""
        for i in self._contributing(path.rpartition("/")[0]):
            st = self._stat(i, path)
            if st is not None:
                return (
                    None
                    if _whiteout(st)
                    or (stat.S_ISREG(st.st_mode) and st.st_size == 0 and self._marked(i, path))
                    else i
                )
        return None

    def _at(self, layer: int, path: str) -> str:
        """A path for system calls that know no directory descriptors; its parents are known directories."""
        return f"/proc/self/fd/{self._fds[layer]}/{path}"

    def _stat(self, layer: int, path: str) -> os.stat_result | None:
        try:
            return os.stat(path, dir_fd=self._fds[layer], follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise StoreError(f"cannot look at {path!r} in {self.dirs[layer]}: {e.strerror}") from e

    def _open_dir(self, layer: int, path: str) -> int:
        try:
            return open_dir(self._fds[layer], split_path(path))
        except OSError as e:
            raise StoreError(f"cannot open {path!r} in {self.dirs[layer]}: {e.strerror}") from e

    def _marked(self, layer: int, path: str) -> bool:
        """Whether an empty file is a whiteout by attribute."""
        for prefix in _MARKS:
            try:
                os.getxattr(self._at(layer, path), prefix + "whiteout", follow_symlinks=False)
                return True
            except OSError:
                continue
        return False

    def _node(self, layer: int, path: str) -> Node:
        st = self._stat(layer, path) if path else os.fstat(self._fds[layer])
        if st is None:
            raise StoreError(f"{path!r} vanished from {self.dirs[layer]}")
        link = os.readlink(path, dir_fd=self._fds[layer]) if stat.S_ISLNK(st.st_mode) else ""
        xattrs, marks = read_xattrs(self._at(layer, path) if path else self._fds[layer])
        return make_node(st, xattrs, marks, link, self.idmap)


def _whiteout(st: os.stat_result) -> bool:
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def _opaque(fd: int) -> bool:
    for prefix in _MARKS:
        try:
            if os.getxattr(fd, prefix + "opaque") == b"y":
                return True
        except OSError:
            continue
    return False


def resolve(tree: Tree, path: str, *, follow_last: bool = True) -> str:
    """``path`` (absolute or not, with ``..`` and symlinks) as a plain path of ``tree``.

    Symlinks are followed inside the tree and ``..`` stops at its root; a component that does not
    exist, and what follows it, stays as it is written.  Raises StoreError for a symlink loop.
    """
    todo = [p for p in reversed(path.split("/")) if p not in ("", ".")]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        done.append(part)
        if not todo and not follow_last:
            break
        node = tree.lstat("/".join(done))
        if node is None or node.kind != SYMLINK:
            continue
        links += 1
        if links > MAX_SYMLINKS:
            raise StoreError(f"too many levels of symbolic links: {path}")
        done.pop()
        if node.linkname.startswith("/"):
            done.clear()
        todo += [p for p in reversed(node.linkname.split("/")) if p not in ("", ".")]
    return "/".join(done)


__all__ = ["DirView", "IdMap", "StackView", "resolve"]
