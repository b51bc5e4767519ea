"""Hosts of a registry, challenges, stored credentials (spec oci.md §10.2, §10.5)."""

import base64
import json
import os

import pytest

from lapstrake.errors import ResolveError, UsageError
from lapstrake.registry.auth import Auth, Challenge, Credentials, merge_scopes, parse_challenges
from lapstrake.registry.config import KeyPair, Proxies, has_port, hostname, is_loopback, parse
from lapstrake.registry.route import _no_proxy
from lapstrake.registry.transport import Transport, _retry_after, shown
from lapstrake.values import replace

TABLES = {
    "docker.io": {"mirrors": ["mirror.local:5000", "harbor.example/proxy/hub", "http://plain.example"]},
    "mirror.local:5000": {"insecure": True, "ca": ["/ca.pem"], "keypair": [{"key": "/k", "cert": "/c"}]},
    "old.example": {"http": True},
    "localhost:1": {"http": False},
    "localhost:2": {"insecure": False},
}


def test_hosts():
    config = parse(TABLES)
    first, second, third, origin = config.hosts_for("docker.io")
    assert (first.address, first.registry, first.schemes, first.verify) == (
        "mirror.local:5000",
        "mirror.local:5000",
        ("https", "http"),
        False,
    )
    assert (first.ca, first.keypair, first.namespace) == (("/ca.pem",), (KeyPair("/k", "/c"),), "docker.io")
    assert (second.address, second.prefix, second.schemes) == ("harbor.example", "proxy/hub", ("https",))
    assert third.schemes == ("http",)
    assert (origin.address, origin.registry, origin.namespace, origin.verify) == (
        "registry-1.docker.io",
        "docker.io",
        "",
        True,
    )
    assert config.hosts_for("docker.io", push=True) == [origin]
    assert config.hosts_for("old.example")[0].schemes == ("http",)
    assert config.hosts_for("ghcr.io")[0].schemes == ("https",)
    for name, schemes in (
        ("localhost:5000", ("https", "http")),
        ("127.9.9.9", ("https", "http")),
        ("[::1]:5000", ("https", "http")),
        ("localhost:1", ("https",)),
        ("localhost:2", ("https",)),
        ("127.0.0.1.evil.example", ("https",)),
    ):
        assert config.hosts_for(name)[0].schemes == schemes, name


def test_one_registry_made_insecure():
    config = parse(TABLES).allowing_insecure("ghcr.io").allowing_insecure("old.example")
    assert (config.hosts_for("ghcr.io")[0].schemes, config.hosts_for("ghcr.io")[0].verify) == (
        ("https", "http"),
        False,
    )
    assert config.hosts_for("old.example")[0].schemes == ("http",)
    assert len(config.hosts_for("docker.io")) == 4


@pytest.mark.parametrize(
    "table",
    [
        1,
        {"http": "yes"},
        {"mirrors": "x"},
        {"mirrors": [1]},
        {"mirrors": ["u:p@x"]},
        {"mirrors": ["/x"]},
        {"ca": 1},
        {"keypair": {}},
        {"keypair": [{"key": "x"}]},
    ],
)
def test_bad_tables(table):
    with pytest.raises(UsageError, match=r'registry\."x"'):
        parse({"x": table})


def test_addresses():
    assert [hostname(a) for a in ("A:1", "[::1]:2", "b")] == ["a", "::1", "b"]
    assert [has_port(a) for a in ("a:1", "[::1]:2", "[::1]", "b")] == [True, True, False, False]
    assert [
        is_loopback(a) for a in ("localhost", "127.1.2.3:9", "[::1]", "10.0.0.1", "localhost.example")
    ] == [True, True, True, False, False]
    assert shown("https://u:p@h/x?sig=1#f") == "https://h/x"


def test_proxies():
    rules = ".corp.example,10.0.0.0/8,exact.example:8443,*.wild.example,"
    for name, port, expected in (
        ("a.corp.example", 443, True),
        ("corp.example", 443, False),
        ("10.1.2.3", 443, True),
        ("exact.example", 8443, True),
        ("exact.example", 443, False),
        ("a.wild.example", 1, True),
        ("x.example", 1, False),
    ):
        assert _no_proxy(rules, name, port) is expected, name
    assert _no_proxy("*", "x", 1)
    t = Transport(replace(parse({}), proxies=Proxies("", "http://u:p%40@proxy:3128", "skip.example")))
    assert t._proxy("https", "ghcr.io", 443) == (
        ("proxy", 3128),
        {"Proxy-Authorization": "Basic " + base64.b64encode(b"u:p@").decode()},
    )
    assert t._proxy("https", "skip.example", 443) is None
    assert t._proxy("https", "localhost", 443) is None
    assert t._proxy("http", "ghcr.io", 80) is None


def test_retry_after():
    assert _retry_after("3") == 3
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e6
    assert _retry_after("soon") == _retry_after("") == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["Basic"], [Challenge("basic")]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"'],
            [
                Challenge(
                    "bearer",
                    (("realm", "https://a/t"), ("service", "s"), ("scope", "repository:a:pull,push")),
                )
            ],
        ),
        (
            ['Bearer realm=x, Basic realm="a\\"b"'],
            [Challenge("bearer", (("realm", "x"),)), Challenge("basic", (("realm", 'a"b'),))],
        ),
        (["Negotiate", 'BASIC Realm = "x"'], [Challenge("negotiate"), Challenge("basic", (("realm", "x"),))]),
        (["", "=,=", 'realm="x"'], []),
    ],
)
def test_challenges(values, expected):
    assert parse_challenges(values) == expected


def test_scopes_are_merged():
    assert merge_scopes(["repository:b:pull", "repository:a:push", "repository:a:pull"]) == (
        "repository:a:pull,push",
        "repository:b:pull",
    )


def auth_of(tmp_path, doc, **kw):
    (tmp_path / "config.json").write_text(doc if isinstance(doc, str) else json.dumps(doc))
    return Auth(docker_config=str(tmp_path), **kw)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def test_stored_credentials(tmp_path):
    other = tmp_path / "auth.json"
    other.write_text(
        json.dumps(
            {
                "auths": {
                    "quay.io/team": {"auth": b64("deep:1")},
                    "quay.io": {"auth": b64("top:1")},
                    "ghcr.io": {"auth": b64("second:1")},
                }
            }
        )
    )
    doc = {
        "auths": {
            "https://index.docker.io/v1/": {"auth": b64("hub:p:w")},
            "ghcr.io": {"auth": b64("first:1")},
            "https://gcr.io/v2/": {"identitytoken": "idt"},
            "r.example": {"registrytoken": "rt"},
            "empty.example": {},
            "bad.example": {"auth": "%"},
        }
    }
    auth = auth_of(
        tmp_path, doc, auth_files=(str(other),), explicit={"explicit.example": Credentials("e", "1")}
    )
    assert auth.credentials("docker.io") == Credentials("hub", "p:w")
    assert auth.credentials("ghcr.io") == Credentials("first", "1")
    assert auth.credentials("gcr.io") == Credentials(identity_token="idt")
    assert auth.credentials("r.example") == Credentials(registry_token="rt")
    assert auth.credentials("quay.io", "team/app").username == "deep"
    assert auth.credentials("quay.io", "teams/app").username == "top"
    assert auth.credentials("explicit.example").username == "e"
    for name in ("empty.example", "bad.example", "none.example", "io", "evil-ghcr.io"):
        assert auth.credentials(name) is None
    assert auth.notes == ["the stored credentials for bad.example can't be decoded"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": 1}', '{"auths": {"x": 1}, "credsStore": 1, "credHelpers": []}']
)
def test_odd_files(tmp_path, text):
    assert auth_of(tmp_path, text).credentials("x") is None


def test_secrets_stay_out_of_repr():
    assert "pw" not in repr(Credentials("ann", "pw", "pw1", "pw2"))


def test_helpers(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "docker-credential-test"
    script.write_text(
        "#!/bin/sh\nread server\ncase $server in\n"
        'https://index.docker.io/v1/) echo \'{"ServerURL":"x","Username":"hub","Secret":"s"}\';;\n'
        'token.example) echo \'{"Username":"<token>","Secret":"idt"}\';;\n'
        'odd.example) echo "{}";;\nbroken.example) echo "vault is sealed"; exit 1;;\n'
        '*) echo "credentials not found in native keychain"; exit 1;;\nesac\n'
    )
    script.chmod(0o755)
    doc = {
        "credsStore": "test",
        "credHelpers": {"gone.example": "missing", "slash.example": "../test"},
        "auths": {"kept.example": {"auth": b64("k:1")}},
    }
    auth = auth_of(tmp_path, doc, helper_path=f"{folder}{os.pathsep}/bin")
    assert auth.credentials("docker.io") == Credentials("hub", "s")
    assert auth.credentials("token.example") == Credentials(identity_token="idt")
    assert auth.credentials("kept.example") == Credentials("k", "1")
    assert auth.credentials("gone.example") is None
    assert auth.credentials("slash.example") is None
    assert auth.notes[0] == "the credential helper docker-credential-missing is not installed"
    with pytest.raises(
        ResolveError,
        match="error getting credentials for broken.example: docker-credential-test: vault is sealed",
    ):
        auth.credentials("broken.example")
    with pytest.raises(ResolveError, match="no valid answer"):
        auth.credentials("odd.example")
