"""A private network for the runs of a build: one namespace, one ``pasta`` in front of it.

The helper makes the namespace and starts pasta in the background (ready after some 20 ms);
the first run that wants a network waits for it, later ones pay nothing.  Where pasta is
missing or doesn't come up in time the host's network is used and a note says so; the failure
is remembered in ``probe_file`` so that the next build doesn't wait again.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .launch import Helper

_PATIENCE = 2.0
TUN = "/dev/net/tun"
_OPTIONS = (
    "--config-net",
    "-q",
    "-f",
    "--netns",
    "/proc/self/fd/0",
    "--netns-only",
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
    "--no-map-gw",
    "-P",
    "/proc/self/fd/1",
)


def find_pasta(path: str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin") -> str:
    """The ``pasta`` program, or ``""``."""
    for directory in path.split(":"):
        candidate = f"{directory}/pasta"
        if os.access(candidate, os.X_OK):
            return candidate
    return ""


class Network:
    """The network that runs with mode ``default`` share.  Thread-safe."""

    def __init__(self, pasta: str | None = None, probe_file: str = "") -> None:
        self._pasta = find_pasta() if pasta is None else pasta
        self._probe_file = probe_file
        self._lock = threading.Lock()
        self._ready_fd = -1
        self._control: object = None
        self._note: str | None = None  # "" once it works
        self.told = False  # that it will be the host's network

    def describe(self) -> str:
        """For the line about the sandbox: what runs will see, as far as is known yet."""
        lack = self._lack()
        self.told = bool(lack)
        return f"the host's network ({lack})" if lack else "private network"

    def _lack(self) -> str:
        if not self._pasta:
            return "pasta is not installed"
        if not os.access(TUN, os.R_OK | os.W_OK):
            return f"{TUN} can't be opened"
        return "pasta failed here before" if self._remembered() else ""

    def start(self, helper: Helper) -> None:
        """Begin to set the network up; returns at once."""
        with self._lock:
            self._start(helper)

    def _start(self, helper: Helper) -> None:
        if self._note is not None or self._ready_fd >= 0:
            return
        lack = self._lack()
        if lack:
            self._note = f"no private network ({lack}): steps use the host's network"
            return
        import _socket

        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            helper.request(
                ("netns", [self._pasta, *_OPTIONS, *(("--runas", "0") if os.geteuid() == 0 else ())]),
                [theirs.fileno(), writer],
            )
        except BaseException:
            os.close(reader)
            ours.close()
            raise
        finally:
            os.close(writer)
            theirs.close()
        self._ready_fd, self._control = reader, ours

    def ready(self, helper: Helper) -> str:
        """Wait until the network is up; ``""``, or why the host's must do."""
        with self._lock:
            self._start(helper)
            if self._note is None:
                self._note = self._wait()
                if self._note:
                    self._remember()
            return self._note

    def _wait(self) -> str:
        import select

        poll = select.poll()
        poll.register(self._ready_fd, select.POLLIN)
        try:
            if not poll.poll(int(_PATIENCE * 1000)):
                return "no private network (pasta did not come up in time): steps use the host's network"
            if not os.read(self._ready_fd, 64).strip():
                return "no private network (pasta failed): steps use the host's network"
            return ""
        finally:
            os.close(self._ready_fd)
            self._ready_fd = -1

    def _stamp(self) -> str:
        try:
            return f"{os.uname().release} {os.stat(self._pasta).st_mtime_ns}\n"
        except OSError:
            return ""

    def _remembered(self) -> bool:
        if not self._probe_file:
            return False
        try:
            with open(self._probe_file, encoding="utf-8") as file:
                return file.read(200) == self._stamp()
        except OSError:
            return False

    def _remember(self) -> None:
        if not self._probe_file:
            return
        try:
            with open(self._probe_file, "w", encoding="utf-8") as file:
                file.write(self._stamp())
        except OSError:
            pass  # only a short-cut for next time

    def close(self) -> None:
        """Let go; pasta itself ends with the helper."""
        with self._lock:
            if self._ready_fd >= 0:
                os.close(self._ready_fd)
                self._ready_fd = -1
            close = getattr(self._control, "close", None)
            if close is not None:
                close()
            self._control = None
            self._note = None
