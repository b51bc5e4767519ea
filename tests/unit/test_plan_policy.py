"""Source policies: rules about what a build may use."""

from __future__ import annotations

import json

import pytest

from lapstrake.errors import UsageError
from lapstrake.plan.policy import Denied, Source, evaluate, git_url, http_url, image_name, parse_policy

ALPINE = "docker-image://docker.io/library/alpine:3"


def rules(*given):
    return parse_policy(json.dumps({"rules": list(given)}).encode(), "policy.json")


def deny(pattern, **more):
    return {"action": "DENY", "selector": {"identifier": pattern, **more}}


def allow(pattern, **more):
    return {"action": "ALLOW", "selector": {"identifier": pattern, **more}}


def convert(pattern, to="", attrs=None, **more):
    updates = {k: v for k, v in (("identifier", to), ("attrs", attrs)) if v}
    return {"action": "CONVERT", "selector": {"identifier": pattern, **more}, "updates": updates}


@pytest.mark.parametrize(
    ("given", "source", "want"),
    [
        ([], ALPINE, ALPINE),
        ([deny("docker-image://docker.io/library/busybox*")], ALPINE, ALPINE),
        ([deny(ALPINE)], ALPINE, None),
        ([deny("*")], ALPINE, None),
        ([deny("*"), allow("docker-image://docker.io/*")], ALPINE, ALPINE),
        ([allow("docker-image://docker.io/*"), deny("*")], ALPINE, None),
        ([deny("docker-image://*", matchType="EXACT")], ALPINE, ALPINE),
        ([deny(ALPINE, matchType="EXACT")], ALPINE, None),
        ([deny(r"^docker-image://[^/]+/library/", matchType="REGEX")], ALPINE, None),
        ([deny(ALPINE, match_type=1)], ALPINE, None),
        ([convert(ALPINE, "docker-image://mirror/alpine:3")], ALPINE, "docker-image://mirror/alpine:3"),
        ([convert("docker-image://docker.io/*", "docker-image://m.example/${1}")], ALPINE, "docker-image://m.example/library/alpine:3"),
        ([convert("docker-image://*/*:*", "docker-image://$1/x/$2:$3-slim")], ALPINE, None),
        ([convert(r"^docker-image://docker\.io/(.*)$", "docker-image://m/$1", matchType="REGEX")], ALPINE, "docker-image://m/library/alpine:3"),
        # a conversion begins again, and what it leads to may be forbidden
        ([convert(ALPINE, "docker-image://b"), convert("docker-image://b", "docker-image://c")], ALPINE, "docker-image://c"),
        ([convert(ALPINE, "docker-image://b"), deny("docker-image://b")], ALPINE, None),
        # a forbidden name that is converted to an allowed one is fine
        ([deny(ALPINE), convert(ALPINE, "docker-image://b")], ALPINE, "docker-image://b"),
        ([convert("docker-image://a", "docker-image://b"), convert("docker-image://b", "docker-image://a")], "docker-image://a", None),
    ],
)  # fmt: skip
def test_the_rules_decide(given, source, want):
    if want is None:
        with pytest.raises(Denied, match="denied by policy"):
            evaluate(rules(*given), Source(source))
    else:
        assert evaluate(rules(*given), Source(source)).identifier == want


@pytest.mark.parametrize(
    ("condition", "value", "have", "denied"),
    [
        ("EQUAL", "x", "x", True),
        ("EQUAL", "x", "y", False),
        ("NOTEQUAL", "x", "y", True),
        ("MATCHES", "^sha256:", "sha256:1", True),
        ("MATCHES", "^sha512:", "sha256:1", False),
    ],
)
def test_constraints(condition, value, have, denied):
    rule = deny("https://*", constraints=[{"key": "http.checksum", "value": value, "condition": condition}])
    source = Source("https://a/b", (("http.checksum", have),))
    if denied:
        with pytest.raises(Denied, match='source "https://a/b" denied by policy'):
            evaluate(rules(rule), source)
    else:
        assert evaluate(rules(rule), source) == source


def test_an_image_is_known_by_its_full_name():
    pin = "docker.io/library/alpine@sha256:" + "a" * 64
    given = rules(convert("docker-image://docker.io/library/alpine:latest", f"docker-image://{pin}"))
    assert image_name(given, "alpine") == pin
    assert image_name(given, "alpine:3") == "alpine:3"
    with pytest.raises(UsageError, match="can become another docker-image:// only"):
        image_name(rules(convert("docker-image://*", "https://x")), "alpine")


def test_downloads_get_their_checksum():
    given = rules(convert("https://a/*", attrs={"http.checksum": "sha256:1"}))
    assert http_url(given, "https://a/f") == ("https://a/f", "sha256:1")
    assert http_url(given, "https://b/f", "sha256:2") == ("https://b/f", "sha256:2")


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://github.com/u/r.git#v1", "https://mirror/u/r.git#v1"),
        ("git@github.com:u/r.git", "ssh://mirror/u/r.git"),
        ("ssh://github.com/u/r.git", "ssh://mirror/u/r.git"),
        ("https://other.example/u/r.git", "https://other.example/u/r.git"),
    ],
)
def test_repositories_keep_their_scheme(url, want):
    given = rules(convert("git://*github.com/*", "git://mirror/$2"))
    assert git_url(given, url)[0] == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "failed to parse source policy p: "),
        ("[]", "a list of rules is expected"),
        ('{"rules":[1]}', "rule 0: not an object"),
        ('{"rules":[{}]}', "rule 0: selector.identifier is missing"),
        ('{"rules":[{"action":"MAYBE","selector":{"identifier":"*"}}]}', "rule 0: unknown action 'MAYBE'"),
        ('{"rules":[{"action":"DENY","selector":{"identifier":"(","matchType":"REGEX"}}]}', "invalid regular expression"),
        ('{"rules":[{"action":"DENY","selector":{"identifier":"x","matchType":"LIKE"}}]}', "unknown matchType"),
        ('{"rules":[{"action":"CONVERT","selector":{"identifier":"x"}}]}', "CONVERT without updates"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(text, message):
    with pytest.raises(UsageError) as found:
        parse_policy(text.encode(), "p")
    assert message in str(found.value)


def test_rego_is_told_what_to_use_instead():
    with pytest.raises(UsageError) as found:
        parse_policy(b"package docker", "Dockerfile.rego")
    assert "Rego is not supported" in found.value.hint
