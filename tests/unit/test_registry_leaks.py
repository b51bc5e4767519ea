"""Credentials go only to the host they belong to, and public registries reach no private network.

A laboratory of loopback servers that write down every request. The registry under test knows ann's
password; each way it could send the client elsewhere is combined with each kind of elsewhere.
"""

import base64
import io
import select
import socket

import pytest

from lapstrake.errors import ResolveError
from lapstrake.oci import manifest
from lapstrake.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from lapstrake.oci.digest import digest_of
from lapstrake.oci.reference import Reference
from lapstrake.registry import upload
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.client import Client
from lapstrake.registry.config import RegistryConfig, parse
from lapstrake.testing.httpfaults import FaultServer, Reply
from lapstrake.testing.registry import make_certificate
from lapstrake.values import replace

DATA = b"layer" * 1000
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))
RAW, MANIFEST = manifest.make_manifest(Descriptor(OCI_CONFIG, "sha256:" + "1" * 64, 2), [BLOB])
PASSWORD, TOKEN, REFRESH = "pass-canary-1", "token-canary-2", "refresh-canary-3"
SECRETS = (PASSWORD, TOKEN, REFRESH, base64.b64encode(f"ann:{PASSWORD}".encode()).decode())
BLOB_PATH, TAG = f"/v2/app/blobs/{BLOB.digest}", "/v2/app/manifests/1"


class Lab:
    """The registry (127.0.0.1), another host (127.0.0.2), another port of the registry's host, and IPv6's loopback."""

    def __init__(self, registry, others):
        self.registry, self.others = registry, others
        self.scheme = "basic"

    def guard(self, reply):
        """``reply``, for those who show the right credentials."""

        def answer(seen):
            given = seen.headers.get("authorization", "")
            if self.scheme == "basic":
                good, challenge = given == f"Basic {SECRETS[3]}", 'Basic realm="x"'
            else:
                good, challenge = given == f"Bearer {TOKEN}", f'Bearer realm="{self.realm}",service="s"'
            return reply if good else Reply(401, headers={"WWW-Authenticate": challenge})

        return answer

    def token(self, seen):
        return Reply(200, f'{{"token":"{TOKEN}"}}'.encode())

    def reset(self):
        for server in (self.registry, *self.others.values()):
            server.seen.clear()
            server._routes.clear()
        self.realm = f"{self.registry.url}/token"
        self.registry.on("GET", "/token", self.token)
        self.registry.on("POST", "/token", self.token)
        for server in self.others.values():
            for method in ("GET", "HEAD", "PUT", "PATCH", "POST"):
                for path in (BLOB_PATH, TAG, "/x"):
                    server.on(method, path, self.elsewhere)
            server.on("GET", "/token", self.token)
            server.on("POST", "/token", self.token)

    def elsewhere(self, seen):
        """Another server's answer: it asks for credentials first, then serves whatever was wanted."""
        if seen.path.endswith("?ask"):
            return Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{self.realm}"'})
        if seen.method in ("PUT", "PATCH"):
            return Reply(201 if seen.method == "PUT" else 202, headers={"Location": "/x"})
        if "manifests" in seen.path:
            return Reply(200, RAW, {"Content-Type": OCI_MANIFEST})
        return Reply(200, DATA)

    def url(self, where):
        server = self.others[{"userinfo": "host", "asks": "host"}.get(where, where)]
        user = "ann:x@" if where == "userinfo" else ""
        return f"http://{user}{server.host}/x" + ("?ask" if where == "asks" else "")

    def leaked(self):
        """What a server other than the registry was told and should not have been."""
        out = []
        for name, server in self.others.items():
            for seen in server.seen:
                text = f"{seen.path} {seen.headers} {seen.body!r}"
                if "authorization" in seen.headers or any(s in text for s in SECRETS):
                    out.append((name, seen, seen.headers))
        return out


class Trap:
    """A port nobody should connect to."""

    def __enter__(self):
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self.sockets[0].getsockname()[1]
        self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        return self

    def __exit__(self, *_):
        for s in self.sockets:
            s.close()

    def touched(self):
        poll = select.poll()
        for s in self.sockets:
            poll.register(s, select.POLLIN)
        return bool(poll.poll(0))


@pytest.fixture(scope="module")
def lab():
    with FaultServer() as registry, FaultServer(address="127.0.0.2") as host, FaultServer() as port:
        yield Lab(registry, {"host": host, "port": port})


def client(lab, credentials=None):
    config = replace(parse({lab.registry.host: {"http": True}}), backoff=(0.001,), timeout=5)
    found = credentials or Credentials("ann", PASSWORD)
    return Client(config, Auth(explicit={lab.registry.host: found}))


def fetch(c, lab, **kw):
    out = bytearray()
    c.fetch_blob(Reference(lab.registry.host, "app", "1"), BLOB, out.extend, **kw)
    assert bytes(out) == DATA


def pull_manifest(c, lab):
    c.get_manifest(Reference(lab.registry.host, "app", "1"))


def push(c, lab):
    c.push_blob(Reference(lab.registry.host, "app"), BLOB, lambda: io.BytesIO(DATA))


def tags(c, lab):
    c.tags(Reference(lab.registry.host, "app"))


def redirected(method, path, status):
    def set_up(lab, url):
        lab.registry.on(method, path, lab.guard(Reply(status, headers={"Location": url})))

    return set_up


def upload_elsewhere(lab, url):
    lab.registry.on("HEAD", BLOB_PATH, lab.guard(Reply(404)))
    lab.registry.on("POST", "/v2/app/blobs/uploads/", lab.guard(Reply(202, headers={"Location": url})))


def upload_moves_on(lab, url):
    lab.registry.on("HEAD", BLOB_PATH, lab.guard(Reply(404)))
    lab.registry.on("POST", "/v2/app/blobs/uploads/", lab.guard(Reply(202, headers={"Location": "/up"})))
    lab.registry.on("PATCH", "/up", lab.guard(Reply(202, headers={"Location": url})))


def upload_redirected(lab, url):
    lab.registry.on("HEAD", BLOB_PATH, lab.guard(Reply(404)))
    lab.registry.on("POST", "/v2/app/blobs/uploads/", lab.guard(Reply(307, headers={"Location": url})))


def next_page(lab, url):
    page = Reply(200, b'{"tags":["a"]}', {"Link": f'<{url}>; rel="next"'})
    lab.registry.on("GET", "/v2/app/tags/list", lab.guard(page))


WAYS = {
    "blob redirect": (redirected("GET", BLOB_PATH, 307), fetch),
    "manifest redirect": (redirected("GET", TAG, 302), pull_manifest),
    "upload location": (upload_elsewhere, push),
    "location of a chunk": (upload_moves_on, push),
    "upload redirect": (upload_redirected, push),
    "next page": (next_page, tags),
}


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize("where", ["host", "port", "userinfo", "asks"])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_told_to_another_place(lab, monkeypatch, way, where, scheme):
    monkeypatch.setattr(upload, "_STREAM", 1000)
    lab.reset()
    lab.scheme = scheme
    set_up, act = WAYS[way]
    set_up(lab, lab.url(where))
    with client(lab) as c:
        for _ in range(2):  # the second time with what was learnt the first time
            try:
                act(c, lab)
            except ResolveError:
                continue
    assert any("authorization" in s.headers for s in lab.registry.seen)  # the way was really gone
    assert lab.leaked() == []
    if way != "next page" and where != "asks":
        assert sum(len(s.seen) for s in lab.others.values()) > 0


@pytest.mark.parametrize("where", ["host", "port", "userinfo"])
def test_foreign_layers_are_asked_for_without_credentials(lab, where):
    lab.reset()
    with client(lab) as c:
        lab.registry.on("GET", BLOB_PATH, lab.guard(Reply(404)))
        fetch(c, lab, urls=(lab.url(where),))
    assert lab.leaked() == []


@pytest.mark.parametrize("credentials", [Credentials("ann", PASSWORD), Credentials(identity_token=REFRESH)])
def test_an_unknown_token_service_is_asked_anonymously(lab, credentials):
    lab.reset()
    lab.scheme = "bearer"
    lab.realm = f"{lab.others['host'].url}/token"
    lab.registry.on("GET", BLOB_PATH, lab.guard(Reply(200, DATA)))
    with client(lab, credentials) as c:
        fetch(c, lab)
        assert "were not sent to 127.0.0.2" in c.auth.notes[0]
    assert [s.method for s in lab.others["host"].seen] == ["GET"]
    assert lab.leaked() == []


@pytest.mark.parametrize("credentials", [Credentials("ann", PASSWORD), Credentials(identity_token=REFRESH)])
@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_token_service_can_not_pass_credentials_on(lab, credentials, status):
    lab.reset()
    lab.scheme = "bearer"
    moved = Reply(status, headers={"Location": f"{lab.others['host'].url}/token"})
    for method in ("GET", "POST"):
        lab.registry.on(method, "/token", moved)
    lab.registry.on("GET", BLOB_PATH, lab.guard(Reply(200, DATA)))
    with client(lab, credentials) as c:
        try:
            fetch(c, lab)
        except ResolveError:
            pass
    assert lab.leaked() == []


def test_a_fixed_token_stays_with_its_registry(lab):
    lab.reset()
    lab.scheme = "bearer"
    lab.realm = f"{lab.others['host'].url}/token"
    redirected("GET", BLOB_PATH, 307)(lab, lab.url("host"))
    with client(lab, Credentials(registry_token=TOKEN)) as c:
        fetch(c, lab)
    assert lab.leaked() == []
    assert len(lab.others["host"].seen) == 1  # the blob, no token


# -- a public registry, by a table of hosts ----------------------------------------------------------

HOSTS = ("registry-1.docker.io", "auth.docker.io", "cdn.docker.example", "registry.example")


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    folder = tmp_path_factory.mktemp("public")
    pair = make_certificate(str(folder), "public", *HOSTS)
    with FaultServer(tls=pair) as hub, FaultServer(tls=pair) as auth, FaultServer(tls=pair) as cdn:
        table = {
            "registry-1.docker.io": hub,
            "registry.example": hub,
            "auth.docker.io": auth,
            "cdn.docker.example": cdn,
        }
        config = RegistryConfig(
            connect_to=tuple((f"{name}:443", server.host) for name, server in table.items()),
            ca_bundle=pair[0], backoff=(0.001,), timeout=5,
        )  # fmt: skip
        yield config, hub, auth, cdn


def hub_routes(public, target="https://cdn.docker.example/blob?sig=1"):
    _, hub, auth, cdn = public
    for server in (hub, auth, cdn):
        server.seen.clear()
        server._routes.clear()

    def guarded(reply):
        def answer(seen):
            if seen.headers.get("authorization") == f"Bearer {TOKEN}":
                return reply
            challenge = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'
            return Reply(401, headers={"WWW-Authenticate": challenge})

        return answer

    path = f"/v2/library/app/blobs/{BLOB.digest}"
    hub.on("GET", path, guarded(Reply(307, headers={"Location": target})))
    hub.on("GET", "/v2/library/app/manifests/1", guarded(Reply(200, RAW, {"Content-Type": OCI_MANIFEST})))
    auth.on("GET", "/token", Reply(200, f'{{"token":"{TOKEN}","expires_in":300}}'.encode()))
    cdn.on("GET", "/blob", Reply(200, DATA))
    return Reference("docker.io", "library/app", "1")


def test_docker_hub(public):
    config, hub, auth, cdn = public
    ref = hub_routes(public)
    with Client(config, Auth(explicit={"docker.io": Credentials("ann", PASSWORD)})) as c:
        assert c.get_manifest(ref)[0] == RAW
        out = bytearray()
        c.fetch_blob(ref, BLOB, out.extend)
    assert bytes(out) == DATA
    assert [s.headers["authorization"] for s in auth.seen] == [f"Basic {SECRETS[3]}"]
    assert "service=registry.docker.io&scope=repository%3Alibrary%2Fapp%3Apull" in auth.seen[0].path
    assert all("authorization" not in s.headers for s in cdn.seen)
    assert all(PASSWORD not in s.path + str(s.headers) for s in hub.seen + cdn.seen)


PRIVATE = (
    "https://127.0.0.1:{port}/x", "https://localhost:{port}/x", "https://2130706433:{port}/x", "https://0x7f.1:{port}/x",
    "https://[::1]:{port}/x", "https://[::ffff:127.0.0.1]:{port}/x", "https://169.254.169.254/latest/meta-data",
    "https://10.0.0.1/x", "http://cdn.docker.example/blob", "https://127.0.0.1.:{port}/x",
)  # fmt: skip


@pytest.mark.parametrize(
    ("way", "target"),
    [("redirect", t) for t in PRIVATE]
    + [(way, t) for way in ("realm", "upload", "urls", "token redirect") for t in PRIVATE[::4]],
)
def test_a_public_registry_reaches_no_private_network(public, way, target):
    config, hub, auth, _ = public
    with Trap() as inside:
        url = target.replace("{port}", str(inside.port))
        ref = hub_routes(public, url if way == "redirect" else "https://cdn.docker.example/gone")
        challenge = Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{url}",service="x"'})
        if way == "realm":
            hub.on("GET", f"/v2/library/app/blobs/{BLOB.digest}", challenge)
        elif way == "token redirect":
            auth.on("GET", "/token", Reply(302, headers={"Location": url}))
        elif way == "upload":
            hub.on("POST", "/v2/library/app/blobs/uploads/", Reply(202, headers={"Location": url}))
        with Client(config, Auth(explicit={"docker.io": Credentials("ann", PASSWORD)})) as c:
            with pytest.raises(ResolveError):
                if way == "upload":
                    c.push_blob(ref, BLOB, lambda: io.BytesIO(DATA))
                else:
                    c.fetch_blob(ref, BLOB, lambda data: None, urls=(url,) if way == "urls" else ())
        assert not inside.touched()


def test_names_that_resolve_to_private_addresses(public):
    config, _, _, _ = public
    with Trap() as inside:
        ref = hub_routes(public, f"https://rebind.example:{inside.port}/x")
        asked = []

        def lookup(name, number):
            asked.append(name)
            return [(2, 1, 6, "", ("127.0.0.1", number))]

        with Client(config, Auth(), lookup) as c, pytest.raises(ResolveError, match="private network"):
            c.fetch_blob(ref, BLOB, lambda data: None)
        assert asked == ["rebind.example"]
        assert not inside.touched()


def test_a_private_host_the_user_named_may_be_used(public, tmp_path):
    config, _, _, cdn = public
    port = cdn.host.rpartition(":")[2]
    ref = hub_routes(public, f"https://localhost:{port}/blob")
    trusting = replace(config, entries=parse({"docker.io": {"realms": ["localhost"]}}).entries)
    for settings, works in ((config, False), (trusting, True)):
        with Client(settings, Auth(explicit={"docker.io": Credentials("ann", PASSWORD)})) as c:
            out = bytearray()
            try:
                c.fetch_blob(ref, BLOB, out.extend)
            except ResolveError:
                assert not works
            assert (bytes(out) == DATA) is works
    assert all("authorization" not in s.headers for s in cdn.seen)
