"""Building the new root: overlay, mounts, device nodes, masked paths.

Everything happens in the run's own mount namespace.  Targets are only ever reached through
descriptors resolved with RESOLVE_IN_ROOT, so no symlink of the image leads outside of it.
"""

from __future__ import annotations

import os

from . import kernel as k
from .tables import MASKED, READONLY

_IN_ROOT = k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS
_DIR, _PATH = os.O_DIRECTORY | os.O_PATH, os.O_PATH
_HARDENED = k.ATTR_NOSUID | k.ATTR_NODEV | k.ATTR_NOEXEC

NODES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


class Refused(Exception):
    """The spec asks for something that can't be done; the text is for the user."""


class Root:
    """The new root while it is being put together."""

    def __init__(self, where: str) -> None:
        self.where = where  # host path the root is attached at
        self.fd = os.open(where, _DIR)
        self.stubs: list[
            tuple[str, int, int, int]
        ] = []  # path; 0 file, 1 directory, 2 file with content; parent's mtime before and after
        self._prefix = os.readlink(f"/proc/self/fd/{self.fd}").rstrip("/") + "/"

    def open(self, path: str, flags: int = _PATH) -> int:
        """An O_PATH descriptor of ``path`` as the sandbox will see it."""
        return k.openat2(self.fd, path.lstrip("/") or ".", flags, _IN_ROOT)

    def ensure(self, path: str, directory: bool) -> int:
        """Like ``open``, creating what is missing and noting it in ``stubs``."""
        todo = [part for part in path.split("/") if part and part != "."]
        done: list[str] = []
        links = 0
        fd = self.open("")
        try:
            while todo:
                name = todo.pop(0)
                if name == "..":
                    done = done[:-1]
                    following = self.open("/".join(done))
                else:
                    last = not todo
                    try:
                        following = self.open("/".join([*done, name]))
                    except FileNotFoundError:
                        target = _readlink(fd, name)
                        if target is not None:  # dangling: its target is what has to be made
                            links += 1
                            if links > 40:
                                raise Refused(f"too many symbolic links in mount target {path}") from None
                            if target.startswith("/"):
                                done = []
                            todo[:0] = [part for part in target.split("/") if part and part != "."]
                            os.close(fd)
                            fd = -1
                            fd = self.open("/".join(done))
                            continue
                        self._create(fd, name, directory or not last)
                        following = self.open("/".join([*done, name]))
                    done.append(name)
                os.close(fd)
                fd = following
            result, fd = fd, -1
            return result
        finally:
            if fd >= 0:
                os.close(fd)

    def _create(self, parent: int, name: str, directory: bool) -> None:
        inside = os.readlink(f"/proc/self/fd/{parent}")
        real = (inside + "/").removeprefix(self._prefix).strip("/")
        noted = (inside + "/").startswith(self._prefix) and self._on_root(real)
        before = os.stat(parent).st_mtime_ns
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(
                os.open(
                    name,
                    os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    0o644,
                    dir_fd=parent,
                )
            )
        if noted:
            self.stubs.append(
                (f"{real}/{name}".lstrip("/"), int(directory), before, os.stat(parent).st_mtime_ns)
            )

    def _on_root(self, real: str) -> bool:
        try:
            os.close(
                k.openat2(
                    self.fd, real or ".", _PATH, k.RESOLVE_BENEATH | k.RESOLVE_NO_SYMLINKS | k.RESOLVE_NO_XDEV
                )
            )
        except OSError:
            return False
        return True

    def attach(self, tree: int, path: str, directory: bool = True) -> None:
        """Mount a detached tree on ``path`` (created if missing) and close it."""
        target = self.ensure(path, directory)
        try:
            k.move_mount(tree, target)
        finally:
            os.close(target)
            os.close(tree)


def _readlink(dirfd: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=dirfd)
    except OSError:
        return None


def overlay(lowers: list[str], upper: str, work: str, userxattr: bool) -> int | None:
    """A detached overlay mount, or None where the kernel lacks ``lowerdir+`` (before 6.5)."""
    context = k.fsopen("overlay")
    try:
        try:
            for lower in lowers:
                k.fsconfig(context, "lowerdir+", lower)
        except k.KernelError as error:
            if error.errno == 22 and not k.context_log(context):
                return None
            raise
        if upper:
            k.fsconfig(context, "upperdir", upper)
            k.fsconfig(context, "workdir", work)
            k.fsconfig(context, "volatile", None)  # no sync of the whole disk at each unmount
        for option, value in _overlay_options(userxattr):
            k.fsconfig(context, option, value)
        return k.fsmount(context, "overlay")
    finally:
        os.close(context)


def _overlay_options(userxattr: bool) -> tuple[tuple[str, str | None], ...]:
    if userxattr:
        return (("userxattr", None),)
    return (("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"))


def mount_overlay(lowers: list[str], upper: str, work: str, userxattr: bool, where: str) -> None:
    """Attach an overlay at the host path ``where`` (in this mount namespace)."""
    tree = overlay(lowers, upper, work, userxattr)
    if tree is not None:
        target = os.open(where, _DIR)
        k.move_mount(tree, target)
        os.close(tree)
        os.close(target)
        return
    options = [f"lowerdir={':'.join(_escape(p) for p in lowers)}"]
    if upper:
        options += [f"upperdir={_escape(upper)}", f"workdir={_escape(work)}", "volatile"]
    options += [key if value is None else f"{key}={value}" for key, value in _overlay_options(userxattr)]
    data = ",".join(options)
    if len(os.fsencode(data)) > 4095:
        raise Refused("too many layers for this kernel's overlayfs (Linux 6.5 or newer has no such limit)")
    k.mount("overlay", where, "overlay", 0, data)


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def open_root(upper: str, lowers: list[str], work: str, userxattr: bool, where: str = "") -> Root:
    """Mount the root file system at ``where`` (default: over ``upper`` itself)."""
    where = where or upper
    if lowers:
        mount_overlay(lowers, upper, work, userxattr, where)
    else:
        tree = k.open_tree(k.AT_FDCWD, upper, False)
        target = os.open(where, _DIR)
        k.move_mount(tree, target)
        os.close(tree)
        os.close(target)
    return Root(where)


def forbid_devices(root: Root) -> None:
    """No device of the machine can be opened through the root, whatever nodes the image or a step puts there.

    Docker leaves that to the devices cgroup; those in /dev are mounts of their own.
    """
    k.mount_setattr(root.fd, k.ATTR_NODEV, False)


def own_proc() -> bool:
    """Whether a /proc of our own can be mounted; not below masked paths of an outer container."""
    try:
        os.close(k.new_mount("proc", _HARDENED))
    except k.KernelError as error:
        if error.errno != 1:
            raise
        return False
    return True


def mount_system(root: Root, spec: dict[str, object]) -> None:
    """/proc, /sys, /dev and what belongs into them."""
    for name in ("proc", "sys"):
        if _readlink(root.fd, name) is not None:
            raise Refused(f"/{name} is a symbolic link in this image")
    if spec["own_proc"]:
        root.attach(k.new_mount("proc", _HARDENED), "proc")
    else:  # the outer container's, as masked as it is there
        tree = k.open_tree(k.AT_FDCWD, "/proc")
        k.mount_setattr(tree, _HARDENED)
        root.attach(tree, "proc")
    insecure = bool(spec["insecure"])
    sysattr = _HARDENED | (0 if insecure else k.ATTR_RDONLY)
    try:
        tree = k.new_mount("sysfs", sysattr)
    except k.KernelError as error:
        if error.errno != 1:
            raise
        tree = k.open_tree(k.AT_FDCWD, "/sys")  # host network inside a user namespace
        k.mount_setattr(tree, sysattr)
    root.attach(tree, "sys")
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        try:
            root.attach(k.new_mount("cgroup2", sysattr), "sys/fs/cgroup")
        except k.KernelError:
            pass  # a convenience: tools that size themselves by their cgroup fall back
    _mount_dev(root, int(str(spec["shm"])), insecure)


def _mount_dev(root: Root, shm: int, insecure: bool) -> None:
    attributes = k.ATTR_NOSUID | (0 if insecure else k.ATTR_NODEV)
    root.attach(k.new_mount("tmpfs", attributes, (("mode", "755"), ("size", "65536k"))), "dev")
    dev = root.open("dev", _DIR)
    try:
        names = _host_nodes() if insecure else NODES
        for name in names:
            tree = k.open_tree(k.AT_FDCWD, f"/dev/{name}", False)
            os.makedirs(f"/proc/self/fd/{dev}/{os.path.dirname(name)}", exist_ok=True)
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=dev))
            target = os.open(name, _PATH | os.O_CLOEXEC, dir_fd=dev)
            k.move_mount(tree, target)
            os.close(target)
            os.close(tree)
        for name, to in LINKS:
            os.symlink(to, name, dir_fd=dev)
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, 0o755, dir_fd=dev)
    finally:
        os.close(dev)
    pts: tuple[tuple[str, str | None], ...] = (("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620"))
    try:
        tree = k.new_mount("devpts", k.ATTR_NOSUID | k.ATTR_NOEXEC, (*pts, ("gid", "5")))
    except k.KernelError:  # gid 5 (tty) is not mapped into this user namespace
        tree = k.new_mount("devpts", k.ATTR_NOSUID | k.ATTR_NOEXEC, pts)
    root.attach(tree, "dev/pts")
    root.attach(k.new_mount("tmpfs", _HARDENED, (("mode", "1777"), ("size", str(shm)))), "dev/shm")
    root.attach(k.new_mount("mqueue", _HARDENED), "dev/mqueue")


def _host_nodes() -> list[str]:
    found = []
    for directory, names, files in os.walk("/dev"):
        names[:] = [
            n
            for n in names
            if os.path.join(directory, n) not in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd")
        ]
        for name in files:
            path = os.path.join(directory, name)
            if (
                not os.path.islink(path)
                and name not in ("ptmx", "console")
                and os.lstat(path).st_mode & 0o170000 in (0o020000, 0o060000)
            ):
                found.append(path.removeprefix("/dev/"))
    return found


def hide(root: Root) -> None:
    """Docker's masked and read-only paths."""
    for path in READONLY:
        try:
            fd = root.open(path)
        except FileNotFoundError:
            continue
        tree = k.open_tree(fd, "")
        k.mount_setattr(tree, k.ATTR_RDONLY)
        k.move_mount(tree, fd)
        os.close(tree)
        os.close(fd)
    for path in MASKED:
        try:
            fd = root.open(path)
        except FileNotFoundError:
            continue
        if os.fstat(fd).st_mode & 0o170000 == 0o040000:
            tree = k.new_mount("tmpfs", _HARDENED | k.ATTR_RDONLY, (("size", "0"), ("mode", "555")))
        else:
            tree = k.open_tree(k.AT_FDCWD, "/dev/null", False)
        k.move_mount(tree, fd)
        os.close(tree)
        os.close(fd)


class Staging:
    """A tmpfs on which the contents of file mounts and the writable sides of overlay mounts live.

    It is attached over the root's /proc before that is mounted, and detached again: only the
    binds made from it stay.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self.path = ""

    def __enter__(self) -> Staging:
        return self

    def place(self) -> str:
        """The staging directory's path, mounted on first use."""
        if not self.path:
            target = self.root.ensure("proc", True)
            tree = k.new_mount("tmpfs", k.ATTR_NODEV, (("mode", "755"),))
            k.move_mount(tree, target)
            os.close(tree)
            os.close(target)
            self.path = f"{self.root.where}/proc"
        return self.path

    def __exit__(self, *_exc: object) -> None:
        if self.path:
            k.umount(self.path)


def prepare(staging: Staging, number: int, mount: dict[str, object], nodev: bool = True) -> tuple[int, bool]:
    """The detached tree for one mount of the spec, and whether it is a directory."""
    kind, readonly = str(mount["kind"]), bool(mount["readonly"])
    if kind == "tmpfs":
        return _tmpfs(mount), True
    if kind == "file":
        tree, directory = _file(staging.place(), number, mount), False
    elif kind == "overlay":
        tree, directory = _overlay_mount(staging, number, mount)
    elif kind == "bind":
        tree, directory = _bind(str(mount["source"]), str(mount["subpath"]))
    else:
        raise Refused(f"mount kind {kind!r} is unknown")
    attributes = (k.ATTR_RDONLY if readonly else 0) | (k.ATTR_NODEV if nodev else 0)
    if attributes:
        k.mount_setattr(tree, attributes)
    return tree, directory


def _tmpfs(mount: dict[str, object]) -> int:
    options: list[tuple[str, str | None]] = [("mode", f"{mount['mode']:o}")]
    if mount["size"]:
        options.append(("size", str(mount["size"])))
    options += [(key, str(mount[key])) for key in ("uid", "gid") if mount[key]]
    attrs = k.ATTR_NOSUID | k.ATTR_NODEV | (k.ATTR_RDONLY if mount["readonly"] else 0)
    return k.new_mount("tmpfs", attrs, tuple(options))


def _file(place: str, number: int, mount: dict[str, object]) -> int:
    path = f"{place}/f{number}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    data = memoryview(mount["data"] or b"")  # type: ignore[arg-type]
    while data:
        data = data[os.write(fd, data) :]
    if mount["uid"] or mount["gid"]:
        os.fchown(fd, int(str(mount["uid"])), int(str(mount["gid"])))
    os.fchmod(fd, int(str(mount["mode"])))
    os.close(fd)
    return k.open_tree(k.AT_FDCWD, path, False)


def _overlay_mount(staging: Staging, number: int, mount: dict[str, object]) -> tuple[int, bool]:
    lowers = [str(p) for p in mount["lowers"]] or [str(mount["source"])]  # type: ignore[attr-defined]
    subpath = str(mount["subpath"])
    if mount["readonly"] and len(lowers) == 1:
        return _bind(lowers[0], subpath)
    base = f"{staging.place()}/o{number}"
    where = f"{base}/m"
    for name in (base, f"{base}/u", f"{base}/w", where):
        os.mkdir(name, 0o755)
    state = os.stat(lowers[0])
    os.chmod(f"{base}/u", state.st_mode & 0o7777)
    os.chown(f"{base}/u", state.st_uid, state.st_gid)
    upper, work = ("", "") if mount["readonly"] else (f"{base}/u", f"{base}/w")
    mount_overlay(lowers, upper, work, bool(mount.get("userxattr")), where)
    return _bind(where, subpath)


def _bind(source: str, subpath: str) -> tuple[int, bool]:
    if subpath.strip("/"):
        base = os.open(source, _DIR | os.O_CLOEXEC)
        try:
            fd = k.openat2(base, subpath.lstrip("/"), _PATH, _IN_ROOT)
        finally:
            os.close(base)
    else:
        fd = os.open(source, _PATH | os.O_CLOEXEC)
    try:
        return k.open_tree(fd, ""), os.fstat(fd).st_mode & 0o170000 == 0o040000
    finally:
        os.close(fd)


def depth(mount: dict[str, object]) -> int:
    """How deep a mount's target is: parents are mounted before children."""
    return len([part for part in str(mount["target"]).split("/") if part and part != "."])
