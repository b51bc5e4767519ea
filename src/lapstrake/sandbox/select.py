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


class Check(Value):
    """One thing the sandbox needs or profits from.  ``fix``: the command that gives it."""

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""


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
        raise SandboxError(f"no namespaces here: {lack}", hint=wanted.mend or _mend())
    if effective() >> CAP_SYS_CHROOT & 1:
        from .chroot import ChrootExecutor

        return (
            ChrootExecutor(),
            f"chroot, because {lack}: the host's processes and network are visible to steps",
        )
    from .none import NoExecutor

    return NoExecutor(lack, wanted.mend or _mend()), f"none, because {lack}: no command can run"


def _namespaces(wanted: Wanted) -> tuple[Executor | None, str, str]:
    from .namespaces import NamespacesExecutor
    from .network import Network

    mine = ids()
    network = Network(probe_file=f"{wanted.root_dir}/network.probe" if wanted.root_dir else "")
    executor = NamespacesExecutor(pretend=not mine.chown, network=network)
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


def _mend() -> str:
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


def doctor() -> list[Check]:
    """What this host offers, each with the command that would mend it."""
    from .emulation import find_emulator, host_arch
    from .network import find_pasta
    from .ociruntime import find_runtime
    from .userns import subids_available

    root = os.geteuid() == 0
    checks = [_check_kernel(), _check_namespaces(root), _check_overlay(), _check_seccomp()]
    if not root:
        fine = subids_available()
        name = os.environ.get("USER", str(os.getuid()))
        checks.append(
            Check(
                name="subordinate ids",
                ok=fine,
                detail="many ids" if fine else "single id: owners are kept beside the files",
                fix=""
                if fine
                else f"sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
            )
        )
    pasta = find_pasta()
    checks.append(
        Check(
            name="private network",
            ok=bool(pasta),
            detail=pasta or "pasta is not installed: steps use the host's network",
            fix="" if pasta else "apt-get install passt",
        )
    )
    for arch in ("arm64", "amd64"):
        if arch != host_arch():
            found = find_emulator(arch)
            checks.append(
                Check(
                    name=f"emulation of {arch}",
                    ok=bool(found),
                    detail=found or "no static qemu",
                    fix="" if found else "apt-get install qemu-user-static",
                )
            )
    runtimes = [name for name in ("crun", "runc") if find_runtime(name)]
    checks.append(
        Check(
            name="OCI runtime (optional)",
            ok=bool(runtimes),
            detail=", ".join(runtimes) or "none",
            fix="" if runtimes else "apt-get install crun",
        )
    )
    return checks


def _check_kernel() -> Check:
    version = _kernel()
    return Check(
        name="kernel",
        ok=version >= (5, 12),
        detail=os.uname().release,
        fix="" if version >= (5, 12) else "Linux 5.12 or newer (6.7 for emulation without registration)",
    )


def _check_namespaces(root: bool) -> Check:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            from .inner import kernel as k

            k.unshare(
                k.CLONE_NEWNS
                | k.CLONE_NEWNET
                | k.CLONE_NEWIPC
                | k.CLONE_NEWUTS
                | (0 if root else k.CLONE_NEWUSER)
            )
            status = 0
        finally:
            os._exit(status)
    fine = os.waitpid(pid, 0)[1] == 0
    fix = (
        ""
        if fine
        else "run outside of a restricted container, or with --security-opt seccomp=unconfined"
        if root
        else "sudo sysctl -w kernel.unprivileged_userns_clone=1 (or kernel.apparmor_restrict_unprivileged_userns=0)"
    )
    return Check(name="namespaces", ok=fine, detail="available" if fine else "refused by the kernel", fix=fix)


def _check_overlay() -> Check:
    try:
        with open("/proc/filesystems", encoding="ascii") as file:
            fine = any(line.split()[-1] == "overlay" for line in file)
    except OSError:
        fine = False
    return Check(
        name="overlayfs",
        ok=fine,
        detail="available" if fine else "not loaded",
        fix="" if fine else "sudo modprobe overlay",
    )


def _check_seccomp() -> Check:
    try:
        from .inner.filter import compile_filter

        return Check(name="seccomp", ok=True, detail=f"{len(compile_filter()) // 8} instructions")
    except OSError as error:
        return Check(name="seccomp", ok=False, detail=str(error), fix="apt-get install libseccomp2")
