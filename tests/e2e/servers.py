"""Servers of the tests' own: files over HTTP, a git repository over git's protocol."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.conftest import need


@contextlib.contextmanager
def http_files(files: dict[str, bytes]) -> Iterator[str]:
    """Serve ``files`` (path -> content); gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            body = files.get(self.path.partition("?")[0])
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def git(*words: str, cwd: Path) -> str:
    """Run git without anybody's configuration."""
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main", *words],
        cwd=cwd, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


class Repository:
    """``main`` with tag v1; ``dev`` with one more file and the annotated tag v2."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        work = root / "work"
        work.mkdir(parents=True)
        git("init", "-q", cwd=work)
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
            (work / path).chmod(0o755 if path.endswith(".sh") else 0o644)
        git("add", "-A", cwd=work)
        git("commit", "-qm", "one", cwd=work)
        git("tag", "v1", cwd=work)
        self.commit = git("rev-parse", "HEAD", cwd=work)
        git("checkout", "-qb", "dev", cwd=work)
        (work / "dev").write_text("D")
        git("add", "-A", cwd=work)
        git("commit", "-qm", "two", cwd=work)
        git("tag", "-a", "-m", "second", "v2", cwd=work)
        git("checkout", "-q", "main", cwd=work)
        git("clone", "-q", "--bare", str(work), str(root / "r.git"), cwd=root)
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=root / "r.git")
        self.root = root
        self.url = ""


@contextlib.contextmanager
def git_over_http(repository: Repository, authorization: str) -> Iterator[str]:
    """Serve a repository through git's own CGI program, to those who send ``authorization``; gives the URL."""
    backend = Path(git("--exec-path", cwd=repository.root), "git-http-backend")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_GET(self):
            body = b""
            if self.headers["Authorization"] != authorization:
                self.answer("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"')], b"")
                return
            length = int(self.headers["Content-Length"] or 0)
            body = self.rfile.read(length)
            path, _, query = self.path.partition("?")
            env = {
                "GIT_PROJECT_ROOT": str(repository.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers["Content-Type"] or "",
                "CONTENT_LENGTH": str(length), "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
                "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "", "PATH": "/usr/bin:/bin",
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            }  # fmt: skip
            done = subprocess.run([backend], input=body, env=env, capture_output=True, check=False)
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if ": " in line]
            self.answer(dict(headers).get("Status", "200 OK"), [h for h in headers if h[0] != "Status"], body)

        do_POST = do_GET

        def answer(self, status: str, headers: list, body: bytes) -> None:
            self.send_response(int(status.split(maxsplit=1)[0]))
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/r.git"
    finally:
        httpd.shutdown()
        httpd.server_close()


@contextlib.contextmanager
def git_server(root: Path, files: dict[str, str]) -> Iterator[Repository]:
    """Serve a repository made of ``files``; ``url`` names it."""
    need("git")
    found = Repository(root, files)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon = Path(git("--exec-path", cwd=root), "git-daemon")
    process = subprocess.Popen(
        [daemon, f"--base-path={root}", "--export-all", f"--port={port}", "--listen=127.0.0.1", str(root)],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        found.url = f"git://127.0.0.1:{port}/r.git"
        yield found
    finally:
        process.terminate()
        process.wait()
