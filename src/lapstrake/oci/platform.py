"""Platforms: ``os[(version)]/arch[/variant]`` (spec oci.md §2, cli.md §2.2)."""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value, replace

_ARCH = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""), "arm64": ("arm64", ""),
    "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
    "i386": ("386", ""), "i686": ("386", ""),
}  # fmt: skip
_OS = {"macos": "darwin"}
_KNOWN_OS = (
    "linux",
    "windows",
    "darwin",
    "freebsd",
    "android",
    "wasip1",
    "js",
    "netbsd",
    "openbsd",
    "solaris",
    "plan9",
    "aix",
    "dragonfly",
    "illumos",
    "unknown",
)
_KNOWN_ARCH = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "arm64",
        "arm64be",
        "armbe",
        "loong64",
        "mips",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "mipsle",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)
_OK = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Platform(Value):
    """A normalised platform."""

    os: str
    arch: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(p for p in (self.os, self.arch, self.variant) if p)

    @property
    def full(self) -> str:
        """With the OS version: ``windows(10.0.1)/amd64``."""
        head = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(p for p in (head, self.arch, self.variant) if p)

    def to_json(self) -> dict[str, object]:
        """The descriptor's ``platform`` object."""
        d: dict[str, object] = {"architecture": self.arch, "os": self.os}
        if self.os_version:
            d["os.version"] = self.os_version
        if self.os_features:
            d["os.features"] = list(self.os_features)
        if self.variant:
            d["variant"] = self.variant
        return d

    @classmethod
    def from_json(cls, d: dict[str, object]) -> Platform:
        """From a descriptor's ``platform`` object or an image config."""
        feats = d.get("os.features") or ()
        return normalize(
            cls(
                str(d.get("os") or ""), str(d.get("architecture") or ""), str(d.get("variant") or ""),
                str(d.get("os.version") or ""), tuple(str(f) for f in feats) if isinstance(feats, (list, tuple)) else (),
            )
        )  # fmt: skip


def normalize(p: Platform) -> Platform:
    """Aliases and default variants as containerd normalises them."""
    os_ = _OS.get(p.os.lower(), p.os.lower())
    arch, variant = p.arch.lower(), p.variant.lower()
    if arch in _ARCH:
        arch, implied = _ARCH[arch]
        variant = variant or implied
    if arch == "arm64" and variant in ("8", "v8"):
        variant = ""
    elif arch == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    elif arch == "amd64" and variant in ("v1", "1"):
        variant = ""
    return replace(p, os=os_, arch=arch, variant=variant)


def parse(text: str, host: Platform | None = None) -> Platform:
    """Parse one platform; ``local`` is the host's.  Raises UsageError."""
    text = text.strip()
    host = host or host_platform()
    if text == "local":
        return host
    parts = text.split("/")
    version = ""
    if "(" in parts[0] and parts[0].endswith(")"):
        parts[0], version = parts[0][:-1].split("(", 1)
    if not (1 <= len(parts) <= 3) or not all(p and set(p) <= _OK for p in parts):
        raise UsageError(
            f'failed to parse platform {text}: "{text}" is an invalid platform specifier',
            hint="write os/arch[/variant], for example linux/arm64",
        )
    if len(parts) == 1:
        word = parts[0].lower()
        if _OS.get(word, word) in _KNOWN_OS:
            return normalize(Platform(word, host.arch, host.variant, version))
        if word not in _ARCH and word not in _KNOWN_ARCH:
            raise UsageError(
                f'failed to parse platform {text}: "{text}": unknown operating system or architecture: invalid argument',
                hint="write os/arch[/variant], for example linux/arm64",
            )
        return normalize(Platform(host.os, word, "", version))
    return normalize(Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else "", version))


_host: Platform | None = None


def set_host(machine: str) -> None:
    """Tell the pure core what machine this is (``os.uname().machine``); done once by ``config``."""
    global _host  # noqa: PLW0603 - the one fact about this machine the pure core is told
    arch = {"armv7l": "arm/v7", "armv6l": "arm/v6"}.get(machine, machine)
    name, _, variant = arch.partition("/")
    _host = normalize(Platform("linux", name, variant))


def host_platform() -> Platform:
    """The build platform."""
    return _host or Platform("linux", "amd64")


def compatible(wanted: Platform) -> tuple[Platform, ...]:
    """What an image of ``wanted`` may also be taken from, best first (arm v7 -> v6 -> v5, …)."""
    out = [wanted]
    if wanted.arch == "arm" and wanted.variant[1:].isdigit():
        out += [replace(wanted, variant=f"v{n}") for n in range(int(wanted.variant[1:]) - 1, 4, -1)]
    elif wanted.arch == "amd64" and wanted.variant[1:].isdigit():
        out += [replace(wanted, variant=f"v{n}") for n in range(int(wanted.variant[1:]) - 1, 1, -1)]
        out.append(replace(wanted, variant=""))
    elif wanted.arch == "arm64":
        out.append(Platform(wanted.os, "arm", "v8"))
        out.append(Platform(wanted.os, "arm", "v7"))
        if wanted.variant:
            out.insert(1, replace(wanted, variant=""))
    return tuple(out)
