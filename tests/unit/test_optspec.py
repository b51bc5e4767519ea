"""The values of composite flags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake import optspec
from lapstrake.errors import UsageError
from lapstrake.oci.platform import Platform
from lapstrake.plan.request import (
    AnnotationSpec,
    AttestSpec,
    CacheSpec,
    CallSpec,
    OutputSpec,
    SecretSpec,
    SshSpec,
)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a=1", ["a=1"]),
        ("a=1,b=2", ["a=1", "b=2"]),
        ('type=image,"name=a/b:1,c/d:2",push=true', ["type=image", "name=a/b:1,c/d:2", "push=true"]),
        ('"say ""hi"""', ['say "hi"']),
        ("a,", ["a", ""]),
        ("", [""]),
    ],
)
def test_csv(text, want):
    assert optspec.fields(text) == want


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])), min_size=1))
def test_csv_round_trip(fields):
    text = ",".join('"' + f.replace('"', '""') + '"' for f in fields)
    assert optspec.fields(text) == fields


@pytest.mark.parametrize("text", ['a"b', '"open', '"x"y'])
def test_csv_refused(text):
    with pytest.raises(UsageError, match="parse error on line 1"):
        optspec.fields(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0", 0),
        ("64m", 64 << 20),
        ("1g", 1 << 30),
        ("512MiB", 512 << 20),
        ("2kb", 2048),
        ("1.5k", 1536),
        ("7b", 7),
    ],
)
def test_sizes(text, want):
    assert optspec.size(text) == want


@pytest.mark.parametrize("text", ["", "x", "-1", "1q", "k", "1e400", "inf", "nan"])
def test_sizes_refused(text):
    with pytest.raises(UsageError):
        optspec.size(text)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("out", OutputSpec("local", "out")),
        ("./a=b", OutputSpec("local", "./a=b")),
        ("-", OutputSpec("tar", "-")),
        ("type=tar", OutputSpec("tar", "-")),
        ("type=oci,dest=x.tar,Compression=zstd", OutputSpec("oci", "x.tar", (("compression", "zstd"),))),
        (
            "type=image,annotation-index.Some.Key=V",
            OutputSpec("image", "", (("annotation-index.Some.Key", "V"),)),
        ),
        ("type=local,dest=a b", OutputSpec("local", "a b")),
    ],
)
def test_outputs(text, want):
    assert optspec.parse_output(text) == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dest=x", "type is required for output"),
        ("type=local", "dest is required for local exporter"),
        ("type=local,dest=-", "dest cannot be stdout for local exporter"),
        ("type=zip", 'unsupported output type "zip"'),
        ("type=oci,tar", "invalid value tar"),
    ],
)
def test_outputs_refused(text, message):
    with pytest.raises(UsageError) as e:
        optspec.parse_output(text)
    assert e.value.message == message


def test_platforms_once_each():
    got = optspec.platforms(["linux/amd64,linux/arm64", "linux/x86_64", "linux/arm/v6"])
    assert got == (Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v6"))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a=1", ("a", "1")),
        ("a=", ("a", "")),
        ("HOME", ("HOME", "/h")),
        ("NOPE", None),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_build_args(text, want):
    assert optspec.build_arg(text, {"HOME": "/h"}) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a:1.2.3.4", [("a", "1.2.3.4")]),
        ("a=1.2.3.4,::1", [("a", "1.2.3.4"), ("a", "::1")]),
        ("a:[2001:db8::1]", [("a", "2001:db8::1")]),
        ("a:2001:db8::1", [("a", "2001:db8::1")]),
        ("gw=host-gateway", [("gw", "host-gateway")]),
    ],
)
def test_hosts(text, want):
    assert optspec.add_host(text) == want


@pytest.mark.parametrize("text", ["a", "a=", "=1.2.3.4", "a=nope", "a=1.2.3.4,"])
def test_hosts_refused(text):
    with pytest.raises(UsageError, match="invalid host"):
        optspec.add_host(text)


def test_ulimits():
    assert optspec.ulimit("nofile=1024:2048") == ("nofile", 1024, 2048)
    assert optspec.ulimit("core=-1") == ("core", -1, -1)
    for bad in ("nofile", "nofile=x", "shoes=1", "nofile=5:1"):
        with pytest.raises(UsageError):
            optspec.ulimit(bad)


def test_caches():
    assert optspec.cache(["a/b:c,d/e", "type=local,src=dir"]) == (
        CacheSpec("registry", (("ref", "a/b:c"),)), CacheSpec("registry", (("ref", "d/e"),)), CacheSpec("local", (("src", "dir"),)),
    )  # fmt: skip
    with pytest.raises(UsageError, match='type required for "ref=x"'):
        optspec.cache(["ref=x"])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("id=a", SecretSpec("a", "file", "a")),
        ("id=TOK", SecretSpec("TOK", "env", "TOK")),
        ("id=a,src=f", SecretSpec("a", "file", "f")),
        ("id=a,env=V,src=f", SecretSpec("a", "env", "V")),
        ("id=a,type=env,src=V", SecretSpec("a", "env", "V")),
        ("id=TOK,type=file", SecretSpec("TOK", "file", "TOK")),
    ],
)
def test_secrets(text, want):
    assert optspec.secret(text, {"TOK": "x"}) == want


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("src=f", "secret missing ID"),
        ("id=a,type=x", 'unsupported secret type "x"'),
        ("id=a,foo=x", "unexpected key 'foo' in 'foo=x'"),
        ("a", "invalid field 'a' must be a key=value pair"),
    ],
)
def test_secrets_refused(text, message):
    with pytest.raises(UsageError) as e:
        optspec.secret(text, {})
    assert e.value.message == message


def test_ssh():
    env = {"SSH_AUTH_SOCK": "/s"}
    assert optspec.ssh(["default", "k=a,b"], env) == (SshSpec("default", ("/s",)), SshSpec("k", ("a", "b")))
    with pytest.raises(UsageError, match="invalid empty ssh agent socket"):
        optspec.ssh(["default"], {})
    with pytest.raises(UsageError, match='duplicate agent ID "default"'):
        optspec.ssh(["default", "default=x"], env)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("k=v", [AnnotationSpec("manifest", "", "k", "v")]),
        ("index:k=v=w", [AnnotationSpec("index", "", "k", "v=w")]),
        (
            "index,manifest[linux/amd64]:a.b=",
            [AnnotationSpec("index", "", "a.b", ""), AnnotationSpec("manifest", "linux/amd64", "a.b", "")],
        ),
        ("org.x:y=v", [AnnotationSpec("manifest", "", "org.x:y", "v")]),
    ],
)
def test_annotations(text, want):
    assert optspec.annotation(text) == want


def test_annotations_refused():
    with pytest.raises(UsageError, match='invalid annotation "k", expected key=value'):
        optspec.annotation("k")
    with pytest.raises(UsageError, match='unknown annotation type "shoe"'):
        optspec.annotation("shoe:k=v")
    with pytest.raises(UsageError, match="expected type and optional platform in square brackets"):
        optspec.annotation("index[linux:k=v")


def test_annotation_attribute():
    assert AnnotationSpec("index", "linux/amd64", "k", "v").attribute == "annotation-index[linux/amd64].k"
    assert AnnotationSpec("manifest", "", "k", "v").attribute == "annotation.k"


@pytest.mark.parametrize(
    ("attest", "sbom", "provenance", "want"),
    [
        ([], "", "", ()),
        ([], "true", "mode=max", (AttestSpec("sbom"), AttestSpec("provenance", (("mode", "max"),)))),
        (["type=provenance,mode=min"], "", "", (AttestSpec("provenance", (("mode", "min"),)),)),
        (["type=provenance"], "", "false", ()),
        (["type=sbom,disabled=true"], "", "", ()),
    ],
)
def test_attests(attest, sbom, provenance, want):
    assert optspec.attests(attest, sbom, provenance) == want


def test_attests_refused():
    with pytest.raises(UsageError, match='unknown attestation type "x"'):
        optspec.attests(["type=x"])
    with pytest.raises(UsageError, match="attestation type not specified"):
        optspec.attests(["mode=max"])


def test_call():
    assert optspec.call("check,format=json,ignorestatus=true") == CallSpec("check", "json", True)
    assert optspec.call("lint") == CallSpec("check")
    for bad in ("nonsense", "check,format=yaml", "check,x=1"):
        with pytest.raises(UsageError, match="invalid print"):
            optspec.call(bad)


@pytest.mark.parametrize(
    ("text", "want"), [("", ""), ("true", "always"), ("false", ""), ("newer", "newer"), ("never", "never")]
)
def test_pull(text, want):
    assert optspec.pull(text) == want
