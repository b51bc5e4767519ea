"""What this host offers to the sandbox, each thing tried, with the command that gives what is missing."""

from __future__ import annotations

import os

from ..ids import effective, ids
from ..values import Value


class Check(Value):
    """One thing the sandbox needs or profits from.  ``fix``: the command that gives it; ``vital``: no RUN
    is possible without it."""

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""
    vital: bool = False


def doctor(root_dir: str = "") -> list[Check]:
    """Every check, from the kernel up.  Run before a user namespace is entered."""
    from .emulation import host_arch

    checks = [
        _kernel(),
        _namespaces(),
        _subordinate_ids(),
        _overlay(root_dir),
        _seccomp(),
        _network(),
        _limits(),
    ]
    checks += [_emulation(arch) for arch in ("amd64", "arm64") if arch != host_arch()]
    return [*(c for c in checks if c is not None), _runtime()]


def _kernel() -> Check:
    from .emulation import kernel_version

    fine = kernel_version() >= (5, 12)
    fix = "" if fine else "install Linux 5.12 or newer (6.7 for emulation without registration)"
    return Check("kernel", fine, os.uname().release, fix)


def _namespaces() -> Check:
    """In a process of its own, exactly as a build would do it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.write(writer, _try_namespaces().encode()[:1000])
        finally:
            os._exit(0)
    os.close(writer)
    answer = b""
    while data := os.read(reader, 1000):
        answer += data
    os.close(reader)
    os.waitpid(pid, 0)
    rung, _, lack = answer.decode("utf-8", "replace").partition("|")
    if not lack:
        return Check("namespaces", bool(rung), rung or "the check itself failed", "", vital=True)
    from .select import mend

    return Check(
        "namespaces", False, f"{lack}; RUN steps would use: {rung}", mend(), vital=rung.startswith("none")
    )


def _try_namespaces() -> str:
    from .select import Wanted, choose, lacking

    if os.geteuid() and not effective() >> 21 & 1:
        from .userns import plan_and_enter

        lack = plan_and_enter()
        if lack:
            return f"none|{lack}"
    executor, text = choose(Wanted())
    executor.close()
    return text if executor.name == "namespaces" else f"{executor.name}|{lacking() or text}"


def _subordinate_ids() -> Check | None:
    from .userns import subids_available

    if os.geteuid() == 0:
        return None
    fine = subids_available()
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Check(
        "subordinate ids", fine, "many ids" if fine else "a single id: owners are kept beside the files",
        "" if fine else f"sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
    )  # fmt: skip


def _overlay(root_dir: str) -> Check:
    try:
        with open("/proc/filesystems", encoding="ascii") as file:
            fine = any(line.split()[-1] == "overlay" for line in file)
    except OSError:
        fine = False
    if not fine:
        return Check("overlayfs", False, "not loaded: roots are copied", "sudo modprobe overlay")
    parent = root_dir or "/"
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if root_dir and ids().userxattr and not _user_attributes(parent):
        return Check("overlayfs", False, f"{parent} holds no user.* attributes: roots are copied", "put --root on ext4, xfs or btrfs")  # fmt: skip
    return Check("overlayfs", True, "available")


def _user_attributes(directory: str) -> bool:
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            os.setxattr(file.name, "user.lapstrake.probe", b"x")
    except OSError:
        return False
    return True


def _seccomp() -> Check:
    try:
        from .inner.filter import compile_filter

        return Check("seccomp", True, f"{len(compile_filter()) // 8} instructions", vital=True)
    except OSError as error:
        return Check("seccomp", False, str(error), "sudo apt-get install libseccomp2", vital=True)


def _network() -> Check:
    from .network import TUN, find_pasta

    pasta = find_pasta()
    if not pasta:
        return Check("private network", False, "pasta is not installed: steps use the host's network", "sudo apt-get install passt")  # fmt: skip
    if not os.access(TUN, os.R_OK | os.W_OK):
        fix = f"sudo chmod 666 {TUN}" if os.path.exists(TUN) else "sudo modprobe tun"
        return Check("private network", False, f"{TUN} can't be opened: steps use the host's network", fix)
    return Check("private network", True, pasta)


def _limits() -> Check:
    """Whether --resource can be applied: tried with a real group."""
    from ..errors import BuildError
    from .cgroup import Group

    try:
        with Group((("memory", str(1 << 30)), ("pids-limit", "1000"))) as group:
            return Check("resource limits", True, f"cgroup v{group.version}")
    except BuildError as error:
        return Check("resource limits", False, error.message, error.hint or "")


def _emulation(arch: str) -> Check:
    from ..errors import BuildError
    from .emulation import ensure

    try:
        found = ensure(arch)
    except BuildError as error:
        return Check(f"emulation of {arch}", False, error.message, error.hint or "")
    return Check(f"emulation of {arch}", True, found or "registered on this host")


def _runtime() -> Check:
    from .ociruntime import find_runtime

    found = [name for name in ("crun", "runc") if find_runtime(name)]
    return Check("OCI runtime (optional)", bool(found), ", ".join(found) or "none", "" if found else "sudo apt-get install crun")  # fmt: skip
