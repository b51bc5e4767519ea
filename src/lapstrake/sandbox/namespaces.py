"""The built-in executor: Linux namespaces through a small helper process, about 5 ms a run."""

from __future__ import annotations

from . import payload
from .launch import Helper, Job, options
from .spec import ExitInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .network import Network
    from .spec import Cancel, ProcessSpec


class NamespacesExecutor:
    """Runs each process in its own user, mount, pid, ipc, uts, net and cgroup namespaces.

    ``pretend``: there is a single id only, so changes of owner succeed without effect.
    ``network``: gives runs with network mode ``default`` a private network; None: the host's.
    ``keep``: a directory of ours for compiled filters.
    ``notes``: one-line remarks for the user about what the host could not give.
    """

    name = "namespaces"

    def __init__(self, *, pretend: bool = False, network: Network | None = None, keep: str = "") -> None:
        self.notes: list[str] = []
        self._pretend = pretend
        self._network = network
        self._helper = Helper(keep)
        self.own_proc = True

    def probe(self) -> str:
        """Try the namespaces once, for real: ``""``, or why they can't be had."""
        self.own_proc, lack = self._helper.probe()
        return lack

    def prewarm(self) -> None:
        """Start what the first run will need, without waiting for it."""
        self._helper.start()
        if self._network is not None:
            self._network.start(self._helper)

    def run(self, spec: ProcessSpec, output: Callable[[int, bytes], None], cancel: Cancel) -> ExitInfo:
        """Run ``spec``; raises ``SandboxError`` if it can't be isolated as asked, ``Cancelled`` if cancelled."""
        payload.check(spec)
        binfmt = None
        if spec.arch:
            from . import emulation

            binfmt = emulation.registration(spec.arch)
        if spec.network == "default":
            spec = self._connect(spec)
        data = payload.build(spec, "namespaces", binfmt=binfmt, pretend=self._pretend, own_proc=self.own_proc)
        if not spec.resources and not spec.cgroup_parent:
            return Job(spec, output, cancel).run(
                self._helper, data, options(spec, "namespaces", pretend=self._pretend)
            )
        from .cgroup import Group

        with Group(spec.resources, spec.cgroup_parent) as group:
            asked = options(spec, "namespaces", pretend=self._pretend, cgroup_v1=group.version == 1)
            info = Job(spec, output, cancel).run(self._helper, data, asked, group.fds)
            return group.finish(info)

    def _connect(self, spec: ProcessSpec) -> ProcessSpec:
        from ..values import replace

        if self._network is None:
            return replace(spec, network="host")
        note = self._network.ready(self._helper)
        if note:
            if note not in self.notes and not self._network.told:
                self.notes.append(note)
            return replace(spec, network="host")
        return spec

    def close(self) -> None:
        """Stop the helper, and with it whatever still runs."""
        if self._network is not None:
            self._network.close()
        self._helper.close()
