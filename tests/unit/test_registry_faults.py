"""A registry that fails: 5xx, 429, truncation, lies, redirects, tokens (spec oci.md §10.2, §10.5)."""

import base64
import io
import json
import os
from urllib.parse import parse_qs, urlsplit

import pytest

from lapstrake.errors import ResolveError
from lapstrake.oci.descriptor import OCI_LAYER, OCI_MANIFEST, Descriptor
from lapstrake.oci.digest import digest_of
from lapstrake.oci.manifest import make_manifest
from lapstrake.oci.reference import Reference
from lapstrake.registry import upload
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.client import Client
from lapstrake.registry.config import Proxies, parse
from lapstrake.testing.httpfaults import FaultServer, Reply
from lapstrake.testing.registry import make_certificate
from lapstrake.values import replace

DATA = b"\0" + os.urandom(99_999)  # never an x, which the tests put in its place
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))
PATH = f"/v2/app/blobs/{BLOB.digest}"
RAW, DESC = make_manifest(BLOB, [BLOB])
MANIFEST = Reply(200, RAW, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": DESC.digest})
CUT = Reply(200, DATA, {}, cut=40_000, ranges=True)


OPEN = []


@pytest.fixture(autouse=True)
def _close_clients():
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def server():
    with FaultServer() as s:
        yield s


@pytest.fixture
def other():
    with FaultServer(address="127.0.0.2") as s:
        yield s


def client(server, *, backoff=(0.01,) * 4, realms=("127.0.0.2",), **kw):
    config = parse({server.host: {"http": True, "realms": list(realms)}})
    c = Client(replace(config, backoff=backoff, timeout=5), Auth(**kw))
    OPEN.append(c)
    return c


def app(server, tag="1"):
    return Reference(server.host, "app", tag)


def fetch(c, ref, descriptor=BLOB):
    out = bytearray()
    c.fetch_blob(ref, descriptor, out.extend)
    return bytes(out)


# -- retries --------------------------------------------------------------------------------------


def test_passing_faults_are_retried(server):
    server.on(
        "GET",
        "/v2/app/manifests/1",
        Reply(503),
        Reply(500),
        Reply(429, headers={"Retry-After": "0"}),
        Reply(408),
        MANIFEST,
    )
    assert client(server).get_manifest(app(server))[0] == RAW
    assert len(server.seen) == 5


def test_lasting_faults_are_told(server):
    body = json.dumps(
        {"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your \x1b[31mpull rate limit"}]}
    ).encode()
    server.on("GET", "/v2/app/manifests/1", Reply(429, body))
    with pytest.raises(ResolveError) as caught:
        client(server).resolve(app(server))
    err = caught.value
    assert (err.status, err.code, err.temporary) == (429, "TOOMANYREQUESTS", True)
    assert "429 Too Many Requests: toomanyrequests: You have reached your  [31mpull rate limit" in err.message
    assert "unexpected status from GET request to" in err.message
    assert err.hint


def test_a_long_retry_after_is_not_waited_for(server):
    server.on("GET", "/v2/app/manifests/1", Reply(429, headers={"Retry-After": "86400"}))
    with pytest.raises(ResolveError):
        client(server).get_manifest(app(server))
    assert len(server.seen) == 1


def test_final_statuses_are_not_retried(server):
    server.on("GET", "/v2/app/manifests/1", Reply(400, b"<html>"))
    with pytest.raises(ResolveError, match="400 Bad Request$") as caught:
        client(server).get_manifest(app(server))
    assert not caught.value.temporary
    assert len(server.seen) == 1


def test_nobody_listens(server):
    with pytest.raises(ResolveError, match="connection refused") as caught:
        client(server, backoff=(9.0,)).resolve(Reference("127.0.0.1:1", "app"))
    assert not caught.value.temporary


# -- blobs ----------------------------------------------------------------------------------------


def test_resume_where_it_broke(server):
    server.on("GET", PATH, Reply(200, DATA, cut=30_000), CUT, CUT)
    assert fetch(client(server), app(server)) == DATA
    ranges = [s.headers.get("range", "") for s in server.seen]
    assert ranges[0] == ""
    assert ranges[1] == "bytes=30000-"
    assert len(ranges) == 3
    assert ranges[2] == "bytes=70000-"


def test_resume_without_ranges(server):
    server.on("GET", PATH, Reply(200, DATA, cut=30_000), Reply(200, DATA, cut=10_000), Reply(200, DATA))
    assert fetch(client(server), app(server)) == DATA


def test_no_progress_gives_up(server):
    server.on("GET", PATH, Reply(200, DATA, cut=0))
    with pytest.raises(
        ResolveError, match=r"failed to fetch sha256:\w+ of 127.*/app:1: .*unexpected end"
    ) as caught:
        fetch(client(server), app(server))
    assert caught.value.temporary
    assert len(server.seen) == 5


def test_resume_on_the_next_host(server, other):
    server.on("GET", PATH, Reply(200, DATA, cut=30_000), Reply(404))
    other.on("GET", PATH, Reply(200, DATA, ranges=True))
    config = parse({other.host: {"http": True, "mirrors": [server.host]}, server.host: {"http": True}})
    with Client(replace(config, backoff=(0.01,)), Auth()) as c:
        assert fetch(c, app(other)) == DATA
    assert other.seen[0].headers["range"] == "bytes=30000-"


def test_a_mirror_says_no_and_nobody_else_can_be_asked(server):
    nobody = "127.0.0.1:1"
    config = parse({nobody: {"http": True, "mirrors": [server.host]}, server.host: {"http": True}})
    with Client(replace(config, backoff=(0.01,)), Auth()) as c:
        with pytest.raises(ResolveError, match=rf"^{nobody}/app:1: not found$") as caught:
            c.get_manifest(Reference(nobody, "app", "1"))
    assert caught.value.status == 404
    assert caught.value.hint.startswith(f"{nobody} could not be asked: ")


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"x" + DATA[1:], {}, "does not match its digest"),
        (DATA + b"x", {}, "offers 100001 bytes"),
        (DATA[1:], {}, "offers 99999 bytes"),
    ],
)
def test_lies(server, body, headers, message):
    server.on("GET", PATH, Reply(200, body, headers))
    with pytest.raises(ResolveError, match=message) as caught:
        fetch(client(server), app(server))
    assert not caught.value.temporary
    assert len(server.seen) == 1


def test_more_than_promised_without_a_length(server):
    server.on(
        "GET",
        PATH,
        Reply(
            200,
            f"{len(DATA) + 1:x}\r\n".encode() + DATA + b"x\r\n0\r\n\r\n",
            {"Transfer-Encoding": "chunked"},
        ),
    )
    written = bytearray()
    with pytest.raises(ResolveError, match="larger than its descriptor"):
        client(server).fetch_blob(app(server), BLOB, written.extend)
    assert len(written) <= len(DATA)


def test_inline_data():
    inline = Descriptor("x", digest_of(b"{}"), 2, data=base64.b64encode(b"{}").decode())
    c = Client(parse({}), Auth())
    assert fetch(c, Reference("x.invalid", "app"), inline) == b"{}"
    for bad in (replace(inline, data="e3"), replace(inline, data=base64.b64encode(b"[]").decode())):
        with pytest.raises(ResolveError):
            fetch(c, Reference("x.invalid", "app"), bad)


def test_foreign_layer_urls(server, other):
    other.on("GET", "/layer", Reply(200, DATA))
    out = bytearray()
    c = client(server)
    c.fetch_blob(app(server), BLOB, out.extend, urls=(f"{other.url}/gone", f"{other.url}/layer"))
    assert bytes(out) == DATA
    with pytest.raises(ResolveError, match="not an http or https URL"):
        c.fetch_blob(app(server), BLOB, out.extend, urls=("file:///etc/passwd",))


# -- manifests ------------------------------------------------------------------------------------


def test_wrong_manifests(server):
    c = client(server)
    server.on(
        "GET",
        "/v2/app/manifests/1",
        Reply(200, RAW, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": "sha256:" + "0" * 64}),
    )
    server.on(
        "GET", f"/v2/app/manifests/{DESC.digest}", Reply(200, RAW + b" ", {"Content-Type": OCI_MANIFEST})
    )
    server.on("GET", "/v2/app/manifests/big", Reply(200, b" " * (4 << 20) + b" "))
    for ref, message in (
        (app(server), "does not match"),
        (app(server).with_digest(DESC.digest), "does not match"),
        (app(server, "big"), "larger than"),
    ):
        with pytest.raises(ResolveError, match=message):
            c.get_manifest(ref)


@pytest.mark.parametrize(
    "head", [Reply(405), Reply(200, RAW), Reply(200, RAW, {"Docker-Content-Digest": "nonsense"}), Reply(403)]
)
def test_head_of_little_use_is_followed_by_get(server, head):
    server.on("HEAD", "/v2/app/manifests/1", head)
    server.on("GET", "/v2/app/manifests/1", Reply(200, RAW, {"Content-Type": "application/json"}))
    assert client(server).resolve(app(server)) == DESC


def test_tags_are_paged_on_the_same_host_only(server, other):
    page = [
        Reply(200, b'{"tags":["a","b","../x"]}', {"Link": '</v2/app/tags/list?last=b&n=2>; rel="next"'}),
        Reply(200, b'{"tags":["c"]}', {"Link": f'<{other.url}/v2/x>; rel="next"'}),
    ]
    server.on("GET", "/v2/app/tags/list", *page)
    assert client(server).tags(app(server)) == ["a", "b", "c"]
    assert server.seen[1].path == "/v2/app/tags/list?last=b&n=2"
    assert not other.seen


# -- redirects ------------------------------------------------------------------------------------


def test_authorization_stays_at_home(server, other):
    def guarded(seen):
        if "authorization" not in seen.headers:
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return Reply(307, headers={"Location": f"{other.url}/cdn?sig=1"})

    server.on("GET", PATH, guarded)
    other.on("GET", "/cdn", Reply(200, DATA, cut=10), Reply(200, DATA, ranges=True))
    c = client(server, explicit={server.host: Credentials("ann", "pw"), other.host: Credentials("bob", "pw")})
    assert fetch(c, app(server)) == DATA
    assert [s.headers.get("authorization") for s in other.seen] == [None, None]
    assert other.seen[1].headers["range"] == "bytes=10-"
    # a 401 of the other host is not answered with this host's credentials
    other.on("GET", "/cdn", Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
    with pytest.raises(ResolveError) as caught:
        fetch(c, app(server))
    assert "sig=1" not in caught.value.message
    assert all("authorization" not in s.headers for s in other.seen)


def test_redirect_loops_and_odd_places(server):
    server.on("GET", PATH, Reply(302, headers={"Location": PATH}))
    with pytest.raises(ResolveError, match="too many redirects"):
        fetch(client(server), app(server))
    for target in ("file:///etc/passwd", "gopher://x/", "http://[::1", "//"):
        server.on("GET", PATH, Reply(302, headers={"Location": target}))
        with pytest.raises(ResolveError):
            fetch(client(server), app(server))


# -- tokens ---------------------------------------------------------------------------------------


class TokenService:
    """A registry whose blobs need the token its service gives out."""

    def __init__(self, server, service, *, get=True, post=True, user=("ann", "pw")):
        self.user, self.count, self.last = user, 0, ""
        self.challenge = (
            f'Bearer realm="{service.url}/token",service="reg, \\"x\\"",scope="repository:app:pull"'
        )
        server.on("GET", PATH, self.guard)
        service.on("GET", "/token", self.give if get else Reply(405))
        service.on("POST", "/token", self.give if post else Reply(404))

    def guard(self, seen):
        if seen.headers.get("authorization") == f"Bearer {self.last}" and self.last:
            return Reply(200, DATA)
        error = ',error="invalid_token"' if "authorization" in seen.headers else ""
        return Reply(401, headers={"WWW-Authenticate": self.challenge + error})

    def give(self, seen):
        form = parse_qs(seen.body.decode())
        basic = seen.headers.get("authorization", "").removeprefix("Basic ")
        login = (
            base64.b64decode(basic).decode().split(":", 1)
            if basic
            else [form.get("username", [""])[0], form.get("password", [""])[0]]
        )
        if self.user and tuple(login) != self.user and form.get("refresh_token") != ["idt"]:
            return Reply(401, b'{"details":"incorrect username or password"}')
        self.count += 1
        self.last = f"t{self.count}"
        return Reply(
            200,
            json.dumps(
                {"access_token" if seen.method == "POST" else "token": self.last, "expires_in": 300}
            ).encode(),
        )


@pytest.mark.parametrize(
    ("kw", "creds", "methods"),
    [
        ({"user": None}, None, ["GET"]),
        ({}, Credentials("ann", "pw"), ["GET"]),
        ({"get": False}, Credentials("ann", "pw"), ["GET", "POST"]),
        ({}, Credentials(identity_token="idt"), ["POST"]),
    ],
)
def test_tokens(server, other, kw, creds, methods):
    service = TokenService(server, other, **kw)
    c = client(server, explicit={server.host: creds} if creds else None)
    assert fetch(c, app(server)) == DATA
    assert fetch(c, app(server)) == DATA  # from the cache
    assert service.count == 1
    assert [s.method for s in other.seen] == methods
    if methods[0] == "GET":
        query = parse_qs(urlsplit(other.seen[0].path).query)
        assert query["scope"] == ["repository:app:pull"]
        assert query["service"] == ['reg, "x"']
        assert query.get("account") == (["ann"] if creds else None)
    else:
        form = parse_qs(other.seen[0].body.decode())
        assert (form["grant_type"], form["client_id"]) == (["refresh_token"], ["lapstrake"])
    service.last = "revoked"  # a token the registry no longer takes is fetched anew
    service.count = 10
    assert fetch(c, app(server)) == DATA


def test_a_fixed_registry_token(server, other):
    service = TokenService(server, other)
    service.last = "fixed"
    assert (
        fetch(client(server, explicit={server.host: Credentials(registry_token="fixed")}), app(server))
        == DATA
    )
    assert not other.seen


def test_denied(server, other):
    TokenService(server, other)
    with pytest.raises(
        ResolveError, match="failed to fetch a token.*401 Unauthorized: incorrect username or password"
    ):
        fetch(client(server, explicit={server.host: Credentials("ann", "bad")}), app(server))
    service = TokenService(server, other, user=None)
    server.on(
        "GET",
        "/v2/app/manifests/1",
        lambda seen: Reply(
            401, headers={"WWW-Authenticate": service.challenge + ',error="insufficient_scope"'}
        ),
    )
    other.seen.clear()
    with pytest.raises(ResolveError) as caught:
        client(server).get_manifest(app(server))
    assert caught.value.message == (
        f"{server.host}/app:1: pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"
    )
    assert len(other.seen) == 1


def test_token_post_is_not_redirected(server, other):
    TokenService(server, other)
    with FaultServer() as third:
        other.on("POST", "/token", Reply(307, headers={"Location": f"{third.url}/token"}))
        with pytest.raises(ResolveError):
            fetch(client(server, explicit={server.host: Credentials(identity_token="idt")}), app(server))
        assert not third.seen


@pytest.mark.parametrize("realm", ["", "ftp://x/", "http://u:p@127.0.0.1/", "/token", "http://"])
def test_bad_realms(server, realm):
    server.on("GET", PATH, Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'}))
    with pytest.raises(ResolveError):
        fetch(client(server), app(server))


# -- push -----------------------------------------------------------------------------------------


def push(c, ref):
    return c.push_blob(ref, BLOB, lambda: io.BytesIO(DATA))


def test_upload_begins_again_after_a_fault(server):
    server.on("HEAD", PATH, Reply(404))
    server.on("POST", "/v2/app/blobs/uploads/", Reply(202, headers={"Location": "/up?state=1"}))
    server.on("PUT", "/up", Reply(502), Reply(404), Reply(201))
    assert push(client(server), app(server))
    assert [s.method for s in server.seen] == [*["HEAD", "POST", "PUT", "GET"] * 2, "HEAD", "POST", "PUT"]
    assert server.seen[-1].path == f"/up?state=1&digest={BLOB.digest.replace(':', '%3A')}"
    assert server.seen[-1].body == DATA


def test_upload_that_arrived_although_the_answer_was_lost(server):
    server.on("HEAD", PATH, Reply(404), Reply(200))
    server.on("POST", "/v2/app/blobs/uploads/", Reply(202, headers={"Location": "/up"}))
    server.on("PUT", "/up", Reply(504))
    assert not push(client(server), app(server))


def test_chunks_where_one_piece_is_too_large(server, monkeypatch):
    monkeypatch.setattr(upload, "_CHUNK", 30_000)
    server.on("HEAD", PATH, Reply(404))
    server.on("POST", "/v2/app/blobs/uploads/", Reply(202, headers={"Location": "/up"}))
    server.on("PUT", "/up", Reply(413), Reply(201))
    server.on("PATCH", "/up", Reply(202, headers={"Location": "/up", "OCI-Chunk-Min-Length": "40000"}))
    assert push(client(server), app(server))
    chunks = [s for s in server.seen if s.method == "PATCH"]
    assert [s.headers["content-range"] for s in chunks] == ["0-29999", "30000-69999", "70000-99999"]
    assert b"".join(s.body for s in chunks) == DATA


def test_upload_elsewhere_gets_no_credentials(server, other):
    def guarded(seen):
        if "authorization" not in seen.headers:
            return Reply(401, headers={"WWW-Authenticate": "Basic"})
        return Reply(202, headers={"Location": f"{other.url}/up"})

    server.on("HEAD", PATH, Reply(404))
    server.on("POST", "/v2/app/blobs/uploads/", guarded)
    other.on("PUT", "/up", Reply(201))
    assert push(client(server, explicit={server.host: Credentials("ann", "pw")}), app(server))
    assert "authorization" not in other.seen[0].headers


def test_push_refused(server):
    server.on("HEAD", PATH, Reply(404))
    server.on("POST", "/v2/app/blobs/uploads/", Reply(403, b'{"errors":[{"code":"DENIED","message":"no"}]}'))
    with pytest.raises(ResolveError) as caught:
        push(client(server), app(server))
    assert caught.value.message == (
        f"failed to push {server.host}/app:1: unexpected status from POST request to {server.url}/v2/app/blobs/uploads/: 403 Forbidden: denied: no"
    )
    assert caught.value.hint == f"log in with `docker login {server.host}`"


# -- TLS and proxies ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(str(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def safe(certificate):
    with FaultServer(tls=certificate) as s:
        yield s


def tls_client(safe, certificate, **kw):
    config = parse({safe.host: {"ca": [certificate[0]]}})
    OPEN.append(Client(replace(config, backoff=(0.01,), timeout=5), Auth(**kw)))
    return OPEN[-1]


def test_no_token_service_without_tls(safe, other, certificate):
    safe.on("GET", PATH, Reply(401, headers={"WWW-Authenticate": f'Bearer realm="{other.url}/token"'}))
    other.on("GET", "/token", Reply(200, b'{"token":"t"}'))
    with pytest.raises(ResolveError, match="token service without TLS"):
        fetch(tls_client(safe, certificate, explicit={safe.host: Credentials("ann", "pw")}), app(safe))
    assert not other.seen


def test_no_redirect_to_plain_http(safe, other, certificate):
    safe.on("GET", PATH, Reply(307, headers={"Location": f"{other.url}/x"}))
    other.on("GET", "/x", Reply(200, DATA))
    with pytest.raises(ResolveError, match="from https to http"):
        fetch(tls_client(safe, certificate), app(safe))
    assert not other.seen


def test_upload_locations_keep_tls(safe, other, certificate):
    safe.on("HEAD", PATH, Reply(404))
    safe.on("POST", "/v2/app/blobs/uploads/", Reply(202, headers={"Location": f"http://{safe.host}/up"}))
    safe.on("PUT", "/up", Reply(201))
    assert push(tls_client(safe, certificate), app(safe))
    safe.on("POST", "/v2/app/blobs/uploads/", Reply(202, headers={"Location": f"{other.url}/up"}))
    with pytest.raises(ResolveError, match="without TLS on another host"):
        push(tls_client(safe, certificate), app(safe))
    assert not other.seen


def test_the_registrys_ca_does_not_vouch_for_others(safe, certificate):
    with FaultServer(tls=certificate) as cdn:
        safe.on("GET", PATH, Reply(307, headers={"Location": f"{cdn.url}/x"}))
        cdn.on("GET", "/x", Reply(200, DATA))
        with pytest.raises(ResolveError) as caught:
            fetch(tls_client(safe, certificate), app(safe))
        assert caught.value.code == "TLS"
        assert not cdn.seen


def test_plain_http_proxy(server):
    server.on("GET", "http://registry.invalid/v2/app/manifests/1", MANIFEST)
    proxies = Proxies(http=f"http://ann:pw@{server.host}")
    config = replace(parse({"registry.invalid": {"http": True}}), proxies=proxies, backoff=())
    with Client(config, Auth()) as c:
        assert c.resolve(Reference("registry.invalid", "app", "1")) == DESC
    assert server.seen[0].headers["host"] == "registry.invalid"
    assert server.seen[0].headers["proxy-authorization"] == "Basic " + base64.b64encode(b"ann:pw").decode()
