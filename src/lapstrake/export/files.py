"""``type=local`` and ``type=tar``: the result's files (spec cli.md §2.3).

The tree is hostile: everything is written relative to open directories, no symlink of the
destination is followed below its root, devices are never made, and files keep neither foreign
owners nor set-id bits (those would mean the caller's ids now).
"""

from __future__ import annotations

import os
import stat

from ..errors import ExportError, UsageError
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK
from ..values import replace
from .place import OneFile, directory_dest
from .tarout import TarOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

    from ..tree import Node, Tree
    from .base import BuiltImage, BuiltResult, ExportEnv
    from .options import FileOptions

MAX_DEPTH = 300  # two Python frames and one descriptor each
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def safe_names(tree: Tree, path: str) -> list[str]:
    """The sorted names of a directory, refusing what can't be one path component."""
    names = sorted(tree.listdir(path), key=lambda n: n.encode("utf-8", "surrogateescape"))
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ExportError(f"invalid file name {name!r} in the result")
    return names


def walk_tree(tree: Tree, path: str = "", depth: int = 0) -> Iterator[tuple[str, Node]]:
    """Every entry below the root in path order, parents first."""
    if depth > MAX_DEPTH:
        raise ExportError(f"directories nested too deeply: {path[:80]}…")
    for name in safe_names(tree, path):
        child = f"{path}/{name}" if path else name
        node = tree.lstat(child)
        if node is None:
            continue
        yield child, node
        if node.kind == DIR:
            yield from walk_tree(tree, child, depth + 1)


class Part:
    """One platform's share of the output: its files and the extra documents beside them."""

    def __init__(self, subdir: str, image: BuiltImage, extra: dict[str, bytes]) -> None:
        if image.rootfs is None:
            raise ExportError("the result's files are not at hand")
        self.subdir = subdir
        self.tree: Tree = image.rootfs
        self.extra = extra


def with_epoch(options: FileOptions, result: BuiltResult) -> FileOptions:
    """The build's epoch counts unless the output has or clears its own."""
    if options.epoch is None and not options.epoch_cleared and result.created is not None:
        return replace(options, epoch=result.created)
    return options


def platform_dir(image: BuiltImage) -> str:
    """``linux_arm_v7``."""
    return str(image.platform).replace("/", "_")


def plan_parts(result: BuiltResult, options: FileOptions) -> list[Part]:
    """Split or merge the platforms; a collision in a merge is an error."""
    many = len(result.images) > 1
    split = many if options.split is None else options.split
    parts = []
    for image in result.images:
        extra = {}
        for name, raw in image.files:
            stem, dot, ext = name.partition(".")
            shown = f"{stem}.{platform_dir(image)}{dot}{ext}" if many and not split else name
            extra[options.attestation_prefix + shown] = raw
        for name in extra:
            if "/" in name or name in ("", ".", ".."):
                raise UsageError(f"invalid attestation file name {name!r}")
        parts.append(Part(platform_dir(image) if split else "", image, extra))
    if many and not split:
        _refuse_collisions(result, parts)
    return parts


def _refuse_collisions(result: BuiltResult, parts: Sequence[Part]) -> None:
    seen: dict[str, tuple[str, bool]] = {}
    for image, part in zip(result.images, parts, strict=True):
        for path, node in walk_tree(part.tree):
            before = seen.setdefault(path, (str(image.platform), node.kind == DIR))
            if before[0] != str(image.platform) and not (before[1] and node.kind == DIR):
                raise ExportError(
                    f"cannot overwrite {path} from {before[0]} with {image.platform} when split option is disabled"
                )


class DirWriter:
    """Writes one tree below an open directory."""

    def __init__(
        self, tree: Tree, epoch: int | None, delete: bool, keep: frozenset[str] = frozenset()
    ) -> None:
        self._tree = tree
        self._time = None if epoch is None else epoch * 1_000_000_000
        self._delete = delete
        self._keep = keep
        self._links: dict[tuple[int, int], str] = {}
        self._root = -1
        self._counter = 0
        self.skipped: list[str] = []

    def write(self, root_fd: int) -> None:
        """Write everything; ``root_fd`` itself keeps its mode and times."""
        self._root = root_fd
        self._directory("", root_fd, 0)

    def _directory(self, path: str, fd: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ExportError(f"directories nested too deeply: {path[:80]}…")
        names = safe_names(self._tree, path)
        if self._delete:
            wanted = set(names) | (self._keep if not path else frozenset())
            for name in os.listdir(fd):
                if name not in wanted:
                    remove_at(name, fd)
        for name in names:
            child = f"{path}/{name}" if path else name
            node = self._tree.lstat(child)
            if node is not None:
                self._entry(child, name, node, fd, depth)

    def _entry(self, path: str, name: str, node: Node, fd: int, depth: int) -> None:
        if node.kind == DIR:
            sub = enter_directory(name, fd)
            try:
                self._directory(path, sub, depth + 1)
                os.fchmod(sub, node.mode & 0o1777)
                self._set_times(sub, node)
            finally:
                os.close(sub)
        elif node.kind == FILE:
            self._file(path, name, node, fd)
        elif node.kind == SYMLINK:
            tmp = self._temporary(fd, lambda t: os.symlink(node.linkname, t, dir_fd=fd))
            when = self._when(node)
            os.utime(tmp, ns=(when, when), dir_fd=fd, follow_symlinks=False)
            put(tmp, name, fd)
        elif node.kind == FIFO:
            put(self._temporary(fd, lambda t: os.mkfifo(t, node.mode & 0o777, dir_fd=fd)), name, fd)
        else:  # devices and sockets mean nothing outside the image
            self.skipped.append(path)

    def _temporary(self, fd: int, make: Callable[[str], object]) -> str:
        self._counter += 1
        tmp = f".lapstrake-{os.getpid()}-{self._counter}.tmp"
        try:
            make(tmp)
        except FileExistsError:
            remove_at(tmp, fd)
            make(tmp)
        return tmp

    def _file(self, path: str, name: str, node: Node, fd: int) -> None:
        first = self._links.get(node.inode) if node.inode is not None else None
        if first is not None:
            parent, _, base = first.rpartition("/")
            src = open_below(self._root, parent)
            try:
                put(
                    self._temporary(
                        fd, lambda t: os.link(base, t, src_dir_fd=src, dst_dir_fd=fd, follow_symlinks=False)
                    ),
                    name,
                    fd,
                )
            finally:
                os.close(src)
            return
        made: list[int] = []
        tmp = self._temporary(
            fd,
            lambda t: made.append(
                os.open(
                    t, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
                )
            ),
        )
        try:
            with self._tree.open(path) as src_file:
                copy_content(src_file, made[0], self._tree.real_path(path) is not None)
            os.fchmod(made[0], node.mode & 0o777)
            self._set_times(made[0], node)
        except BaseException:
            os.unlink(tmp, dir_fd=fd)
            raise
        finally:
            os.close(made[0])
        put(tmp, name, fd)
        if node.inode is not None:
            self._links[node.inode] = path

    def _when(self, node: Node) -> int:
        return node.mtime_ns if self._time is None else self._time

    def _set_times(self, fd: int, node: Node) -> None:
        for key, value in node.xattrs:
            if key.startswith("user.") and not key.startswith("user.overlay."):
                try:
                    os.setxattr(fd, key, value)
                except OSError:
                    pass  # the destination's file system may not have them
        when = self._when(node)
        os.utime(fd, ns=(when, when))


def copy_content(src: BinaryIO, dst: int, plain: bool) -> None:
    """All of ``src`` into descriptor ``dst``; inside the kernel when both are plain files."""
    if plain:
        try:
            while os.copy_file_range(src.fileno(), dst, 1 << 30):
                pass
            return
        except OSError:
            src.seek(0)
            os.ftruncate(dst, 0)
            os.lseek(dst, 0, os.SEEK_SET)
    while block := src.read(1 << 20):
        view = memoryview(block)
        while view:
            view = view[os.write(dst, view) :]


def remove_at(name: str, fd: int) -> None:
    """Remove whatever ``name`` is below ``fd``, without following a symlink."""
    try:
        if stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
            import shutil

            shutil.rmtree(name, dir_fd=fd)
        else:
            os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass


def put(tmp: str, name: str, fd: int) -> None:
    """Rename into place; a directory in the way is removed."""
    try:
        os.rename(tmp, name, src_dir_fd=fd, dst_dir_fd=fd)
    except IsADirectoryError:
        remove_at(name, fd)
        os.rename(tmp, name, src_dir_fd=fd, dst_dir_fd=fd)
    # renaming one hard link over another of the same file does nothing and leaves the first
    try:
        os.unlink(tmp, dir_fd=fd)
    except FileNotFoundError:
        pass


def enter_directory(name: str, fd: int) -> int:
    """Open ``name`` as a real directory, made anew when it is anything else."""
    try:
        os.mkdir(name, 0o700, dir_fd=fd)
    except FileExistsError:
        pass
    try:
        sub = os.open(name, _DIR_FLAGS, dir_fd=fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=fd)  # our own, from an earlier export
        sub = os.open(name, _DIR_FLAGS, dir_fd=fd)
    except OSError:  # ENOTDIR, ELOOP: a file or a symlink
        remove_at(name, fd)
        os.mkdir(name, 0o700, dir_fd=fd)
        return os.open(name, _DIR_FLAGS, dir_fd=fd)
    if not os.access(name, os.W_OK | os.X_OK, dir_fd=fd):
        os.fchmod(sub, 0o700)
    return sub


def open_below(root: int, path: str) -> int:
    """The directory at ``path``, opened one component at a time."""
    fd = os.open(".", _DIR_FLAGS, dir_fd=root)
    for name in path.split("/") if path else ():
        try:
            fd, old = os.open(name, _DIR_FLAGS, dir_fd=fd), fd
        except OSError:
            os.close(fd)
            raise
        os.close(old)
    return fd


class LocalExporter:
    """``type=local``."""

    def __init__(self, dest: str, options: FileOptions, env: ExportEnv) -> None:
        self._path = directory_dest(dest, env.cwd)
        self._dest = dest
        self._options = options
        self._env = env
        self._parts: list[Part] = []
        if options.delete and not env.allow_delete:
            inside = os.path.realpath(self._path).startswith(os.path.realpath(env.cwd).rstrip("/") + "/")
            if not inside:
                raise UsageError(
                    f"mode=delete may remove files of {dest}, which is not below the current directory",
                    hint="allow it with --allow=buildx.local.delete",
                )

    def prepare(self, result: BuiltResult) -> None:
        """Find collisions before anything is written."""
        self._parts = plan_parts(result, self._options)
        self._options = with_epoch(self._options, result)

    def commit(self) -> dict[str, Any]:
        """Write the files."""
        try:
            os.makedirs(self._path, exist_ok=True)
            root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._write(root)
            finally:
                os.close(root)
        except OSError as e:
            raise ExportError(
                f"cannot write {self._dest}: {e.filename or ''} {e.strerror}".replace(":  ", ": ")
            ) from e
        return {}

    def _write(self, root: int) -> None:
        delete = self._options.delete
        merged = not any(p.subdir for p in self._parts)
        if delete and (not merged or len(self._parts) > 1):
            keep = {p.subdir for p in self._parts}
            if merged:  # several trees share the root: only names no tree has are stale
                keep = {n for p in self._parts for n in (*safe_names(p.tree, ""), *p.extra)}
                delete = False
            for name in os.listdir(root):
                if name not in keep:
                    remove_at(name, root)
        for part in self._parts:
            fd = enter_directory(part.subdir, root) if part.subdir else os.dup(root)
            try:
                writer = DirWriter(part.tree, self._options.epoch, delete, frozenset(part.extra))
                writer.write(fd)
                for name, raw in part.extra.items():
                    self._extra(fd, name, raw)
                if part.subdir:
                    os.fchmod(fd, 0o755)
                if writer.skipped and self._env.note is not None:
                    self._env.note(
                        f"{len(writer.skipped)} device files were not exported, the first is {writer.skipped[0]}"
                    )
            finally:
                os.close(fd)

    def _extra(self, fd: int, name: str, raw: bytes) -> None:
        tmp = f".lapstrake-{os.getpid()}.tmp"
        remove_at(tmp, fd)
        out = os.open(
            tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
        )
        with os.fdopen(out, "wb") as f:
            f.write(raw)
            f.flush()
            if self._options.epoch is not None:
                os.utime(out, (self._options.epoch, self._options.epoch))
        put(tmp, name, fd)

    def abort(self) -> None:
        """Nothing was written before ``commit``."""


class TarExporter:
    """``type=tar``: the same files in one tar, owners kept."""

    def __init__(self, dest: str, options: FileOptions, env: ExportEnv) -> None:
        self._file = OneFile(dest, "tar", env)
        self._options = options
        self._parts: list[Part] = []

    def prepare(self, result: BuiltResult) -> None:
        """Write beside the destination; standard output waits for ``commit``."""
        self._parts = plan_parts(result, self._options)
        self._options = with_epoch(self._options, result)
        if not self._file.to_stdout:
            self._file.fill(self._write)

    def _write(self, out: BinaryIO) -> None:
        epoch = self._options.epoch
        tar = TarOut(out)
        made: set[str] = set()
        for part in self._parts:
            prefix = part.subdir + "/" if part.subdir else ""
            if prefix:
                tar.directory(part.subdir, 0o755, epoch or 0)
            write_tree(tar, part.tree, prefix, epoch, made)
            for name, raw in sorted(part.extra.items()):
                tar.data(prefix + name, raw, 0o600, epoch or 0)
        tar.end()

    def commit(self) -> dict[str, Any]:
        """Rename into place, or stream."""
        if self._file.to_stdout:
            self._write(self._file.open())
        self._file.commit()
        return {}

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._file.abort()


def kept_xattr(name: str) -> bool:
    """Capabilities and what users set; a ``=`` in a name can't be told from the value's in PAX."""
    return name == "security.capability" or (
        name.startswith("user.") and not name.startswith("user.overlay.") and "=" not in name
    )


_SPECIAL = {CHAR: b"3", BLOCK: b"4", FIFO: b"6"}


def write_tree(tar: TarOut, tree: Tree, prefix: str, epoch: int | None, made: set[str]) -> None:
    """All entries of one tree; ``made``: directories already in the archive."""
    links: dict[tuple[int, int], str] = {}
    for path, node in walk_tree(tree):
        name = prefix + path
        mtime = node.mtime_ns // 1_000_000_000 if epoch is None else epoch
        ids = (node.uid, node.gid)
        xattrs = [(k, v) for k, v in node.xattrs if kept_xattr(k)]
        if node.kind == DIR:
            if name not in made:
                made.add(name)
                tar.directory(name, node.mode, mtime, ids, xattrs)
        elif node.kind == FILE:
            first = links.get(node.inode) if node.inode is not None else None
            if first is not None:
                tar.special(name, b"1", node.mode, mtime, ids, first)
                continue
            with tree.open(path) as f:
                tar.file(name, node.size, f, node.mode, mtime, ids, xattrs)
            if node.inode is not None:
                links[node.inode] = name
        elif node.kind == SYMLINK:
            tar.special(name, b"2", 0o777, mtime, ids, node.linkname)
        elif node.kind in _SPECIAL:
            tar.special(name, _SPECIAL[node.kind], node.mode, mtime, ids, "", node.rdev)
