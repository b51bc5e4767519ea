"""Manifests are read strictly and written byte-stable (spec oci.md §2, §10.3)."""

import json

import pytest

from lapstrake.errors import ResolveError
from lapstrake.oci import codec
from lapstrake.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
)
from lapstrake.oci.digest import Verifier, digest_of, is_digest, verify
from lapstrake.oci.manifest import Index, Manifest, choose, exported_layer, make_index, make_manifest, parse
from lapstrake.oci.platform import parse as platform
from lapstrake.values import replace

D = "sha256:" + "1" * 64
CONFIG = Descriptor(OCI_CONFIG, D, 10)
LAYER = Descriptor(
    OCI_LAYER_GZIP, "sha256:" + "2" * 64, 20, annotations=(("containerd.io/uncompressed", "x"), ("keep", "y"))
)


def test_codec_is_stable():
    assert codec.dumps({"b": 1, "a": [None, True, "é"]}) == '{"a":[null,true,"é"],"b":1}'.encode()
    assert codec.dumps({"a": "\udcff"}) == b'{"a":"\\udcff"}'
    assert codec.digest_of(b"{}") == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    with pytest.raises(ValueError):
        codec.dumps(float("nan"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"\xff",
        b'{"a":' + b"[" * 100_000,
        b'{"a":"' + b"x" * codec.MAX_DOCUMENT + b'"}',
        b"9" * 9000,
    ],
)
def test_codec_refuses(raw):
    with pytest.raises(ResolveError):
        codec.loads(raw)


def test_digests():
    assert is_digest(D)
    assert is_digest("sha512:" + "a" * 128)
    for bad in (
        "",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha1:" + "a" * 40,
        "sha512:" + "a" * 64,
        "sha256:../" + "a" * 61,
    ):
        assert not is_digest(bad)
        with pytest.raises(ResolveError):
            Verifier(bad)
    verify(b"x", digest_of(b"x", "sha512"))
    with pytest.raises(ResolveError, match="does not match"):
        verify(b"x", D)
    with pytest.raises(ResolveError, match="larger"):
        Verifier(D, 1).update(b"xx")
    with pytest.raises(ResolveError, match="has 0 bytes"):
        Verifier(D, 1).finish()


def test_manifest_round_trip():
    raw, descriptor = make_manifest(CONFIG, [LAYER], annotations=(("z", "1"), ("a", "2")))
    found = parse(raw, OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.descriptor == descriptor
    assert found.config == CONFIG
    assert [d.annotations for d in found.layers] == [(("keep", "y"),)]
    assert dict(found.annotations) == {"z": "1", "a": "2"}
    assert descriptor.digest == digest_of(raw)
    assert make_manifest(CONFIG, [LAYER], annotations=(("a", "2"), ("z", "1")))[0] == raw


def test_docker_family():
    raw, descriptor = make_manifest(CONFIG, [LAYER], annotations=(("a", "b"),), oci=False)
    doc = json.loads(raw)
    assert descriptor.media_type == doc["mediaType"] == DOCKER_MANIFEST
    assert doc["config"]["mediaType"] == DOCKER_CONFIG
    assert doc["layers"] == [{"mediaType": DOCKER_LAYER_GZIP, "digest": LAYER.digest, "size": 20}]
    assert "annotations" not in doc
    raw, descriptor = make_index(
        [replace(descriptor, platform=platform("linux/arm64"), annotations=(("a", "b"),))], oci=False
    )
    assert descriptor.media_type == DOCKER_LIST
    assert "annotations" not in json.loads(raw)["manifests"][0]
    foreign = Descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", D, 1)
    assert (
        exported_layer(foreign, oci=True).media_type
        == "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    )
    assert exported_layer(exported_layer(foreign, oci=True), oci=False) == foreign


def test_caches_and_artifacts_keep_their_annotations():
    cache = Descriptor("application/vnd.buildkit.cacheconfig.v0", D, 10)
    raw, _ = make_manifest(cache, [LAYER])
    assert json.loads(raw)["layers"][0]["annotations"] == dict(LAYER.annotations)
    raw, descriptor = make_manifest(CONFIG, [], subject=CONFIG, artifact_type="x/y")
    found = parse(raw)
    assert (found.subject, found.artifact_type, descriptor.artifact_type) == (CONFIG, "x/y", "x/y")


GOOD = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG.to_json(), "layers": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemaVersion": 1}, "schema 1"),
        ({"schemaVersion": 3}, "schemaVersion"),
        ({"schemaVersion": "2"}, "schemaVersion"),
        ({"mediaType": OCI_INDEX}, "was served as"),
        ({"mediaType": 1}, "mediaType"),
        ({"manifests": []}, "list of manifests"),
        ({"config": None}, "config is not an object"),
        ({"config": {**CONFIG.to_json(), "size": -1}}, "invalid size"),
        ({"config": {**CONFIG.to_json(), "size": True}}, "invalid size"),
        ({"config": {**CONFIG.to_json(), "size": 1e3}}, "invalid size"),
        ({"config": {**CONFIG.to_json(), "digest": "sha256:../../x"}}, "invalid digest"),
        ({"config": {**CONFIG.to_json(), "platform": "linux"}}, "invalid platform"),
        ({"layers": {}}, "layers is not a list"),
        ({"layers": [1]}, "is not an object"),
        ({"layers": [{**CONFIG.to_json(), "urls": [1]}]}, "urls"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"subject": []}, "subject"),
    ],
)
def test_malformed_manifests(change, message):
    with pytest.raises(ResolveError) as caught:
        parse(json.dumps({**GOOD, **change}).encode(), OCI_MANIFEST)
    assert message in caught.value.message


def test_media_type_may_come_from_the_document():
    assert isinstance(parse(json.dumps(GOOD).encode(), "application/json; charset=utf-8"), Manifest)
    bare = {"schemaVersion": 2, "manifests": []}
    assert isinstance(parse(json.dumps(bare).encode()), Index)
    with pytest.raises(ResolveError, match="unsupported"):
        parse(json.dumps({**bare, "mediaType": "text/html"}).encode())
    with pytest.raises(ResolveError, match="an index with layers"):
        parse(json.dumps({**bare, "layers": []}).encode(), OCI_INDEX)


def index(*names, extra=()):
    entries = [
        Descriptor(OCI_MANIFEST, f"sha256:{i:064x}", 1, platform(n) if n else None)
        for i, n in enumerate(names)
    ]
    return Index(b"", OCI_INDEX, (*entries, *extra))


@pytest.mark.parametrize(
    ("wanted", "names", "position"),
    [
        ("linux/amd64", ("linux/arm64", "linux/amd64"), 1),
        ("linux/arm64/v8", ("linux/amd64", "linux/arm64"), 1),
        ("linux/arm/v7", ("linux/arm/v5", "linux/arm/v6"), 1),
        ("linux/arm", ("linux/arm/v5", "linux/arm/v7"), 1),
        ("linux/amd64/v3", ("linux/amd64", "linux/amd64/v2"), 1),
        ("linux/amd64/v3", ("linux/amd64/v4", "linux/amd64"), 1),
        ("windows(10.0.20348.1)/amd64", ("windows(10.0.17763.9)/amd64", "windows(10.0.20348.9)/amd64"), 1),
        ("linux/amd64", ("", "linux/amd64"), 1),
        ("linux/amd64", ("linux/arm64", ""), 1),
    ],
)
def test_choose(wanted, names, position):
    found = index(*names)
    assert choose(found, platform(wanted)) == found.manifests[position]


def test_choose_nothing():
    attestation = Descriptor(
        OCI_MANIFEST, D, 1, None, (("vnd.docker.reference.type", "attestation-manifest"),)
    )
    unknown = Descriptor(OCI_MANIFEST, D, 1, platform("unknown/unknown"))
    with pytest.raises(ResolveError) as caught:
        choose(index("linux/arm64", extra=(attestation, unknown)), platform("linux/amd64"))
    assert caught.value.message == "no match for platform in manifest: not found"
    assert caught.value.hint == "wanted linux/amd64; the image has: linux/arm64"
