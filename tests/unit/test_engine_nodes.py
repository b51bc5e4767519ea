"""What travels between a client and its nodes, and which node builds what."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.engine.nodes import Address, assign, check_inputs, command_of, parse_endpoint
from lapstrake.engine.wire import Codec, Lost, Pipe
from lapstrake.errors import BuildError, ExecError, Span, UsageError
from lapstrake.events import LogChunk, VertexDone
from lapstrake.oci.platform import Platform
from lapstrake.plan.request import BuildRequest, NodeSpec, OutputSpec
from lapstrake.source.listing import ListingTree, make_listing
from lapstrake.source.local import LocalTree

ARM, AMD, RISC = Platform("linux", "arm64"), Platform("linux", "amd64"), Platform("linux", "riscv64")


@pytest.mark.parametrize(
    "value",
    [
        BuildRequest(".", platforms=(ARM,), outputs=(OutputSpec("oci", "x", (("a", "b"),)),), build_args=(("A", "1"),)),
        LogChunk("sha256:x", 1, b"\xff\0raw", 1.5),
        VertexDone("d", "n", 2.0, (("wall", 1.0),), "why"),
        {"a": (1, None, True, "é"), "b": b""},
    ],
)  # fmt: skip
def test_values_arrive_as_they_were_sent(value):
    codec = Codec()
    assert codec.decode(json.loads(json.dumps(codec.encode(value)))) == value


def test_failures_arrive_with_their_place_and_tail():
    codec = Codec()
    sent = ExecError(
        "no", vertex="RUN x", status=3, tail=("a", "b"), span=Span("Dockerfile", 2, 2, "x\ny\n"), hint="h"
    )
    got = codec.failure(json.loads(json.dumps(codec.error(sent))))
    assert isinstance(got, ExecError)
    assert (got.message, got.status, got.tail, got.span, got.hint) == ("no", 3, ("a", "b"), sent.span, "h")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(
    st.sampled_from(["$", "$bytes", "$map", "a"]), s)))  # fmt: skip
def test_decoding_anything_raises_only_build_errors(data):
    try:
        Codec().decode(data)
    except BuildError:
        pass


def test_unknown_classes_are_not_made():
    with pytest.raises(BuildError):
        Codec().decode({"$": "Engine", "settings": 1})
    with pytest.raises(TypeError):
        Codec().encode(object())


@pytest.mark.parametrize(
    "data", [b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x02[]", b"\0\0\0\x05{", b"\0\0\0\x01x"]
)
def test_frames_that_are_none(data):
    with pytest.raises(Lost):
        Pipe(io.BytesIO(data), io.BytesIO()).receive()


def test_a_payload_cut_short():
    pipe = Pipe(io.BytesIO(b"abc"), io.BytesIO())
    with pytest.raises(Lost):
        pipe.payload(4, lambda _: None)
    assert Pipe(io.BytesIO(b""), io.BytesIO()).receive() is None


def test_a_context_travels_as_a_listing(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "g").write_text("x")
    (tmp_path / "ln").symlink_to("../../etc")
    listing, files = make_listing(LocalTree(str(tmp_path)))
    tree = ListingTree(listing, _Content(dict.fromkeys(files, b"x")))
    assert (tree.listdir(""), tree.listdir("d"), len(files)) == (["d", "g", "ln"], ["f"], 1)
    assert tree.open("d/f").read() == b"x"
    assert tree.lstat("ln").linkname == "../../etc"
    assert tree.lstat("ln/passwd") is None


class _Content:
    def __init__(self, blobs):
        self.blobs = blobs

    def has(self, digest):
        return digest in self.blobs

    def open(self, digest):
        return io.BytesIO(self.blobs[digest])


@pytest.mark.parametrize(
    "rows",
    [
        [["../x", "d", 0, 0, 0, "", ""]],
        [["a/b", "f", 0, 0, 0, "", ""]],
        [["", "d", 0, 0, 0, "", ""]],
        [["a", "d", 0, 0, 0, "", ""], ["a", "l", 0, 0, 0, "/", ""]],
        [["l", "l", 0, 0, 0, "/", ""], ["l/x", "f", 0, 0, 0, "", ""]],
        [["a", "c", 0, 0, 0, "", ""]],
        [["a\0b", "f", 0, 0, 0, "", ""]],
        [["a"]],
        {"a": 1},
        7,
    ],
)
def test_hostile_listings(rows):
    with pytest.raises(BuildError):
        ListingTree(json.dumps(rows).encode(), _Content({}))


@pytest.mark.parametrize(
    ("endpoint", "want"),
    [
        ("ssh://host", Address("host")),
        ("ssh://me@host:2222", Address("host", "me", "2222")),
        ("ssh://me@[::1]", Address("::1", "me")),
    ],
)
def test_endpoints(endpoint, want):
    assert parse_endpoint(endpoint) == want


@pytest.mark.parametrize(
    "endpoint", ["host", "ssh://", "ssh://-x", "ssh://-l@h", "ssh://a;b", "ssh://h:12a", "ssh://@h"]
)
def test_bad_endpoints(endpoint):
    with pytest.raises(UsageError):
        parse_endpoint(endpoint)


def test_the_words_that_reach_a_node():
    node = NodeSpec("n", "ssh://u@h", (), (("root", "/a b"), ("command", "/opt/lapstrake")))
    words = command_of(node)
    assert words[-3:] == ["--", "u@h", "/opt/lapstrake --root '/a b' dial-stdio"]
    assert "-a" in words and "-A" in command_of(node, agent=True)


def test_platforms_go_to_the_first_node_that_has_them():
    here, far = NodeSpec("here", "", (AMD,)), NodeSpec("far", "ssh://h", (ARM, AMD))
    assert assign([here, far], [ARM, AMD]) == {"far": [ARM], "here": [AMD]}
    assert assign([here, far], [RISC]) == {"here": [RISC]}
    assert assign([far, here], [AMD, ARM]) == {"far": [AMD, ARM]}


@pytest.mark.parametrize("entry", [("target", "x"), ("image", "layout.lapstrake.invalid/abc:latest")])
def test_contexts_that_cannot_travel(entry):
    class Inputs:
        named = {"n": entry}

    with pytest.raises(UsageError, match="failed to get build context n"):
        check_inputs(Inputs())
