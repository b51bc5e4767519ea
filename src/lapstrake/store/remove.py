"""Deleting trees, whatever is in them: descriptor-relative, no recursion, no symlink followed."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_file(path: str) -> None:
    """Delete a file if that can be done."""
    try:
        os.unlink(path)
    except OSError:
        pass


def remove_tree(path: str, stop: Callable[[], bool] | None = None) -> None:
    """Delete ``path`` and all below it.  Nothing there is fine; what can't be deleted is left, and so
    is the rest once ``stop`` says so (asked once a directory).

    Deep trees are flattened first-level by first-level, so neither descriptors nor the stack run out.
    """
    try:
        os.unlink(path)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    try:
        root = os.open(path, _FLAGS)
    except OSError:
        return
    try:
        _empty(root, stop)
    finally:
        os.close(root)
    try:
        os.rmdir(path)
    except OSError:
        pass


def _empty(root: int, stop: Callable[[], bool] | None) -> None:
    serial = 0
    pending = _clear_files(root)
    while pending and not (stop is not None and stop()):
        name = pending.pop()
        fd = _open_owned(root, name)
        if fd < 0:
            continue
        try:
            for child in _clear_files(fd):
                serial += 1
                lifted = f".lapstrake-{serial}"
                try:
                    os.rename(child, lifted, src_dir_fd=fd, dst_dir_fd=root)
                    pending.append(lifted)
                except OSError:
                    _chmod(fd, child)
                    try:
                        os.rename(child, lifted, src_dir_fd=fd, dst_dir_fd=root)
                        pending.append(lifted)
                    except OSError:
                        continue
        finally:
            os.close(fd)
        try:
            os.rmdir(name, dir_fd=root)
        except OSError:
            pass


def _clear_files(fd: int) -> list[str]:
    """Unlink all but the directories of ``fd``; their names.  Empty ones are removed at once."""
    dirs = []
    with os.scandir(fd) as entries:
        found = [(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
    for name, is_dir in found:
        try:
            if is_dir:
                os.rmdir(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
        except OSError:
            if is_dir:
                dirs.append(name)
    return dirs


def _open_owned(root: int, name: str) -> int:
    """Open a directory, giving ourselves the permission when it is ours; -1 if that fails."""
    _chmod(root, name)
    try:
        return os.open(name, _FLAGS, dir_fd=root)
    except OSError:
        return -1


def _chmod(parent: int, name: str) -> None:
    if os.geteuid() != 0:
        try:
            os.chmod(name, 0o700, dir_fd=parent)  # only ever called on directories
        except OSError:
            pass
