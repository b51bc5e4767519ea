"""What the store says when the file system says no."""

from __future__ import annotations

import errno
import os

from ..errors import StoreError

_HINTS = {
    errno.ENOSPC: "free some space (`lapstrake prune` removes what no image needs), or use another --root",
    errno.EDQUOT: "free some space (`lapstrake prune` removes what no image needs), or use another --root",
    errno.EROFS: "use another --root (or LAPSTRAKE_ROOT), on a file system that can be written",
    errno.EACCES: "use another --root (or LAPSTRAKE_ROOT), one that is yours",
    errno.EPERM: "use another --root (or LAPSTRAKE_ROOT), one that is yours",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the whole host is out of open files (fs.file-max)",
}


def cannot_write(root: str, error: OSError) -> StoreError:
    """One clear error for a write that failed below ``root``."""
    return StoreError(
        f"cannot write to the store {root}: {error.strerror or error}", hint=_HINTS.get(error.errno or 0)
    )


def full_hint(path: str) -> str | None:
    """What to say of a step that failed while the store's disk was full, which it may not have said itself."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    if found.f_bavail * found.f_frsize > 1 << 20 and (found.f_favail or not found.f_files):
        return None
    return f"no space left on the store's disk; {_HINTS[errno.ENOSPC]}"
