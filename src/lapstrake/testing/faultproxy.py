"""A proxy before a real registry that fails as the internet does: a share of all requests, at random.

with FaultProxy(registry.host, share=0.3, seed=1) as proxy:
    push(f"{proxy.host}/app:1")
"""

from __future__ import annotations

import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_HOP = ("connection", "transfer-encoding", "keep-alive")

FAULTS = ("500", "502", "503", "429", "reset", "lost-answer", "cut-request", "cut-answer", "wrong-bytes")


class FaultProxy:
    """Forwards to ``target``.  ``count``: how often each fault was injected; ``requests``: of all kinds."""

    def __init__(
        self, target: str, *, share: float, seed: int = 1, faults: tuple[str, ...] = FAULTS, port: int = 0
    ) -> None:
        self._target, self._share, self._faults = target, share, faults
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.requests = 0
        self.count: dict[str, int] = {}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                return

            def _any(self) -> None:
                owner._serve(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def _fault(self) -> str:
        with self._lock:
            self.requests += 1
            if self._random.random() >= self._share:
                return ""
            fault = self._random.choice(self._faults)
            self.count[fault] = self.count.get(fault, 0) + 1
            return fault

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        fault = self._fault()
        size = int(handler.headers.get("Content-Length") or 0)
        if fault == "reset":
            handler.close_connection = True
            handler.connection.close()
            return
        if fault.isdigit():
            handler.rfile.read(size)
            handler.send_response(int(fault))
            handler.send_header("Content-Length", "0")
            if fault == "429":
                handler.send_header("Retry-After", "0")
            handler.end_headers()
            return
        upstream = http.client.HTTPConnection(self._target, timeout=30)
        try:
            self._forward(handler, upstream, size, fault)
        finally:
            upstream.close()

    def _forward(
        self, handler: BaseHTTPRequestHandler, upstream: http.client.HTTPConnection, size: int, fault: str
    ) -> None:
        upstream.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
        for name, value in handler.headers.items():
            if name.lower() not in _HOP:
                upstream.putheader(name, value)
        upstream.endheaders()
        body = handler.rfile.read(size)
        if fault == "cut-request" and size > 1:
            upstream.send(body[: size // 2])
            upstream.close()
            handler.close_connection = True
            return
        if body:
            upstream.send(body)
        answer = upstream.getresponse()
        data = answer.read()
        if fault == "lost-answer":
            handler.close_connection = True
            return
        if fault == "wrong-bytes" and len(data) > 1000 and handler.command == "GET":
            data = bytes([data[0] ^ 1]) + data[1:]
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*_HOP, "content-length"):
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(data))
        if length is not None:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        if fault == "cut-answer" and len(data) > 1:
            data = data[: len(data) // 2]
            handler.close_connection = True
        handler.wfile.write(data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
