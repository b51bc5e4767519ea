"""The helper's loop: takes runs over a socket, forks one process per run, reports how it ended.

Single-threaded on purpose, and small, so that forking is cheap.  When the engine goes away
(end of file on the socket) everything that still runs is killed.

Messages on the engine's socket (SEQPACKET, marshalled tuples): ``("run", options)`` with the
descriptors [spec, control, stdin, stdout, stderr] (+ cgroup), ``("netns", command)`` with
[control, ready]; ``("probe",)`` with [control]: try the namespaces; answers ``("ready", own /proc or not)``.
Messages on a run's control socket: to the engine ``("stubs", list)``, ``("failed", status, text)``,
``("exit", status, cpu, peak)``; from the engine ``b"T"`` (terminate) and ``b"K"`` (kill).
"""

from __future__ import annotations

import _signal
import _socket
import fcntl
import gc
import marshal
import os
import select
import time

from . import child, owners, rootfs
from . import filter as seccomp
from . import kernel as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CLOEXEC = 0x40000000  # MSG_CMSG_CLOEXEC
_BASE = k.CLONE_NEWNS | k.CLONE_NEWPID | k.CLONE_NEWIPC | k.CLONE_NEWUTS
_FLAGS = {"namespaces": _BASE, "oci": k.CLONE_NEWNS | k.CLONE_NEWPID, "chroot": 0}
GRACE = 2.0


class _Run:
    """One process being watched."""

    def __init__(self, pid: int, control: _socket.socket, keeper: bool, supervisor: int) -> None:
        self.pid = pid
        self.supervisor = supervisor
        self.keeper = keeper  # ``pid`` only watches over the command
        self.pidfd = os.pidfd_open(pid)
        self.control = control
        self.kill_at = 0.0
        self.gone = False  # the engine no longer listens

    def signal(self, number: int) -> None:
        try:
            _signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        """SIGTERM where it would be heard, with a time to react; SIGKILL otherwise."""
        if self.kill_at:
            return
        if _catches_term(self.pid):
            self.kill_at = time.monotonic() + GRACE
            self.signal(15)
        else:
            self.kill_at = time.monotonic()
            self.signal(9)


def _catches_term(pid: int) -> bool:
    """The first process of a pid namespace never sees a signal it has no handler for."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigCgt:"):
                    return bool(int(line.split()[1], 16) & 1 << 14)
    except OSError:
        pass
    return False


class Helper:
    """The state of the loop."""

    def __init__(self, engine: _socket.socket, keep: str) -> None:
        self.engine = engine
        self.keep = keep
        self.poll = select.poll()
        self.runs: dict[int, _Run] = {}  # by pidfd and by control descriptor
        self.filters: dict[tuple[bool, bool], bytes] = {}  # by (pretend, chroot)
        self.calls: dict[tuple[int, int], str] = {}
        self.netns = -1
        self.attachers: list[int] = []
        self.poll.register(engine.fileno(), select.POLLIN)

    def loop(self) -> None:
        """Until the engine hangs up."""
        while True:
            for fd, _event in self.poll.poll(self._timeout()):
                if fd == self.engine.fileno():
                    if not self._request():
                        self._end()
                        return
                elif fd in self.runs:
                    run = self.runs[fd]
                    if fd == run.pidfd:
                        self._reap(run)
                    else:
                        self._command(run)
            now = time.monotonic()
            for run in list(self.runs.values()):
                if run.kill_at and now >= run.kill_at:
                    run.kill_at = now + 60
                    run.signal(9)

    def _timeout(self) -> int | None:
        times = [run.kill_at for run in self.runs.values() if run.kill_at]
        return max(1, int((min(times) - time.monotonic()) * 1000) + 1) if times else None

    def _end(self) -> None:
        for pid in self.attachers:
            os.kill(pid, 9)
        live = {run.pidfd: run for run in self.runs.values()}
        for run in live.values():
            run.signal(9)
        for run in live.values():
            try:
                os.waitpid(run.pid, 0)
            except ChildProcessError:
                pass
        if any(run.keeper for run in live.values()):
            self.runs = {}
            self._kill_orphans()

    def _request(self) -> bool:
        data, ancillary, _flags, _address = self.engine.recvmsg(65536, 1024, _CLOEXEC)
        if not data:
            return False
        fds: list[int] = []
        for level, kind, raw in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds += [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw) - 3, 4)]
        message = marshal.loads(data)
        try:
            if message[0] == "netns":
                self._make_netns(fds[0], fds[1], message[1])
            elif message[0] == "probe":
                self._probe(fds[0])
            else:
                self._start(message[1], fds)
        finally:
            for fd in fds:
                try:
                    os.close(fd)
                except OSError:
                    pass
        return True

    def _supervise(self) -> tuple[int, int]:
        """A process that answers for the owners of a run: its id, and the run's end of the channel to it."""
        if not self.calls:
            self.calls = seccomp.asked_calls()
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
        pid = os.fork()
        if pid == 0:
            try:
                theirs.close()
                k.prctl(k.PR_SET_PDEATHSIG, 9)
                self.engine.close()
                for run in self.runs.values():
                    run.control.close()
                owners.supervise(ours, self.calls)
            finally:
                os._exit(0)
        ours.close()
        return pid, theirs.detach()

    def _probe(self, control_fd: int) -> None:
        """Whether every namespace and mount that a run needs can be had here."""
        control = _socket.socket(fileno=os.dup(control_fd))
        try:
            self.filters[False, False] = seccomp.kept_filter(self.keep)
            pid = k.clone(_BASE | k.CLONE_NEWNET)
            if pid == 0:
                _probe_child(control)
            os.waitpid(pid, 0)
        except BaseException as error:
            send(control, ("failed", child.SETUP_FAILED, f"{error}"))
        finally:
            control.close()

    def _start(self, options: dict[str, Any], fds: list[int]) -> None:
        control = _socket.socket(fileno=os.dup(fds[1]))
        supervisor, channel = 0, -1
        try:
            mode, pretend = options["mode"], options["pretend"]
            kind = (pretend, mode == "chroot")
            if mode != "oci" and not options["insecure"] and kind not in self.filters:
                self.filters[kind] = seccomp.kept_filter(self.keep, *kind)
            flags = _FLAGS[mode]
            netns = -1
            if mode == "namespaces":
                if options["net"] == "none":
                    flags |= k.CLONE_NEWNET
                elif options["net"] == "default":
                    if self.netns < 0:
                        raise OSError("there is no private network")
                    netns = self.netns
            if pretend and mode != "oci" and not options["insecure"]:
                supervisor, channel = self._supervise()
            pid = k.clone(flags, fds[5] if len(fds) > 5 and not options["cgroup_v1"] else -1)
        except BaseException as error:
            send(control, ("failed", child.SETUP_FAILED, f"{error}"))
            control.close()
            _end_supervisor(supervisor, channel)
            return
        if pid == 0:
            self._child(fds, control, {**options, "channel": channel}, netns)
        if channel >= 0:
            os.close(channel)
        try:
            run = _Run(pid, control, options["mode"] == "chroot", supervisor)
        except OSError as error:  # what can't be watched doesn't run
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            _end_supervisor(supervisor)
            send(control, ("failed", child.SETUP_FAILED, f"pidfd_open: {error.strerror}"))
            control.close()
            return
        for fd in (run.pidfd, control.fileno()):
            self.runs[fd] = run
            self.poll.register(fd, select.POLLIN)

    def _child(self, fds: list[int], control: _socket.socket, options: dict[str, Any], netns: int) -> None:
        status = child.SETUP_FAILED
        try:
            os.setsid()
            _default_signals()
            if options["cgroup_v1"]:
                for procs in fds[5:]:
                    os.write(procs, b"0\n")
            for number in range(3):
                os.dup2(fds[2 + number], number)
            if options["mode"] == "chroot":
                _keep()
            if options["tty"]:
                fcntl.ioctl(0, 0x540E, 0)  # TIOCSCTTY
            with open(f"/proc/self/fd/{fds[0]}", "rb") as file:
                spec = marshal.load(file)
            spec["channel"] = options["channel"]
            child.enter(
                spec,
                lambda message: send(control, message),
                lambda: self.filters[options["pretend"], options["mode"] == "chroot"],
                netns,
            )
        except child.CannotExecute as error:
            status = error.status
            send(control, ("cannot", status, str(error)))
        except rootfs.Refused as error:
            send(control, ("failed", status, str(error)))
        except OSError as error:
            place = f" {error.filename}" if error.filename else ""
            send(control, ("failed", status, f"{error.strerror or error}{place}"))
        except BaseException as error:
            send(control, ("failed", status, f"{type(error).__name__}: {error}"))
        finally:
            os._exit(status)

    def _reap(self, run: _Run) -> None:
        try:
            _pid, state, usage = os.wait4(run.pid, os.WNOHANG)
        except ChildProcessError:
            _pid, state, usage = run.pid, 0, None
        if not _pid:
            return
        code = os.waitstatus_to_exitcode(state)
        cpu = usage.ru_utime + usage.ru_stime if usage else 0.0
        send(
            run.control,
            ("exit", code if code >= 0 else 128 - code, cpu, usage.ru_maxrss * 1024 if usage else 0),
        )
        _end_supervisor(run.supervisor)
        for fd in (run.pidfd, run.control.fileno()):
            if self.runs.pop(fd, None) is not None:
                self.poll.unregister(fd)
        os.close(run.pidfd)
        run.control.close()
        if run.keeper:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Without a pid namespace, what a run left behind comes to us: nothing outlives its run."""
        known = {r.pid for r in self.runs.values()} | {r.supervisor for r in self.runs.values()}
        known |= set(self.attachers)
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                left = [pid for word in file.read().split() if (pid := int(word)) not in known]
            if not left:
                return
            for pid in left:
                os.kill(pid, 9)
                os.waitpid(pid, 0)

    def _command(self, run: _Run) -> None:
        try:
            data = run.control.recv(16)
        except OSError:
            data = b""
        if data == b"T":
            run.terminate()
            return
        run.signal(9)
        if not data:  # nobody waits for this run any more
            self.poll.unregister(run.control.fileno())
            self.runs.pop(run.control.fileno(), None)

    def _make_netns(self, control_fd: int, ready_fd: int, attach: list[str]) -> None:
        """One private network for all runs of the build, and the program that connects it.

        The program writes to ``ready_fd`` once it works; if it can't, the engine reads its end.
        """
        control = _socket.socket(fileno=os.dup(control_fd))
        try:
            if self.netns < 0:
                self.netns = _new_netns()
            pid = os.fork()
            if pid == 0:
                _become_attacher(attach, self.netns, ready_fd)
            self.attachers.append(pid)
        except OSError as error:
            send(control, ("failed", child.SETUP_FAILED, f"private network: {error.strerror}"))
        finally:
            control.close()


def _probe_child(control: _socket.socket) -> None:
    try:
        message: tuple[Any, ...] = ("failed", child.SETUP_FAILED, "unknown")
        try:
            k.mount("", "/", "", k.MS_REC | k.MS_PRIVATE)
            k.unshare(k.CLONE_NEWCGROUP)
            os.close(k.new_mount("tmpfs"))
            message = ("ready", rootfs.own_proc())
        except BaseException as error:
            message = ("failed", child.SETUP_FAILED, f"{error}")
        send(control, message)
    finally:
        os._exit(0)


def _new_netns() -> int:
    """Made by a child: who isn't the machine's root could never come back from it."""
    ready, made = os.pipe()
    done, hold = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(hold)
            k.unshare(k.CLONE_NEWNET)
            k.loopback_up()
            os.write(made, b"1")
            os.read(done, 1)
        finally:
            os._exit(0)
    for fd in (made, done):
        os.close(fd)
    try:
        if not os.read(ready, 1):
            raise OSError(1, "no network namespace can be had")
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.close(hold)
        os.waitpid(pid, 0)


def _become_attacher(attach: list[str], netns: int, ready_fd: int) -> None:
    try:
        os.setsid()
        _default_signals()
        k.prctl(k.PR_SET_PDEATHSIG, 9)
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        for number, fd in enumerate((netns, ready_fd, null)):
            os.dup2(fd, number)
        k.close_on_exec_from(3)
        os.execve(attach[0], attach, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    finally:
        os._exit(127)


def _end_supervisor(pid: int, channel: int = -1) -> None:
    if channel >= 0:
        os.close(channel)
    if pid:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _keep() -> None:
    """Fork: the child goes on as the command; we stay, pass SIGTERM on, and end as it ends.

    Should we be killed, the command dies with us and all its descendants fall to the helper.
    """
    k.prctl(k.PR_SET_PDEATHSIG, 9)
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    command = os.fork()
    if command == 0:
        return
    _signal.signal(15, lambda number, _frame: os.kill(command, number))
    k.close_range(3)
    while True:
        pid, state = os.waitpid(-1, 0)
        if pid == command:
            code = os.waitstatus_to_exitcode(state)
            os._exit(code if code >= 0 else 128 - code)


def _default_signals() -> None:
    for number in range(1, 65):
        if number not in (9, 19, 32, 33):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def send(control: _socket.socket, message: tuple[Any, ...]) -> None:
    """One message to the engine, which may have stopped listening."""
    try:
        control.send(marshal.dumps(message))
    except OSError:
        pass


def main(fd: int, keep: str) -> None:
    """Serve the engine at the other end of ``fd``; ``keep``: a directory for compiled filters, or ""."""
    try:
        _serve(fd, keep)
    except BaseException as error:
        os.write(2, f"the sandbox helper can't go on: {error}\n".encode())
    os._exit(1)


def _serve(fd: int, keep: str) -> None:
    os.set_inheritable(fd, False)
    os.setsid()
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    engine = _socket.socket(fileno=fd)
    gc.disable()
    gc.freeze()
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    Helper(engine, keep).loop()
    os._exit(0)
