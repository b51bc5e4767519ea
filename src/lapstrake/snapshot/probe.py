"""Run as a script: can this user mount overlayfs below a directory?  Prints the answer.

A process of its own, because a namespace once entered can't be left.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import tempfile

_CLONE_NEWNS, _CLONE_NEWUSER, _MS_REC_PRIVATE = 0x20000, 0x10000000, 0x44000


def main(root: str, userxattr: bool = False) -> str:
    """``overlay``, ``overlay-userxattr`` or ``copying``."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        if libc.unshare(_CLONE_NEWNS):
            return "copying"
    else:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS):
            return "copying"
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as f:
                f.write(text)
    libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None)
    for answer, option in (("overlay", ""), ("overlay-userxattr", ",userxattr")):
        if not (option == "" and (uid != 0 or userxattr)) and _works(libc, root, option):
            return answer
    return "copying"


def _works(libc: ctypes.CDLL, root: str, option: str) -> bool:
    for _ in range(5):
        with tempfile.TemporaryDirectory(dir=root, prefix="probe-", ignore_cleanup_errors=True) as base:
            lock = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)  # freed when we end: an unlocked one is a leftover
            try:
                return _mounts(libc, base, option)
            except FileNotFoundError:
                continue  # swept away before it was locked
            finally:
                os.close(lock)
    return False


def _mounts(libc: ctypes.CDLL, base: str, option: str) -> bool:
    for name in ("lower", "lower/d", "upper", "work", "at"):
        os.mkdir(f"{base}/{name}")
    with open(f"{base}/lower/d/f", "w", encoding="ascii"):
        pass
    data = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work{option}"
    if libc.mount(b"overlay", f"{base}/at".encode(), b"overlay", 0, data.encode()):
        return False
    try:
        os.unlink(f"{base}/at/d/f")
        os.rmdir(f"{base}/at/d")
        os.mkdir(f"{base}/at/d")
        works = os.listdir(f"{base}/at/d") == [] and os.path.isdir(f"{base}/upper/d")
    except OSError:
        works = False
    libc.umount2(f"{base}/at".encode(), 2)
    try:
        os.rmdir(f"{base}/work/work")
    except OSError:
        pass
    return works


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1], sys.argv[2:] == ["userxattr"]) + "\n")
    except OSError:
        sys.stdout.write("copying\n")
