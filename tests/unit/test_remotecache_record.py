"""Records of caches outside the store: read with suspicion, whatever the bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.errors import CacheError, UsageError
from lapstrake.graph.ops import CopyOp, ExecOp, SourceOp
from lapstrake.graph.vertex import Vertex
from lapstrake.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from lapstrake.oci.platform import Platform
from lapstrake.optspec import duration
from lapstrake.plan.request import CacheSpec
from lapstrake.remotecache.inline import KEY, inline_config, read_inline
from lapstrake.remotecache.options import check, form_of
from lapstrake.remotecache.record import (
    RemoteLayer,
    RemoteRecord,
    decode,
    encode,
    from_json,
    read_summary,
    seal,
    summary,
    to_json,
    unseal,
)
from lapstrake.remotecache.s3 import place_of

K = "a" * 64
LAYER = RemoteLayer("sha256:" + "1" * 64, "sha256:" + "2" * 64, 10, OCI_LAYER_GZIP)
BASE = RemoteLayer("sha256:" + "3" * 64, "sha256:" + "4" * 64, 20, OCI_LAYER_GZIP, base=True)
RECORD = RemoteRecord((K,), "b" * 64, "ExecOp", (BASE, LAYER), "linux/amd64", "RUN x", 5.5)


def test_there_and_back() -> None:
    assert decode(encode(RECORD)) == RECORD
    assert unseal(seal(encode(RECORD))) == encode(RECORD)
    assert read_summary(summary([RECORD])) == {K: RECORD}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("v", 2), ("recipe", "other"), ("keys", "x"), ("keys", ["A" * 64]), ("keys", [K] * 17), ("identity", ""), ("identity", K[:-1] + "/"),
        ("op", 5), ("platform", None), ("name", "x" * 70_000), ("layers", None), ("layers", [1]), ("layers", [{}] * 1025),
    ],
)  # fmt: skip
def test_a_wrong_document_is_refused(where: str, value: Any) -> None:
    with pytest.raises(CacheError):
        from_json({**to_json(RECORD), where: value})


@pytest.mark.parametrize(
    ("where", "value"),
    [("size", -1), ("size", 1 << 41), ("size", True), ("size", "1"), ("digest", "sha512:" + "0" * 64), ("digest", "sha256:../x"), ("diffID", 3), ("mediaType", "text/plain")],
)  # fmt: skip
def test_a_wrong_layer_is_refused(where: str, value: Any) -> None:
    doc = to_json(RECORD)
    doc["layers"][1][where] = value
    with pytest.raises(CacheError):
        from_json(doc)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["v", "keys", "layers", "records", "digest", "x"]), x), max_leaves=10)  # fmt: skip


@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_bytes_give_a_record_or_a_clear_error(raw: bytes) -> None:
    for read in (decode, unseal, read_summary):
        try:
            read(raw)
        except CacheError:
            continue


@given(st.integers(0, len(seal(encode(RECORD))) - 1), st.integers(1, 255))
def test_one_changed_byte_shows(at: int, change: int) -> None:
    data = bytearray(seal(encode(RECORD)))
    data[at] ^= change
    with pytest.raises(CacheError):
        unseal(bytes(data))


def config(value: object, diffs: int = 2) -> bytes:
    return json.dumps({KEY: value, "rootfs": {"diff_ids": [BASE.diff_id, LAYER.diff_id][:diffs]}}).encode()


LAYERS = [Descriptor(OCI_LAYER_GZIP, BASE.digest, 20), Descriptor(OCI_LAYER_GZIP, LAYER.digest, 10)]


def test_inline_there_and_back() -> None:
    value = inline_config(
        [d.digest for d in LAYERS], [(RemoteRecord((K,), "b" * 64, "ExecOp", (), "linux/amd64"), [0, 1])]
    )
    found = read_inline(config(value), LAYERS)
    assert [x.diff_id for x in found[K].layers] == [BASE.diff_id, LAYER.diff_id]
    assert read_inline(config(value, diffs=1), LAYERS) == {}
    assert read_inline(b'{"rootfs": {}}', LAYERS) == {}


@given(JSON)
def test_any_inline_value_gives_records_or_a_clear_error(value: Any) -> None:
    for text in (
        value,
        b64encode(json.dumps(value).encode()).decode(),
        b64encode(json.dumps({"records": [value]}).encode()).decode(),
    ):
        try:
            read_inline(config(text), LAYERS)
        except CacheError:
            continue


def test_only_what_can_be_the_result_is_taken() -> None:
    from lapstrake.engine.remote import check as fits

    amd64 = Platform("linux", "amd64")
    base = Vertex(SourceOp("image", "b", amd64), (), "b")
    run = Vertex(ExecOp(("x",), (), "/", "", amd64), (base,), "x")
    fits(RECORD, K, run)
    for key, vertex in (
        ("c" * 64, run),
        (K, Vertex(ExecOp(("x",), (), "/", "", Platform("linux", "arm64")), (base,), "x")),
        (K, Vertex(CopyOp(("x",), "/", "/"), (base,), "x")),
    ):
        with pytest.raises(CacheError):
            fits(RECORD, key, vertex)


def spec(kind: str, **attrs: str) -> CacheSpec:
    return CacheSpec(kind, tuple(attrs.items()))


def test_forms() -> None:
    assert form_of(spec("registry", ref="a")).mode == "min"
    given = form_of(
        spec(
            "local",
            dest="d",
            mode="max",
            compression="zstd",
            **{"compression-level": "22", "ignore-error": "true"},
        )
    )
    assert (given.mode, given.compression, given.level, given.ignore_error) == ("max", "zstd", 22, True)
    assert form_of(spec("registry", ref="a", **{"oci-mediatypes": "false"})).image_manifest is False
    for bad in (
        {"compression-level": "10"},
        {"mode": "all"},
        {"ignore-error": "maybe"},
        {"compression": "xz"},
    ):
        with pytest.raises(UsageError):
            check(spec("registry", ref="a", **bad), export=True)


def test_s3_attributes() -> None:
    env = {"AWS_BUCKET": "b", "AWS_REGION": "r"}
    place = place_of(spec("s3", name="one;two", touch_refresh="1h30m", use_path_style="true"), env)
    assert (place.bucket, place.region, place.names, place.touch_s, place.path_style) == (
        "b",
        "r",
        ("one", "two"),
        5400,
        True,
    )
    assert "secret" not in repr(place_of(spec("s3", secret_access_key="secret"), env))
    for attrs, environ in (
        ({}, {}),
        ({"bucket": "b"}, {}),
        ({"retry_mode": "x"}, env),
        ({"retry_max_attempts": "0"}, env),
        ({"touch_refresh": "soon"}, env),
    ):
        with pytest.raises(UsageError):
            place_of(spec("s3", **attrs), environ)
    assert duration("2m10s") == 130


@pytest.mark.parametrize(
    ("kind", "attrs", "export", "message"),
    [
        ("gha", {}, True, "can't be used by Lapstrake"),
        ("azblob", {"name": "x"}, False, "can't be used by Lapstrake"),
        ("inline", {}, False, "inline caches are imported as type=registry"),
        ("registry", {}, True, "ref is required"),
        ("local", {}, True, "dest is required"),
        ("local", {"dest": "x"}, False, "unknown attribute dest"),
        ("local", {"dest": "x", "mod": "max"}, True, "unknown attribute mod"),
        ("local", {"dest": "x", "mode": "some"}, True, "invalid cache mode some"),
        ("inline", {"mode": "max"}, True, "mode=max is not possible"),
        (
            "registry",
            {"ref": "a/b", "image-manifest": "true", "oci-mediatypes": "false"},
            True,
            "needs oci-mediatypes=true",
        ),
        ("registry", {"ref": "a/b", "compression": "lzma"}, True, "unsupported layer compression"),
    ],
)
def test_what_can_not_work_is_refused(kind: str, attrs: dict[str, str], export: bool, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        check(spec(kind, **attrs), export=export)
    assert message in refused.value.message
