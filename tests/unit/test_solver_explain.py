"""A miss names exactly what changed."""

from __future__ import annotations

import pytest

from lapstrake.graph.ops import CopyOp, ExecMount, ExecOp, SourceOp
from lapstrake.graph.vertex import Vertex
from lapstrake.oci.platform import Platform
from lapstrake.solver.explain import parts_of, reason, slot
from lapstrake.values import replace

AMD64 = Platform("linux", "amd64")
BASE = Vertex(SourceOp("image", "debian@sha256:1", AMD64), (), "[1/3] FROM debian")
RUN = ExecOp(("sh", "-c", "make"), ("A=1", "B=2"), "/", "", AMD64)


COPY = CopyOp(("src",), "/", "/")


def why(
    old: object,
    new: object,
    ids: tuple[tuple[str, ...], tuple[str, ...]] = (("x", "1"), ("x", "1")),
    **kw: object,
) -> str:
    """``text``: the step's text before and after."""
    before, after = kw.pop("text", ("s", "s"))  # type: ignore[misc]
    bases = kw.pop("bases", (BASE, BASE))
    n = 2 if isinstance(old, CopyOp) else 1
    a = parts_of(Vertex(old, (bases[0], BASE)[:n], f"[2/3] {before}"), ids[0][:n])  # type: ignore[arg-type, index]
    b = parts_of(Vertex(new, (bases[1], BASE)[:n], f"[2/3] {after}"), ids[1][:n])  # type: ignore[arg-type, index]
    return reason(a, b, inputs=("[1/3] FROM debian", "ctx"), **kw)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"env": ("A=1", "B=3")}, "ENV B changed"),
        ({"env": ("A=1",)}, "ENV B removed"),
        ({"env": ("A=1", "B=2", "C=1")}, "ENV C added"),
        ({"env": ("A=2", "B=2")}, "ARG A changed"),
        ({"args": ("bash", "-c", "make")}, "the shell (SHELL) changed"),
        ({"cwd": "/w"}, "the working directory (WORKDIR) changed"),
        ({"user": "me"}, "the user (USER) changed"),
        ({"network": "none"}, "the network mode (--network) changed"),
        ({"platform": Platform("linux", "arm64")}, "the platform changed: linux/amd64 -> linux/arm64"),
        ({"mounts": (ExecMount("tmpfs", "/t"),)}, "the mount /t added"),
        ({"mounts": (ExecMount("secret", "", id="tok", env="TOK"),)}, "the mount TOK added"),
        ({"ulimits": (("nofile", 1, 1),)}, "the limits (--ulimit) changed"),
        ({}, "its earlier result is no longer in the store"),
    ],
)
def test_one_change_one_reason(change: dict[str, object], expected: str) -> None:
    old = replace(RUN, arg_names=("A",))
    assert why(old, replace(old, **change)) == expected


@pytest.mark.parametrize(
    ("new", "text", "expected"),
    [
        (
            replace(RUN, args=("sh", "-c", "make all")),
            ("RUN make", "RUN make all"),
            "the instruction's text changed",
        ),
        (
            replace(RUN, args=("sh", "-c", "x")),
            ("RUN <<EOF (a)", "RUN <<EOF (b)"),
            "the heredoc's text changed",
        ),
    ],
)
def test_text_of_a_run(new: ExecOp, text: tuple[str, str], expected: str) -> None:
    assert why(RUN, new, text=text) == expected


@pytest.mark.parametrize(
    ("new", "text", "expected"),
    [
        (replace(COPY, dest="/opt/"), ("COPY src /", "COPY src /opt/"), "the instruction's text changed"),
        (replace(COPY, dest="/2/"), ("COPY src /$V/", "COPY src /$V/"), "ARG or ENV V changed"),
        (replace(COPY, chown="1"), ("COPY src /", "COPY src /"), "--chown changed"),
        (replace(COPY, files=(("a", "x"),)), ("COPY <<a /", "COPY <<a /"), "the text of heredoc a changed"),
    ],
)
def test_text_of_a_copy(new: CopyOp, text: tuple[str, str], expected: str) -> None:
    assert why(COPY, new, text=text) == expected


def test_inputs() -> None:
    other = Vertex(SourceOp("image", "debian@sha256:2", AMD64), (), "[1/3] FROM debian")
    ids = (("a",), ("b",))
    assert why(RUN, RUN, ids, bases=(BASE, other)) == "the base image changed: debian sha256:1 -> sha256:2"
    stage = Vertex(RUN, (BASE,), "[1/3] FROM debian")
    assert why(RUN, RUN, ids, bases=(stage, stage)) == "what it stands on changed: [1/3] FROM debian"
    ids = (("x", "1"), ("x", "2"))
    one = why(COPY, COPY, ids, files=lambda i: (["src/a.py (content)"] if i == 1 else [], 418))
    assert one == "1 of 418 files differs: src/a.py (content)"
    many = why(COPY, COPY, ids, files=lambda i: ([f"f{n} (added)" for n in range(9)], 9))
    assert many == "9 of 9 files differ: f0 (added), f1 (added), f2 (added) and 6 more"
    gone = why(COPY, COPY, ids, files=lambda i: (["a (removed)", "b (removed)", "c (removed)"], 2))
    assert gone == "3 files differ: a (removed), b (removed), c (removed)"


def test_what_the_key_leaves_out_is_no_reason() -> None:
    def cache(ident: str, sharing: str) -> ExecOp:
        return replace(RUN, mounts=(ExecMount("cache", "/c", id=ident, sharing=sharing),))

    assert why(cache("a", "locked"), cache("b", "shared")) == "its earlier result is no longer in the store"
    linked = replace(COPY, link=True)
    assert why(linked, linked, (("a", "1"), ("b", "1"))) == "its earlier result is no longer in the store"


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
