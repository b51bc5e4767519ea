"""Linux system calls that Python does not offer, through ``ctypes`` and nothing else.

``PyDLL``, not ``CDLL``: the helper is single-threaded, and a raw ``clone`` must not happen
while the interpreter lock is released.
"""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import os

libc = ctypes.PyDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long

CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000
SIGCHLD = 17

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2

# the new mount API: these numbers are the same on every architecture
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLONE3, _CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 435, 436, 437, 442
_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277}
_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220}

AT_EMPTY_PATH, AT_RECURSIVE, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT = 0x1000, 0x8000, 0x100, 0x800
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 4, 0x40
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16

O_PATH = os.O_PATH
AT_FDCWD = -100

PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = (
    1,
    23,
    24,
    22,
    38,
    47,
)
PR_SET_KEEPCAPS, PR_SET_CHILD_SUBREAPER = 8, 36


KernelError = OSError  # raised as its fitting subclass; the message says which call failed on what


def _fail(what: str) -> OSError:
    err = ctypes.get_errno()
    return OSError(err, f"{what}: {os.strerror(err)}")


def _path(path: str) -> bytes:
    return os.fsencode(path)


def _call(what: str, number: int, *args: object) -> int:
    got: int = _syscall(ctypes.c_long(number), *args)
    if got < 0:
        raise _fail(what)
    return got


def call(number: int, *args: object) -> int:
    """Any system call; ints become longs."""
    return _call(f"call {number}", number, *(_long(a) if isinstance(a, int) else a for a in args))


def _long(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


def check(what: str, result: int) -> int:
    """Raise for a libc call that returned -1."""
    if result < 0:
        raise _fail(what)
    return result


def clone(flags: int, cgroup_fd: int = -1) -> int:
    """Fork with new namespaces in one go (clone3, else clone).  0 in the child."""
    words = [flags, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0]
    if cgroup_fd >= 0:
        words[0] |= CLONE_INTO_CGROUP
        words[10] = cgroup_fd
    args = (ctypes.c_uint64 * 11)(*words)
    got: int = _syscall(_long(_CLONE3), ctypes.byref(args), _long(88))
    if (
        got < 0 and ctypes.get_errno() in (38, 1) and cgroup_fd < 0
    ):  # ENOSYS/EPERM from an outer seccomp filter
        number = _CLONE.get(os.uname().machine)
        if number is not None:
            got = _syscall(_long(number), _long(flags | SIGCHLD), _long(0), _long(0), _long(0), _long(0))
    if got < 0:
        raise _fail("clone")
    return got


def openat2(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open ``path`` under ``dirfd`` with RESOLVE_* restrictions; always close-on-exec."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(32):  # EAGAIN: a rename raced with ".." resolution
        got: int = _syscall(_long(_OPENAT2), _long(dirfd), _path(path), ctypes.byref(how), _long(24))
        if got >= 0:
            return got
        if ctypes.get_errno() != 11 or attempt == 31:
            break
    raise _fail(f"open {path}")


def open_tree(dirfd: int, path: str, recursive: bool = True) -> int:
    """A detached copy of the mount at ``path`` (empty: ``dirfd`` itself)."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT
    return _call(
        f"bind {path}",
        _OPEN_TREE,
        _long(dirfd),
        _path(path),
        _long(flags | (AT_RECURSIVE if recursive else 0)),
    )


def move_mount(tree: int, target: int) -> None:
    """Attach a detached mount on the object that ``target`` is open on."""
    _call(
        "move_mount",
        _MOVE_MOUNT,
        _long(tree),
        b"",
        _long(target),
        b"",
        _long(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
    )


def mount_setattr(tree: int, attrs: int, recursive: bool = True) -> None:
    """Set MOUNT_ATTR_* on a (detached) mount and, if asked, all below it."""
    value = (ctypes.c_uint64 * 4)(attrs, 0, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", _MOUNT_SETATTR, _long(tree), b"", _long(flags), ctypes.byref(value), _long(32))


def fsopen(kind: str) -> int:
    """A file system context."""
    return _call(f"fsopen {kind}", _FSOPEN, kind.encode(), _long(1))


def fsconfig(context: int, key: str, value: str | None) -> None:
    """Set one option (a flag if ``value`` is None)."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    _call(
        f"mount option {key}",
        _FSCONFIG,
        _long(context),
        _long(command),
        key.encode(),
        None if value is None else _path(value),
        _long(0),
    )


def fsmount(context: int, kind: str, attrs: int = 0) -> int:
    """Create the superblock and give a detached mount of it."""
    try:
        _call(f"mount {kind}", _FSCONFIG, _long(context), _long(FSCONFIG_CMD_CREATE), None, None, _long(0))
    except KernelError as error:
        raise KernelError(error.errno, f"{error.strerror}{context_log(context)}") from None
    return _call(f"mount {kind}", _FSMOUNT, _long(context), _long(1), _long(attrs))


def context_log(context: int) -> str:
    lines: list[str] = []
    try:
        while len(lines) < 8:
            lines.append(os.read(context, 512).decode("utf-8", "replace").strip())
    except OSError:
        pass
    return f" ({'; '.join(lines)})" if lines else ""


def new_mount(kind: str, attrs: int = 0, options: tuple[tuple[str, str | None], ...] = ()) -> int:
    """A detached mount of a new file system of ``kind``."""
    context = fsopen(kind)
    try:
        for key, value in options:
            fsconfig(context, key, value)
        return fsmount(context, kind, attrs)
    finally:
        os.close(context)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    check(
        f"mount {target}",
        libc.mount(_path(source), _path(target), kind.encode(), ctypes.c_ulong(flags), _path(data)),
    )


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    check(f"umount {target}", libc.umount2(_path(target), flags))


def unshare(flags: int) -> None:
    """unshare(2)."""
    check("unshare", libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    check("setns", libc.setns(fd, kind))


def pivot_root_here() -> None:
    """Make the current directory the root and let go of the old one."""
    check("pivot_root", libc.pivot_root(b".", b"."))
    umount(".")
    os.chdir("/")


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = name.encode()
    check("sethostname", libc.sethostname(raw, ctypes.c_size_t(len(raw))))


def prctl(option: int, arg: int = 0, arg3: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return check(
        f"prctl {option}",
        libc.prctl(option, ctypes.c_ulong(arg), ctypes.c_ulong(arg3), ctypes.c_ulong(0), ctypes.c_ulong(0)),
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability sets (64-bit masks)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low = 0xFFFFFFFF
    data = (ctypes.c_uint32 * 6)(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> 32,
        permitted >> 32,
        inheritable >> 32,
    )
    check("capset", libc.capset(ctypes.byref(header), ctypes.byref(data)))


def capget() -> tuple[int, int, int]:
    """This thread's (effective, permitted, inheritable) capabilities."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    check("capget", libc.capget(ctypes.byref(header), ctypes.byref(data)))
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def load_seccomp(program: bytes) -> None:
    """Install a BPF seccomp filter for this thread and what it executes."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    buffer = ctypes.create_string_buffer(program, len(program))
    value = Program(len(program) // 8, ctypes.addressof(buffer))
    check(
        "seccomp",
        libc.prctl(
            PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(value), ctypes.c_ulong(0), ctypes.c_ulong(0)
        ),
    )


def load_seccomp_listener(program: bytes) -> int:
    """Install a filter some of whose calls are answered by whoever holds the descriptor given back."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    buffer = ctypes.create_string_buffer(program, len(program))
    value = Program(len(program) // 8, ctypes.addressof(buffer))
    number = _SECCOMP.get(os.uname().machine, -1)
    return _call("seccomp", number, _long(1), _long(8), ctypes.byref(value))  # SET_MODE_FILTER, NEW_LISTENER


def chown_fd(fd: int, uid: int, gid: int) -> None:
    """fchownat(2) of the very file that ``fd``, perhaps O_PATH, is open on."""
    check(
        "chown",
        libc.fchownat(
            fd, b"", ctypes.c_uint(uid & 0xFFFFFFFF), ctypes.c_uint(gid & 0xFFFFFFFF), AT_EMPTY_PATH
        ),
    )


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from ``first`` on close-on-exec."""
    _call("close_range", _CLOSE_RANGE, _long(first), _long(0xFFFFFFFF), _long(4))


def close_range(first: int) -> None:
    """Close every descriptor from ``first``."""
    _call("close_range", _CLOSE_RANGE, _long(first), _long(0xFFFFFFFF), _long(0))


def loopback_up() -> None:
    """Bring ``lo`` up in the current network namespace."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
    try:
        fcntl.ioctl(sock.fileno(), 0x8914, b"lo".ljust(16, b"\0") + (0x41).to_bytes(2, "little") + bytes(22))
    finally:
        sock.close()
