"""The life of one sandboxed process between ``clone`` and ``execve``.

Any failure before ``execve`` is reported over the control socket and ends the process: nothing
ever runs with less isolation than the spec asked for.
"""

from __future__ import annotations

import _socket
import marshal
import os
import resource  # here: after pivot_root nothing can be imported any more

from . import kernel as k
from . import rootfs
from .tables import DEFAULT_CAPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ALL_CAPS = 63
EXEC_NOT_FOUND, EXEC_REFUSED, SETUP_FAILED = 127, 126, 125
_RLIMITS = {
    "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7, "memlock": 8,
    "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}  # fmt: skip


class CannotExecute(Exception):
    """The command itself can't be started; ``status`` is what a shell would give."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def enter(spec: dict[str, Any], report: Any, filters: Any, netns: int) -> None:
    """Set the sandbox up around this process and become the command.  Returns only by raising."""
    mode = spec["mode"]
    if mode == "oci":
        _oci(spec, report)
    elif mode == "chroot":
        _chroot(spec, report, filters)
    elif mode == "namespaces":
        _namespaces(spec, report, filters, netns)
    raise rootfs.Refused(f"unknown mode {mode}")


def _namespaces(spec: dict[str, Any], report: Any, filters: Any, netns: int) -> None:
    k.mount("", "/", "", k.MS_REC | k.MS_PRIVATE)
    k.unshare(k.CLONE_NEWCGROUP)
    if netns >= 0:
        k.setns(netns, k.CLONE_NEWNET)
    elif spec["net"] != "host":
        k.loopback_up()
    interpreter = os.open(spec["binfmt"][0], os.O_RDONLY | os.O_CLOEXEC) if spec["binfmt"] else -1
    root = rootfs.open_root(*spec["root"])
    if not spec["insecure"]:
        rootfs.forbid_devices(root)
    with rootfs.Staging(root) as staging:
        order = sorted(spec["mounts"], key=rootfs.depth)
        trees = [rootfs.prepare(staging, n, mount, not spec["insecure"]) for n, mount in enumerate(order)]
    rootfs.mount_system(root, spec)
    devices(root, spec["devices"])
    for mount, (tree, directory) in zip(order, trees, strict=True):
        root.attach(tree, mount["target"], directory)
    if not spec["insecure"]:
        rootfs.hide(root)
    if spec["readonly_root"]:
        tree = os.open(spec["root"][0], os.O_PATH | os.O_CLOEXEC)
        k.mount_setattr(tree, k.ATTR_RDONLY, False)
        os.close(tree)
    report(("stubs", root.stubs))
    os.fchdir(root.fd)
    k.pivot_root_here()
    try:
        k.sethostname(spec["hostname"])
    except PermissionError:
        pass  # an outer container's filter; the namespace is our own all the same, only its name isn't
    if interpreter >= 0:
        _emulate(spec["binfmt"][1], interpreter)
    become(spec, filters)


def devices(root: rootfs.Root, wanted: list[str]) -> None:
    """Host device nodes: ``host[:inside[:rwm]]``."""
    for entry in wanted:
        source, _, rest = entry.partition(":")
        inside = rest.partition(":")[0] or source
        if os.stat(source).st_mode & 0o170000 not in (0o020000, 0o060000):
            raise rootfs.Refused(f"{source} is not a device")
        root.attach(k.open_tree(k.AT_FDCWD, source, False), inside, False)


def _emulate(registration: bytes, interpreter: int) -> None:
    """Register an interpreter in a binfmt_misc of this run's own user namespace (Linux 6.7+)."""
    maps = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/self/{name}", "rb") as file:
            maps.append(
                b"".join(b"%s %s %s\n" % (line.split()[0], line.split()[0], line.split()[2]) for line in file)
            )
    reader, writer = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        status = 1
        try:
            os.close(writer)
            os.read(reader, 1)
            for name, text in zip(("uid_map", "gid_map"), maps, strict=True):
                with open(f"/proc/1/{name}", "wb") as file:
                    file.write(text)
            status = 0
        finally:
            os._exit(status)
    k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS)
    os.close(writer)
    os.close(reader)
    if os.waitpid(mapper, 0)[1]:
        raise rootfs.Refused("the user namespace for emulation could not be mapped")
    where = "/proc/sys/fs/binfmt_misc"
    tree = k.new_mount("binfmt_misc")
    target = os.open(where, os.O_PATH | os.O_CLOEXEC)
    k.move_mount(tree, target)
    with open(f"{where}/register", "wb") as file:
        file.write(registration.replace(b"@INTERPRETER@", b"/proc/self/fd/%d" % interpreter))
    os.close(target)
    os.close(tree)
    os.close(interpreter)
    cover = k.new_mount("tmpfs", k.ATTR_RDONLY, (("size", "0"), ("mode", "555")))
    target = os.open(where, os.O_PATH | os.O_CLOEXEC)
    k.move_mount(cover, target)  # the registration lives as long as the mount below
    os.close(target)
    os.close(cover)


def become(spec: dict[str, Any], filters: Any) -> None:
    """Limits, identity, capabilities, seccomp; then the command."""
    for name, soft, hard in spec["ulimits"]:
        number = _RLIMITS.get(name.removeprefix("RLIMIT_").lower())
        if number is None:
            raise rootfs.Refused(f"unknown ulimit {name!r}")
        resource.setrlimit(number, (soft, hard))
    if not spec["insecure"]:
        if spec["pretend"]:
            _hand_over(k.load_seccomp_listener(filters()), spec)
        else:
            k.load_seccomp(filters())
        for cap in range(_ALL_CAPS):
            if not DEFAULT_CAPS >> cap & 1:
                try:
                    k.prctl(k.PR_CAPBSET_DROP, cap)
                except k.KernelError as error:
                    if error.errno == 22 and cap > 30:  # past this kernel's last capability
                        break
                    raise
    k.libc.umask(0o022)
    _identity(spec)
    if not spec["insecure"]:
        effective, permitted, _ = k.capget()
        k.capset(effective & DEFAULT_CAPS, permitted & DEFAULT_CAPS, 0)
    k.prctl(k.PR_SET_PDEATHSIG, 9)
    if os.getppid() != 0 and spec["mode"] == "namespaces":
        raise rootfs.Refused("not the first process of a new pid namespace")
    _chdir(spec["cwd"])
    execute(spec["args"], spec["env"])


def _hand_over(listener: int, spec: dict[str, Any]) -> None:
    """Give the supervisor of owners what it needs: nothing that it answers may be called before."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    rights = b"".join(fd.to_bytes(4, "little") for fd in (listener, namespace))
    channel = _socket.socket(fileno=spec["channel"])
    message = marshal.dumps((spec["uid"], spec["gid"], list(spec["groups"])))
    channel.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    channel.close()
    for fd in (listener, namespace):
        os.close(fd)


def _identity(spec: dict[str, Any]) -> None:
    uid, gid, groups = spec["uid"], spec["gid"], spec["groups"]
    try:
        if not spec["pretend"]:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise rootfs.Refused(f"cannot become user {uid}:{gid}: {error.strerror}") from None


def _chdir(cwd: str) -> None:
    try:
        os.chdir(cwd)
        inside = os.getcwd()
    except OSError as error:
        raise rootfs.Refused(f"cannot change to working directory {cwd}: {error.strerror}") from None
    if not inside.startswith("/"):
        raise rootfs.Refused(f"working directory {cwd} is not inside the root")


def execute(args: list[str], env: list[str]) -> None:
    """``execve`` with a PATH search in the spec's own environment."""
    name = args[0]
    variables = [os.fsencode(item) for item in env]
    path = next((item[5:] for item in reversed(env) if item.startswith("PATH=")), "")
    k.close_on_exec_from(3)
    candidates = (
        [name] if "/" in name else [f"{part or '.'}/{name}" for part in path.split(":")] if path else []
    )
    refused = False
    environment = dict(item.partition(b"=")[::2] for item in variables)
    for candidate in candidates:
        try:
            if not os.path.isdir(candidate):
                os.execve(candidate, args, environment)
            refused = True
        except PermissionError:
            refused = True
        except (FileNotFoundError, NotADirectoryError):
            if "/" in name:
                raise CannotExecute(f'exec: "{name}": no such file or directory', EXEC_NOT_FOUND) from None
        except OSError as error:
            text = (error.strerror or "").lower()
            raise CannotExecute(f'exec: "{candidate}": {text}', EXEC_REFUSED) from None
    if refused:
        raise CannotExecute(f'exec: "{name}": permission denied', EXEC_REFUSED)
    raise CannotExecute(f'exec: "{name}": executable file not found in $PATH', EXEC_NOT_FOUND)


def _oci(spec: dict[str, Any], report: Any) -> None:
    """Mount everything in a private namespace, then hand over to an OCI runtime."""
    k.mount("", "/", "", k.MS_REC | k.MS_PRIVATE)
    bundle = spec["bundle"]
    proc = k.new_mount("proc", k.ATTR_NOSUID | k.ATTR_NODEV | k.ATTR_NOEXEC)
    target = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    k.move_mount(proc, target)
    os.close(proc)
    os.close(target)
    if spec["unified"] and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        tree = k.new_mount("cgroup2")  # crun refuses a hybrid hierarchy, even one it isn't to touch
        target = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC)
        k.move_mount(tree, target)
        os.close(tree)
        os.close(target)
    k.mount("tmpfs", bundle, "tmpfs", k.MS_NODEV | k.MS_NOSUID, "mode=700")
    for name in ("rootfs", "mounts", "state", "work"):
        os.mkdir(f"{bundle}/{name}", 0o755)
    upper, lowers, work, userxattr = spec["root"]
    root = rootfs.open_root(upper, lowers, work, userxattr, f"{bundle}/rootfs")
    rootfs.forbid_devices(root)
    with rootfs.Staging(root) as staging:
        for number, mount in enumerate(spec["mounts"]):
            tree, directory = rootfs.prepare(staging, number, mount)
            where = f"{bundle}/mounts/{number}"
            if directory:
                os.mkdir(where)
            else:
                os.close(os.open(where, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            target = os.open(where, os.O_PATH | os.O_CLOEXEC)
            k.move_mount(tree, target)
            os.close(target)
            os.close(tree)
            os.close(root.ensure(mount["target"], directory))
    for name in ("proc", "sys", "dev"):
        os.close(root.ensure(name, True))
    report(("stubs", root.stubs))
    with open(f"{bundle}/config.json", "wb") as file:
        file.write(spec["config"])
    os.chdir(bundle)
    k.prctl(k.PR_SET_PDEATHSIG, 9)
    execute(spec["args"], spec["env"])


def _chroot(spec: dict[str, Any], report: Any, filters: Any) -> None:
    """No namespaces at all: a changed root and a changed identity."""
    upper, lowers, _work, _userxattr = spec["root"]
    if lowers:
        raise rootfs.Refused("the chroot executor needs a plain directory as its root")
    root = rootfs.Root(upper)
    for mount in spec["mounts"]:
        if mount["kind"] == "tmpfs":
            os.close(root.ensure(mount["target"], True))
        elif mount["kind"] == "file":
            _place_file(root, mount)
        else:
            raise rootfs.Refused(
                f"the chroot executor has no {mount['kind']} mounts (target {mount['target']})"
            )
    for name in rootfs.NODES:
        _make_node(root, name)
    report(("stubs", root.stubs))
    os.fchdir(root.fd)
    os.chroot(".")
    if not k.capget()[0] >> 21 & 1:  # without CAP_SYS_ADMIN a filter needs this
        k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    become(spec, filters)


def _cover(root: rootfs.Root, target: str) -> int:
    """Put the image's file out of the way; it comes back after the run."""
    fd = root.open(target)
    real = os.readlink(f"/proc/self/fd/{fd}").removeprefix(root.where).strip("/")
    os.close(fd)
    os.makedirs(f"{root.where}-saved", 0o700, exist_ok=True)
    quoted = real.replace("%", "%25").replace("/", "%2F")
    parent = root.open(os.path.dirname(real), os.O_DIRECTORY | os.O_PATH)
    before = os.stat(parent).st_mtime_ns
    os.rename(os.path.basename(real), f"{root.where}-saved/{quoted}", src_dir_fd=parent)
    os.close(parent)
    root.stubs.append((real, 4, before, 0))
    fd = root.ensure(real, False)
    _path, _kind, _before, after = root.stubs.pop()
    root.stubs[-1] = (real, 4, before, after)
    return fd


def _make_node(root: rootfs.Root, name: str) -> None:
    """A device node that the image lacks, for the time of the run."""
    dev = root.ensure("dev", True)
    try:
        before = os.stat(dev).st_mtime_ns
        os.mknod(name, 0o020666, os.stat(f"/dev/{name}").st_rdev, dir_fd=dev)
        os.chmod(name, 0o666, dir_fd=dev)
        root.stubs.append((f"dev/{name}", 3, before, os.stat(dev).st_mtime_ns))
    except FileExistsError:
        pass
    except PermissionError:
        raise rootfs.Refused(f"/dev/{name} can't be made for the step: CAP_MKNOD is missing") from None
    finally:
        os.close(dev)


def _place_file(root: rootfs.Root, mount: dict[str, Any]) -> None:
    known = len(root.stubs)
    fd = root.ensure(mount["target"], False)
    try:
        if len(root.stubs) == known:
            os.close(fd)
            fd = _cover(root, mount["target"])
        path, kind, before, after = root.stubs[-1]
        root.stubs[-1] = (path, max(kind, 2), before, after)  # it goes whatever it holds by then
        with open(f"/proc/self/fd/{fd}", "wb") as file:
            file.write(mount["data"] or b"")
            os.fchmod(file.fileno(), mount["mode"])
            os.fchown(file.fileno(), mount["uid"], mount["gid"])
    finally:
        os.close(fd)
