"""COPY and ADD as a list of layer entries: what would be in the layer, without copying anything.

``plan_copy`` works out the result over two trees: where files come from, what is already there
(spec dockerfile.md §12.2, §12.3).  ``materialize.py`` writes such a list into a directory.
"""

from __future__ import annotations

from itertools import count

from ..errors import BuildError
from ..tree import DIR, FILE, SYMLINK, Entry, Node
from .select import clean, excludes_of, resolve, select, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..tree import Tree
    from .select import CopySpec, Root, Selection

    Unpack = Callable[[Tree, str], "list[Entry] | None"]

_PARENT_MODE = 0o755
_SERIAL = count(1)
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
        missing = []
        while path and path not in self.fresh:
            known = self.entries.get(path)
            if known is not None and known.node.kind == DIR:
                break
            missing.append(path)
            path = path.rpartition("/")[0]
        for each in reversed(missing):
            self._make_dir(each)

    def _make_dir(self, path: str) -> None:
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
        return Node(
            node.kind, mode, uid, gid, node.size, node.mtime_ns, node.linkname, node.rdev, attrs, node.inode
        )

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
            node = Node(
                node.kind,
                node.mode,
                uid,
                gid,
                node.size,
                node.mtime_ns,
                node.linkname,
                node.rdev,
                node.xattrs,
                node.inode,
            )
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
        sizes: dict[object, int] = {}
        for group in self.links.values():
            sizes[group] = sizes.get(group, 0) + 1
        serial = next(_SERIAL)
        numbers: dict[object, int] = {}
        out = []
        for e in ordered:
            found = self.links.get(e.path)
            if found is None or e.node.kind != FILE:
                out.append(e)
                continue
            # The source's inode says nothing here: another layer may copy the same file differently.
            number = numbers.setdefault(found, len(numbers))
            inode = (-serial, number) if sizes[found] > 1 else None
            target = first.setdefault(found, e.path)
            target = "" if target == e.path else target
            node = _with_inode(e.node, inode)
            out.append(Entry(e.path, node, target, e.whiteout, e.opaque, e.tree, e.source, e.data))
        return out


def _with_inode(n: Node, inode: tuple[int, int] | None) -> Node:
    return Node(n.kind, n.mode, n.uid, n.gid, n.size, n.mtime_ns, n.linkname, n.rdev, n.xattrs, inode)
