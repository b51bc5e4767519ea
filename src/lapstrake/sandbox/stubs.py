"""Removing what a run only needed as mount points, so that it never becomes part of a layer."""

from __future__ import annotations

import os

from ..rootfs import saved_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(upper: str, stubs: Iterable[tuple[str, int, int, int]], lowers: tuple[str, ...] = ()) -> None:
    """Remove still-empty stubs from ``upper`` and give their parents their times back.

    ``stubs``: (path, 0 file / 1 directory / 2 file that held a mount's content / 3 device
    / 4 file in the place of one that was saved, parent's mtime
    before, and after creation).  A parent
    that overlayfs copied up only for the stub's sake goes as well.
    """
    # The last one made first: each saw the time that the one before it left on their directory.
    made = list(stubs)[::-1]
    for path, kind, before, after in sorted(made, key=lambda s: -s[0].count("/")):
        parent = _open(upper, os.path.dirname(path))
        if parent < 0:
            continue
        try:
            untouched = os.fstat(parent).st_mtime_ns == after
            if kind == 4:
                _restore(upper, path, parent)
            elif not _remove(parent, os.path.basename(path), kind):
                continue
            if untouched:
                os.utime(parent, ns=(os.fstat(parent).st_atime_ns, before))
        finally:
            os.close(parent)
    for directory_path in sorted(
        {os.path.dirname(s[0]) for s in made if "/" in s[0]}, key=lambda p: -p.count("/")
    ):
        _forget_copied_up(upper, directory_path, lowers)


def _open(base: str, path: str) -> int:
    """A descriptor of a directory below ``base``, no symlink followed; -1 if there is none."""
    try:
        fd = os.open(base, _DIR)
    except OSError:
        return -1
    for part in path.split("/") if path else ():
        try:
            following = os.open(part, _DIR, dir_fd=fd)
        except OSError:
            return -1
        finally:
            os.close(fd)
        fd = following
    return fd


def _remove(parent: int, name: str, kind: int) -> bool:
    try:
        if kind == 1:
            os.rmdir(name, dir_fd=parent)
            return True
        state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if kind == 3:
            if state.st_mode & 0o170000 != 0o020000:
                return False
        elif state.st_mode & 0o170000 != 0o100000 or state.st_nlink != 1 or (state.st_size and kind != 2):
            return False
        os.unlink(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _restore(upper: str, path: str, parent: int) -> None:
    """Bring a saved file back; a mark stays behind that says it is the same one as before."""
    saved = saved_path(upper, path)
    try:
        os.rename(saved, os.path.basename(path), dst_dir_fd=parent)
        os.close(os.open(saved, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:
        pass  # a directory of the step's own took its place: that stays


def _forget_copied_up(upper: str, path: str, lowers: tuple[str, ...]) -> None:
    """Drop an empty upper directory that says nothing its lower one doesn't."""
    fd = _open(upper, path)
    if fd < 0:
        return
    try:
        if os.listdir(fd):
            return
        mine = os.fstat(fd)
        opaque = any(name.endswith(".overlay.opaque") for name in os.listxattr(fd))
    finally:
        os.close(fd)
    if opaque:
        return
    top = path.partition("/")[0]
    for lower in lowers:
        try:
            os.lstat(f"{lower}/{top}")  # most layers have nothing there: one call for each, in each step
        except OSError:
            continue
        below = _open(lower, path)
        if below < 0:
            try:
                os.lstat(f"{lower}/{path}")
                return  # something else hides the directories further down
            except OSError:
                continue
        theirs = os.fstat(below)
        os.close(below)
        if _same(mine, theirs):
            parent = _open(upper, os.path.dirname(path))
            if parent >= 0:
                before = os.fstat(parent)
                if _remove(parent, os.path.basename(path), 1):
                    os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
                os.close(parent)
        return


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid, one.st_mtime_ns) == (
        other.st_mode,
        other.st_uid,
        other.st_gid,
        other.st_mtime_ns,
    )


def forget_volatile(work: str) -> None:
    """Let a volatile overlay's work directory be used again."""
    for name in ("work/incompat/volatile/dirty", "work/incompat/volatile", "work/incompat"):
        try:
            os.rmdir(f"{work}/{name}")
        except NotADirectoryError:
            os.unlink(f"{work}/{name}")
        except OSError:
            pass
