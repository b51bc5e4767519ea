"""What a hostile or broken registry sends is bounded in size, number and time; and pulls are fast."""

import hashlib
import os
import socket
import threading
import time

import pytest

from lapstrake.errors import ResolveError
from lapstrake.oci.descriptor import OCI_LAYER, Descriptor
from lapstrake.oci.digest import digest_of
from lapstrake.oci.reference import Reference
from lapstrake.registry import client as registry_client
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.client import Client
from lapstrake.registry.config import parse
from lapstrake.testing.httpfaults import FaultServer, Reply
from lapstrake.testing.registry import Registry, available
from lapstrake.values import replace

DATA = os.urandom(200_000)
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))
PATH = f"/v2/app/blobs/{BLOB.digest}"


class Drip:
    """Sends ``head`` at once and then one byte every ``pause`` seconds, for ever.  Counts connections."""

    def __init__(self, head=b"", pause=0.02, swallow=True):
        self._head, self._pause, self._swallow = head, pause, swallow
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self):
        while not self._stop.is_set():
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(conn,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, conn):
        with conn:
            try:
                if self._swallow:
                    conn.recv(65536)
                conn.sendall(self._head)
                while not self._stop.wait(self._pause):
                    conn.sendall(b"x")
            except OSError:
                return

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def client(host, timeout=0.4, backoff=(), **kw):
    return Client(replace(parse({host: {"http": True}}), backoff=backoff, timeout=timeout), Auth(**kw))


def fetch(c, host):
    c.fetch_blob(Reference(host, "app", "1"), BLOB, lambda data: None)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", OK, OK + DATA[:10_000], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n"],
)  # fmt: skip
def test_bytes_that_come_one_by_one_do_not_hold_a_build(head):
    with Drip(head) as server, client(server.host) as c:
        began = time.monotonic()
        with pytest.raises(ResolveError, match="timed out") as e:
            fetch(c, server.host)
        assert time.monotonic() - began < 3
        assert e.value.temporary


def test_the_same_for_manifests_tokens_and_refusals():
    with Drip(OK) as server, client(server.host) as c, pytest.raises(ResolveError, match="timed out"):
        c.get_manifest(Reference(server.host, "app", "1"))
    with Drip(OK) as drip, FaultServer() as server:
        challenge = f'Bearer realm="http://{drip.host}/token"'
        server.on("GET", PATH, Reply(401, headers={"WWW-Authenticate": challenge}))
        with client(server.host) as c, pytest.raises(ResolveError, match="timed out"):
            fetch(c, server.host)
    with Drip(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n") as server, client(server.host) as c:
        with pytest.raises(ResolveError, match="500 Oops"):
            fetch(c, server.host)


def test_slow_but_steady_is_fine():
    """More than the least rate, less than a second's worth in each piece."""

    class Steady(Drip):
        def _serve(self, conn):
            with conn:
                conn.recv(65536)
                conn.sendall(OK)
                for n in range(0, len(DATA), 10_000):
                    time.sleep(0.05)
                    conn.sendall(DATA[n : n + 10_000])

    with Steady() as server, client(server.host) as c:
        fetch(c, server.host)  # takes 1 s, more than twice the timeout
        assert server.connections == 1


def test_a_server_that_does_not_take_the_request_is_left():
    class Deaf(Drip):
        def _serve(self, conn):
            with conn:
                self._stop.wait(5)

    blob = Descriptor(OCI_LAYER, digest_of(b"0" * (32 << 20)), 32 << 20)
    with Deaf() as server, client(server.host) as c:
        began = time.monotonic()
        with pytest.raises(ResolveError, match="timed out"):
            import io

            c.push_blob(Reference(server.host, "app"), blob, lambda: io.BytesIO(b"0" * (32 << 20)))
        assert time.monotonic() - began < 3


# -- sizes and numbers ------------------------------------------------------------------------------


class Endless:
    """A body that never ends, and counts what was taken of it."""

    def __init__(self, server, method, path, status=200, headers=b""):
        self.taken = 0
        owner = self

        def flood(handler):
            head = b"HTTP/1.1 %d X\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (status, headers)
            handler.wfile.write(head)
            piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            try:
                while owner.taken < 100 << 20:
                    handler.wfile.write(piece)
                    owner.taken += 65536
            except OSError:
                pass
            handler.close_connection = True

        serve = server._serve
        server._serve = lambda handler: (
            flood(handler)
            if (handler.command, handler.path.partition("?")[0]) == (method, path)
            else serve(handler)
        )


@pytest.mark.parametrize("what", ["manifest", "tags", "referrers", "token", "error"])
def test_documents_without_an_end(what):
    paths = {"manifest": "/v2/app/manifests/1", "tags": "/v2/app/tags/list", "referrers": f"/v2/app/referrers/{BLOB.digest}",
             "token": "/token", "error": PATH}  # fmt: skip
    kind = b"Content-Type: application/vnd.oci.image.index.v1+json\r\n"
    with FaultServer() as server, client(server.host, timeout=5) as c:
        flood = Endless(server, "GET", paths[what], 418 if what == "error" else 200, kind)
        ref = Reference(server.host, "app", "1")
        challenge = Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{server.url}/token"'})
        if what == "token":
            server.on("GET", PATH, challenge)
        ask = {
            "manifest": lambda: c.get_manifest(ref), "tags": lambda: c.tags(ref), "token": lambda: fetch(c, server.host),
            "referrers": lambda: c.referrers(ref, BLOB.digest), "error": lambda: fetch(c, server.host),
        }  # fmt: skip
        with pytest.raises(ResolveError):
            ask[what]()
        assert flood.taken < 16 << 20


def test_pages_challenges_and_headers_have_an_end(monkeypatch):
    monkeypatch.setattr(registry_client, "_MAX_PAGES", 30)
    with FaultServer() as server, client(server.host, timeout=5) as c:
        ref = Reference(server.host, "app", "1")
        page = Reply(200, b'{"tags":["a"]}', {"Link": '</v2/app/tags/list?n=1>; rel="next"'})
        server.on("GET", "/v2/app/tags/list", page)
        assert c.tags(ref) == ["a", "a"]  # a page that is its own successor ends it
        server.on("GET", "/v2/app/tags/list", lambda seen: Reply(200, b'{"tags":["a"]}', {
            "Link": f'</v2/app/tags/list?n={len(server.seen)}>; rel="next"'
        }))  # fmt: skip
        assert len(c.tags(ref)) == 30
        server.on(
            "GET", PATH, Reply(401, headers={"WWW-Authenticate": "Bearer " + 'realm="x",' * 5000 + 'a="b"'})
        )
        with pytest.raises(ResolveError):
            fetch(c, server.host)
        asked = len(server.seen)
        server.on("GET", PATH, Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{server.url}/token"'}))
        server.on("GET", "/token", lambda seen: Reply(200, b'{"token":"t%d"}' % len(server.seen)))
        with pytest.raises(ResolveError):
            fetch(c, server.host)
        assert len(server.seen) - asked < 12  # a registry that never accepts is not asked for ever
        server.on("GET", PATH, Reply(200, DATA, {f"X-{n}": "y" for n in range(500)}))
        with pytest.raises(ResolveError):
            fetch(c, server.host)


@pytest.mark.parametrize(
    "token", [b"[]", b"{", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token": "\xc3\xa9"}', b"{}"]
)
def test_odd_tokens(token):
    with FaultServer() as server:
        with client(server.host, explicit={server.host: Credentials("ann", "pw")}) as c:
            server.on(
                "GET", PATH, Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{server.url}/token"'})
            )
            server.on("GET", "/token", Reply(200, token))
            with pytest.raises(ResolveError):
                fetch(c, server.host)


# -- digests and speed ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_both_digest_algorithms_are_verified(algorithm):
    digest = f"{algorithm}:{hashlib.new(algorithm, DATA).hexdigest()}"
    wrong = f"{algorithm}:{hashlib.new(algorithm, b'').hexdigest()}"
    with FaultServer() as server, client(server.host, timeout=5) as c:
        ref = Reference(server.host, "app")
        for name in (digest, wrong):
            server.on("GET", f"/v2/app/blobs/{name}", Reply(200, DATA))
        out = bytearray()
        c.fetch_blob(ref, Descriptor(OCI_LAYER, digest, len(DATA)), out.extend)
        assert bytes(out) == DATA
        with pytest.raises(ResolveError, match="does not match"):
            c.fetch_blob(ref, Descriptor(OCI_LAYER, wrong, len(DATA)), lambda data: None)
        raw = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
        name = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
        server.on("GET", f"/v2/app/manifests/{name}", Reply(200, raw))
        assert c.get_manifest(ref.with_digest(name))[2] == name


@pytest.mark.soak
@pytest.mark.skipif(not available(), reason="docker-registry is not installed")
def test_pull_speed(tmp_path):
    """1 GiB from a real registry on loopback, verified: over 700 MB/s, by our own processor time if others work too."""
    import io

    data = os.urandom(1 << 20) * 1024
    blob = Descriptor(OCI_LAYER, digest_of(data), len(data))
    with Registry() as r, client(r.host, timeout=60) as c:
        ref = Reference(r.host, "big")
        c.push_blob(ref, blob, lambda: io.BytesIO(data))
        wall, own = [], []
        for _ in range(4):
            began, used = time.perf_counter(), time.process_time()
            c.fetch_blob(ref, blob, lambda piece: None)
            wall.append(blob.size / (time.perf_counter() - began) / 1e6)
            own.append(blob.size / (time.process_time() - used) / 1e6)
    print(f"wall {max(wall):.0f} MB/s, own processor time {max(own):.0f} MB/s")
    assert max(own) > 900
    assert max(wall) > 700 or os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1) / 2
