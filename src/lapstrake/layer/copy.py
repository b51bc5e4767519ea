"""COPY and ADD as a list of layer entries: what would be in the layer, without copying anything.

``plan_copy`` works out the result over two trees (where files come from, what is already there);
``materialize`` writes such a list into a directory when something needs one (§12.2, §12.3):
paths are untrusted there, so every step is relative to a directory descriptor, follows no link
and creates with ``O_EXCL``; contents are reflinked where the file system can.
"""

from __future__ import annotations

import os
import stat

from ..errors import BuildError
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK, Entry, Node
from ..values import Value
from .select import clean, excludes_of, resolve, select, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..dirview import IdMap
    from ..tree import Tree
    from .select import CopySpec, Root, Selection

    Unpack = Callable[[Tree, str], "list[Entry] | None"]

_PARENT_MODE = 0o755
_FICLONE = 0x40049409
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL = 128 << 10
_MAX_DEPTH = 200


def path_key(path: str) -> bytes:
    """Order of entries: a directory right before what is in it, names by bytes."""
    return path.encode("utf-8", "surrogateescape").replace(b"/", b"\0")


def plan_copy(
    source: Tree,
    dest: Tree,
    spec: CopySpec,
    *,
    now_ns: int | None = None,
    selection: Selection | None = None,
    unpack: Unpack | None = None,
) -> list[Entry]:
    """The layer a COPY or ADD makes on top of ``dest``, in path order.

    ``now_ns``: time of created directories (the clock's when None).  ``selection``: as given by
    ``select`` when the caller already has it.  With ``--link`` pass an empty ``dest``.
    ``unpack``: reads a local archive for ADD (``source.archive.Unpacker``); gives None for
    anything else.
    """
    plan = _Plan(source, dest, spec, now_ns)
    plan.unpack = unpack if spec.unpack else None
    for root in (selection or select(source, spec)).roots:
        plan.add_root(root)
    for item in spec.inline:
        plan.add_inline(item.name, item.data)
    return plan.finish()


def mkdir_entries(
    dest: Tree, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0, now_ns: int | None = None
) -> list[Entry]:
    """What WORKDIR adds: ``path`` and its missing parents; nothing when it is there already."""
    from .select import CopySpec

    plan = _Plan(dest, dest, CopySpec((), path, chown=(uid, gid)), now_ns)
    plan.parent_mode = mode
    plan.make_dirs(resolve(plan.lstat, clean(path)))
    entries = plan.finish()
    return entries if plan.fresh else []


def merge_entries(lists: Iterable[list[Entry]]) -> list[Entry]:
    """Several layers' entries as one, later lists on top."""
    out: dict[str, Entry] = {}
    linked: dict[str, tuple[int, str]] = {}
    for number, entries in enumerate(lists):
        covering = {e.path for e in entries if e.opaque or e.node.kind != DIR or e.whiteout}
        if out and covering:
            for path in [p for p in out if _below_any(p, covering)]:
                del out[path]
        for e in entries:
            out[e.path] = e
            linked[e.path] = (number, e.hardlink or e.path)
    groups: dict[tuple[int, str], str] = {}
    result = []
    for path in sorted(out, key=path_key):
        e = out[path]
        if e.node.kind == FILE and not e.whiteout:
            # The file a link pointed to may be gone, or replaced, or sorted behind it.
            first = groups.setdefault(linked[path], path)
            e = _relink(e, "" if first == path else first)
        result.append(e)
    return result


def _below_any(path: str, covering: set[str]) -> bool:
    at = path.rfind("/")
    while at > 0:
        if path[:at] in covering:
            return True
        at = path.rfind("/", 0, at)
    return False


def _relink(e: Entry, target: str) -> Entry:
    if e.hardlink == target:
        return e
    return Entry(e.path, e.node, target, e.whiteout, e.opaque, e.tree, e.source, e.data)


class _Plan:
    """The destination as it is being changed."""

    def __init__(self, source: Tree, dest: Tree, spec: CopySpec, now_ns: int | None) -> None:
        self.source = source
        self.dest = dest
        self.spec = spec
        if now_ns is None:
            import time

            now_ns = time.time_ns()
        self.now_ns = now_ns
        self.entries: dict[str, Entry] = {}
        self.links: dict[str, object] = {}
        self.fresh: set[str] = set()  # directories with nothing of dest in them
        self.parent_mode = _PARENT_MODE
        chmod = spec.chmod
        if chmod is not None and chmod.apply(0, True) == chmod.apply(0o7777, True):
            self.parent_mode = chmod.apply(0, True)  # numeric: also for created directories
        self.round = 0
        self.unpack: Unpack | None = None

    # -- the destination so far --------------------------------------------------------------

    def lstat(self, path: str) -> Node | None:
        """What is at ``path`` now."""
        entry = self.entries.get(path)
        if entry is not None:
            return entry.node
        if self.fresh and self._hidden(path):
            return None
        if not path:
            return self.dest.lstat(path) or Node(DIR, 0o755)
        return self.dest.lstat(path)

    def _hidden(self, path: str) -> bool:
        at = path.rfind("/")
        while at > 0:
            if path[:at] in self.fresh:
                return True
            at = path.rfind("/", 0, at)
        return False

    def make_dirs(self, path: str) -> None:
        """``path`` as a directory (links already resolved), with the parents it lacks."""
        if not path or path in self.fresh:
            return
        known = self.entries.get(path)
        if known is not None and known.node.kind == DIR:
            return
        self.make_dirs(path.rpartition("/")[0])
        node = self.lstat(path)
        if node is None:
            uid, gid = self.spec.chown or (0, 0)
            node = Node(DIR, self.parent_mode, uid, gid, 0, self.now_ns)
            self.fresh.add(path)
        elif node.kind != DIR:
            raise BuildError(f"failed to create /{path}: not a directory")
        self.entries[path] = Entry(path, node)

    # -- sources -----------------------------------------------------------------------------

    def add_root(self, root: Root) -> None:
        """One matched source."""
        self.round += 1
        node = self.source.lstat(root.path)
        if node is None:
            raise BuildError(f'"/{root.path}": not found')
        if self.spec.parents:
            self._add_with_parents(root, node)
        elif root.contents:
            target = self._target()
            self._dir_target(target)
            self._add_below(root.path, target, None)
        elif not (self.unpack is not None and node.kind == FILE and self._unpack(root, self.unpack)):
            self.put(self._file_target(root.rel), root.path, self._changed(node))

    def add_inline(self, name: str, data: bytes) -> None:
        """A heredoc: a file of mode 0644, or what ``--chmod`` says."""
        self.round += 1
        name = name.rsplit("/", 1)[-1]
        if name in ("", ".", ".."):
            raise BuildError(f"a heredoc can't be a file named {name!r}")
        target = self._file_target(name)
        node = self._changed(Node(FILE, 0o644, 0, 0, len(data), self.now_ns))
        self._check_file(target)
        self.entries[target] = Entry(target, node, data=data)
        self.links.pop(target, None)

    def _target(self) -> str:
        path = self.spec.dest
        if not path.startswith("/"):
            path = f"{self.spec.workdir}/{path}"
        return resolve(self.lstat, clean(path))

    def _dir_target(self, target: str) -> None:
        node = self.lstat(target)
        if node is not None and node.kind != DIR:
            raise BuildError(f"cannot copy to non-directory: /{target}")
        self.make_dirs(target)

    def _file_target(self, name: str) -> str:
        target = self._target()
        node = self.lstat(target)
        dest = self.spec.dest
        named_dir = dest.endswith(("/", "/.")) or dest in ("", ".")
        if named_dir or (node is not None and node.kind == DIR):
            self._dir_target(target)
            # A link of that name is replaced, not followed.
            return f"{target}/{name}" if target else name
        self.make_dirs(target.rpartition("/")[0])
        return target

    def _add_with_parents(self, root: Root, node: Node) -> None:
        target = self._target()
        self._dir_target(target)
        prefix = target + "/" if target else ""
        for src, rel in root.parents:
            above = self.source.lstat(src)
            if above is not None:
                self._put_dir(prefix + rel, self._changed(above))
        if not root.rel:
            self._add_below(root.path, target, None)
        elif node.kind == DIR:
            self._put_dir(prefix + root.rel, self._changed(node))
            self._add_below(root.path, prefix + root.rel, root.rel)
        else:
            self.put(prefix + root.rel, root.path, self._changed(node))

    def _add_below(self, path: str, target: str, base: str | None) -> None:
        excludes = excludes_of(self.spec.exclude)
        plain = self.spec.chown is None and self.spec.chmod is None
        for src, rel, found in walk(self.source, path, target, excludes, base):
            node = found if plain else self._changed(found)
            if node.kind == DIR:
                self._put_dir(rel, node)
            else:
                self.put(rel, src, node)

    def _changed(self, node: Node) -> Node:
        spec = self.spec
        mode, (uid, gid) = node.mode, spec.chown or (node.uid, node.gid)
        if spec.chmod is not None and node.kind != SYMLINK:
            mode = spec.chmod.apply(mode, node.kind == DIR)
        elif spec.chown is None:
            return node
        attrs = node.xattrs
        return Node(node.kind, mode, uid, gid, node.size, node.mtime_ns, node.linkname, node.rdev, attrs, node.inode)

    def put(self, path: str, src: str, node: Node) -> None:
        """Anything but a directory; what was there is replaced."""
        self._check_file(path)
        self.entries[path] = Entry(path, node, tree=self.source if node.kind == FILE else None, source=src)
        if node.inode is not None:
            self.links[path] = (self.round, node.inode)
        elif self.links:
            self.links.pop(path, None)

    def _check_file(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            raise BuildError(f"/{path}: a layer can't hold a file whose name begins with .wh.")
        if parent in self.fresh and path not in self.entries:
            return
        node = self.lstat(path)
        if node is not None and node.kind == DIR:
            raise BuildError(f"cannot replace to directory /{path} with file")

    def _put_dir(self, path: str, node: Node) -> None:
        parent, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            raise BuildError(f"/{path}: a layer can't hold a directory whose name begins with .wh.")
        old = None if parent in self.fresh and path not in self.entries else self.lstat(path)
        if old is None:
            self.fresh.add(path)
        elif old.kind != DIR:
            raise BuildError(f"cannot copy to non-directory: /{path}")
        self.entries[path] = Entry(path, node)

    # -- archives ----------------------------------------------------------------------------

    def _unpack(self, root: Root, unpack: Unpack) -> bool:
        members = unpack(self.source, root.path)
        if members is None:
            return False
        target = self._target()
        self._dir_target(target)
        for member in members:
            if member.path:  # the archive's own root says nothing about the destination
                self._add_member(target, member)
        return True

    def _add_member(self, target: str, member: Entry) -> None:
        parent, _, name = member.path.rpartition("/")
        where = resolve(self.lstat, f"{target}/{parent}")
        if where != target and not where.startswith(target + "/") and target:
            raise BuildError(f"/{member.path}: the archive's links lead out of /{target}")
        self.make_dirs(where)
        path = f"{where}/{name}" if where else name
        node = member.node
        if self.spec.chown is not None:
            uid, gid = self.spec.chown
            node = Node(node.kind, node.mode, uid, gid, node.size, node.mtime_ns, node.linkname, node.rdev, node.xattrs, node.inode)
        old = self.lstat(path)
        if node.kind == DIR:
            if old is None or old.kind != DIR:
                self.fresh.add(path)
            self.entries[path] = Entry(path, node)
            return
        if old is not None and old.kind == DIR:
            # As tar does: the directory goes, with all below it.
            self.fresh.add(path)
            for below in [p for p in self.entries if p.startswith(path + "/")]:
                del self.entries[below]
                self.links.pop(below, None)
        if name.startswith(".wh."):
            raise BuildError(f"/{path}: a layer can't hold a file whose name begins with .wh.")
        self.entries[path] = Entry(path, node, tree=member.tree, source=member.source, data=member.data)
        self.links.pop(path, None)
        if node.inode is not None:
            self.links[path] = (self.round, node.inode)

    # -- result ------------------------------------------------------------------------------

    def finish(self) -> list[Entry]:
        """Entries in path order; of a group of hard links the first one is the file."""
        ordered = [self.entries[p] for p in sorted(self.entries, key=path_key)]
        if not self.links:
            return ordered
        first: dict[object, str] = {}
        out = []
        for e in ordered:
            group = self.links.get(e.path)
            if group is not None and e.node.kind == FILE:
                out.append(_relink(e, "" if first.setdefault(group, e.path) == e.path else first[group]))
            else:
                out.append(e)
        return out


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
    root = os.geteuid() == 0
    style = _Style(root if can_chown is None else can_chown, (not root) if userxattr is None else userxattr, owners, idmap)
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
            self._note_owner(fd, node)
        for key, value in node.xattrs:
            _set_xattr(fd, key, value)
        os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))

    def _note_owner(self, fd: int, node: Node) -> None:
        """What can't be set goes into an attribute; we stay able to read and write the file."""
        from ..dirview import OWNER_XATTR

        need = 0o700 if node.kind == DIR else 0o600
        device = f":{node.kind}:{node.rdev[0]}:{node.rdev[1]}" if node.kind in (CHAR, BLOCK) else ""
        os.fchmod(fd, node.mode & 0o777 | need)
        if device or node.uid or node.gid or node.mode & (0o7000 | need) != need:
            os.setxattr(fd, OWNER_XATTR, f"{node.uid}:{node.gid}:{node.mode:o}{device}".encode())

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
