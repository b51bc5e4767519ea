"""A real docker-registry behind a proxy that fails 30 % of all requests; and one with tokens and client certificates."""

import io
import os

import pytest

from lapstrake.errors import ResolveError
from lapstrake.export.registry import in_parallel
from lapstrake.oci import manifest
from lapstrake.oci.descriptor import OCI_CONFIG, OCI_LAYER, Descriptor
from lapstrake.oci.digest import digest_of
from lapstrake.oci.reference import Reference
from lapstrake.registry import upload
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.client import Client
from lapstrake.registry.config import parse
from lapstrake.testing.faultproxy import FaultProxy
from lapstrake.testing.httpfaults import FaultServer, Reply
from lapstrake.testing.registry import Registry, available, make_certificate
from lapstrake.testing.tokens import TokenIssuer
from lapstrake.values import replace

pytestmark = pytest.mark.skipif(not available(), reason="docker-registry is not installed")


def client(tables=None, backoff=(0.002,) * 14, **kw):
    return Client(replace(parse(tables or {}), backoff=backoff, timeout=10), Auth(**kw))


def blob(data):
    return Descriptor(OCI_LAYER, digest_of(data), len(data))


def pull(c, ref, descriptor):
    out = bytearray()
    c.fetch_blob(ref, descriptor, out.extend)
    return bytes(out)


@pytest.fixture(scope="module")
def registry():
    with Registry() as r:
        yield r


def test_a_push_of_fifty_layers_survives_thirty_percent_of_faults(registry):
    layers = [os.urandom(3000 + 997 * n) for n in range(49)] + [os.urandom(3 << 20)]
    opened = dict.fromkeys(range(50), 0)
    config = b'{"architecture":"amd64","os":"linux"}'
    with FaultProxy(registry.host, share=0.3, seed=5) as proxy, client() as c:
        ref = Reference(proxy.host, "storm", "1")

        def one(n):
            def source():
                opened[n] += 1
                return io.BytesIO(layers[n])

            if not c.has_blob(ref, blob(layers[n]).digest):
                c.push_blob(ref, blob(layers[n]), source)

        in_parallel(one, list(range(50)), 4)
        c.push_blob(ref, Descriptor(OCI_CONFIG, digest_of(config), len(config)), lambda: io.BytesIO(config))
        raw, desc = manifest.make_manifest(
            Descriptor(OCI_CONFIG, digest_of(config), len(config)), [blob(x) for x in layers]
        )
        c.put_manifest(ref, raw, desc.media_type)
        assert proxy.requests > 200
        assert sum(proxy.count.values()) > proxy.requests / 5
        assert len(proxy.count) == 9  # each kind of fault was met
    with client() as c:
        there = Reference(registry.host, "storm", "1")
        assert c.get_manifest(there)[0] == raw
        assert all(pull(c, there, blob(x)) == x for x in layers)


def test_a_pull_survives_too_and_wrong_bytes_are_never_taken(registry):
    data = os.urandom(2 << 20)
    with client() as c:
        c.push_blob(Reference(registry.host, "pulled"), blob(data), lambda: io.BytesIO(data))
    faults = ("500", "503", "429", "reset", "lost-answer", "cut-answer")
    with FaultProxy(registry.host, share=0.5, seed=3, faults=faults) as proxy, client() as c:
        assert all(pull(c, Reference(proxy.host, "pulled"), blob(data)) == data for _ in range(25))
        assert proxy.count["cut-answer"]
    with FaultProxy(registry.host, share=1, faults=("wrong-bytes",)) as proxy, client() as c:
        with pytest.raises(ResolveError, match="does not match|digest"):
            pull(c, Reference(proxy.host, "pulled"), blob(data))


class Uploads:
    """Uploads as the OCI specification has them: what arrived stays, and can be asked for."""

    def __init__(self, server, *, keep=(1.0,), stale=False, token=False):
        self.data, self.keep, self.stale, self.token = b"", list(keep), stale, token
        self.calls, self.live = [], 0
        server.on("HEAD", "/v2/app/blobs/" + blob(BIG).digest, Reply(404))
        server.on("POST", "/v2/app/blobs/uploads/", self.begin)
        for method in ("PATCH", "GET", "PUT"):
            server.on(method, "/up", self.answer)
        server.on("GET", "/token", self.give)
        self.realm = f"{server.url}/token"

    def give(self, seen):
        self.live += 1
        return Reply(200, b'{"token": "t%d"}' % self.live)

    def begin(self, seen):
        self.data = b""
        return Reply(202, headers={"Location": "/up"})

    def answer(self, seen):
        self.calls.append((seen.method, len(seen.body), seen.headers.get("content-range", "")))
        if self.token and seen.headers.get("authorization") != f"Bearer t{self.live}":
            challenge = f'Bearer realm="{self.realm}",error="invalid_token"'
            return Reply(401, headers={"WWW-Authenticate": challenge})
        if seen.method == "GET":
            if self.stale:
                return Reply(404)
            return Reply(204, headers={"Location": "/up", "Range": f"0-{max(len(self.data) - 1, 0)}"})
        if seen.method == "PUT":
            good = digest_of(self.data + seen.body) == blob(BIG).digest
            return (
                Reply(201) if good else Reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
            )
        start = seen.headers.get("content-range", "0-").partition("-")[0]
        if int(start) != len(self.data):
            return Reply(416, headers={"Range": f"0-{len(self.data) - 1}"})
        share = self.keep.pop(0) if self.keep else 1
        self.data += seen.body[: int(len(seen.body) * share)]
        if self.token == "dies":
            self.live += 1  # the token that began the upload is no longer good
        return Reply(202, headers={"Location": "/up"}) if share == 1 else Reply(502)


BIG = os.urandom(100_000)


@pytest.fixture
def streamed(monkeypatch):
    monkeypatch.setattr(upload, "_STREAM", 1000)
    with FaultServer() as server, client({server.host: {"http": True}}) as c:
        yield server, c, Reference(server.host, "app")


@pytest.mark.parametrize(
    ("keep", "stale", "expected"),
    [
        ((1,), False, [("PATCH", 100_000, ""), ("PUT", 0, "")]),
        (
            (0.5, 0.5),
            False,
            [("PATCH", 100_000, ""), ("GET", 0, ""), ("PATCH", 50_000, "50000-99999"), ("GET", 0, ""),
             ("PATCH", 25_000, "75000-99999"), ("PUT", 0, "")],
        ),
        ((0.5,), True, [("PATCH", 100_000, ""), ("GET", 0, ""), ("PATCH", 100_000, ""), ("PUT", 0, "")]),
    ],
)  # fmt: skip
def test_an_upload_goes_on_where_it_was_cut(streamed, keep, stale, expected):
    server, c, ref = streamed
    there = Uploads(server, keep=keep, stale=stale)
    assert c.push_blob(ref, blob(BIG), lambda: io.BytesIO(BIG))
    assert there.calls == expected


def test_tokens_are_renewed_during_an_upload(streamed):
    server, c, ref = streamed
    there = Uploads(server, token="dies")
    assert c.push_blob(ref, blob(BIG), lambda: io.BytesIO(BIG))
    assert [x[0] for x in there.calls] == ["PATCH", "PATCH", "PUT", "PUT"]  # each first refused


def test_registries_that_take_no_patch(streamed):
    server, c, ref = streamed
    there = Uploads(server)
    server.on("PATCH", "/up", Reply(405))
    assert c.push_blob(ref, blob(BIG), lambda: io.BytesIO(BIG))
    assert there.calls == [("PUT", 100_000, "")]


def test_the_real_registry_takes_streams_and_begins_again(registry, monkeypatch):
    """docker-registry 2.8 forgets an upload that was cut within a request."""
    monkeypatch.setattr(upload, "_STREAM", 1000)
    data = os.urandom(3 << 20)
    with FaultProxy(registry.host, share=0.5, seed=4, faults=("cut-request", "lost-answer", "503")) as proxy:
        with client() as c:
            for n in range(5):
                c.push_blob(Reference(proxy.host, f"stream{n}"), blob(data), lambda: io.BytesIO(data))
    assert proxy.count["cut-request"]
    with client() as c:
        assert pull(c, Reference(registry.host, "stream4"), blob(data)) == data


# -- tokens, TLS, client certificates ---------------------------------------------------------------


def test_token_auth(tmp_path):
    issuer = TokenIssuer(str(tmp_path), {"ann": "secret"})
    data = os.urandom(100_000)
    with FaultServer() as server:
        issuer.serve(server)
        with Registry(token=issuer.auth(server.url)) as r:
            ref = Reference(r.host, "team/app", "1")
            for login in (Credentials("ann", "secret"), Credentials(identity_token="refresh-ann")):
                with client(explicit={r.host: login}) as c:
                    c.check_push(ref)
                    c.push_blob(ref, blob(data), lambda: io.BytesIO(data))
                    assert pull(c, ref, blob(data)) == data
                    assert c.mount_blob(replace(ref, repository="other/app"), blob(data).digest, "team/app")
            before = issuer.given
            with client(explicit={r.host: Credentials("ann", "secret")}) as c:
                for _ in range(5):
                    pull(c, ref, blob(data))
            assert issuer.given == before + 1  # one token for a repository
            with client(explicit={r.host: Credentials("ann", "wrong")}) as c:
                with pytest.raises(ResolveError, match="incorrect username or password") as e:
                    c.check_push(ref)
                assert e.value.exit_code == 4
            with client() as c:
                with pytest.raises(ResolveError, match="denied|401") as e:
                    c.get_manifest(ref)
                assert e.value.exit_code == 4


def test_tls_with_a_client_certificate_and_password(tmp_path):
    certificate, key = make_certificate(str(tmp_path), "client")
    data = b"x" * 1000
    with Registry(tls=True, client_ca=certificate, htpasswd={"ann": "secret"}) as r:
        ref = Reference(r.host, "safe")
        login = {"explicit": {r.host: Credentials("ann", "secret")}}
        table = {r.host: {"ca": [r.ca], "keypair": [{"key": key, "cert": certificate}]}}
        with client(table, **login) as c:
            c.push_blob(ref, blob(data), lambda: io.BytesIO(data))
            assert pull(c, ref, blob(data)) == data
        with client(table) as c, pytest.raises(ResolveError) as e:
            c.check_push(ref)
        assert e.value.status == 401
        for worse in ({"ca": [r.ca]}, {"keypair": table[r.host]["keypair"]}, {"http": True}):
            with client({r.host: worse}, backoff=(), **login) as c, pytest.raises(ResolveError):
                pull(c, ref, blob(data))
        # the same from a certs.d directory
        folder = tmp_path / "certs.d" / r.host
        folder.mkdir(parents=True)
        for name, path in (("ca.crt", r.ca), ("client.cert", certificate), ("client.key", key)):
            os.symlink(path, folder / name)
        config = replace(parse({}), certs_dirs=(str(tmp_path / "certs.d"),))
        with Client(config, Auth(**login)) as c:
            assert pull(c, ref, blob(data)) == data
