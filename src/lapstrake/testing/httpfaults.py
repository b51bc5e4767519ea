"""A small HTTP server that misbehaves on demand, and writes down what it was asked.

    with FaultServer() as server:
        server.on("GET", "/v2/a/blobs/x", Reply(503, headers={"Retry-After": "0"}), Reply(200, b"data"))

Replies of a route are used in turn; the last one stays.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self


class Reply:
    """What to answer.  ``cut``: hang up after so many bytes of the body; ``ranges``: honour Range."""

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        cut: int = -1,
        ranges: bool = False,
    ) -> None:
        self.status, self.body, self.headers, self.cut, self.ranges = (
            status,
            body,
            dict(headers or {}),
            cut,
            ranges,
        )


class Seen:
    """A request as it came: method, path with query, headers (lower-case names), body."""

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class FaultServer:
    """Serves on ``127.0.0.1``; ``seen`` holds all requests in order.  ``tls``: (certificate, key)."""

    def __init__(self, *, address: str = "127.0.0.1", tls: tuple[str, str] | None = None) -> None:
        self._routes: dict[tuple[str, str], list[Reply | Callable[[Seen], Reply]]] = {}
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
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
                return  # clients hang up in these tests

        self._server = Server((address, 0), Handler)
        if tls is not None:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.host = f"{address}:{self._server.server_address[1]}"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"

    def on(self, method: str, path: str, *replies: Reply | Callable[[Seen], Reply]) -> None:
        """Set a route (path without query); HEAD falls back to GET's route."""
        with self._lock:
            self._routes[method, path] = list(replies)

    def _pick(self, seen: Seen) -> Reply:
        path = seen.path.partition("?")[0]
        with self._lock:
            self.seen.append(seen)
            queue = self._routes.get((seen.method, path)) or (
                self._routes.get(("GET", path)) if seen.method == "HEAD" else None
            )
            chosen = None if not queue else queue.pop(0) if len(queue) > 1 else queue[0]
        if chosen is None:
            return Reply(404, b'{"errors":[{"code":"NOT_FOUND","message":"nothing here"}]}')
        return chosen if isinstance(chosen, Reply) else chosen(seen)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(size) if size else b""
        seen = Seen(handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()}, body)
        reply = self._pick(seen)
        data, status, headers = reply.body, reply.status, dict(reply.headers)
        wanted = seen.headers.get("range", "")
        if reply.ranges and wanted.startswith("bytes="):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
            data = data[start:]
        handler.send_response(status)
        headers.setdefault("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data if reply.cut < 0 else data[: reply.cut])
        if reply.cut >= 0:
            handler.close_connection = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
