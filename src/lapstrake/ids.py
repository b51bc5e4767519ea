"""Which owners this process may give to files, told by the kernel once per process.

In a user namespace with one id, or without CAP_CHOWN, every file belongs to us: true owners are
then kept beside the files (``dirview.OWNER_XATTR``).  Overlayfs' marks need ``trusted.*``
attributes, which only root of the first user namespace may write.
"""

from __future__ import annotations

import os

from .errors import StoreError
from .values import Value

CAP_CHOWN, CAP_SYS_CHROOT, CAP_SYS_ADMIN = 0, 18, 21
_EVERY = (1 << 32) - 1
_FIRST = 0xEFFFFFFD  # PROC_USER_INIT_INO: a child namespace may map every id too


class Ids(Value):
    """``chown``: files can be given to others; ``userxattr``: overlayfs marks are ``user.overlay.*``;
    ``root``: we may read and write whatever belongs to us, whatever its mode; ``first``: this is the
    machine's own user namespace."""

    chown: bool
    userxattr: bool
    root: bool
    first: bool


_known: list[Ids] = []


def ids() -> Ids:
    """What holds for this process.  Asked once; ``forget`` after entering a user namespace."""
    if not _known:
        _known.append(detect())
    return _known[0]


def forget() -> None:
    """Ask the kernel again next time."""
    _known.clear()


def assume(what: Ids) -> None:
    """Believe ``what`` instead of the kernel, until ``forget`` (tests)."""
    _known[:] = [what]


def detect() -> Ids:
    """Ask the kernel."""
    uids, gids, capabilities = _count("uid_map"), _count("gid_map"), effective()
    first = _inode("/proc/self/ns/user") == _FIRST if uids >= _EVERY else False
    many = min(uids, gids) > 1
    return Ids(
        chown=many and bool(capabilities >> CAP_CHOWN & 1),
        userxattr=not (first and capabilities >> CAP_SYS_ADMIN & 1),
        root=bool(capabilities >> 1 & 1),  # CAP_DAC_OVERRIDE
        first=first,
    )


def signature() -> str:
    """What a store made under these ids is good for: ``one``, or the user namespace's map."""
    return " ".join(["many", *_read("/proc/self/uid_map").split()]) if ids().chown else "one"


def check_store(root: str) -> None:
    """Refuse a store whose files were made under other ids: their owners would come out wrong."""
    now, path = signature(), f"{root}/ids"
    before = _read(path).strip()
    if before == now:
        return
    if before and os.path.isdir(f"{root}/layers"):
        raise StoreError(
            f"{root} was filled under other user ids than this process has",
            hint=f"use another --root (LAPSTRAKE_ROOT), or remove it as the user who made it: rm -rf {root}",
        )
    from .whole import write_whole

    try:
        write_whole(path, f"{now}\n".encode("ascii"))
    except OSError:
        pass  # a read-only store: nothing is made in it


def _count(name: str) -> int:
    return sum(int(line.split()[2]) for line in _read(f"/proc/self/{name}").splitlines()) or _EVERY


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return _FIRST


def effective() -> int:
    """This process's effective capabilities as a mask."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""
