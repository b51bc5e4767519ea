"""Lowering: Dockerfile text to graph and image config, without a root filesystem."""

from __future__ import annotations

from typing import Any

import pytest

from lapstrake.dockerfile.parser import parse
from lapstrake.errors import BuildError
from lapstrake.graph.ops import CopyOp, ExecOp, MkdirOp, SourceOp
from lapstrake.graph.vertex import walk
from lapstrake.oci.platform import Platform
from lapstrake.plan.image import BaseImage
from lapstrake.plan.lower import NeedsBases, Plan, PlanInput, context_keys, lower
from lapstrake.plan.request import BuildRequest

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
DEBIAN = {
    "config": {"Env": ["PATH=/bin", "A=base"], "Cmd": ["sh"]},
    "rootfs": {"diff_ids": ["sha256:1"]},
    "history": [{"created_by": "base"}],
    "os": "linux",
    "architecture": "amd64",
}


class Bases(dict):  # type: ignore[type-arg]
    """Knows every image."""

    def get(self, key: Any, default: Any = None) -> Any:
        name, platform = key
        return BaseImage(
            f"docker.io/library/{name}@sha256:{'0' * 64}",
            {
                **DEBIAN,
                "architecture": platform.arch,
                **({"config": self.config} if name == "onbuild" else {}),
            },
            1,
        )

    config = {"OnBuild": ["COPY . /src", "RUN make"]}


def plan(
    text: str,
    platform: Platform = AMD64,
    contexts: dict[str, tuple[str, str]] | None = None,
    multi: bool = False,
    **kw: Any,
) -> Plan:
    got = lower(
        PlanInput(
            parse(text.encode(), "Dockerfile"),
            BuildRequest(context=".", **kw),
            platform,
            Bases(),
            context_keys(contexts or {}),
            multi,
        )
    )
    assert isinstance(got, Plan)
    return got


def names(p: Plan) -> list[str]:
    return [v.name for v in walk([p.target])] if p.target else []


def history(p: Plan) -> list[tuple[str, bool]]:
    return [(h["created_by"], bool(h.get("empty_layer"))) for h in p.image.config["history"][1:]]


def test_asks_for_bases_all_at_once() -> None:
    df = parse(
        b"FROM a AS x\nFROM b AS y\nFROM scratch\nCOPY --from=x / /\nCOPY --from=y / /\n", "Dockerfile"
    )
    got = lower(PlanInput(df, BuildRequest(context="."), AMD64, {}, {}))
    assert isinstance(got, NeedsBases)
    assert [w[0] for w in got.wanted] == ["a", "b"]


def test_labels_number_the_steps() -> None:
    p = plan("FROM debian AS build\nWORKDIR /w\nRUN make\nFROM alpine\nCOPY --from=build /w/app /app\n")
    ref = "@sha256:" + "0" * 64
    assert names(p) == [
        f"[stage-1 1/2] FROM docker.io/library/alpine{ref}",
        f"[build 1/3] FROM docker.io/library/debian{ref}",
        "[build 2/3] WORKDIR /w",
        "[build 3/3] RUN make",
        "[stage-1 2/2] COPY --from=build /w/app /app",
    ]


def test_config_and_history() -> None:
    p = plan(
        'FROM debian\nARG V=1\nENV A=x B="y z"\nRUN echo $A\nWORKDIR /app\nWORKDIR sub\nCOPY f /f\nEXPOSE 80 443/udp\nVOLUME /v\n'
        'USER me\nENTRYPOINT ["/e"]\nCMD ["a", "b"]\nLABEL k=v\nSTOPSIGNAL SIGTERM\nSHELL ["/bin/bash", "-c"]\nHEALTHCHECK --interval=30s CMD x\n'
    )
    c = p.image.c
    assert c["Env"] == ["PATH=/bin", "A=x", "B=y z"]
    assert (c["WorkingDir"], c["User"], c["Entrypoint"], c["Cmd"]) == ("/app/sub", "me", ["/e"], ["a", "b"])
    assert c["ExposedPorts"] == {"443/udp": {}, "80/tcp": {}}
    assert history(p) == [
        ("ARG V=1", True),
        ("ENV A=x B=y z", True),
        ("RUN |1 V=1 /bin/sh -c echo $A # buildkit", False),
        ("WORKDIR /app", False),
        ("WORKDIR /app/sub", False),
        ("COPY f /f # buildkit", False),
        ("EXPOSE [443/udp 80/tcp]", True),
        ("VOLUME [/v]", True),
        ("USER me", True),
        ('ENTRYPOINT ["/e"]', True),
        ('CMD ["a" "b"]', True),
        ("LABEL k=v", True),
        ("STOPSIGNAL SIGTERM", True),
        ("SHELL [/bin/bash -c]", True),
        (
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            True,
        ),
    ]


def test_build_stage_is_equal_for_two_targets_until_the_arg() -> None:
    text = "FROM --platform=$BUILDPLATFORM golang AS build\nWORKDIR /app\nCOPY . .\nARG TARGETOS TARGETARCH\nRUN GOARCH=$TARGETARCH go build\nFROM alpine\nCOPY --from=build /app/main /main\n"
    one = {v.name.split("] ")[1]: v.digest for v in walk([plan(text, AMD64, multi=True).target])}  # type: ignore[list-item]
    two = {v.name.split("] ")[1]: v.digest for v in walk([plan(text, ARM64, multi=True).target])}  # type: ignore[list-item]
    same = {k for k in one if k in two and one[k] == two[k]}
    assert {"WORKDIR /app", "COPY . ."} <= same
    assert "RUN GOARCH=$TARGETARCH go build" not in same
    run = next(v for v in walk([plan(text, ARM64).target]) if isinstance(v.op, ExecOp))  # type: ignore[list-item]
    assert run.op.platform == AMD64  # type: ignore[union-attr]
    assert {"TARGETOS=linux", "TARGETARCH=arm64"} <= set(run.op.env)  # type: ignore[union-attr]


def test_stages_nobody_needs_are_left_out() -> None:
    p = plan("FROM debian AS a\nRUN a\nFROM debian AS test\nRUN t\nFROM alpine\nCOPY --from=a /x /x\n")
    assert p.skipped == ("test",)
    assert not any("RUN t" in n for n in names(p))


def test_target_is_case_insensitive_and_suggests() -> None:
    text = "FROM debian AS build\nRUN x\nFROM alpine\nRUN y\n"
    assert any("RUN x" in n for n in names(plan(text, target="BUILD")))
    with pytest.raises(BuildError, match=r'target stage "biuld" could not be found \(did you mean build\?\)'):
        plan(text, target="biuld")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nFROM x\n",
            "it needs to be defined before current stage",
        ),
        ("FROM a\nCOPY --from=$X / /\n", "variable expansion is not supported for --from"),
        ("FROM a\nCOPY --from=7 / /\n", "invalid stage index 7"),
        ("FROM a\nCOPY https://x/y /\n", "source can't be a URL for COPY"),
        ("FROM a\nRUN --network=host x\n", "network.host is not allowed"),
        ("ARG X\nFROM $X\n", r"base name \(\$X\) should not be blank"),
        ("FROM --platform=$NOPE a\n", "empty platform value from expression"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(BuildError, match=message) as info:
        plan(text)
    assert info.value.span is not None


def test_arg_scope() -> None:
    p = plan("ARG G=global\nFROM debian\nARG G\nARG D=${G}-x\nARG U\nRUN x\n", build_args=(("D", "cli"),))
    run = next(v.op for v in walk([p.target]) if isinstance(v.op, ExecOp))  # type: ignore[list-item]
    assert {"G=global", "D=cli"} <= set(run.env)
    assert not any(e.startswith("U=") for e in run.env)


def test_onbuild_triggers_run_first() -> None:
    p = plan("FROM onbuild\nRUN mine\n")
    ops = [type(v.op).__name__ for v in walk([p.target])]  # type: ignore[list-item]
    assert ops == ["SourceOp", "SourceOp", "CopyOp", "ExecOp", "ExecOp"]
    assert "OnBuild" not in p.image.c


def test_heredocs() -> None:
    p = plan(
        "FROM debian\nRUN <<EOF\nset -e\necho hi\nEOF\nRUN <<PY\n#!/usr/bin/env python3\nprint(1)\nPY\nRUN cat <<A > /x\nbody\nA\nCOPY <<f.txt /d/\nv=$A\nf.txt\n"
    )
    ops = [v.op for v in walk([p.target])]  # type: ignore[list-item]
    runs = [o for o in ops if isinstance(o, ExecOp)]
    assert runs[0].args == ("/bin/sh", "-c", "set -e\necho hi\n")
    assert runs[1].args == ("/bin/sh", "-c", "/dev/pipes/PY")
    assert runs[1].mounts[0].content == b"#!/usr/bin/env python3\nprint(1)\n"
    assert runs[2].args[2] == "cat <<A > /x\nbody\nA"
    copy = next(o for o in ops if isinstance(o, CopyOp))
    assert copy.files == (("f.txt", "v=base\n"),)


def test_mounts() -> None:
    p = plan(
        "FROM debian AS b\nFROM debian\nWORKDIR /w\nRUN --mount=type=cache,target=/c --mount=from=b,source=/x,target=y --mount=type=secret,id=s,env=S make\n"
    )
    op = next(v for v in walk([p.target]) if isinstance(v.op, ExecOp))  # type: ignore[list-item]
    cache, bind, secret = op.op.mounts  # type: ignore[union-attr]
    assert (cache.kind, cache.id, cache.target, cache.readonly) == ("cache", "/c", "/c", False)
    assert (bind.kind, bind.target, bind.selector, bind.readonly) == ("bind", "/w/y", "x", True)
    assert isinstance(op.inputs[bind.input].op, SourceOp)
    assert (secret.env, secret.target) == ("S", "")


def test_named_context_replaces_an_image_and_a_stage() -> None:
    p = plan("FROM alpine\nRUN x\n", contexts={"alpine": ("image", "other")})
    assert any("library/other" in n for n in names(p))
    p = plan("FROM alpine AS base\nRUN x\nFROM base\nRUN y\n", contexts={"base": ("image", "other")})
    assert not any("RUN x" in n for n in names(p))


def test_workdir_vertex() -> None:
    p = plan("FROM scratch\nWORKDIR /a\n")
    assert p.target is not None
    assert isinstance(p.target.op, MkdirOp)
