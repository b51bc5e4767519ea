"""Choosing an executor, and saying what a host lacks."""

from __future__ import annotations

import os

from ..errors import SandboxError, UsageError
from ..ids import CAP_SYS_ADMIN, CAP_SYS_CHROOT, effective, ids
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .spec import Executor

ISOLATIONS = ("auto", "namespaces", "oci", "crun", "runc", "chroot")
MINIMUM = {"chroot": 0, "namespaces": 1, "crun": 1, "runc": 1, "userns": 2}  # for --min-isolation


class Wanted(Value):
    """What was asked for, and what is known about the user namespace we are in.

    ``minimum``: refuse anything weaker; ``note``, ``lack``, ``mend``: see ``userns.Entered``."""

    isolation: str = "auto"
    minimum: str = ""
    root_dir: str = ""
    note: str = ""
    lack: str = ""
    mend: str = ""


def choose(wanted: Wanted) -> tuple[Executor, str]:
    """The executor and one line that says which and why.

    ``auto`` takes the strongest rung that works, tried for real; a rung asked for by name either
    works or is an error.
    """
    if wanted.isolation not in ISOLATIONS:
        raise UsageError(f"isolation {wanted.isolation!r} is unknown", hint=f"known: {', '.join(ISOLATIONS)}")
    if wanted.minimum and wanted.minimum not in MINIMUM:
        raise UsageError(f"isolation {wanted.minimum!r} is unknown", hint=f"known: {', '.join(MINIMUM)}")
    executor, text = _make(wanted)
    strength = MINIMUM.get(executor.name, 9) + (executor.name == "namespaces" and not ids().first)
    if wanted.minimum and strength < MINIMUM[wanted.minimum]:
        executor.close()
        raise SandboxError(
            f"this host only offers {text}, weaker than {wanted.minimum}",
            hint=wanted.mend or "lapstrake doctor says what is missing",
        )
    return executor, text


def _make(wanted: Wanted) -> tuple[Executor, str]:
    name = wanted.isolation
    if name in ("oci", "crun", "runc"):
        from .ociruntime import OciRuntimeExecutor, find_runtime

        runtime = name if name != "oci" else next((n for n in ("crun", "runc") if find_runtime(n)), "crun")
        return OciRuntimeExecutor(runtime=runtime), f"{runtime}, the host's network"
    if name == "chroot":
        from .chroot import ChrootExecutor

        return ChrootExecutor(), "chroot: the host's processes and network are visible to steps"
    lack = wanted.lack or lacking()
    if not lack:
        executor, text, lack = _namespaces(wanted)
        if executor is not None:
            return executor, text
    if name == "namespaces":
        raise SandboxError(f"no namespaces here: {lack}", hint=wanted.mend or mend())
    if effective() >> CAP_SYS_CHROOT & 1:
        from .chroot import ChrootExecutor

        return (
            ChrootExecutor(),
            f"chroot, because {lack}: the host's processes and network are visible to steps",
        )
    from .none import NoExecutor

    return NoExecutor(lack, wanted.mend or mend()), f"none, because {lack}: no command can run"


def _namespaces(wanted: Wanted) -> tuple[Executor | None, str, str]:
    from .namespaces import NamespacesExecutor
    from .network import Network

    mine = ids()
    network = Network(probe_file=f"{wanted.root_dir}/network.probe" if wanted.root_dir else "")
    keep = f"{wanted.root_dir}/sandbox" if wanted.root_dir else ""
    executor = NamespacesExecutor(pretend=not mine.chown, network=network, keep=keep)
    lack = executor.probe()
    if lack:
        executor.close()
        return None, "", lack
    words = ["namespaces"]
    if not mine.first:
        words.append("own user namespace" if mine.chown else "own user namespace with a single id")
    if not executor.own_proc:
        words.append("the outer container's /proc")
    words.append(network.describe())
    text = ", ".join(words)
    return executor, f"{text} ({wanted.note})" if wanted.note else text, ""


def mend() -> str:
    """The command or setting that gives namespaces to this process."""
    if os.geteuid() == 0:
        return "run outside of a restricted container, or with --security-opt seccomp=unconfined --cap-add SYS_ADMIN"
    from .userns import hint

    return hint()


def lacking() -> str:
    """Why the namespaces executor can't work here, as far as can be told without trying; or ``""``."""
    if _kernel() < (5, 12):
        return f"Linux {os.uname().release} is older than 5.12"
    for kind in ("mnt", "pid", "ipc", "uts", "net", "cgroup"):
        if not os.path.exists(f"/proc/self/ns/{kind}"):
            return f"the kernel has no {kind} namespaces"
    if not effective() >> CAP_SYS_ADMIN & 1:
        return "CAP_SYS_ADMIN is missing"
    return ""


def _kernel() -> tuple[int, int]:
    from .emulation import kernel_version

    return kernel_version()
