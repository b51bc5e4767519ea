"""Extracting a layer tar into a directory in overlayfs' upper format.

Every name is walked from the destination's descriptor and no component is opened through a
symlink by the kernel: a symlink met on the way is read and walked here, with the destination as
its root.  So whatever the tar says, nothing outside is seen, written or linked.
"""

from __future__ import annotations

import os
import stat

from ..dirview import note_owner
from ..errors import StoreError
from ..ids import ids
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK
from ..values import Value
from .tar import BLOCK_SIZE, HARDLINK, OPAQUE_NAME, WHITEOUT_PREFIX, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..dirview import IdMap
    from .tar import EntryReader, Stream, TarHeader

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRS = 128
_MAX_LINKS = 40
_MAX_PARTS = 500
_DEVICES = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_DROPPED = ("trusted.overlay.", "user.overlay.", "user.lapstrake.")


class ApplyStats(Value):
    """What was extracted.  ``size``: bytes of file content; ``skipped``: attributes the host refused."""

    entries: int
    size: int
    whiteouts: int = 0
    skipped: int = 0


def apply(
    stream: Stream,
    dest_dir: str,
    *,
    limit_bytes: int,
    can_chown: bool | None = None,
    userxattr: bool | None = None,
    idmap: IdMap | None = None,
) -> ApplyStats:
    """Extract the tar ``stream`` into ``dest_dir``, an existing, empty directory of ours.

    ``limit_bytes`` bounds the tar (headers and content).  Without ``can_chown`` (default: as ``ids`` says), ownership and
    devices are kept beside the files (``dirview.OWNER_XATTR``).  Raises StoreError for a tar that is
    malformed, too large, or tries to leave its root.
    """
    work = _Extraction(dest_dir, can_chown, userxattr, idmap)
    left = limit_bytes
    try:
        for header, content in read(stream):
            left -= header.size + 512
            if left < 0:
                raise StoreError(f"the layer is larger than the {limit_bytes} bytes allowed")
            try:
                work.entry(header, content)
            except OSError as e:
                raise StoreError(f"cannot extract {header.raw_name!r}: {e.strerror}") from e
        work.finish()
    finally:
        work.close()
    return ApplyStats(work.entries, work.size, work.whiteouts, work.skipped)


class _Extraction:
    def __init__(
        self, dest: str, can_chown: bool | None, userxattr: bool | None, idmap: IdMap | None
    ) -> None:
        self.root = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.can_chown = ids().chown if can_chown is None else can_chown
        userxattr = ids().userxattr if userxattr is None else userxattr
        self.opaque = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
        self.idmap = idmap
        self.me = (os.geteuid(), os.getegid())
        self.dirs: dict[tuple[str, ...], int] = {}  # open parents, by their literal path
        self.stale = False  # a directory or symlink was removed: forget the open ones before the next entry
        self.times: dict[tuple[str, ...], tuple[int, int]] = {}  # directory -> (mode, mtime), set at the end
        self.entries = self.size = self.whiteouts = self.skipped = 0

    def close(self) -> None:
        self._forget()
        os.close(self.root)

    # -- walking ---------------------------------------------------------------------------

    def _forget(self) -> None:
        """Close the kept directories: after a removal their names may mean something else."""
        for fd in self.dirs.values():
            os.close(fd)
        self.dirs = {}
        self.stale = False

    def _parent(self, parts: tuple[str, ...]) -> int:
        """Descriptor of a directory, made with its parents if missing; ours to keep."""
        if not parts:
            return self.root
        fd = self.dirs.get(parts)
        if fd is None:
            if len(self.dirs) >= _OPEN_DIRS:
                os.close(self.dirs.pop(next(iter(self.dirs))))
            fd = self.dirs[parts] = self._walk(parts, make=True)
        return fd

    def _walk(self, parts: tuple[str, ...], make: bool) -> int:
        """Open a directory from the root, symlinks followed inside the root."""
        todo = list(reversed(parts))
        fds = [os.dup(self.root)]
        links = 0
        try:
            while todo:
                part = todo.pop()
                if part == "..":
                    if len(fds) > 1:
                        os.close(fds.pop())
                    continue
                try:
                    fds.append(self._step(fds[-1], part, make))
                    if len(fds) > _MAX_PARTS:
                        raise StoreError("the layer's directories are nested too deeply")
                    continue
                except OSError as e:
                    if e.errno not in (20, 40):  # ENOTDIR, ELOOP: a symlink?
                        raise
                    try:
                        target = os.readlink(part, dir_fd=fds[-1])
                    except OSError:
                        raise e from None
                links += 1
                if links > _MAX_LINKS:
                    raise StoreError(f"too many symlinks on the way to {'/'.join(parts)!r}")
                if target.startswith("/"):
                    while len(fds) > 1:
                        os.close(fds.pop())
                todo += [p for p in reversed(target.split("/")) if p not in ("", ".")]
            return fds.pop()
        finally:
            for fd in fds:
                os.close(fd)

    def _step(self, fd: int, part: str, make: bool) -> int:
        try:
            return os.open(part, _DIR_FLAGS, dir_fd=fd)
        except FileNotFoundError:
            if not make:
                raise
        os.mkdir(part, 0o755, dir_fd=fd)
        deeper = os.open(part, _DIR_FLAGS, dir_fd=fd)
        os.fchmod(deeper, 0o755)
        return deeper

    # -- entries ---------------------------------------------------------------------------

    def entry(self, h: TarHeader, content: EntryReader) -> None:
        """Extract one entry."""
        parts = _parts(h.name, h.raw_name)
        self.entries += 1
        if self.stale:
            self._forget()
        if not parts:
            if h.kind == DIR:
                self._directory_facts(self.root, h, parts)
            return
        name = parts[-1]
        if name.startswith(WHITEOUT_PREFIX):
            self._whiteout(parts, name)
            return
        fd = self._parent(parts[:-1])
        if h.kind == FILE:
            self._file(fd, name, h, content)
        elif h.kind == DIR:
            self._directory(fd, name, h, parts)
        elif h.kind == SYMLINK:
            self._make_way(fd, name)
            os.symlink(h.linkname, name, dir_fd=fd)
            self._facts(fd, name, h)
        elif h.kind == HARDLINK:
            self._hardlink(fd, name, h)
        else:
            self._device(fd, name, h)

    def _make_way(self, fd: int, name: str) -> bool:
        """Remove what an earlier entry put at ``name``; whether that was a whiteout."""
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(st.st_mode):
            _remove_dir(fd, name)
        else:
            os.unlink(name, dir_fd=fd)
        if stat.S_ISDIR(st.st_mode) or stat.S_ISLNK(st.st_mode):
            self.stale = True
        return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0

    def _file(self, fd: int, name: str, h: TarHeader, content: EntryReader) -> None:
        try:
            new = os.open(name, _NEW_FLAGS, 0o600, dir_fd=fd)
        except FileExistsError:
            self._make_way(fd, name)
            new = os.open(name, _NEW_FLAGS, 0o600, dir_fd=fd)
        try:
            left = h.size
            while left:
                data = content.read(min(BLOCK_SIZE, left))
                left -= len(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(new, view) :]
            self.size += h.size
            self._own(new, h, FILE)
            os.utime(new, ns=(h.mtime_ns, h.mtime_ns))
        finally:
            os.close(new)

    def _directory(self, fd: int, name: str, h: TarHeader, parts: tuple[str, ...]) -> None:
        hide = False
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                hide = self._make_way(
                    fd, name
                )  # a deletion, then a new directory: nothing below shines through
                os.mkdir(name, 0o700, dir_fd=fd)
        deeper = os.open(name, _DIR_FLAGS, dir_fd=fd)
        try:
            self._directory_facts(deeper, h, parts)
            if hide:
                os.setxattr(deeper, self.opaque, b"y")
        finally:
            os.close(deeper)

    def _directory_facts(self, fd: int, h: TarHeader, parts: tuple[str, ...]) -> None:
        self._own(fd, h, DIR)
        self.times.pop(parts, None)
        self.times[parts] = (h.mode, h.mtime_ns)

    def _hardlink(self, fd: int, name: str, h: TarHeader) -> None:
        target = _parts(_tidy(h.linkname), h.linkname)
        if not target:
            raise StoreError(f"{h.raw_name!r} is a hard link to nothing")
        try:
            source = self._walk(target[:-1], make=False)
        except FileNotFoundError:
            source = -1
        try:
            if source < 0 or not _exists(source, target[-1]):
                raise StoreError(
                    f"{h.raw_name!r} is a hard link to {h.linkname!r}, which is not in this layer"
                )
            if _same_file(source, target[-1], fd, name):
                return
            self._make_way(fd, name)
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        finally:
            if source >= 0:
                os.close(source)

    def _device(self, fd: int, name: str, h: TarHeader) -> None:
        self._make_way(fd, name)
        if h.kind == CHAR and h.rdev == (0, 0):
            raise StoreError(f"{h.raw_name!r} is a device 0:0, which would mean a deletion")
        if h.kind != FIFO and not self.can_chown:
            new = os.open(name, _NEW_FLAGS, 0o600, dir_fd=fd)
            try:
                self._own(new, h, h.kind)
            finally:
                os.close(new)
            return
        os.mknod(name, _DEVICES[h.kind] | 0o600, os.makedev(*h.rdev), dir_fd=fd)
        self._facts(fd, name, h)

    def _whiteout(self, parts: tuple[str, ...], name: str) -> None:
        fd = self._parent(parts[:-1])
        if name == OPAQUE_NAME:
            os.setxattr(fd, self.opaque, b"y")
            self.whiteouts += 1
            return
        victim = name[len(WHITEOUT_PREFIX) :]
        if victim.startswith(WHITEOUT_PREFIX):
            return  # aufs' own bookkeeping
        if victim in ("", ".", ".."):
            raise StoreError(f"the layer deletes nothing by {'/'.join(parts)!r}")
        self.whiteouts += 1
        try:
            os.mknod(victim, stat.S_IFCHR, 0, dir_fd=fd)
        except FileExistsError:  # made by this same layer: it stays, and hides what was below
            if stat.S_ISDIR(os.stat(victim, dir_fd=fd, follow_symlinks=False).st_mode):
                deeper = os.open(victim, _DIR_FLAGS, dir_fd=fd)
                os.setxattr(deeper, self.opaque, b"y")
                os.close(deeper)

    # -- metadata --------------------------------------------------------------------------

    def _ids(self, h: TarHeader) -> tuple[int, int]:
        return (h.uid, h.gid) if self.idmap is None else self.idmap.outside(h.uid, h.gid)

    def _own(self, fd: int, h: TarHeader, kind: str) -> None:
        """Owner, mode and attributes of an open file, in the order in which the kernel keeps them."""
        if self.can_chown:
            ids = self._ids(h)
            if ids != self.me or kind == DIR:
                os.fchown(fd, *ids)
            os.fchmod(fd, h.mode | 0o700 if kind == DIR else h.mode)
        else:
            note_owner(fd, h)
        for key, value in _wanted(h):
            self._attribute(fd, key, value)

    def _facts(self, fd: int, name: str, h: TarHeader) -> None:
        """Owner, mode, times and attributes of what can't be opened."""
        if self.can_chown:
            os.chown(name, *self._ids(h), dir_fd=fd, follow_symlinks=False)
        if h.kind != SYMLINK:
            os.chmod(name, h.mode, dir_fd=fd)  # just made by us in a directory nobody else writes to
        for key, value in _wanted(h):
            self._attribute(f"/proc/self/fd/{fd}/{name}", key, value)
        os.utime(name, ns=(h.mtime_ns, h.mtime_ns), dir_fd=fd, follow_symlinks=False)

    def _attribute(self, target: int | str, key: str, value: bytes) -> None:
        try:
            if isinstance(target, int):
                os.setxattr(target, key, value)
            else:
                os.setxattr(target, key, value, follow_symlinks=False)
        except OSError:
            self.skipped += 1

    def finish(self) -> None:
        """Directory modes and times, deepest first: now nothing is written below them any more."""
        self._forget()
        for parts in sorted(self.times, key=len, reverse=True):
            mode, mtime_ns = self.times[parts]
            try:
                fd = self._walk_plain(parts)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced by a later entry
            except OSError as e:
                if e.errno == 40:
                    continue
                raise StoreError(f"cannot finish {'/'.join(parts)!r}: {e.strerror}") from e
            try:
                if mode & 0o700 != 0o700 and (self.can_chown or ids().root):
                    os.fchmod(fd, mode)
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)

    def _walk_plain(self, parts: tuple[str, ...]) -> int:
        """Open a directory by its parent (kept open) and name, the last component not followed."""
        if not parts:
            return os.dup(self.root)
        parent = self.dirs.get(parts[:-1])
        if parent is None:
            if len(self.dirs) >= _OPEN_DIRS:
                os.close(self.dirs.pop(next(iter(self.dirs))))
            parent = self.dirs[parts[:-1]] = self._walk(parts[:-1], make=False)
        return os.open(parts[-1], _DIR_FLAGS, dir_fd=parent)


def _wanted(h: TarHeader) -> list[tuple[str, bytes]]:
    """The attributes a tar may set: none that overlayfs or we ourselves would believe."""
    return [(k, v) for k, v in h.xattrs if not k.startswith(_DROPPED) and k != "security.selinux"]


def _tidy(name: str) -> str:
    return "/".join(p for p in name.split("/") if p not in ("", "."))


def _parts(name: str, raw: str) -> tuple[str, ...]:
    if not name:
        return ()
    parts = tuple(name.split("/"))
    if ".." in parts:
        raise StoreError(f"the layer names a path outside its root: {raw!r}")
    if len(parts) > _MAX_PARTS:
        raise StoreError("the layer's directories are nested too deeply")
    return parts


def _exists(fd: int, name: str) -> bool:
    try:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return not (stat.S_ISCHR(st.st_mode) and st.st_rdev == 0)


def _same_file(fd: int, name: str, other_fd: int, other: str) -> bool:
    try:
        a, b = (
            os.stat(name, dir_fd=fd, follow_symlinks=False),
            os.stat(other, dir_fd=other_fd, follow_symlinks=False),
        )
    except FileNotFoundError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def _remove_dir(fd: int, name: str, depth: int = 0) -> None:
    """Remove a directory that an earlier entry of the same tar made."""
    if depth > _MAX_PARTS:
        raise StoreError("the layer's directories are nested too deeply")
    deeper = os.open(name, _DIR_FLAGS, dir_fd=fd)
    try:
        with os.scandir(deeper) as entries:
            found = [(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
        for child, is_dir in found:
            if is_dir:
                _remove_dir(deeper, child, depth + 1)
            else:
                os.unlink(child, dir_fd=deeper)
    finally:
        os.close(deeper)
    os.rmdir(name, dir_fd=fd)
