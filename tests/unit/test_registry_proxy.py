"""An HTTP proxy before a registry: tunnels for TLS, whole URLs without, its password for nobody else."""

import base64
import select
import socket
import threading

import pytest

from lapstrake.errors import ResolveError
from lapstrake.oci.descriptor import OCI_LAYER, Descriptor
from lapstrake.oci.digest import digest_of
from lapstrake.oci.reference import Reference
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.client import Client
from lapstrake.registry.config import Proxies, RegistryConfig
from lapstrake.testing.httpfaults import FaultServer, Reply
from lapstrake.testing.registry import make_certificate
from lapstrake.values import replace

DATA = b"layer" * 50_000
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))
PATH = f"/v2/app/blobs/{BLOB.digest}"


class ConnectProxy:
    """Tunnels to the servers it has names for; ``asked`` holds the heads of all CONNECT requests."""

    def __init__(self, table):
        self.table, self.asked = table, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)

    def _accept(self):
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with conn:
            head = b""
            while b"\r\n\r\n" not in head:
                head += conn.recv(4096)
            self.asked.append(head.decode())
            target = self.table.get(head.split()[1].decode())
            if target is None:
                conn.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._pump(conn, there)

    @staticmethod
    def _pump(one, two):
        while True:
            for side in select.select([one, two], [], [], 10)[0]:
                data = side.recv(65536)
                if not data:
                    return
                (two if side is one else one).sendall(data)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def lab(tmp_path):
    pair = make_certificate(str(tmp_path), "server", "registry.example", "cdn.example")
    with FaultServer(tls=pair) as server, FaultServer(tls=pair) as cdn:
        table = {"registry.example:443": server.host, "cdn.example:443": cdn.host, "10.0.0.1:443": cdn.host}
        with ConnectProxy(table) as proxy:
            config = RegistryConfig(
                ca_bundle=pair[0], backoff=(), timeout=5, proxies=Proxies("", f"http://me:pr0xy@{proxy.host}", "skipped.example")
            )  # fmt: skip
            yield server, cdn, proxy, config


def fetch(config, registry="registry.example"):
    out = bytearray()
    with Client(config, Auth(explicit={"registry.example": Credentials("ann", "pw")})) as c:
        c.fetch_blob(Reference(registry, "app"), BLOB, out.extend)
    return bytes(out)


def test_a_tunnel(lab):
    server, cdn, proxy, config = lab
    guarded = (
        Reply(401, headers={"WWW-Authenticate": "Basic"}),
        Reply(307, headers={"Location": "https://cdn.example/b"}),
    )
    server.on("GET", PATH, *guarded)
    cdn.on("GET", "/b", Reply(200, DATA))
    assert fetch(config) == DATA
    assert [a.split()[1] for a in proxy.asked] == ["registry.example:443", "cdn.example:443"]
    login = "Basic " + base64.b64encode(b"me:pr0xy").decode()
    assert all(f"Proxy-Authorization: {login}" in a and "Basic YW5u" not in a for a in proxy.asked)
    assert all("proxy-authorization" not in s.headers for s in server.seen + cdn.seen)
    assert "authorization" not in cdn.seen[0].headers


def test_a_registry_can_not_use_the_proxy_to_look_inside(lab):
    server, cdn, proxy, config = lab
    server.on("GET", PATH, Reply(307, headers={"Location": "https://10.0.0.1/b"}))
    with pytest.raises(ResolveError, match="private network"):
        fetch(config)
    assert cdn.seen == [] and len(proxy.asked) == 1


def test_what_a_proxy_refuses(lab):
    _, _, proxy, config = lab
    with pytest.raises(ResolveError) as e:
        fetch(config, "unknown.example")
    assert "pr0xy" not in e.value.message
    with pytest.raises(ResolveError):
        fetch(
            replace(config, proxies=Proxies("", f"http://{proxy.host}", "unknown.example")), "unknown.example"
        )
    assert len(proxy.asked) == 1
