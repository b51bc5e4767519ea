"""A control group for one run: limits, out-of-memory detection, peak memory (cgroup v2 and v1)."""

from __future__ import annotations

import os

from ..errors import SandboxError, UsageError
from ..values import replace
from .spec import ExitInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

KEYS = (
    "memory",
    "memory-swap",
    "cpu-shares",
    "cpu-quota",
    "cpu-period",
    "cpuset-cpus",
    "cpuset-mems",
    "pids-limit",
)
_MOUNT = "/sys/fs/cgroup"
_MINE = "/proc/self/cgroup"
_BUILDER = "lapstrake-builder"  # where we go ourselves: a group with limited children holds no process
_CONTROLLER = {"memory": "memory", "cpu": "cpu", "cpuset": "cpuset", "pids": "pids"}


def controller(key: str) -> str:
    """The cgroup controller that a resource key belongs to."""
    if key not in KEYS:
        raise UsageError(f"resource limit {key!r} is unknown", hint=f"known: {', '.join(KEYS)}")
    return _CONTROLLER[key.partition("-")[0]]


def files_v2(resources: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """What to write where for cgroup v2."""
    given = dict(resources)
    out: dict[str, str] = {}
    memory = int(given.get("memory", 0))
    if memory:
        out["memory.max"] = str(memory)
    if "memory-swap" in given:
        total = int(given["memory-swap"])
        out["memory.swap.max"] = "max" if total < 0 else str(max(0, total - memory))
    if "cpu-shares" in given:
        shares = min(max(int(given["cpu-shares"]), 2), 262144)
        out["cpu.weight"] = str(1 + (shares - 2) * 9999 // 262142)
    if "cpu-quota" in given or "cpu-period" in given:
        quota = int(given.get("cpu-quota", 0))
        out["cpu.max"] = f"{quota if quota > 0 else 'max'} {given.get('cpu-period', '100000')}"
    for key, name in (
        ("cpuset-cpus", "cpuset.cpus"),
        ("cpuset-mems", "cpuset.mems"),
        ("pids-limit", "pids.max"),
    ):
        if key in given:
            out[name] = given[key]
    return out


def files_v1(resources: tuple[tuple[str, str], ...]) -> dict[str, dict[str, str]]:
    """What to write where for cgroup v1, by controller, in this order."""
    names = {
        "memory": "memory.limit_in_bytes", "memory-swap": "memory.memsw.limit_in_bytes", "cpu-shares": "cpu.shares",
        "cpu-period": "cpu.cfs_period_us", "cpu-quota": "cpu.cfs_quota_us", "cpuset-cpus": "cpuset.cpus",
        "cpuset-mems": "cpuset.mems", "pids-limit": "pids.max",
    }  # fmt: skip
    given = dict(resources)
    out: dict[str, dict[str, str]] = {}
    for key, name in names.items():
        if key in given:
            out.setdefault(controller(key), {})[name] = given[key]
    return out


class Group:
    """A context: inside, ``fds`` are what the helper needs to put the run in; afterwards it is gone."""

    def __init__(self, resources: tuple[tuple[str, str], ...], parent: str = "") -> None:
        for key, value in resources:
            controller(key)
            if not key.startswith("cpuset") and not value.lstrip("-").isdigit():
                raise UsageError(f"resource limit {key}={value!r} is not a number")
        if ".." in parent.split("/"):
            raise UsageError(f"cgroup parent {parent!r} leaves the hierarchy")
        self._resources = resources
        self._parent = parent.strip("/") or "lapstrake"
        self.version = 2 if os.path.exists(f"{_MOUNT}/cgroup.controllers") else 1
        self.fds: tuple[int, ...] = ()
        self._dirs: dict[str, str] = {}

    def __enter__(self) -> Group:
        try:
            self._make()
        except OSError as error:
            self._drop()
            raise SandboxError(
                f"resource limits can't be applied: {error.strerror} ({error.filename})",
                hint="run as root, or let systemd delegate a cgroup to you (systemd-run --user --scope -p Delegate=yes)",
            ) from None
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._drop()

    def _make(self) -> None:
        name = f"run-{os.getpid()}-{os.urandom(6).hex()}"
        if self.version == 2:
            base, steps = self._below()
            wanted = sorted({controller(key) for key, _ in self._resources})
            for here in steps:
                for item in wanted:
                    _write(f"{here}/cgroup.subtree_control", f"+{item}")
            self._dirs[""] = f"{base}/{name}"
            os.mkdir(self._dirs[""])
            for file, value in files_v2(self._resources).items():
                _write(f"{self._dirs['']}/{file}", value)
            self.fds = (os.open(self._dirs[""], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),)
            return
        for kind, values in (files_v1(self._resources) or {"memory": {}}).items():
            base = f"{_MOUNT}/{kind}/{self._parent}"
            os.makedirs(base, exist_ok=True)
            if kind == "cpuset":
                _inherit_cpuset(f"{_MOUNT}/{kind}", self._parent)
            directory = f"{base}/{name}"
            os.mkdir(directory)
            self._dirs[kind] = directory
            if kind == "cpuset":
                _inherit_cpuset(base, name)
            for file, value in values.items():
                _write(f"{directory}/{file}", value)
            self.fds += (os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC),)

    def _below(self) -> tuple[str, list[str]]:
        """Where the run's group goes, and the groups from the top whose children get the controllers."""
        own = self._delegated()
        if own:
            return own, [own]
        base = f"{_MOUNT}/{self._parent}"
        os.makedirs(base, exist_ok=True)
        parts = self._parent.split("/")
        return base, [_MOUNT, *(f"{_MOUNT}/{'/'.join(parts[: n + 1])}" for n in range(len(parts)))]

    def _delegated(self) -> str:
        """Not the machine's root: our own group, as systemd delegates it, emptied into a child; or ``""``."""
        if os.access(_MOUNT, os.W_OK) or self._parent != "lapstrake":
            return ""
        line = next((li for li in _read(_MINE).splitlines() if li.startswith("0::")), "")
        own = f"{_MOUNT}{line[3:].rstrip('/')}".removesuffix(f"/{_BUILDER}")
        if not line or own == _MOUNT or not os.access(f"{own}/cgroup.subtree_control", os.W_OK):
            return ""
        os.makedirs(f"{own}/{_BUILDER}", exist_ok=True)
        for pid in _read(f"{own}/cgroup.procs").split():
            try:
                _write(f"{own}/{_BUILDER}/cgroup.procs", pid)
            except ProcessLookupError:
                continue
        return own

    def finish(self, info: ExitInfo) -> ExitInfo:
        """``info`` with what the group knows."""
        directory = self._dirs.get("", self._dirs.get("memory", ""))
        if not directory:
            return info
        events, peak = (
            ("memory.events", "memory.peak")
            if self.version == 2
            else ("memory.oom_control", "memory.max_usage_in_bytes")
        )
        killed = any(
            line.split()[0] == "oom_kill" and line.split()[1] != "0"
            for line in _read(f"{directory}/{events}").splitlines()
        )
        most = _read(f"{directory}/{peak}").strip()
        return replace(
            info, oom=killed, peak_rss=max(info.peak_rss, int(most)) if most.isdigit() else info.peak_rss
        )

    def _drop(self) -> None:
        import time

        for fd in self.fds:
            os.close(fd)
        self.fds = ()
        for directory in self._dirs.values():
            for _ in range(100):  # the last processes may still be going
                try:
                    os.rmdir(directory)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.005)


def _inherit_cpuset(base: str, below: str) -> None:
    here = base
    for part in below.split("/"):
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not _read(f"{here}/{part}/{file}").strip():
                _write(f"{here}/{part}/{file}", _read(f"{here}/{file}").strip())
        here = f"{here}/{part}"


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{path} = {value}") from None
    finally:
        os.close(fd)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(65536)
    except OSError:
        return ""
