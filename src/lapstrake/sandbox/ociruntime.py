"""Executor on top of an OCI runtime (crun, runc) for those who want one they already trust.

The helper gives the runtime a mount and pid namespace of its own with everything mounted, so
nothing is left behind and killing the runtime kills the container.
"""

from __future__ import annotations

import os

from ..errors import SandboxError
from . import payload
from .inner.tables import DEFAULT_CAP_NAMES, MASKED, READONLY
from .launch import Helper, Job, options
from .spec import ExitInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .spec import Cancel, ProcessSpec

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_runtime(name: str, path: str = _PATH) -> str:
    """The runtime's program, or ``""``."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else ""
    for directory in path.split(":"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return ""


def oci_config(
    spec: ProcessSpec, *, seccomp: dict[str, Any] | None = None, mounts_at: str = "mounts"
) -> dict[str, Any]:
    """``config.json`` for ``spec``; its mounts are expected below ``mounts_at``, numbered."""
    caps = list(DEFAULT_CAP_NAMES)
    capabilities = dict.fromkeys(("bounding", "effective", "permitted"), caps)
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": list(spec.groups)},
        "args": list(spec.args),
        "env": list(spec.env),
        "cwd": spec.cwd,
        "capabilities": {**capabilities, "inheritable": [], "ambient": []},
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
            for name, soft, hard in spec.ulimits
        ],
        "noNewPrivileges": False,
    }
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup"]
    if spec.network == "none":
        namespaces.append("network")
    linux: dict[str, Any] = {"namespaces": [{"type": kind} for kind in namespaces], "resources": {}}
    if not spec.insecure:
        linux["maskedPaths"] = [f"/{path}" for path in MASKED]
        linux["readonlyPaths"] = [f"/{path}" for path in READONLY]
        if seccomp is not None:
            linux["seccomp"] = seccomp
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": spec.readonly_root},
        "hostname": spec.hostname,
        "mounts": _system_mounts(spec) + _own_mounts(spec, mounts_at),
        "linux": linux,
    }


def _system_mounts(spec: ProcessSpec) -> list[dict[str, Any]]:
    hardened = ["nosuid", "noexec", "nodev"]
    sys_options = hardened + ([] if spec.insecure else ["ro"])
    sysfs = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": sys_options}
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": hardened},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*hardened, "mode=1777", f"size={spec.shm_size}"],
        },
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": hardened},
        sysfs,
    ]


def _own_mounts(spec: ProcessSpec, mounts_at: str) -> list[dict[str, Any]]:
    numbered = sorted(
        enumerate(spec.mounts), key=lambda pair: len([p for p in pair[1].target.split("/") if p])
    )
    return [
        {
            "destination": "/" + mount.target.lstrip("/"),
            "type": "bind",
            "source": f"{mounts_at}/{number}",
            "options": ["rbind", "rprivate", "ro" if mount.readonly else "rw"],
        }
        for number, mount in numbered
    ]


def seccomp_profile() -> dict[str, Any]:
    """The allow-list in the runtime spec's form."""
    from .inner import filter as lists

    errno = {"action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    clone_bits = [
        {
            "names": ["clone"],
            **errno,
            "args": [{"index": 0, "value": 1 << bit, "valueTwo": 1 << bit, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for bit in range(25, 31)
    ]
    clone_ok = {
        "names": ["clone"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
    }
    personality = [
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}],
        }
        for value in lists.PERSONALITIES
    ]
    socket = {
        "names": ["socket"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}],
    }
    machine = os.uname().machine
    arches = {
        "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    }
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": arches.get(machine, []),
        "syscalls": [
            {
                "names": [n for n in lists.ALLOWED.split() if n not in lists.NODE_CALLS],
                "action": "SCMP_ACT_ALLOW",
            },
            *_nodes(),
            {"names": lists.REFUSED.split(), **errno},
            *clone_bits,
            clone_ok,
            *personality,
            socket,
        ],
    }


def _nodes() -> list[dict[str, Any]]:
    """Device nodes a container may make: its /dev is not ours to mount without devices."""
    from .inner import filter as lists

    rules = []
    for name, at in lists.NODE_CALLS.items():
        kinds = [
            {"index": at, "value": 0o170000, "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ"}
            for kind in lists.PLAIN_KINDS
        ]
        devices = [{"index": at + 1, "value": device, "op": "SCMP_CMP_EQ"} for device in lists.SAFE_DEVICES]
        rules += [
            {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [match]} for match in (*kinds, *devices)
        ]
    return rules


class OciRuntimeExecutor:
    """Runs each process as a container of ``runtime`` (a name or a path)."""

    def __init__(self, *, runtime: str = "crun", scratch: str = "/tmp") -> None:
        self.name = os.path.basename(runtime)
        self.notes: list[str] = []
        self._program = find_runtime(runtime)
        if not self._program:
            raise SandboxError(f"{runtime} is not installed", hint=f"apt-get install {self.name}")
        self._scratch = scratch
        self._helper = Helper()
        self._seccomp: dict[str, Any] | None = None

    def prewarm(self) -> None:
        """Start the helper without waiting for it."""
        self._helper.start()

    def run(self, spec: ProcessSpec, output: Callable[[int, bytes], None], cancel: Cancel) -> ExitInfo:
        """Run ``spec`` as one container."""
        payload.check(spec)
        self._refuse(spec)
        import json
        import tempfile

        from ..values import replace

        if spec.network == "default":
            note = f"{self.name}: steps use the host's network"
            if note not in self.notes:
                self.notes.append(note)
        if self._seccomp is None:
            self._seccomp = seccomp_profile()
        with tempfile.TemporaryDirectory(
            prefix="lapstrake-oci-", dir=self._scratch, ignore_cleanup_errors=True
        ) as scratch:
            bundle = f"{scratch}/bundle"
            os.mkdir(bundle)
            config = oci_config(spec, seccomp=self._seccomp, mounts_at=f"{bundle}/mounts")
            data = payload.build(spec, "oci")
            data["config"] = json.dumps(config).encode()
            data["bundle"] = bundle
            data["unified"] = self.name == "crun"
            data["args"] = self._command(scratch)
            data["env"] = [f"PATH={_PATH}"]
            info = self._limited(spec, data, output, cancel)
            failure = _failure(f"{scratch}/log") if info.status else ""
        return replace(info, status=_explain(failure, output)) if failure else info

    def _command(self, scratch: str) -> list[str]:
        name = "run-" + os.path.basename(scratch)
        early = ["--cgroup-manager", "disabled"] if self.name == "crun" else []
        return [
            self._program,
            "--root",
            f"{scratch}/bundle/state",
            "--log",
            f"{scratch}/log",
            "--log-format",
            "json",
            *early,
            "run",
            "--bundle",
            f"{scratch}/bundle",
            name,
        ]

    def _limited(
        self, spec: ProcessSpec, data: dict[str, Any], output: Callable[[int, bytes], None], cancel: Cancel
    ) -> ExitInfo:
        asked = options(spec, "oci")
        if not spec.resources and not spec.cgroup_parent:
            return Job(spec, output, cancel).run(self._helper, data, asked)
        from .cgroup import Group

        with Group(spec.resources, spec.cgroup_parent) as group:
            asked["cgroup_v1"] = group.version == 1
            return group.finish(Job(spec, output, cancel).run(self._helper, data, asked, group.fds))

    def _refuse(self, spec: ProcessSpec) -> None:
        from . import emulation

        if spec.insecure:
            raise SandboxError(
                f"the {self.name} executor has no insecure mode", hint="use --isolation=namespaces"
            )
        if spec.devices:
            raise SandboxError(
                f"the {self.name} executor passes no devices", hint="use --isolation=namespaces"
            )
        if (spec.resources or spec.cgroup_parent) and self.name != "crun":
            raise SandboxError(
                f"the {self.name} executor applies no resource limits",
                hint="use --isolation=namespaces or crun",
            )
        if spec.arch and emulation.ensure(spec.arch) is not None:
            raise SandboxError(
                f"{self.name} can't emulate {spec.arch} without a registration on the host",
                hint="use --isolation=namespaces, or register qemu: apt-get install qemu-user-static binfmt-support",
            )

    def close(self) -> None:
        """Stop the helper and everything it still runs."""
        self._helper.close()


def _failure(log: str) -> str:
    """What the runtime itself complained about."""
    import json

    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("level") in ("error", "fatal"):
            return str(record.get("msg", "")).strip()
    return ""


def _explain(failure: str, output: Callable[[int, bytes], None]) -> int:
    """The status a shell would give if the command itself was the problem; else raise."""
    text = failure.lower()
    if "executable file" in text or ("exec" in text and "no such file" in text):
        status = 127
    elif "exec" in text and ("permission denied" in text or "format error" in text):
        status = 126
    else:
        raise SandboxError(failure)
    output(2, failure.encode() + b"\n")
    return status
