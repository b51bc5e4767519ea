"""The last resort where no namespace can be had: a changed root, reduced rights, a seccomp filter.

It needs CAP_SYS_CHROOT and a plain directory as the root file system, and can neither bind
directories nor hide the host's network or processes; ``--min-isolation`` lets a user refuse it.
"""

from __future__ import annotations

from ..errors import SandboxError
from ..ids import CAP_SYS_CHROOT, effective, ids
from . import emulation, payload
from .launch import Helper, Job, options
from .spec import ExitInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .spec import Cancel, ProcessSpec


class ChrootExecutor:
    """Runs each process in a changed root only."""

    name = "chroot"

    def __init__(self) -> None:
        if not effective() >> CAP_SYS_CHROOT & 1:
            raise SandboxError(
                "the chroot executor needs root (CAP_SYS_CHROOT)",
                hint="allow user namespaces: sysctl -w user.max_user_namespaces=10000",
            )
        self.notes: list[str] = []
        self._pretend = not ids().chown
        self._helper = Helper()

    def prewarm(self) -> None:
        """Start the helper without waiting for it."""
        self._helper.start()

    def run(self, spec: ProcessSpec, output: Callable[[int, bytes], None], cancel: Cancel) -> ExitInfo:
        """Run ``spec``; refuses what a chroot can't give."""
        payload.check(spec)
        for wrong, what in (
            (spec.network == "none", "a step without network"),
            (spec.readonly_root, "a read-only root"),
            (spec.insecure or bool(spec.devices), "devices or an insecure step"),
            (bool(spec.arch) and emulation.ensure(spec.arch) is not None, f"emulating {spec.arch}"),
        ):
            if wrong:
                raise SandboxError(
                    f"the chroot executor can't give {what}",
                    hint="use a host with user namespaces (--isolation=namespaces)",
                )
        data = payload.build(spec, "chroot", pretend=self._pretend)
        asked = options(spec, "chroot", pretend=self._pretend)
        if not spec.resources and not spec.cgroup_parent:
            return Job(spec, output, cancel).run(self._helper, data, asked)
        from .cgroup import Group

        with Group(spec.resources, spec.cgroup_parent) as group:
            asked["cgroup_v1"] = group.version == 1
            return group.finish(Job(spec, output, cancel).run(self._helper, data, asked, group.fds))

    def close(self) -> None:
        """Stop the helper and everything it still runs."""
        self._helper.close()
