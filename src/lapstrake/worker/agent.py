"""A forwarded ssh agent as a step may use it: to list keys and to sign, nothing else (spec cli.md §2.5).

The step gets a socket of its own, with the owner and mode its mount asks for, so that a step
that is not root can use an agent whose socket only its owner may open.  Requests that would
change the agent (adding, removing, locking) are answered with a refusal and never passed on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading

# message numbers of the agent protocol (draft-ietf-sshm-ssh-agent)
_FAILURE = b"\0\0\0\1\5"
_ALLOWED = frozenset((11, 13))  # request identities, sign
_MAX_MESSAGE = 256 << 10


class AgentProxy:
    """A listening socket at ``path`` in front of the agent at ``upstream``, until it is released."""

    def __init__(self, upstream: str, mode: int, uid: int, gid: int) -> None:
        # Socket paths end at 108 bytes: not below the store, whose root may be deep.
        self._directory = tempfile.mkdtemp(prefix="lapstrake-ssh-")
        self.path = f"{self._directory}/s"
        self._upstream = upstream
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._listener.bind(self.path)
        os.chmod(self.path, mode)
        if uid or gid:
            try:
                os.chown(self.path, uid, gid)
            except PermissionError:  # not root: the directory around it is ours alone
                os.chmod(self.path, mode | 0o666)
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def release(self) -> None:
        """Close everything; the socket is gone."""
        with self._lock:
            self._closed = True
            held = [self._listener, *self._open]
        for one in held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
            os.rmdir(self._directory)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _keep(self, one: socket.socket) -> bool:
        with self._lock:
            if not self._closed:
                self._open.add(one)
            return not self._closed

    def _serve(self, client: socket.socket) -> None:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with client, agent:
                if not (self._keep(client) and self._keep(agent)):
                    return
                agent.connect(self._upstream)
                while (request := _message(client)) is not None:
                    if request[4] not in _ALLOWED:
                        client.sendall(_FAILURE)
                        continue
                    agent.sendall(request)
                    answer = _message(agent)
                    if answer is None:
                        return
                    client.sendall(answer)
        except OSError:
            return  # either side went away
        finally:
            with self._lock:
                self._open -= {client, agent}


def _message(stream: socket.socket) -> bytes | None:
    """One whole message with its length; None at the end, or when it is not one."""
    head = _exactly(stream, 4)
    size = int.from_bytes(head, "big")
    if len(head) < 4 or not 1 <= size <= _MAX_MESSAGE:
        return None
    body = _exactly(stream, size)
    return head + body if len(body) == size else None


def _exactly(stream: socket.socket, size: int) -> bytes:
    out = bytearray()
    while len(out) < size and (part := stream.recv(size - len(out))):
        out += part
    return bytes(out)
