"""Roots as full copies, for hosts without overlayfs: slower, the same results.

What changed is told by comparing inode, times and ownership with what was there right after the
copy; unchanged files are never read again.
"""

from __future__ import annotations

import errno
import os
import stat

from ..dirview import OWNER_XATTR, note_owner
from ..errors import StoreError
from ..ids import ids
from ..rootfs import saved_path
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK
from .handle import handle
from .view import StackView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..rootfs import Rootfs
    from ..tree import Node
    from .base import Scratch

_FICLONE = 0x40049409
_DEVICES = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_HARMLESS = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)})  # null, zero, full, random, …
_Mark = tuple[object, ...]


class CopyingSnapshotter:
    """A copy of the merged layers, compared afterwards."""

    name = "copying"

    def __init__(self, userxattr: bool = False) -> None:
        self.userxattr = userxattr
        self._marks: dict[str, dict[str, _Mark]] = {}

    def prepare(self, layer_dirs: Sequence[str], active: Scratch) -> Rootfs:
        """See ``Snapshotter``."""
        from ..rootfs import Rootfs

        marks: dict[str, _Mark] = {}
        if layer_dirs:
            with StackView(layer_dirs) as view:
                try:
                    _Copy(view, active.upper).run()
                except OSError as e:
                    raise StoreError(f"cannot copy the layers: {e.strerror} ({e.filename})") from e
            marks = _survey(active.upper)
        self._marks[active.upper] = marks
        return Rootfs(active.upper)

    def finish(self, active: Scratch, rootfs: Rootfs) -> str:
        """See ``Snapshotter``.  The copy is taken apart: what changed moves, the rest is trash."""
        before = self._marks.pop(active.upper, {})
        if not before:
            return active.upper
        out = f"{active.path}/diff"
        os.mkdir(out, 0o755)
        try:
            _Diff(
                active.upper,
                out,
                before,
                "user.overlay.opaque" if self.userxattr else "trusted.overlay.opaque",
            ).run()
        except OSError as e:
            raise StoreError(f"cannot compare the root with its layers: {e.strerror} ({e.filename})") from e
        return out


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


class _Copy:
    """Writes a tree into an empty directory nobody else uses yet."""

    def __init__(self, view: StackView, dest: str) -> None:
        self.view = view
        self.dest = dest
        self.links: dict[tuple[int, int], str] = {}
        self.dirs: list[tuple[str, Node]] = []

    def run(self) -> None:
        root = self.view.lstat("")
        todo = [""]
        if root is not None:
            self.dirs.append(("", root))
        while todo:
            parent = todo.pop()
            for name in self.view.listdir(parent):
                path = _join(parent, name)
                node = self.view.lstat(path)
                if node is None:
                    continue
                if node.kind == DIR:
                    os.mkdir(f"{self.dest}/{path}", 0o700)
                    self.dirs.append((path, node))
                    todo.append(path)
                else:
                    self._leaf(path, node)
        for path, node in reversed(self.dirs):
            self._facts(f"{self.dest}/{path}", node)

    def _leaf(self, path: str, node: Node) -> None:
        target = f"{self.dest}/{path}"
        if node.inode is not None:
            first = self.links.setdefault(node.inode, target)
            if first != target:
                os.link(first, target, follow_symlinks=False)
                return
        if node.kind == FILE:
            _clone(self.view.open_fd(path), target)
        elif node.kind == SYMLINK:
            os.symlink(node.linkname, target)
        elif node.kind in _DEVICES:
            if node.kind != FIFO and node.rdev not in _HARMLESS:
                return  # where roots are copied, nothing else keeps a step from opening it
            try:
                os.mknod(target, _DEVICES[node.kind] | 0o600, os.makedev(*node.rdev))
            except PermissionError:
                return  # rootless: a device that can't be made is left out of the copy
        else:
            return
        self._facts(target, node)

    def _facts(self, target: str, node: Node) -> None:
        if ids().chown:
            os.chown(target, node.uid, node.gid, follow_symlinks=False)
        elif node.kind in (FILE, DIR):
            fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                note_owner(fd, node)
            finally:
                os.close(fd)
        if node.kind != SYMLINK and (ids().chown or ids().root):
            os.chmod(target, node.mode)
        for key, value in node.xattrs:
            try:
                os.setxattr(target, key, value, follow_symlinks=False)
            except OSError:
                continue
        os.utime(target, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)


def _clone(source: int, target: str) -> None:
    """Copy a file: reflink, else in the kernel, else by hand."""
    import fcntl

    try:
        dest = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.ioctl(dest, _FICLONE, source)
                return
            except OSError:
                pass
            try:
                while os.copy_file_range(source, dest, 1 << 30):
                    pass
                return
            except OSError as e:
                if e.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
            while data := os.read(source, 1 << 20):
                view = memoryview(data)
                while view:
                    view = view[os.write(dest, view) :]
        finally:
            os.close(dest)
    finally:
        os.close(source)


def _mark(st: os.stat_result, path: str) -> _Mark:
    """What tells a change.  A directory's ctime follows its children, and its inode may be given to a new
    one at once: its handle, which has the inode's generation, tells them apart."""
    if stat.S_ISDIR(st.st_mode):
        owner = b"" if ids().chown else _noted(path)
        same = handle(path) or st.st_ino.to_bytes(8, "big")
        return (st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, 0, same, *owner)
    linked = st.st_nlink > 1 and stat.S_ISREG(st.st_mode)
    links = (st.st_nlink, st.st_size, _attributes(path)) if linked else ()
    return (st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_ctime_ns, *links)


def _lost_a_link(old: _Mark | None, st: os.stat_result, path: str) -> bool:
    """Whether all that happened to a file is that another of its names went."""
    if old is None or len(old) != 9 or st.st_nlink >= int(old[6]):  # type: ignore[call-overload]
        return False
    same = (st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns) == old[:5]
    return same and (st.st_size, _attributes(path)) == old[7:]


def _attributes(path: str) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
        return tuple((n, os.getxattr(path, n, follow_symlinks=False)) for n in names)
    except OSError:
        return ()


def _noted(path: str) -> bytes:
    try:
        return os.getxattr(path, OWNER_XATTR, follow_symlinks=False)
    except OSError:
        return b""


def _survey(root: str) -> dict[str, _Mark]:
    marks = {"": _mark(os.stat(root), root)}
    todo = [""]
    while todo:
        parent = todo.pop()
        with os.scandir(f"{root}/{parent}") as entries:
            for e in entries:
                st = e.stat(follow_symlinks=False)
                path = _join(parent, e.name)
                marks[path] = _mark(st, e.path)
                if stat.S_ISDIR(st.st_mode):
                    todo.append(path)
    return marks


class _Diff:
    """Moves what changed in ``root`` into ``out``, with whiteouts for what is gone."""

    def __init__(self, root: str, out: str, before: dict[str, _Mark], opaque: str) -> None:
        self.root = root
        self.out = out
        self.before = before
        self.opaque = opaque
        self.children: dict[str, list[str]] = {}
        self.made: list[str] = []
        self.mtimes = {"": os.stat(root).st_mtime_ns}
        for path in before:
            if path:
                parent, _, name = path.rpartition("/")
                self.children.setdefault(parent, []).append(name)

    def run(self) -> None:
        self._directory("")
        for path in reversed(self.made):
            self._facts(path)
        self._facts("")

    def _directory(self, parent: str) -> None:
        """Changes below a directory that was there before."""
        todo = [parent]
        while todo:
            here = todo.pop()
            now: dict[str, os.stat_result] = {}
            with os.scandir(f"{self.root}/{here}") as entries:
                for e in entries:
                    now[e.name] = e.stat(follow_symlinks=False)
            for name in self.children.get(here, ()):
                if name not in now:
                    self._parents(here)
                    os.mknod(f"{self.out}/{_join(here, name)}", stat.S_IFCHR, 0)
            for name, st in now.items():
                path = _join(here, name)
                old = self.before.get(path)
                if stat.S_ISDIR(st.st_mode):
                    self.mtimes[path] = st.st_mtime_ns
                real = f"{self.root}/{path}"
                mark = _mark(st, real)
                if stat.S_ISDIR(st.st_mode) and old is not None and stat.S_ISDIR(int(old[1])):  # type: ignore[call-overload]
                    if old[6] != mark[6]:
                        self._new(path, replaced=True)
                        continue
                    if old != mark:
                        self._parents(path)
                    todo.append(path)
                elif old != mark and not self._was_covered(path, old, st) and not _lost_a_link(old, st, real):
                    if old is not None and len(old) == 9 and old[0] == st.st_ino:
                        self._split(path, st)
                    else:
                        self._new(path, replaced=old is not None and stat.S_ISDIR(st.st_mode))

    def _was_covered(self, path: str, old: _Mark | None, st: os.stat_result) -> bool:
        """Whether a run only saw another file in its place: then the time of its last change says nothing."""
        return (
            old is not None and old[:5] == _mark(st, path)[:5] and os.path.exists(saved_path(self.root, path))
        )

    def _split(self, path: str, st: os.stat_result) -> None:
        """A changed file with several names before: each changed name becomes a file of its own, as
        overlayfs copies it up."""
        self._parents(path.rpartition("/")[0])
        source, target = f"{self.root}/{path}", f"{self.out}/{path}"
        _clone(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), target)
        if (st.st_uid, st.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(target, st.st_uid, st.st_gid)
        os.chmod(target, stat.S_IMODE(st.st_mode))
        for name, value in _attributes(source):
            if name != "security.selinux":
                os.setxattr(target, name, value)
        os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns))

    def _new(self, path: str, *, replaced: bool) -> None:
        self._parents(path.rpartition("/")[0])
        target = f"{self.out}/{path}"
        os.rename(f"{self.root}/{path}", target)
        if replaced:
            os.setxattr(target, self.opaque, b"y")

    def _parents(self, path: str) -> None:
        missing = []
        while path and not os.path.isdir(f"{self.out}/{path}"):
            missing.append(path)
            path = path.rpartition("/")[0]
        for p in reversed(missing):
            os.mkdir(f"{self.out}/{p}", 0o700)
            self.made.append(p)

    def _facts(self, path: str) -> None:
        source, target = f"{self.root}/{path}", f"{self.out}/{path}"
        st = os.stat(source, follow_symlinks=False)
        if not stat.S_ISDIR(st.st_mode):
            raise StoreError(f"{path!r} changed while it was compared")
        if (st.st_uid, st.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
        os.chmod(target, stat.S_IMODE(st.st_mode))
        for name in os.listxattr(source, follow_symlinks=False):
            if name != "security.selinux":
                os.setxattr(
                    target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False
                )
        mtime = self.mtimes.get(path, st.st_mtime_ns)  # as it was before our own moves changed it
        os.utime(target, ns=(mtime, mtime))
