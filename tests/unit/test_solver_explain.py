"""A miss names exactly what changed."""

from __future__ import annotations

import pytest

from lapstrake.graph.ops import CopyOp, ExecOp, SourceOp
from lapstrake.graph.vertex import Vertex
from lapstrake.oci.platform import Platform
from lapstrake.solver.explain import parts_of, reason, slot
from lapstrake.values import replace

AMD64 = Platform("linux", "amd64")
BASE = Vertex(SourceOp("image", "debian@sha256:1", AMD64), (), "[1/3] FROM debian")
RUN = ExecOp(("sh", "-c", "make"), ("A=1", "B=2"), "/", "", AMD64)


def why(old: ExecOp, new: ExecOp, ids: tuple[tuple[str, ...], tuple[str, ...]] = (("x",), ("x",))) -> str:
    a = parts_of(Vertex(old, (BASE,), "[2/3] RUN make"), ids[0])
    b = parts_of(Vertex(new, (BASE,), "[2/3] RUN make"), ids[1])
    return reason(a, b, inputs=("[1/3] FROM debian",))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"args": ("sh", "-c", "make all")}, "the instruction's text changed"),
        ({"env": ("A=1", "B=3")}, "ARG or ENV B changed"),
        ({"cwd": "/w"}, "cwd changed"),
        ({"user": "me"}, "user changed"),
        ({"network": "none"}, "network changed"),
        ({}, "its earlier result is gone from the store"),
    ],
)
def test_one_change_one_reason(change: dict[str, object], expected: str) -> None:
    assert why(RUN, replace(RUN, **change)) == expected


def test_inputs() -> None:
    assert why(RUN, RUN, (("a",), ("b",))) == "the base image changed: debian"
    copy = Vertex(CopyOp(("src",), "/", "/"), (BASE, BASE), "[2/3] COPY src /")
    a, b = parts_of(copy, ("x", "1")), parts_of(copy, ("x", "2"))
    assert (
        reason(a, b, inputs=("", ""), files=lambda i: ["src/a.py (content)"] if i == 1 else [])
        == "1 file differs: src/a.py (content)"
    )
    assert (
        reason(a, b, inputs=("", ""), files=lambda i: [f"f{n} (added)" for n in range(9)])
        == "9 files differ: f0 (added), f1 (added), f2 (added) and 6 more"
    )


def test_no_value_is_kept() -> None:
    assert "secret2" not in repr(parts_of(Vertex(replace(RUN, env=("B=secret2",)), (BASE,), "x"), ("x",)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[build 3/5] RUN x", "[build 3"),
        ("[linux/amd64 b 2/5] COPY a b/c", "[linux/amd64 b 2"),
        ("plain", "plain"),
    ],
)
def test_slot(name: str, expected: str) -> None:
    assert slot(Vertex(RUN, (BASE,), name)) == expected
