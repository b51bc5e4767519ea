"""Choosing an executor, and saying what a host lacks."""

from __future__ import annotations

import os

from ..errors import SandboxError, UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .spec import Executor

ISOLATIONS = ("auto", "namespaces", "oci", "crun", "runc", "chroot")
STRENGTH = {"chroot": 0, "namespaces": 1, "crun": 1, "runc": 1}  # for --min-isolation


class Check(Value):
    """One thing the sandbox needs or profits from.  ``fix``: the command that gives it."""

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""


def choose(
    isolation: str = "auto", root_dir: str = "", *, single_id: bool = False, min_isolation: str = ""
) -> Executor:
    """The executor for ``isolation``; ``auto`` takes the strongest that works and notes why.

    ``single_id``: the user namespace maps one id only.  ``min_isolation``: refuse anything weaker.
    """
    if isolation not in ISOLATIONS:
        raise UsageError(f"isolation {isolation!r} is unknown", hint=f"known: {', '.join(ISOLATIONS)}")
    if min_isolation and min_isolation not in STRENGTH:
        raise UsageError(f"isolation {min_isolation!r} is unknown", hint=f"known: {', '.join(STRENGTH)}")
    executor = _make(isolation, root_dir, single_id)
    if min_isolation and STRENGTH.get(executor.name, 0) < STRENGTH[min_isolation]:
        executor.close()
        raise SandboxError(
            f"this host only offers {executor.name}, weaker than {min_isolation}",
            hint="lapstrake doctor says what is missing",
        )
    return executor


def _make(isolation: str, root_dir: str, single_id: bool) -> Executor:
    if isolation in ("oci", "crun", "runc"):
        from .ociruntime import OciRuntimeExecutor, find_runtime

        name = (
            isolation
            if isolation != "oci"
            else next((n for n in ("crun", "runc") if find_runtime(n)), "crun")
        )
        return OciRuntimeExecutor(runtime=name)
    if isolation == "chroot":
        from .chroot import ChrootExecutor

        return ChrootExecutor()
    missing = lacking() if isolation == "auto" else ""
    if not missing or isolation == "namespaces" or os.geteuid() != 0:
        from .namespaces import NamespacesExecutor
        from .network import Network

        return NamespacesExecutor(
            pretend=single_id, network=Network(probe_file=f"{root_dir}/network.probe" if root_dir else "")
        )
    from .chroot import ChrootExecutor

    executor = ChrootExecutor()
    executor.notes.insert(0, f"no namespaces here: {missing}")
    return executor


def lacking() -> str:
    """Why the namespaces executor can't work here, as far as can be told without trying; or ``""``."""
    if _kernel() < (5, 12):
        return f"Linux {os.uname().release} is older than 5.12"
    for kind in ("mnt", "pid", "ipc", "uts", "net", "cgroup"):
        if not os.path.exists(f"/proc/self/ns/{kind}"):
            return f"the kernel has no {kind} namespaces"
    capabilities = _status("CapEff")
    if capabilities and not int(capabilities, 16) >> 21 & 1:
        return "CAP_SYS_ADMIN is missing"
    return ""


def _kernel() -> tuple[int, int]:
    from .emulation import kernel_version

    return kernel_version()


def _status(key: str) -> str:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(f"{key}:"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


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
