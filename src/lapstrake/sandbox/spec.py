"""What an executor is asked to run: a small, executor-neutral form of an OCI runtime spec."""

from __future__ import annotations

from ..rootfs import Rootfs
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol
else:
    Protocol = object


__all__ = ["Cancel", "Executor", "ExitInfo", "Mount", "ProcessSpec", "Rootfs"]


class Mount(Value):
    """``kind``: bind, tmpfs, overlay (``source`` = read-only lower dir, writes discarded: bind rw).
    ``source`` is a host path (already resolved inside its root by the caller), or for
    bind mounts of a sub-path ``source`` is the root and ``subpath`` is resolved with RESOLVE_IN_ROOT."""

    target: str
    kind: str = "bind"
    source: str = ""
    subpath: str = ""
    readonly: bool = False
    lowers: tuple[str, ...] = ()  # for kind overlay: topmost first
    size: int = 0  # tmpfs
    data: bytes | None = None  # kind file: content put on a tmpfs (secrets, hosts, resolv.conf)
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    secret: bool = False  # never kept with a failed step


class ProcessSpec(Value):
    """One process in one sandbox.  ``env`` is complete; ``user`` numeric."""

    rootfs: Rootfs
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hostname: str = "buildkitsandbox"
    network: str = "default"  # default | none | host
    insecure: bool = False
    arch: str = ""  # GOARCH of the binaries; "" = the host's
    readonly_root: bool = False
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 64 << 20
    cgroup_parent: str = ""
    resources: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    timeout: float = 0.0
    tty: bool = False
    stdin: bool = False  # inherit the caller's stdin (lapstrake run -i, debug shells)


class ExitInfo(Value):
    """How it ended.  ``status``: exit code, 128+n for a signal.  Times in seconds, memory in bytes."""

    status: int
    oom: bool = False
    timed_out: bool = False
    wall: float = 0.0
    cpu: float = 0.0
    peak_rss: int = 0


class Executor(Protocol):
    """Runs process specs.  Thread-safe; ``run`` blocks.  One contract suite for all."""

    name: str

    def run(self, spec: ProcessSpec, output: Callable[[int, bytes], None], cancel: Cancel) -> ExitInfo: ...
    def close(self) -> None: ...


class Cancel(Protocol):
    """A cancel token: ``is_set()``; ``fileno()`` becomes readable when set (for select/poll)."""

    def is_set(self) -> bool: ...
    def fileno(self) -> int: ...
