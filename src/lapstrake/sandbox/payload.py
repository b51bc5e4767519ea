"""From a ``ProcessSpec`` to the plain data the helper understands."""

from __future__ import annotations

from ..errors import SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .spec import Mount, ProcessSpec

_KINDS = ("bind", "tmpfs", "file", "overlay")
_NETWORKS = ("default", "none", "host")


def check(spec: ProcessSpec) -> None:
    """Refuse a spec that no executor could run."""
    if not spec.args or not spec.args[0]:
        raise UsageError("no command to run")
    if spec.network not in _NETWORKS:
        raise UsageError(f"network mode {spec.network!r} is unknown", hint="use default, none or host")
    for text in (*spec.args, *spec.env, spec.cwd, *(m.target for m in spec.mounts)):
        if "\0" in text:
            raise UsageError("a NUL byte in the command, environment or a path")
    if not spec.cwd.startswith("/"):
        raise UsageError(f"working directory {spec.cwd!r} is not absolute")
    for mount in spec.mounts:
        if mount.kind not in _KINDS:
            raise UsageError(f"mount kind {mount.kind!r} is unknown")
        if not mount.target.strip("/") or ".." in mount.target.split("/"):
            raise UsageError(f"mount target {mount.target!r} is not a path below the root")
    root = spec.rootfs
    if root.lowers and not root.work:
        raise SandboxError("an overlay root needs a work directory")


def mount_data(mount: Mount, userxattr: bool, pretend: bool) -> dict[str, Any]:
    """One mount as plain data.  With a single id everything belongs to it."""
    return {
        "target": mount.target,
        "kind": mount.kind,
        "source": mount.source,
        "subpath": mount.subpath,
        "readonly": mount.readonly,
        "lowers": list(mount.lowers),
        "size": mount.size,
        "data": mount.data,
        "mode": mount.mode,
        "uid": 0 if pretend else mount.uid,
        "gid": 0 if pretend else mount.gid,
        "userxattr": userxattr,
    }


def build(
    spec: ProcessSpec,
    mode: str,
    *,
    binfmt: tuple[str, bytes] | None = None,
    pretend: bool = False,
    own_proc: bool = True,
) -> dict[str, Any]:
    """The message a run's process reads."""
    root = spec.rootfs
    return {
        "mode": mode,
        "root": (root.upper, list(root.lowers), root.work, root.userxattr),
        "readonly_root": spec.readonly_root,
        "args": list(spec.args),
        "env": list(spec.env),
        "cwd": spec.cwd,
        "uid": spec.uid,
        "gid": spec.gid,
        "groups": list(spec.groups),
        "mounts": [mount_data(m, root.userxattr, pretend) for m in spec.mounts],
        "hostname": spec.hostname,
        "net": spec.network,
        "insecure": spec.insecure,
        "ulimits": [tuple(u) for u in spec.ulimits],
        "shm": spec.shm_size,
        "devices": list(spec.devices),
        "binfmt": binfmt,
        "pretend": pretend,
        "own_proc": own_proc,
        "tty": spec.tty,
    }
