"""Writes a list of layer entries into a directory, when something needs one.

Paths are untrusted: every step is relative to a directory descriptor, follows no link and creates
with ``O_EXCL``; contents are reflinked where the file system can.
"""

from __future__ import annotations

import os
import stat

from ..errors import BuildError
from ..ids import ids
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK, Entry, Node
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..dirview import IdMap

_FICLONE = 0x40049409
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL = 128 << 10
_MAX_DEPTH = 200


def materialize(
    entries: Iterable[Entry],
    dest_dir: str,
    *,
    can_chown: bool | None = None,
    userxattr: bool | None = None,
    idmap: IdMap | None = None,
    owners: bool = True,
) -> None:
    """Create ``entries`` (in path order) below ``dest_dir``, an existing directory of ours.

    As ``layer.apply``: without ``can_chown`` (default: not root) ownership and devices are kept
    beside the files, ``userxattr`` (same default) says how opaque directories are marked.
    Without ``owners`` everything belongs to us and nothing is noted about it.
    """
    mine = ids()
    style = _Style(
        mine.chown if can_chown is None else can_chown,
        mine.userxattr if userxattr is None else userxattr,
        owners,
        idmap,
    )
    writer = _Writer(dest_dir, style)
    try:
        for entry in entries:
            writer.write(entry)
        writer.finish()
    except OSError as e:
        raise BuildError(f"failed to write the layer to {dest_dir}: /{writer.at}: {e.strerror}") from e
    finally:
        writer.close()


class _Style(Value):
    can_chown: bool
    userxattr: bool
    owners: bool
    idmap: IdMap | None


class _Writer:
    def __init__(self, dest_dir: str, style: _Style) -> None:
        self.chain: list[tuple[str, int]] = [("", os.open(dest_dir, _DIR_FLAGS))]
        self.opaque = "user.overlay.opaque" if style.userxattr else "trusted.overlay.opaque"
        self.style = style
        self.chown = style.can_chown and style.owners
        self.ids = (os.geteuid(), os.getegid())
        self.reflink = True
        self.dirs: list[tuple[str, Node]] = []
        self.at = ""

    def close(self) -> None:
        while self.chain:
            os.close(self.chain.pop()[1])

    def parent(self, path: str) -> int:
        """Descriptor of an existing directory below the root."""
        chain = self.chain
        if chain[-1][0] == path:
            return chain[-1][1]
        while chain[-1][0] and path != chain[-1][0] and not path.startswith(chain[-1][0] + "/"):
            os.close(chain.pop()[1])
        done = chain[-1][0]
        rest = path[len(done) + 1 if done else 0 :]
        for part in rest.split("/") if rest else []:
            if part in ("", ".", "..") or len(chain) > _MAX_DEPTH:
                raise BuildError(f"/{path}: not a path a layer may hold")
            fd = os.open(part, _DIR_FLAGS, dir_fd=chain[-1][1])
            done = f"{done}/{part}" if done else part
            chain.append((done, fd))
        return chain[-1][1]

    def write(self, e: Entry) -> None:
        self.at = e.path
        parent, _, name = e.path.rpartition("/")
        if not e.path:
            self.dirs.append(("", e.node))
            return
        if name in ("", ".", "..") or "\0" in name:
            raise BuildError(f"/{e.path}: not a path a layer may hold")
        fd = self.parent(parent)
        kind = e.node.kind
        if e.whiteout:
            os.mknod(name, stat.S_IFCHR | 0, os.makedev(0, 0), dir_fd=fd)
        elif e.hardlink:
            self._link(e.hardlink, name, fd)
        elif kind == FILE:
            self._file(e, name, fd)
        elif kind == DIR:
            os.mkdir(name, 0o700, dir_fd=fd)
            if e.opaque:
                own = self.parent(e.path)
                os.setxattr(own, self.opaque, b"y")
            self.dirs.append((e.path, e.node))
        elif kind == SYMLINK:
            os.symlink(e.node.linkname, name, dir_fd=fd)
            self._owner(e.node, name, fd)
            self._link_attrs(e.node, name, fd)
        elif kind in (CHAR, BLOCK, FIFO):
            self._special(e.node, name, fd)

    def _link(self, target: str, name: str, fd: int) -> None:
        parent, _, base = target.rpartition("/")
        held = os.dup(fd)  # looking for the target moves the chain
        try:
            os.link(base, name, src_dir_fd=self.parent(parent), dst_dir_fd=held, follow_symlinks=False)
        finally:
            os.close(held)

    def _outside(self, node: Node) -> tuple[int, int]:
        idmap = self.style.idmap
        return (node.uid, node.gid) if idmap is None else idmap.outside(node.uid, node.gid)

    def _owner(self, node: Node, name: str, fd: int) -> None:
        if self.chown and (ids := self._outside(node)) != self.ids:
            os.chown(name, *ids, dir_fd=fd, follow_symlinks=False)

    def _link_attrs(self, node: Node, name: str, fd: int) -> None:
        os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=fd, follow_symlinks=False)

    def _special(self, node: Node, name: str, fd: int) -> None:
        if node.kind != FIFO and not self.style.can_chown:
            # No right to make devices: a file that says what it is meant to be.
            out = os.open(name, _NEW_FILE, 0o600, dir_fd=fd)
            try:
                self._attrs(out, node)
            finally:
                os.close(out)
            return
        kind = {CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}[node.kind]
        os.mknod(name, kind | 0o600, os.makedev(*node.rdev), dir_fd=fd)
        self._owner(node, name, fd)
        os.chmod(f"/proc/self/fd/{fd}/{name}", node.mode)
        self._link_attrs(node, name, fd)

    def _file(self, e: Entry, name: str, fd: int) -> None:
        node = e.node
        out = os.open(name, _NEW_FILE, 0o600, dir_fd=fd)
        try:
            if e.data is not None:
                _write_all(out, e.data)
            elif e.tree is not None:
                with e.tree.open(e.source) as stream:
                    if hasattr(stream, "getbuffer"):  # in memory
                        _write_all(out, stream.read())
                    else:
                        self._content(stream.fileno(), out, node.size, e.path)
            elif node.size:
                raise BuildError(f"/{e.path}: nothing says where its content is")
            self._attrs(out, node)
        finally:
            os.close(out)

    def _attrs(self, fd: int, node: Node) -> None:
        if self.chown and (ids := self._outside(node)) != self.ids:
            os.fchown(fd, *ids)
        if self.style.can_chown or not self.style.owners:
            os.fchmod(fd, node.mode)
        else:
            from ..dirview import note_owner

            note_owner(fd, node)
        for key, value in node.xattrs:
            _set_xattr(fd, key, value)
        os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))

    def _content(self, src: int, out: int, size: int, path: str) -> None:
        if not size:
            return
        if size <= _SMALL:
            data = os.read(src, size + 1)
            if len(data) == size:
                _write_all(out, data)
                return
            raise BuildError(f'"/{path}" changed while it was copied')
        if self.reflink and self._clone(src, out):
            if os.fstat(out).st_size != size:
                raise BuildError(f'"/{path}" changed while it was copied')
            return
        _copy_range(src, out, size, path)

    def _clone(self, src: int, out: int) -> bool:
        import fcntl

        try:
            fcntl.ioctl(out, _FICLONE, src)
        except OSError:
            self.reflink = False  # one file system on each side: the next file fares no better
            return False
        return True

    def finish(self) -> None:
        """Directories' own metadata, children first: writing into them changed their times."""
        for path, node in reversed(self.dirs):
            self.at = path
            self._attrs(self.parent(path), node)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy_range(src: int, out: int, size: int, path: str) -> None:
    left, ranged = size, hasattr(os, "copy_file_range")
    while left:
        done = 0
        if ranged:
            try:
                done = os.copy_file_range(src, out, min(left, 1 << 30))
            except OSError:
                ranged = False
        if not ranged:
            data = os.read(src, min(left, 1 << 20))
            _write_all(out, data)
            done = len(data)
        if not done:
            raise BuildError(f'"/{path}" changed while it was copied')
        left -= done


def _set_xattr(fd: int, key: str, value: bytes) -> None:
    """Best effort (§12.2): not every file system, nor every user, may hold each of them."""
    if key.startswith(("trusted.overlay.", "user.overlay.", "user.lapstrake.")):
        return
    try:
        os.setxattr(fd, key, value)
    except OSError:
        if key == "security.capability" and os.geteuid() == 0:
            raise
