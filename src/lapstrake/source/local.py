"""The build context, read in place: no copy, no transfer, one stat per unchanged file.

A directory is read once (names and stats together) and remembered for the build.  Contents are
hashed when selected, and a stat cache (size, mtime, ctime, inode, mode -> sha256) carried from
build to build spares the next one from reading them.  Every access starts at a descriptor of
the root and follows no link.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from threading import Lock

from ..errors import BuildError
from ..tree import BLOCK, CHAR, DIR, FIFO, FILE, SYMLINK, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO, Protocol, Self

    class Rules(Protocol):
        """What an ignore file answers."""

        @property
        def has_exceptions(self) -> bool: ...

        def excluded(self, path: str, is_dir: bool) -> bool: ...
        def can_skip_dir(self, path: str) -> bool: ...


_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a file swapped for a FIFO must not hang the build.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_CHUNK = 1 << 20
_MAX_DEPTH = 200
_MAGIC = b"lapstrake-stat-1\n"
# A file changed this close to its hashing could change again without its times telling.
_RACY_NS = 50_000_000
_RACY_COARSE_NS = 2_000_000_000  # file systems with whole-second times
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIR,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}
# size, mtime_ns, ctime_ns, inode, mode, number of links; what the stat cache compares
Raw = tuple[int, int, int, int, int, int]
_COLUMNS = 6


class CheckedFile(io.FileIO):
    """A context file; closing it fails when it changed since it was looked at."""

    shown: str
    key: Raw

    def close(self) -> None:
        """Verify, then close."""
        if not self.closed:
            changed = _key(os.fstat(self.fileno())) != self.key
            super().close()
            if changed:
                raise _changed(self.shown)


class LocalTree:
    """``Tree`` over a directory.  Thread-safe; the same answers for the whole build."""

    def __init__(self, root: str, ignore: Rules | None = None, stat_cache: bytes | None = None) -> None:
        self.root = root
        self._ignore = ignore
        self.ignore_name = ".dockerignore"  # for messages
        try:
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise BuildError(f"unable to read the build context {root}: {e.strerror}") from e
        self._chain: list[tuple[str, int]] = [("", fd)]
        self._lock = Lock()
        self._dirs: dict[str, dict[str, Raw]] = {}
        self._single: dict[str, Raw | None] = {}
        self._links: dict[str, str] = {}
        self._cache, self._hexes = _load_cache(stat_cache)
        self._hashed: dict[str, tuple[Raw, str, bool]] = {}

    def close(self) -> None:
        """Give back the descriptors."""
        with self._lock:
            while self._chain:
                os.close(self._chain.pop()[1])

    def __del__(self) -> None:
        for _, fd in getattr(self, "_chain", ()):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- Tree --------------------------------------------------------------------------------

    def lstat(self, path: str) -> Node | None:
        """Metadata as inside the image: owner 0:0, mode and mtime as here."""
        raw = self._raw(path)
        return None if raw is None else self._node(path, raw)

    def listdir(self, path: str) -> list[str]:
        """Names not ignored."""
        raw = self._raw(path)
        if raw is None or not stat.S_ISDIR(raw[4]):
            return []
        return list(self._load(path))

    def open(self, path: str) -> BinaryIO:
        """A regular file, verified to be what was hashed, both now and when closed."""
        fd = self.open_fd(path)
        stream = CheckedFile(fd, "rb")
        stream.shown, stream.key = path, self._raw_of(path)
        return stream

    def real_path(self, path: str) -> str | None:
        """The host's path (for reflinks; ``open`` is what verifies)."""
        return os.path.join(self.root, path) if path else self.root

    # -- beyond Tree -------------------------------------------------------------------------

    def open_fd(self, path: str) -> int:
        """As ``open``, a bare descriptor; pass it to ``check_fd`` after reading."""
        raw = self._raw(path)
        if raw is None or not stat.S_ISREG(raw[4]):
            raise BuildError(f'failed to read "/{path}" of the context: not a regular file')
        fd = self._open_fd(path, raw)
        hashed = self._hashed.get(path)
        if hashed is not None and not hashed[2]:
            # Too young for its times to tell: compare the bytes themselves.
            try:
                if _hash_fd(fd, raw[0]) != hashed[1]:
                    raise _changed(path)
                os.lseek(fd, 0, os.SEEK_SET)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def check_fd(self, path: str, fd: int) -> None:
        """Raises BuildError when the file changed while it was read."""
        if _key(os.fstat(fd)) != self._raw(path):
            raise _changed(path)

    def scan(self, paths: Iterable[str] = ("",)) -> int:
        """Read the directories below ``paths`` at once; how many entries there are."""
        with _NoCollection():
            count = 0
            stack = [p for p in paths if self._is_dir(p)]
            while stack:
                path = stack.pop()
                names = self._load(path)
                count += len(names)
                prefix = path + "/" if path else ""
                below = [prefix + n for n, raw in names.items() if raw[4] & 0o170000 == 0o040000]
                stack += below[::-1]
            return count

    def content_digest(self, path: str) -> bytes:
        """sha256 of a regular file, from the stat cache when nothing about it changed."""
        raw = self._raw(path)
        if raw is None or not stat.S_ISREG(raw[4]):
            raise BuildError(f'failed to read "/{path}" of the context: not a regular file')
        return bytes.fromhex(self._hex(path, raw))

    def records(self, path: str, rel: str) -> list[str]:
        """What ``layer.digest.tree_records`` gives, without a ``Node`` per file."""
        from ..layer.digest import record

        if not self._is_dir(path):
            return []
        out: list[str] = []
        cached, hexes, modes = self._cache.get, self._hexes, _Modes()
        work = [self._frame(path, rel)]
        while work:
            names, ordered, prefix, shown = work[-1]
            for name in ordered:
                raw = names[name]
                mode = raw[4]
                kind = mode & 0o170000
                if kind == 0o100000:
                    full = prefix + name
                    text = hexes[full] if cached(full) == raw else self._hex(full, raw)
                    out.append(f"{shown}{name}\0f\0{modes[mode]}\x000:0\0{raw[0]}\0\0\0\0{text}\n")
                elif kind == 0o040000:
                    out.append(f"{shown}{name}\0d\0{modes[mode]}\x000:0\x000\0\0\0\0\n")
                    work.append(self._frame(prefix + name, shown + name))
                    break
                else:
                    out.append(record(shown + name, self._node(prefix + name, raw), ""))
            else:
                work.pop()
        return out

    def _frame(self, path: str, rel: str) -> tuple[dict[str, Raw], Iterator[str], str, str]:
        from ..layer.select import sort_key

        names = self._load(path)
        ordered = sorted(names) if "".join(names).isascii() else sorted(names, key=sort_key)
        return names, iter(ordered), path + "/" if path else "", rel + "/" if rel else ""

    def dump_stat_cache(self) -> bytes | None:
        """The cache for the next build, None when it would be the same."""
        if not self._hashed:
            return None
        merged = {p: (k, self._hexes[p]) for p, k in self._cache.items() if not self._gone(p)}
        changed = False
        for path, (key, digest, trusted) in self._hashed.items():
            if trusted:
                merged[path] = (key, digest)
                changed = True
            elif merged.pop(path, None) is not None:
                changed = True
        return _dump_cache(merged) if changed else None

    def why_excluded(self, path: str) -> str | None:
        """For messages: the ignore rule that hides an existing path, None when nothing does."""
        if self._ignore is None or not path:
            return None
        try:
            st = self._stat(path)
        except BuildError:
            return None
        if st is None or not self._ignore.excluded(path, stat.S_ISDIR(st.st_mode)):
            return None
        rule_for: Callable[[str], tuple[int, str] | None] | None = getattr(self._ignore, "rule_for", None)
        rule = rule_for(path) if rule_for is not None else None
        return (
            f'{self.ignore_name}:{rule[0]} "{rule[1]}" excludes it'
            if rule
            else f"{self.ignore_name} excludes it"
        )

    # -- metadata ----------------------------------------------------------------------------

    def _raw_of(self, path: str) -> Raw:
        raw = self._raw(path)
        if raw is None:
            raise _changed(path)
        return raw

    def _is_dir(self, path: str) -> bool:
        raw = self._raw(path)
        return raw is not None and stat.S_ISDIR(raw[4])

    def _raw(self, path: str) -> Raw | None:
        parent, _, name = path.rpartition("/")
        known = self._dirs.get(parent)
        if known is not None and path:
            return known.get(name)
        if path in self._single:
            return self._single[path]
        raw = self._look(path)
        self._single[path] = raw
        return raw

    def _look(self, path: str) -> Raw | None:
        parent = path.rpartition("/")[0]
        if parent and not self._is_dir(parent):
            return None
        st = self._stat(path)
        if st is None or stat.S_IFMT(st.st_mode) not in _KINDS:
            return None
        if path and self._ignore is not None:
            is_dir = stat.S_ISDIR(st.st_mode)
            # An excluded directory is there when an exception brings back something below it.
            if self._ignore.excluded(path, is_dir) and not (
                is_dir and not self._ignore.can_skip_dir(path) and self._load(path)
            ):
                return None
        return _key(st)

    def _stat(self, path: str) -> os.stat_result | None:
        parent, _, name = path.rpartition("/")
        with self._lock:
            try:
                fd = self._dir_fd(parent)
                return os.stat(name, dir_fd=fd, follow_symlinks=False) if path else os.fstat(fd)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as e:
                raise _unreadable(path, e) from e

    def _node(self, path: str, raw: Raw) -> Node:
        kind = _KINDS[stat.S_IFMT(raw[4])]
        link, rdev, inode = "", (0, 0), None
        if kind == SYMLINK:
            link = self._readlink(path)
        elif kind in (CHAR, BLOCK) or (raw[5] > 1 and kind != DIR):
            st = self._stat(path)
            if st is None:
                raise _changed(path)
            if kind in (CHAR, BLOCK):
                rdev = (os.major(st.st_rdev), os.minor(st.st_rdev))
            inode = (st.st_dev, st.st_ino) if raw[5] > 1 else None
        return Node(kind, raw[4] & 0o7777, 0, 0, raw[0] if kind == FILE else 0, raw[1], link, rdev, (), inode)

    def _readlink(self, path: str) -> str:
        link = self._links.get(path)
        if link is None:
            parent, _, name = path.rpartition("/")
            with self._lock:
                try:
                    link = os.readlink(name, dir_fd=self._dir_fd(parent))
                except OSError as e:
                    raise _changed(path) from e
            self._links[path] = link
        return link

    # -- directories -------------------------------------------------------------------------

    def _dir_fd(self, path: str) -> int:
        """Descriptor of a directory, valid while the lock is held."""
        chain = self._chain
        if not chain:
            raise BuildError(f"the build context {self.root} is closed")
        if chain[-1][0] == path:
            return chain[-1][1]
        parts = path.split("/") if path else []
        if len(parts) > _MAX_DEPTH:
            raise BuildError(f"the context is nested more than {_MAX_DEPTH} directories deep: /{path[:80]}…")
        keep = 1
        while keep <= len(parts) and keep < len(chain) and chain[keep][0] == "/".join(parts[:keep]):
            keep += 1
        while len(chain) > keep:
            os.close(chain.pop()[1])
        for i in range(keep - 1, len(parts)):
            fd = os.open(parts[i], _DIR_FLAGS, dir_fd=chain[-1][1])
            chain.append(("/".join(parts[: i + 1]), fd))
        return chain[-1][1]

    def _load(self, path: str) -> dict[str, Raw]:
        known = self._dirs.get(path)
        if known is not None:
            return known
        maybe: list[str] = []
        names: dict[str, Raw] = {}
        with self._lock:
            try:
                self._read(path, names, maybe)
            except OSError as e:
                raise _unreadable(path, e) from e
        for name in maybe:
            # Excluded, but an exception may name something below it.
            if not self._load(f"{path}/{name}" if path else name):
                del names[name]
        self._dirs[path] = names
        return names

    def _read(self, path: str, names: dict[str, Raw], maybe: list[str]) -> None:
        rules, prefix = self._ignore, path + "/" if path else ""
        with os.scandir(self._dir_fd(path)) as entries:
            for entry in entries:
                name = entry.name
                if rules is not None:
                    is_dir = entry.is_dir(follow_symlinks=False)
                    if rules.excluded(prefix + name, is_dir):
                        if not is_dir or rules.can_skip_dir(prefix + name):
                            continue
                        maybe.append(name)
                try:
                    st = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                mode = st.st_mode
                if mode & 0o170000 == 0o140000:  # sockets can't be copied
                    continue
                names[name] = (st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, mode, st.st_nlink)

    # -- contents ----------------------------------------------------------------------------

    def _open_fd(self, path: str, raw: Raw) -> int:
        parent, _, name = path.rpartition("/")
        with self._lock:
            try:
                fd = os.open(name, _FILE_FLAGS, dir_fd=self._dir_fd(parent))
            except FileNotFoundError as e:
                raise _changed(path) from e
            except OSError as e:
                raise _unreadable(path, e) from e
        if _key(os.fstat(fd)) != raw:
            os.close(fd)
            raise _changed(path)
        return fd

    def _hex(self, path: str, raw: Raw) -> str:
        if self._cache.get(path) == raw:
            return self._hexes[path]
        known = self._hashed.get(path)
        if known is not None:
            return known[1]
        import time

        started = time.time_ns()
        fd = self._open_fd(path, raw)
        try:
            digest = _hash_fd(fd, raw[0])
            if _key(os.fstat(fd)) != raw:
                raise _changed(path)
        finally:
            os.close(fd)
        newest = max(raw[1], raw[2])
        coarse = not (raw[1] % 1_000_000_000 or raw[2] % 1_000_000_000)
        trusted = newest < started - (_RACY_COARSE_NS if coarse else _RACY_NS)
        self._hashed[path] = (raw, digest, trusted)
        return digest

    def _gone(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        known = self._dirs.get(parent)
        if known is not None:
            return name not in known
        return parent in self._single and self._single[parent] is None


class _Modes(dict[int, str]):
    """Permission bits as octal text."""

    def __missing__(self, mode: int) -> str:
        text = self[mode] = f"{mode & 0o7777:o}"
        return text


def _key(st: os.stat_result) -> Raw:
    return (st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, st.st_mode, st.st_nlink)


def _hash_fd(fd: int, size: int) -> str:
    """sha256 of an open file, reading no further than one byte past ``size``."""
    if size < _CHUNK:
        data = os.read(fd, size + 1)
        if len(data) == size:
            return hashlib.sha256(data).hexdigest()
        os.lseek(fd, 0, os.SEEK_SET)
    total, left = hashlib.sha256(), size + 1
    while left > 0 and (data := os.read(fd, min(left, _CHUNK))):
        total.update(data)
        left -= len(data)
    return total.hexdigest()


def _changed(path: str) -> BuildError:
    return BuildError(
        f'"/{path}" changed while the context was read',
        hint="start the build again once nothing writes to the context",
    )


def _unreadable(path: str, error: OSError) -> BuildError:
    return BuildError(
        f'failed to read "/{path}" of the context: {error.strerror}',
        hint="make it readable, or name it in .dockerignore" if isinstance(error, PermissionError) else None,
    )


def _load_cache(blob: bytes | None) -> tuple[dict[str, Raw], dict[str, str]]:
    """Stat keys and digests by path; anything odd counts as an empty cache."""
    if blob is None or not blob.startswith(_MAGIC):
        return {}, {}
    from array import array

    body = memoryview(blob)[len(_MAGIC) :]
    count, length = int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little")
    columns, at = _COLUMNS * 8 * count, 48
    if len(body) != at + columns + 32 * count + length or hashlib.sha256(body[48:]).digest() != body[16:48]:
        return {}, {}
    numbers = array("q")
    numbers.frombytes(body[at : at + columns])
    at += columns
    hexes = body[at : at + 32 * count].hex()
    names = str(body[at + 32 * count :], "utf-8", "surrogateescape").split("\0") if count else []
    if len(names) != count:
        return {}, {}
    with _NoCollection():
        keys = zip(*(numbers[i * count : (i + 1) * count] for i in range(_COLUMNS)), strict=True)
        digests = [hexes[i : i + 64] for i in range(0, len(hexes), 64)]
        cache: dict[str, Raw] = dict(zip(names, keys, strict=True))
        return cache, dict(zip(names, digests, strict=True))


class _NoCollection:
    """No garbage collection meanwhile: 50,000 new tuples would be walked again and again."""

    def __enter__(self) -> None:
        import gc

        self.enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            import gc

            gc.enable()


def _dump_cache(rows: dict[str, tuple[Raw, str]]) -> bytes:
    from array import array

    rows = {p: row for p, row in rows.items() if max(row[0]) < 1 << 63}
    names = "\0".join(rows).encode("utf-8", "surrogateescape")
    columns = b"".join(array("q", [k[i] for k, _ in rows.values()]).tobytes() for i in range(_COLUMNS))
    payload = columns + bytes.fromhex("".join(h for _, h in rows.values())) + names
    head = len(rows).to_bytes(8, "little") + len(names).to_bytes(8, "little")
    return _MAGIC + head + hashlib.sha256(payload).digest() + payload
