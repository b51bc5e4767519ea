"""Becoming root in a user namespace of one's own, once, before any thread exists."""

from __future__ import annotations

import os

from ..errors import SandboxError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SIGNALS = (1, 2, 3, 10, 12, 15, 28)  # HUP INT QUIT USR1 USR2 TERM WINCH


class Mapping(Value):
    """How ids are mapped.  ``single``: one id only, so changes of owner must be pretended."""

    single: bool
    uids: tuple[tuple[int, int, int], ...]  # (inside, outside, count)
    gids: tuple[tuple[int, int, int], ...]


def subids_available(uid: int | None = None) -> bool:
    """Whether this user has subordinate ids and the set-uid tools to map them."""
    uid = os.getuid() if uid is None else uid
    return bool(
        _tool("newuidmap")
        and _tool("newgidmap")
        and ranges("/etc/subuid", uid)
        and ranges("/etc/subgid", uid)
    )


def ranges(path: str, uid: int) -> list[tuple[int, int]]:
    """(first, count) lines of /etc/subuid or /etc/subgid for a user, by name or number."""
    import pwd

    names = {str(uid)}
    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.strip().split(":")
                if (
                    len(fields) == 3
                    and fields[0] in names
                    and fields[1].isdigit()
                    and fields[2].isdigit()
                    and int(fields[2]) > 0
                ):
                    found.append((int(fields[1]), int(fields[2])))
    except OSError:
        return []
    return found


def plan(uid: int, gid: int, subuids: list[tuple[int, int]], subgids: list[tuple[int, int]]) -> Mapping:
    """The maps: root is the caller, 1 and up are the subordinate ids."""
    single = not (subuids and subgids)
    maps = []
    for own, subordinate in ((uid, subuids), (gid, subgids)):
        lines, inside = [(0, own, 1)], 1
        for first, count in [] if single else subordinate:
            lines.append((inside, first, count))
            inside += count
        maps.append(tuple(lines))
    return Mapping(single=single, uids=maps[0], gids=maps[1])


def enter(*, force_single: bool = False) -> Mapping | None:
    """Go on as root of a new user and mount namespace; None if the caller is root already.

    Forks: the child returns from here, the parent stays behind, passes signals on and ends with
    the child's status.  Must be called before the process has any other thread.
    """
    if os.geteuid() == 0:
        return None
    uid, gid = os.getuid(), os.getgid()
    usable = not force_single and subids_available(uid)
    mapping = plan(
        uid, gid, ranges("/etc/subuid", uid) if usable else [], ranges("/etc/subgid", uid) if usable else []
    )
    ready_r, ready_w = os.pipe()
    mapped_r, mapped_w = os.pipe()
    child = os.fork()
    if child:
        os.close(ready_w)
        os.close(mapped_r)
        _stay_behind(child, mapping, ready_r, mapped_w)
    os.close(ready_r)
    os.close(mapped_w)
    from .inner import kernel as k

    try:
        k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS)
    except OSError as error:
        raise SandboxError(f"no user namespace can be had: {error.strerror}", hint=_hint()) from None
    k.prctl(k.PR_SET_PDEATHSIG, 15)
    os.write(ready_w, b"1")
    os.close(ready_w)
    answer = os.read(mapped_r, 4096)
    os.close(mapped_r)
    if answer != b"ok":
        raise SandboxError(
            f"the ids of the user namespace can't be mapped: {answer.decode('utf-8', 'replace') or 'the parent died'}",
            hint="check /etc/subuid and /etc/subgid, or remove your lines there to use a single id",
        )
    if not mapping.single:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    k.mount("", "/", "", k.MS_REC | (1 << 19))  # MS_SLAVE: nothing we mount is seen outside
    return mapping


def _stay_behind(child: int, mapping: Mapping, ready: int, mapped: int) -> NoReturn:
    import signal

    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, lambda received, _frame: _pass_on(child, received))
        if os.read(ready, 1):
            os.write(mapped, _map(child, mapping).encode() or b"ok")
        os.close(mapped)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = code if code >= 0 else 128 - code
    finally:
        os._exit(status)


def _pass_on(child: int, number: int) -> None:
    try:
        if number != 2 or not os.isatty(0):  # the terminal has sent it to both of us
            os.kill(child, number)
    except ProcessLookupError:
        pass


def _map(child: int, mapping: Mapping) -> str:
    """Write the maps of ``child``; an error text, or ``""``."""
    try:
        if mapping.single:
            _write(f"/proc/{child}/setgroups", "deny")
            for name, lines in (("uid_map", mapping.uids), ("gid_map", mapping.gids)):
                _write(f"/proc/{child}/{name}", "".join(f"{a} {b} {c}\n" for a, b, c in lines))
            return ""
        for tool, lines in (("newuidmap", mapping.uids), ("newgidmap", mapping.gids)):
            program = _tool(tool)
            arguments = [program, str(child), *(str(n) for line in lines for n in line)]
            if os.waitpid(os.posix_spawn(program, arguments, dict(os.environ)), 0)[1]:
                return f"{tool} failed"
    except OSError as error:
        return f"{error.strerror} ({error.filename})"
    return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _tool(name: str) -> str:
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return ""


def _hint() -> str:
    for path, wanted, command in (
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "1",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "0",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        try:
            with open(path, encoding="ascii") as file:
                if file.read().strip() != wanted:
                    return command
        except OSError:
            continue
    return "sudo sysctl -w user.max_user_namespaces=10000"
