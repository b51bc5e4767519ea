"""What targets ask for beyond their directory, and whether it was granted (spec cli.md §3)."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..plan.request import BuildRequest
    from .schema import Target

_PLAIN = ("network.host", "security.insecure", "ssh", "buildx.local.delete")
_WORDS = {
    "network.host": "Running build containers that can access the network of this machine",
    "security.insecure": "Running privileged build containers",
    "device": "Access to devices of this machine",
    "ssh": "Forwarding the default SSH agent",
}


class Granted(Value):
    """What ``--allow`` and ``--set`` allow.  Paths are absolute and real; ``/`` is everything."""

    names: frozenset[str] = frozenset()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class Wanted(Value):
    """What was not granted."""

    names: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """The flags that would grant it."""
        both = [p for p in self.read if p in self.write]
        return [
            *(f"--allow={n}" for n in self.names),
            *(f"--allow=fs={p}" for p in both),
            *(f"--allow=fs.read={p}" for p in self.read if p not in both),
            *(f"--allow=fs.write={p}" for p in self.write if p not in both),
        ]

    @property
    def lines(self) -> list[str]:
        """The same for people."""
        both = [p for p in self.read if p in self.write]
        return [
            *(_WORDS.get(n.partition("=")[0], n) for n in self.names),
            *(f"Read and write access to path {p}" for p in both),
            *(f"Read access to path {p}" for p in self.read if p not in both),
            *(f"Write access to path {p}" for p in self.write if p not in both),
        ]


def parse(
    allow: Iterable[str], read: Iterable[str] = (), write: Iterable[str] = (), cwd: str = "."
) -> Granted:
    """``--allow`` values, and what ``--set`` names.  Below ``cwd`` everything is allowed.  Raises UsageError."""
    names = set()
    reads, writes = [cwd, *read], [cwd, *write]
    for text in allow:
        key, _, path = text.partition("=")
        if text in _PLAIN or key == "device":
            names.add(text)
        elif key in ("fs", "fs.read", "fs.write"):
            if not path:
                raise UsageError(
                    f"invalid entitlement {text}", hint=f"write {key}=PATH, or {key}=* for all paths"
                )
            if key != "fs.write":
                reads.append(path)
            if key != "fs.read":
                writes.append(path)
        elif key not in ("image", "image.push", "image.load"):
            raise UsageError(
                f'unknown entitlement key "{key}"',
                hint="known are network.host, security.insecure, device, ssh, fs, fs.read, fs.write, buildx.local.delete",
            )
    return Granted(frozenset(names), _real(reads), _real(writes))


def _real(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys("/" if p == "*" else os.path.realpath(p) for p in paths))


def wanted(
    pairs: Sequence[tuple[Target, BuildRequest]], granted: Granted, *, check_fs: bool = True, base: str = ""
) -> Wanted:
    """What all targets together ask for and was not granted.  ``base``: a fetched definition, which is free to read."""
    names: dict[str, None] = {}
    read: dict[str, None] = {}
    write: dict[str, None] = {}
    for target, request in pairs:
        for name in target.get("entitlements") or ():
            if name not in granted.names and not (name.startswith("device=") and "device" in granted.names):
                names[name] = None
        if not check_fs:
            continue
        agents = target.get("ssh") or (
            [{}] if request.ssh else []
        )  # a git context over ssh implies the default one
        if "ssh" not in granted.names and any(not s.get("paths") for s in agents):
            names["ssh"] = None
        for path in _reads(request, target):
            _missing(read, path, (*granted.read, base) if base else granted.read)
        for path in _writes(request):
            _missing(write, path, granted.write)
    return Wanted(tuple(names), _outermost(read), _outermost(write))


def _missing(into: dict[str, None], path: str, allowed: Iterable[str]) -> None:
    full = os.path.realpath(os.path.expanduser(path))
    if not any(a in ("/", full) or full.startswith(a + os.sep) for a in allowed):
        into[full] = None


def _outermost(paths: Mapping[str, None]) -> tuple[str, ...]:
    out: list[str] = []
    for path in sorted(paths, key=len):
        if not any(path.startswith(o.rstrip("/") + "/") for o in out):
            out.append(path)
    return tuple(sorted(out))


def _reads(request: BuildRequest, target: Target) -> list[str]:
    from .requests import is_local

    found = [p for p in (request.context, *(v for _, v in request.named_contexts)) if is_local(p)]
    found += [
        v[len("oci-layout://") :].partition("@")[0]
        for _, v in request.named_contexts
        if v.startswith("oci-layout://")
    ]
    if request.dockerfile and request.dockerfile_text is None and is_local(request.context):
        found.append(request.dockerfile)
    found += [c.get("src") for c in request.cache_from if c.type == "local" and c.get("src")]
    found += [s.source for s in request.secrets if s.type == "file"]
    found += [p for s in target.get("ssh") or () for p in s.get("paths") or ()]
    return found


def _writes(request: BuildRequest) -> list[str]:
    found = [o.dest for o in request.outputs if o.dest and o.dest != "-"]
    return found + [c.get("dest") for c in request.cache_to if c.type == "local" and c.get("dest")]


def refusal(found: Wanted, command: Sequence[str]) -> str:
    """What is said before the question, or before giving up."""
    rows = ["The build asks for what is not granted to it by default:", ""]
    rows += [f" - {line}" for line in found.lines]
    rows += ["", f"Grant it with {' '.join(found.flags)}"]
    if "bake" in command:
        at = list(command).index("bake") + 1
        rows += ["", "The whole command:", "", "  " + " ".join([*command[:at], *found.flags, *command[at:]])]
    return "\n".join(rows) + "\n\n"
