"""Owners of what a step made as an ordinary user, where every file has the same owner on disk."""

from __future__ import annotations

import os
import stat

from ..dirview import OWNER_XATTR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def settle(upper: str, lowers: Sequence[str], uid: int, gid: int) -> None:
    """Note ``uid:gid`` as the owner of the files and directories that are new in ``upper``.

    What overlayfs copied up for a change keeps the owner it had below, and what was given an owner
    during the step keeps that.  Only files and directories can hold the note.
    """
    owner = f"{uid}:{gid}:-".encode()
    todo = [""]
    while todo:
        parent = todo.pop()
        with os.scandir(f"{upper}/{parent}") as entries:
            for e in entries:
                path = f"{parent}/{e.name}" if parent else e.name
                directory = e.is_dir(follow_symlinks=False)
                if directory:
                    todo.append(path)
                elif not e.is_file(follow_symlinks=False):
                    continue
                if not _noted(e.path) and _new(path, lowers, directory):
                    os.setxattr(e.path, OWNER_XATTR, owner, follow_symlinks=False)


def _new(path: str, lowers: Sequence[str], directory: bool) -> bool:
    for lower in lowers:
        try:
            below = os.lstat(f"{lower}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(below.st_mode) != directory or (not stat.S_ISREG(below.st_mode) and not directory):
            return True
        return _noted(f"{lower}/{path}")  # a copy would have brought its note along
    return True


def _noted(path: str) -> bool:
    try:
        os.getxattr(path, OWNER_XATTR, follow_symlinks=False)
    except OSError:
        return False
    return True
