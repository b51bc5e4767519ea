"""Owners in a user namespace with a single id: what a run asks for is remembered, not done.

The run's seccomp filter hands every change of owner, device node and user id over to this
process, which lives outside of the run's pid namespace but in its mount namespace.  It keeps
owners and devices in an attribute beside the file (``lapstrake.dirview.OWNER_XATTR``, from which
the layer is made) and user ids in a table, so that programs that drop their rights and check
that it worked go on.  No security rests on it: it can do nothing that the run itself couldn't.
"""

from __future__ import annotations

import _socket
import ctypes
import fcntl
import marshal
import os
import select

from . import kernel as k
from . import stats
from .identity import Identities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OWNER_XATTR = "user.lapstrake.owner"
NAMES = """
chown chown32 lchown lchown32 fchown fchown32 fchownat mknod mknodat
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setgroups32 setfsuid32 setfsgid32
getuid geteuid getgid getegid getresuid getresgid getgroups
getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32
"""
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
_CONTINUE = 1
_FILE, _DIR, _CHAR, _BLOCK = 0o100000, 0o040000, 0o020000, 0o060000
_ANYONE = 0xFFFFFFFF


def supervise(channel: _socket.socket, calls: dict[tuple[int, int], str]) -> None:
    """Wait for the run's listener on ``channel``, then answer until its last process is gone."""
    data, ancillary, _flags, _address = channel.recvmsg(65536, 64, 0x40000000)
    channel.close()
    if not data or not ancillary:
        return
    raw = ancillary[0][2]
    listener, namespace = (int.from_bytes(raw[i : i + 4], "little") for i in (0, 4))
    processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    k.setns(namespace, k.CLONE_NEWNS)
    os.fchdir(processes)  # the run's own /proc does not know us: ours stays in reach as "."
    k.libc.umask(0)
    Supervisor(listener, calls, Identities(*marshal.loads(data))).loop()


class Call:
    """One call that waits for its answer."""

    def __init__(self, raw: bytearray) -> None:
        self.id = raw[:8]
        self.pid = int.from_bytes(raw[8:12], "little")
        self.number = int.from_bytes(raw[16:20], "little", signed=True)
        self.arch = int.from_bytes(raw[20:24], "little")
        self.args = [int.from_bytes(raw[i : i + 8], "little") for i in range(32, 80, 8)]

    def integer(self, index: int) -> int:
        """An argument as a signed int."""
        value = self.args[index] & _ANYONE
        return value - (1 << 32) if value >> 31 else value

    def word(self, index: int) -> int:
        """An argument as an unsigned int: an id, ``_ANYONE`` for -1."""
        return self.args[index] & _ANYONE

    def text(self, index: int) -> bytes:
        """A path in the caller's memory."""
        data, at = b"", self.args[index]
        with open(f"{self.pid}/mem", "rb", buffering=0) as memory:
            while b"\0" not in data and len(data) < 4096:
                memory.seek(at + len(data))
                data += memory.read(min(4096 - len(data), 4096 - (at + len(data)) % 4096))
        return data.partition(b"\0")[0]

    def read(self, at: int, size: int) -> bytes:
        """Bytes of the caller's memory."""
        with open(f"{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(at)
            return memory.read(size)

    def write(self, at: int, data: bytes) -> None:
        """Change the caller's memory."""
        with open(f"{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(at)
            memory.write(data)


class Supervisor:
    """Answers the calls of one run."""

    def __init__(self, listener: int, calls: dict[tuple[int, int], str], identities: Identities) -> None:
        self.listener = listener
        self.calls = calls
        self.identities = identities
        self.root = os.stat("/")

    def loop(self) -> None:
        """Until nobody is left to ask."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while True:
            for _fd, event in poll.poll():
                if event & (select.POLLHUP | select.POLLERR):
                    return
                raw = bytearray(80)
                try:
                    fcntl.ioctl(self.listener, _RECEIVE, raw, True)
                except OSError:
                    continue  # the caller died
                self._answer(Call(raw))

    def _answer(self, call: Call) -> None:
        value, error, flags = 0, 0, 0
        try:
            got = self._handle(call)
            if got is None:
                flags = _CONTINUE
            else:
                value = got
        except OSError as failure:
            error = -(failure.errno or 1)
        except (ValueError, IndexError, LookupError):
            error = -14  # EFAULT
        answer = call.id + value.to_bytes(8, "little", signed=True)
        answer += error.to_bytes(4, "little", signed=True) + flags.to_bytes(4, "little")
        try:
            fcntl.ioctl(self.listener, _SEND, bytes(answer))
        except OSError:
            pass  # the caller died

    def _handle(self, call: Call) -> int | None:
        name = self.calls[call.arch, call.number].removesuffix("32")
        if name in ("chown", "lchown"):
            return self._own(call, self._open(call, -100, call.text(0), name == "chown"), 1)
        if name == "fchown":
            return self._own(call, os.open(f"{call.pid}/fd/{call.integer(0)}", os.O_PATH | os.O_CLOEXEC), 1)
        if name == "fchownat":
            flags = call.word(4)
            path = call.text(1)
            if not path and not flags & k.AT_EMPTY_PATH:
                raise OSError(2, "empty path")
            return self._own(
                call, self._open(call, call.integer(0), path, not flags & k.AT_SYMLINK_NOFOLLOW), 2
            )
        if name == "mknod":
            return self._node(call, -100, call.text(0), 1)
        if name == "mknodat":
            return self._node(call, call.integer(0), call.text(1), 2)
        if name in stats.NAMES:
            return stats.handle(name, call, OWNER_XATTR)
        return self.identities.handle(name, call)

    # -- files -----------------------------------------------------------------------------

    def _open(self, call: Call, base: int, path: bytes, follow: bool) -> int:
        """The file that the caller means, whatever its root and working directory."""
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        start = f"{call.pid}/cwd" if base == -100 else f"{call.pid}/fd/{base}"
        text = os.fsdecode(path)
        root = os.stat(f"{call.pid}/root")
        if (root.st_dev, root.st_ino) == (self.root.st_dev, self.root.st_ino):
            if text.startswith("/"):
                return os.open(text, flags)
            fd = os.open(start, os.O_PATH | os.O_CLOEXEC)
            if not text:
                return fd
            try:
                return os.open(text, flags, dir_fd=fd)
            finally:
                os.close(fd)
        if not text.startswith("/"):
            top = os.readlink(f"{call.pid}/root")
            text = os.readlink(start).removeprefix(top) + "/" + text
        fd = os.open(f"{call.pid}/root", os.O_PATH | os.O_CLOEXEC)
        try:
            return k.openat2(fd, text.lstrip("/") or ".", flags, k.RESOLVE_IN_ROOT)
        finally:
            os.close(fd)

    def _own(self, call: Call, fd: int, first: int) -> int:
        uid, gid = call.word(first), call.word(first + 1)
        try:
            # what is possible is done: errors, set-id bits and times are then the kernel's own
            k.chown_fd(fd, -1 if uid == _ANYONE else 0, -1 if gid == _ANYONE else 0)
            if os.fstat(fd).st_mode & 0o170000 in (_FILE, _DIR):
                note(f"self/fd/{fd}", uid, gid)
        finally:
            os.close(fd)
        return 0

    def _node(self, call: Call, base: int, path: bytes, first: int) -> int | None:
        mode, device = call.word(first), call.word(first + 1)
        if mode & 0o170000 not in (_CHAR, _BLOCK) or device == 0:
            return None
        head, _, name = path.rstrip(b"/").rpartition(b"/")
        parent = self._open(call, base, head or (b"/" if path.startswith(b"/") else b"."), True)
        try:
            with open(f"{call.pid}/status", "rb") as file:
                umask = next(int(line.split()[1], 8) for line in file if line.startswith(b"Umask:"))
            new = os.open(
                name,
                os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC,
                mode & 0o7777 & ~umask,
                dir_fd=parent,
            )
        finally:
            os.close(parent)
        kind = "char" if mode & 0o170000 == _CHAR else "block"
        os.setxattr(new, OWNER_XATTR, f"0:0:-:{kind}:{os.major(device)}:{os.minor(device)}".encode())
        os.close(new)
        return 0


def note(path: str, uid: int, gid: int) -> None:
    """Remember the owner; ids of ``_ANYONE`` stay as they are."""
    try:
        was = os.fsdecode(os.getxattr(path, OWNER_XATTR)).split(":")
    except OSError:
        was = ["0", "0", "-"]
    owner = [was[0] if uid == _ANYONE else str(uid), was[1] if gid == _ANYONE else str(gid), *was[2:]]
    try:
        if owner == ["0", "0", "-"]:
            os.removexattr(path, OWNER_XATTR)
        else:
            os.setxattr(path, OWNER_XATTR, ":".join(owner).encode())
    except OSError as error:
        if error.errno not in (
            61,
            95,
        ):  # nothing to remove; a file system without attributes (not in a layer)
            raise


def call_numbers(library: Any, arches: tuple[int, ...]) -> dict[tuple[int, int], str]:
    """(audit architecture, call number) -> name, by libseccomp."""
    found = {}
    for arch in arches:
        for name in (*NAMES.split(), *stats.NAMES):
            number = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(arch), name.encode())
            if number >= 0:
                found[arch, number] = name
                if arch == 0x4000003E:  # x32 comes under the audit architecture of x86_64
                    found[0xC000003E, number] = name
    return found
