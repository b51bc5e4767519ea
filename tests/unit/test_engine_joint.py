"""Several requests as one build: order, cycles, shared contexts, links."""

from __future__ import annotations

import pytest

from lapstrake.dockerfile.parser import parse
from lapstrake.engine.joint import Job, in_order
from lapstrake.errors import DockerfileError, UsageError
from lapstrake.graph.vertex import walk
from lapstrake.oci.platform import parse as platform
from lapstrake.plan.lower import Plan, PlanInput, context_keys, lower
from lapstrake.plan.request import BuildRequest

AMD, ARM = platform("linux/amd64"), platform("linux/arm64")


def job(name: str, *uses: str) -> Job:
    return Job(name, BuildRequest(".", named_contexts=tuple((u, f"target:{u}") for u in uses)))


def test_jobs_come_after_those_they_use():
    jobs = [job("app", "lib", "base"), job("lib", "base"), job("base"), job("other")]
    assert [j.name for j in in_order(jobs)] == ["base", "lib", "app", "other"]


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([job("a", "b")], "failed to find target b"),
        ([job("a", "a")], "infinite loop from a to a"),
        ([job("a", "b"), job("b", "c"), job("c", "a")], "infinite loop from c to a"),
    ],
)
def test_links_that_cannot_be(jobs, message):
    with pytest.raises(UsageError) as caught:
        in_order(jobs)
    assert caught.value.message == message


def plan(text: str, name: str, linked=None, on=AMD) -> Plan:
    contexts = context_keys({"base": ("target", "base")} if linked is not None else {})
    dockerfile = parse(text.encode(), "Dockerfile")
    got = lower(PlanInput(dockerfile, BuildRequest("."), on, {}, contexts, linked=linked or {}, name=name))
    assert isinstance(got, Plan)
    return got


def test_a_linked_target_goes_on_where_the_other_ends():
    base = plan("FROM scratch\nCOPY a /a\nENV X=1\nWORKDIR /w", "base")
    app = plan("FROM base\nCOPY b /b\nCOPY --from=base /a /c", "app", {("base", AMD): base})
    names = [v.name for v in walk([app.target])]
    assert "[base 1/2] COPY a /a" in names and "[app 2/3] COPY b /b" in names
    assert base.target.digest in {v.digest for v in walk([app.target])}
    assert "X=1" in app.image.c["Env"] and app.image.c["WorkingDir"] == "/w"
    assert len(app.layer_vertices) == 4
    assert "X=1" not in plan("FROM scratch", "z").image.c["Env"]


def test_the_only_platform_serves_all_and_a_missing_one_is_an_error():
    base = plan("FROM scratch\nCOPY a /a", "base")
    assert plan("FROM base", "app", {("base", AMD): base}, ARM).target is base.target
    with pytest.raises(DockerfileError, match="target base is not built for linux/arm64") as caught:
        plan("FROM base", "app", {("base", AMD): base, ("base", platform("linux/s390x")): base}, ARM)
    assert caught.value.hint == "it is built for linux/amd64, linux/s390x"
