"""Downloads against a real server in this process."""

import hashlib
import http.server
import os
import threading

import pytest

from lapstrake.errors import BuildError, ResolveError
from lapstrake.source.http import download, file_name, redact, unchanged

BODY = os.urandom(3_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.reply(b"")

    def do_GET(self):
        self.reply(BODY)

    def reply(self, body):
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        path = self.path.split("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", path[4:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path == "/status":
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path == "/tagged" and self.headers.get("If-None-Match") == '"v1"':
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY) + (5 if path == "/short" else 0)))
        self.send_header("ETag", '"v1"')
        self.send_header(
            "Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT" if path != "/undated" else "nonsense"
        )
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    made = []

    def start():
        one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        one.seen = []
        one.url = f"http://127.0.0.1:{one.server_address[1]}"
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.append((one, thread))
        return one

    yield start
    for one, thread in made:
        one.shutdown()
        one.server_close()
        thread.join()


def test_download(server, tmp_path):
    url = server().url + "/dir/file%20name.bin?x=1"
    got = download(url, str(tmp_path), checksum="sha256:" + hashlib.sha256(BODY).hexdigest())
    assert (got.name, got.size, got.mtime, got.etag) == ("file name.bin", len(BODY), 784111777, '"v1"')
    assert got.digest == "sha256:" + hashlib.sha256(BODY).hexdigest()
    with open(got.path, "rb") as f:
        assert f.read() == BODY
    assert os.stat(got.path).st_mode & 0o777 == 0o600


def test_other_algorithms_and_no_date(server, tmp_path):
    got = download(
        server().url + "/undated", str(tmp_path), checksum="sha512:" + hashlib.sha512(BODY).hexdigest()
    )
    assert got.mtime == 0
    with pytest.raises(BuildError, match="unsupported checksum"):
        download("http://127.0.0.1:9/x", str(tmp_path), checksum="md5:00")


@pytest.mark.parametrize(
    ("path", "kw", "message"),
    [
        (
            "/x",
            {"checksum": "sha256:" + "0" * 64},
            r"digest mismatch for http://127.*: sha256:.* \(expected: sha256:000",
        ),
        ("/status", {}, "invalid response status 404"),
        ("/x", {"max_bytes": 1000}, "larger than 1000 bytes"),
        ("/short", {}, "bytes came"),
        ("/to/file:///etc/passwd", {}, "invalid response status 302|failed"),
        ("/to/ftp://127.0.0.1/x", {}, "failed|invalid response status 302"),
        ("/to//to/" * 20, {}, "failed|invalid response status 302"),
    ],
)
def test_errors_leave_nothing(server, tmp_path, path, kw, message):
    with pytest.raises(ResolveError, match=message):
        download(server().url + path, str(tmp_path), **kw)
    assert os.listdir(tmp_path) == []


def test_only_http():
    for url in ("file:///etc/passwd", "ftp://x/y", "http:///x", "x"):
        with pytest.raises(ResolveError, match="invalid URL"):
            download(url, "/tmp")


def test_credentials_stay_on_their_host(server, tmp_path):
    a, b = server(), server()
    download(a.url + "/to//here", str(tmp_path), authorization="Bearer t")
    assert [s[2] for s in a.seen] == ["Bearer t", "Bearer t"]
    a.seen.clear()
    download(f"{a.url}/to/{b.url}/there", str(tmp_path), authorization="Bearer t")
    assert ([s[2] for s in a.seen], [s[2] for s in b.seen]) == (["Bearer t"], [None])
    download(a.url.replace("//", "//u:p%40@") + "/x", str(tmp_path))
    assert a.seen[-1][2] == "Basic dTpwQA=="


def test_revalidation(server, tmp_path):
    one = server()
    got = download(one.url + "/tagged", str(tmp_path))
    other = download(one.url + "/ignores-if-none-match", str(tmp_path))
    one.seen.clear()
    assert unchanged(one.url + "/tagged", got)
    assert unchanged(one.url + "/ignores-if-none-match", other)
    assert [s[0] for s in one.seen] == ["HEAD", "HEAD"]
    assert not unchanged(one.url + "/status", got)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h", "__unnamed__"),
        ("http://h/", "__unnamed__"),
        ("http://h/a/b.tgz?q#f", "b.tgz"),
        ("http://h/a/", "a"),
        ("http://h/a%2F..", "__unnamed__"),
        ("http://h/x%2Fy", "y"),
    ],
)
def test_names(url, name):
    assert file_name(url) == name


def test_redaction():
    assert redact("https://u:secret@h/x") == "https://u:xxxxx@h/x"
