"""``fstat`` in a user namespace with a single id: an open file shows the owner that is kept beside it.

Only calls on descriptors are looked at.  They are what programs use that rewrite a file and give
the new one the old one's owner (``sed -i``, ``groupadd``, ``cp -p``); looking at every ``stat``
of a path would make builds several times slower.
"""

from __future__ import annotations

import ctypes
import os

from . import kernel as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .owners import Call

NAMES = ("fstat", "newfstatat", "statx")
FLAGS_AT = {"newfstatat": 3, "statx": 2}  # where AT_EMPTY_PATH would be
_NATIVE = {  # audit architecture: numbers of newfstatat and statx; where struct stat has its owner
    "x86_64": (0xC000003E, 262, 332, 28),
    "aarch64": (0xC00000B7, 79, 291, 24),
    "riscv64": (0xC00000F3, 79, 291, 24),
}


def handle(name: str, call: Call, attribute: str) -> int | None:
    """Answer a stat of an open file; None: the kernel's own answer is right."""
    native = _NATIVE.get(os.uname().machine)
    fd = call.integer(0)
    if native is None or call.arch != native[0] or fd < 0 or (name != "fstat" and call.text(1)):
        return None
    path = f"{call.pid}/fd/{fd}"
    try:
        uid, gid, *_ = os.fsdecode(os.getxattr(path, attribute)).split(":")
        owner = int(uid).to_bytes(4, "little") + int(gid).to_bytes(4, "little")
    except (OSError, ValueError):
        return None
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    buffer = ctypes.create_string_buffer(256)
    try:
        if name == "statx":
            k.call(native[2], opened, b"", call.word(2) | k.AT_EMPTY_PATH, call.word(3), buffer)
            size, at, out = 256, 20, call.args[4]
        else:
            k.call(native[1], opened, b"", buffer, k.AT_EMPTY_PATH)
            size, at, out = 144 if native[3] == 28 else 128, native[3], call.args[1 if name == "fstat" else 2]
    finally:
        os.close(opened)
    data = bytearray(buffer.raw[:size])
    data[at : at + 8] = owner
    call.write(out, bytes(data))
    return 0
