"""A base image's config is the image's author's: nothing of it is used before its form was checked."""

import json

import pytest

from lapstrake.errors import ResolveError
from lapstrake.oci.imageconfig import MAX_CONFIG, parse

GOOD = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "Cmd": None, "Labels": {"a": "b"}},
    "history": [{}],
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
}


def test_what_real_images_have():
    assert parse(json.dumps(GOOD).encode(), "x") == GOOD
    for change in (
        {"config": None},
        {"history": None},
        {"rootfs": {"diff_ids": None}},
        {"created": "2026-01-01T00:00:00Z"},
    ):
        parse(json.dumps({**GOOD, **change}).encode(), "x")


@pytest.mark.parametrize(
    "wrong",
    [
        b"", b"[]", b"{", b"5", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b" " * (MAX_CONFIG + 1),
        *({"rootfs": r} for r in (None, [], "x", {"diff_ids": "x"}, {"diff_ids": [5]}, {"diff_ids": {}})),
        *({"rootfs": {"diff_ids": [d]}} for d in ("", "x", "sha256:", "sha256:../../x", "sha256:/../../tmp/" + "0" * 53, "md5:0")),
        *({"config": {n: v}} for n in ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild") for v in ("x", [5], {"a": 1}, 5, [None])),
        *({"config": {n: v}} for n in ("User", "WorkingDir", "StopSignal") for v in ([], 5, {})),
        *({"config": {n: v}} for n in ("ExposedPorts", "Volumes", "Labels", "Healthcheck") for v in ([], 5, "x")),
        {"config": {"Labels": {"a": 1}}}, {"config": []}, {"history": 5}, {"history": [5]}, {"os": 5}, {"architecture": ["a"]}, {"created": 5},
    ],
)  # fmt: skip
def test_anything_else_is_one_clear_error(wrong):
    raw = wrong if isinstance(wrong, bytes) else json.dumps({**GOOD, **wrong}).encode()
    with pytest.raises(ResolveError, match="^base: .*image config"):
        parse(raw, "base")
