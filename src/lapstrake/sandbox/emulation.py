"""Running another architecture's binaries: the host's binfmt_misc, or one of the run's own.

Linux 6.7 gave every user namespace its own binfmt_misc, so the emulator is registered (with
flag F, opened once, so the image needs no copy of it) for one run only and the host's table
stays untouched.
"""

from __future__ import annotations

import os

from ..errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

_TABLE = "/proc/sys/fs/binfmt_misc"
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
    "mips64": "mips64le",
}
_ALSO_RUNS = {"amd64": ("386",)}

# GOARCH: qemu's name, EI_CLASS, EI_DATA, e_machine
_ELF = {
    "amd64": ("x86_64", 2, 1, 62),
    "386": ("i386", 1, 1, 3),
    "arm64": ("aarch64", 2, 1, 183),
    "arm": ("arm", 1, 1, 40),
    "riscv64": ("riscv64", 2, 1, 243),
    "ppc64le": ("ppc64le", 2, 1, 21),
    "s390x": ("s390x", 2, 2, 22),
    "mips64le": ("mips64el", 2, 1, 8),
    "loong64": ("loongarch64", 2, 1, 258),
}


def host_arch() -> str:
    """GOARCH of this machine."""
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def is_native(arch: str) -> bool:
    """Whether the machine runs ``arch`` by itself."""
    host = host_arch()
    return not arch or arch == host or arch in _ALSO_RUNS.get(host, ())


def ensure(arch: str) -> str | None:
    """None if nothing has to be done; the emulator to register for the run; else ``SandboxError``."""
    if is_native(arch):
        return None
    if arch not in _ELF:
        raise SandboxError(
            f"no emulator is known for architecture {arch}",
            hint="build this platform on a machine of its own (--builder with a node for it)",
        )
    name = _ELF[arch][0]
    if _host_has(name):
        return None
    emulator = find_emulator(arch)
    if not emulator:
        raise SandboxError(
            f"{arch} binaries can't run here: qemu-{name}-static is not installed",
            hint="apt-get install qemu-user-static",
        )
    if kernel_version() < (6, 7):
        raise SandboxError(
            f"{arch} binaries can't run here: binfmt_misc has no qemu-{name}, and before Linux 6.7 only the administrator can register it",
            hint="sudo apt-get install qemu-user-static binfmt-support, or docker run --privileged --rm tonistiigi/binfmt --install "
            + arch,
        )
    return emulator


# x86-64 psABI levels by the flags of /proc/cpuinfo
_LEVELS = (
    ("v2", ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")),
    ("v3", ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")),
    ("v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
)


def platforms() -> tuple[str, ...]:
    """The platforms whose binaries run here, native ones first, then those with an emulator."""
    host = host_arch()
    out = ["linux/arm/v7", "linux/arm/v6"] if host == "arm" else [f"linux/{host}"]
    if host == "amd64":
        out += [f"linux/amd64/{level}" for level in _cpu_levels()]
    out += [f"linux/{arch}" for arch in _ALSO_RUNS.get(host, ())]
    for arch in sorted(_ELF):
        if is_native(arch):
            continue
        try:
            ensure(arch)
        except SandboxError:
            continue
        out += ["linux/arm/v7", "linux/arm/v6"] if arch == "arm" else [f"linux/{arch}"]
    return tuple(out)


def _cpu_levels() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            text = f.read(1 << 16)
    except OSError:
        return []
    line = next((x for x in text.splitlines() if x.startswith("flags")), "")
    flags, out = set(line.partition(":")[2].split()), []
    for level, needed in _LEVELS:
        if not flags.issuperset(needed):
            break
        out.append(level)
    return out


def registration(arch: str) -> tuple[str, bytes] | None:
    """(emulator, line for ``register`` with ``@INTERPRETER@``) if the run must register one itself."""
    emulator = ensure(arch)
    return None if emulator is None else (emulator, register_line(arch))


def register_line(arch: str) -> bytes:
    """The binfmt_misc line that recognises executables and shared objects of ``arch``."""
    name, bits, order, machine = _ELF[arch]
    ident = bytes([0x7F, 0x45, 0x4C, 0x46, bits, order, 1, 0]) + bytes(8)
    end: Literal["little", "big"] = "little" if order == 1 else "big"
    magic = ident + (2).to_bytes(2, end) + machine.to_bytes(2, end)
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + (0xFFFE).to_bytes(2, end) + b"\xff\xff"
    return b":lapstrake-%s:M::%s:%s:@INTERPRETER@:CF" % (name.encode(), _escape(magic), _escape(mask))


def _escape(raw: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in raw)


def find_emulator(arch: str) -> str:
    """A statically linked user-mode qemu for ``arch``, or ``""``."""
    name = _ELF[arch][0] if arch in _ELF else arch
    for directory in ("/usr/local/bin", "/usr/bin", "/usr/libexec/qemu-binfmt"):
        path = f"{directory}/qemu-{name}-static"
        if os.access(path, os.X_OK):
            return path
    return ""


def _host_has(name: str) -> bool:
    try:
        with open(f"{_TABLE}/qemu-{name}", encoding="ascii", errors="replace") as file:
            lines = file.read(4096).splitlines()
    except OSError:
        return False
    return "enabled" in lines and any(line.startswith("flags:") and "F" in line for line in lines)


def kernel_version() -> tuple[int, int]:
    """Major and minor of the running kernel."""
    parts = os.uname().release.split(".")
    try:
        return int(parts[0]), int(parts[1].split("-")[0])
    except (ValueError, IndexError):
        return 0, 0
