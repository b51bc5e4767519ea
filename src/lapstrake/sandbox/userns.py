"""Becoming root in a user namespace of one's own, once, before any thread exists."""

from __future__ import annotations

import os

from ..errors import SandboxError
from ..ids import CAP_SYS_ADMIN, effective, forget
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
    tool: bool = True  # newuidmap writes the maps; else we may ourselves


class Entered(Value):
    """How it went.  ``note``: what to tell the user; ``lack``: why there is no namespace, ``hint``: what mends it."""

    note: str = ""
    lack: str = ""
    hint: str = ""


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


def enter(*, force_single: bool = False) -> Entered | None:
    """Go on as root of a new user and mount namespace; None if that is not needed.

    Forks: the child returns from here, the parent stays behind, passes signals on and ends with
    the child's status.  Must be called before the process has any other thread.  Where no
    namespace can be had the process goes on without one: ``Entered.lack`` says why, and no step
    that runs a command will be possible unless a changed root is.
    """
    if effective() >> CAP_SYS_ADMIN & 1:
        return None
    from .inner import kernel as k

    mapping, note = _wanted_mapping(force_single)
    ready_r, ready_w = os.pipe()
    mapped_r, mapped_w = os.pipe()
    before = os.getpid()
    child = os.fork()
    if child:
        os.close(ready_w)
        os.close(mapped_r)
        _stay_behind(child, mapping, ready_r, mapped_w)
    os.close(ready_r)
    os.close(mapped_w)
    try:
        k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS)
    except OSError as error:
        os.close(ready_w)
        os.close(mapped_r)
        k.prctl(k.PR_SET_PDEATHSIG, 15)
        return Entered(lack=f"no user namespace can be had ({error.strerror})", hint=hint())
    os.write(ready_w, b"1")
    os.close(ready_w)
    answer = os.read(mapped_r, 4096).decode("utf-8", "replace")
    os.close(mapped_r)
    if not answer.startswith("ok"):
        raise SandboxError(
            f"the ids of the user namespace can't be mapped: {answer or 'the parent died'}",
            hint="check /etc/subuid and /etc/subgid, or remove your lines there to use a single id",
        )
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    k.prctl(k.PR_SET_PDEATHSIG, 15)  # after the change of ids, which clears it
    if os.getppid() != before:
        os.kill(os.getpid(), 15)
    k.mount("", "/", "", k.MS_REC | (1 << 19))  # MS_SLAVE: nothing we mount is seen outside
    forget()
    return Entered(note=answer[3:] or note)


def plan_and_enter() -> str:
    """As ``enter``, in a process that is only there to try it: ``""``, or why it doesn't work."""
    entered = enter()
    return entered.lack if entered is not None else ""


def _wanted_mapping(force_single: bool) -> tuple[Mapping, str]:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and effective() >> 6 & 3 == 3:  # root of a container: all ids we have, as they are
        own = [_identity(name) for name in ("uid_map", "gid_map")]
        return Mapping(single=False, uids=own[0], gids=own[1], tool=False), ""
    if force_single:
        return plan(uid, gid, [], []), ""
    usable = subids_available(uid)
    subuids, subgids = (ranges("/etc/subuid", uid), ranges("/etc/subgid", uid)) if usable else ([], [])
    note = "" if usable else "no subordinate ids for this user: owners of files are kept beside the files"
    return plan(uid, gid, subuids, subgids), note


def _identity(name: str) -> tuple[tuple[int, int, int], ...]:
    with open(f"/proc/self/{name}", encoding="ascii") as file:
        lines = [line.split() for line in file]
    return tuple((int(first), int(first), int(count)) for first, _outside, count in lines)


def _stay_behind(child: int, mapping: Mapping, ready: int, mapped: int) -> NoReturn:
    import signal

    status = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, lambda received, _frame: _pass_on(child, received))
        if os.read(ready, 1):
            os.write(mapped, _map(child, mapping).encode())
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
    """Write the maps of ``child``: ``ok``, perhaps with a remark, or what went wrong."""
    if not mapping.single and mapping.tool:
        for tool, lines in (("newuidmap", mapping.uids), ("newgidmap", mapping.gids)):
            program = _tool(tool)
            arguments = [program, str(child), *(str(n) for line in lines for n in line)]
            if os.waitpid(os.posix_spawn(program, arguments, dict(os.environ)), 0)[1]:
                if tool == "newgidmap":
                    return "newgidmap failed"
                mapping = plan(os.geteuid(), os.getegid(), [], [])
                return _map(child, mapping) + " newuidmap failed: owners of files are kept beside the files"
        return "ok"
    try:
        if mapping.single:
            _write(f"/proc/{child}/setgroups", "deny")
        for name, ranged in (("uid_map", mapping.uids), ("gid_map", mapping.gids)):
            _write(f"/proc/{child}/{name}", "".join(f"{a} {b} {c}\n" for a, b, c in ranged))
    except OSError as error:
        return f"{error.strerror} ({error.filename})"
    return "ok"


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _tool(name: str) -> str:
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return ""


def hint() -> str:
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
