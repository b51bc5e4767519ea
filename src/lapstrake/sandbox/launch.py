"""The engine's side of the sandbox helper: start it once, hand runs over, relay their output."""

from __future__ import annotations

import os
import threading
import time

from ..errors import Cancelled, SandboxError
from . import stubs
from .spec import ExitInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from .spec import Cancel, ProcessSpec

    Output = Callable[[int, bytes], None]

_CHUNK = 1 << 16


class Helper:
    """A running helper process; started lazily, shared by all threads of the engine."""

    def __init__(self, keep: str = "") -> None:
        self._keep = keep  # a directory of ours, for compiled filters
        self._lock = threading.Lock()
        self._engine: _socket.socket | None = None
        self._pid = 0

    def start(self) -> None:
        """Start the process unless it runs.  Costs about 1 ms here; it is ready some 15 ms later."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._engine is not None:
            return
        import _socket
        import sys

        ours, theirs = _pair()
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inner", "helper.py")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.set_inheritable(theirs.fileno(), True)
        try:
            arguments = [sys.executable, "-I", "-S", script, str(theirs.fileno()), self._keep]
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
            self._pid = os.posix_spawn(sys.executable, arguments, {"LC_ALL": "C.UTF-8"}, file_actions=actions)
        finally:
            os.close(null)
            theirs.close()
        self._engine = ours
        ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 1 << 20)

    def request(self, message: tuple[Any, ...], fds: list[int]) -> None:
        """Send one message with descriptors."""
        import _socket
        import marshal

        rights = b"".join(fd.to_bytes(4, "little") for fd in fds)
        with self._lock:
            self._start()
            engine = self._engine
            try:
                if engine is None:
                    raise OSError("closed")
                engine.sendmsg([marshal.dumps(message)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
            except OSError as error:
                raise SandboxError(f"the sandbox helper is gone ({error})") from None

    def probe(self) -> tuple[bool, str]:
        """(whether runs get a /proc of their own, "") if namespaces work here, else (False, why not)."""
        import marshal

        ours, theirs = _pair()
        try:
            self.request(("probe",), [theirs.fileno()])
            theirs.close()
            raw = ours.recv(1 << 16)
        finally:
            ours.close()
            theirs.close()
        message = marshal.loads(raw) if raw else ("failed", 0, "the sandbox helper died")
        return (bool(message[1]), "") if message[0] == "ready" else (False, str(message[2]))

    def close(self) -> None:
        """Stop the helper and everything it still runs."""
        with self._lock:
            if self._engine is None:
                return
            self._engine.close()
            self._engine = None
            try:
                os.waitpid(self._pid, 0)
            except ChildProcessError:
                pass
            self._pid = 0


def _pair() -> tuple[_socket.socket, _socket.socket]:
    import _socket

    one, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    return one, other


class Job:
    """One run: its descriptors, its messages, its end."""

    def __init__(self, spec: ProcessSpec, output: Output, cancel: Cancel) -> None:
        self.spec = spec
        self.output = output
        self.cancel = cancel
        self.stubs: list[tuple[str, int, int, int]] = []
        self.error = ""
        self.status = -1
        self.cpu = 0.0
        self.peak = 0
        self.timed_out = self.cancelled = False
        self.ended = False

    def run(
        self, helper: Helper, data: dict[str, Any], options: dict[str, Any], extra_fds: tuple[int, ...] = ()
    ) -> ExitInfo:
        """Hand ``data`` to the helper and wait for the end."""
        if self.cancel.is_set():
            raise Cancelled("cancelled")
        started = time.monotonic()
        control, theirs = _pair()
        opened: list[int] = []
        streams: dict[int, int] = {}
        try:
            fds = self._descriptors(data, theirs.fileno(), opened, streams)
            helper.request(("run", options), fds + list(extra_fds))
            for fd in fds:
                if fd in opened:
                    opened.remove(fd)
                    os.close(fd)
            theirs.close()
            self._relay(control, streams, started)
        finally:
            control.close()
            theirs.close()
            for fd in (*opened, *streams):
                os.close(fd)
            self._clean()
        if self.cancelled:
            raise Cancelled("cancelled")
        if self.error:
            raise SandboxError(self.error)
        return ExitInfo(
            status=self.status,
            timed_out=self.timed_out,
            wall=time.monotonic() - started,
            cpu=self.cpu,
            peak_rss=self.peak,
        )

    def _descriptors(
        self, data: dict[str, Any], control: int, opened: list[int], streams: dict[int, int]
    ) -> list[int]:
        import marshal

        try:
            memory = os.memfd_create("spec")
        except OSError as error:
            raise SandboxError(f"memfd_create: {error.strerror}") from None
        opened.append(memory)
        text = memoryview(marshal.dumps(data))
        while text:
            text = text[os.write(memory, text) :]
        if self.spec.tty:
            from .terminal import open_terminal

            master, slave = open_terminal()
            streams[master] = 1
            opened.append(slave)
            return [memory, control, slave, slave, slave]
        if self.spec.stdin:
            stdin = 0
        else:
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            opened.append(stdin)
        ends = []
        for number in (1, 2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            streams[reader] = number
            opened.append(writer)
            ends.append(writer)
        return [memory, control, stdin, *ends]

    def _relay(self, control: _socket.socket, streams: dict[int, int], started: float) -> None:
        import select

        poll = select.poll()
        for fd in (*streams, control.fileno(), self.cancel.fileno()):
            poll.register(fd, select.POLLIN)
        keyboard = 0 if self.spec.tty and self.spec.stdin else -1
        if keyboard >= 0:
            poll.register(keyboard, select.POLLIN)
        deadline = started + self.spec.timeout if self.spec.timeout > 0 else 0.0
        while not self.ended or streams:
            wait = None if not deadline else max(0, int((deadline - time.monotonic()) * 1000) + 1)
            if self.ended:
                wait = 200  # a pipe that a stray process keeps open is not waited for
            ready = poll.poll(wait)
            if self.ended and not ready:
                break
            for fd, _event in ready:
                if fd == control.fileno():
                    self._message(control)
                    if self.ended:
                        poll.unregister(fd)
                elif fd in streams:
                    self._data(fd, streams, poll)
                elif fd == keyboard:
                    self._typed(next((f for f in streams), -1), poll)
                else:
                    poll.unregister(fd)
                    self.cancelled = True
                    _tell(control, b"T")
            if deadline and time.monotonic() >= deadline:
                deadline = 0.0
                self.timed_out = True
                _tell(control, b"T")

    def _data(self, fd: int, streams: dict[int, int], poll: Any) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except OSError:  # EIO: the last user of the terminal went away
            data = b""
        if data:
            self.output(streams[fd], data)
        else:
            poll.unregister(fd)
            del streams[fd]
            os.close(fd)

    def _typed(self, master: int, poll: Any) -> None:
        data = os.read(0, 4096)
        if not data or master < 0:
            poll.unregister(0)
            data = data or b"\x04"
        if master >= 0:
            os.write(master, data)

    def _message(self, control: _socket.socket) -> None:
        import marshal

        try:
            raw = control.recv(1 << 20)
        except OSError:
            raw = b""
        if not raw:
            if self.status < 0 and not self.error:
                self.error = "the sandbox helper died"
            self.ended = True
            return
        message = marshal.loads(raw)
        if message[0] == "stubs":
            self.stubs = message[1]
        elif message[0] == "failed":
            self.error = message[2]
        elif message[0] == "cannot":
            self.output(2, message[2].encode("utf-8", "surrogateescape") + b"\n")
        elif message[0] == "exit":
            self.status, self.cpu, self.peak = message[1:]
            self.ended = True

    def _clean(self) -> None:
        root = self.spec.rootfs
        if self.stubs:
            stubs.remove(root.upper, self.stubs, root.lowers)
        if root.lowers and root.work:
            stubs.forget_volatile(root.work)


def _tell(control: _socket.socket, what: bytes) -> None:
    try:
        control.send(what)
    except OSError:
        pass


def options(
    spec: ProcessSpec, mode: str, *, pretend: bool = False, cgroup_v1: bool = False
) -> dict[str, Any]:
    """What the helper itself must know before it forks."""
    return {
        "mode": mode,
        "net": spec.network,
        "insecure": spec.insecure,
        "pretend": pretend,
        "cgroup_v1": cgroup_v1,
        "tty": spec.tty,
    }
