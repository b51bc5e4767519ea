"""Run a program with some system calls refused and, if wanted, with a container's capabilities only.

python confined.py [--container] [CALL[:FIRST_ARGUMENT]…] -- PROGRAM ARG…
"""

from __future__ import annotations

import os
import sys

from lapstrake.sandbox.inner import kernel as k

CALLS = {
    "clone3": 435, "unshare": 272, "mount": 165, "umount2": 166, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "move_mount": 429, "open_tree": 428, "mount_setattr": 442, "pivot_root": 155, "setns": 308, "sethostname": 170,
    "capset": 126, "prctl": 157, "seccomp": 317, "chroot": 161, "setresuid": 117, "setresgid": 119, "setgroups": 116,
    "openat2": 437, "close_range": 436, "setsid": 112, "memfd_create": 319, "pidfd_open": 434, "mknodat": 259, "mknod": 133,
    "clone": 56,
}  # fmt: skip
DOCKER = 0xA80425FB
_LOAD, _JUMP, _RETURN = 0x20, 0x15, 0x06


def program(denied: list[str]) -> bytes:
    """A filter that answers EPERM (clone3: ENOSYS, without which no thread could be started)."""
    code = b""
    for name in denied:
        call, _, first = name.partition(":")
        code += _op(_LOAD, 0, 0, 0) + _op(_JUMP, 0, 3 if first else 1, CALLS[call])
        if first:
            code += _op(_LOAD, 0, 0, 16) + _op(_JUMP, 0, 1, int(first))
        code += _op(
            _RETURN, 0, 0, 0x00050026 if call == "clone3" else 0x00050001
        )  # libc expects ENOSYS there
    return code + _op(_RETURN, 0, 0, 0x7FFF0000)


def _op(code: int, yes: int, no: int, value: int) -> bytes:
    return code.to_bytes(2, "little") + bytes([yes, no]) + value.to_bytes(4, "little")


def main() -> None:
    words = sys.argv[1:]
    at = words.index("--")
    options, command = words[:at], words[at + 1 :]
    denied = [o for o in options if o != "--container"]
    if denied:
        k.load_seccomp(program(denied))
    if "--container" in options:
        for cap in range(41):
            if not DOCKER >> cap & 1:
                k.prctl(k.PR_CAPBSET_DROP, cap)
        k.capset(DOCKER, DOCKER, DOCKER)
    os.execvp(command[0], command)


main()
