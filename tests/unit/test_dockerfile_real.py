"""Constructs of well-known projects' Dockerfiles: how they are read, planned and checked.

Each ``tests/data/real/NAME.Dockerfile`` has beside it what is expected.  ``LAPSTRAKE_UPDATE=1``
writes those files anew; look at the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lapstrake.dockerfile.lint import check, options_of
from lapstrake.dockerfile.lint_stages import Facts, check_stages
from lapstrake.dockerfile.outline import outline, outline_text
from lapstrake.dockerfile.parser import parse
from lapstrake.graph.vertex import walk
from lapstrake.oci.platform import Platform
from lapstrake.plan.image import BaseImage
from lapstrake.plan.lower import NeedsBases, Plan, PlanInput, lower
from lapstrake.plan.request import BuildRequest
from lapstrake.plan.stages import find_target, reachable

DATA = Path(__file__).resolve().parents[1] / "data" / "real"
CASES = sorted(DATA.glob("*.Dockerfile"))
AMD64 = Platform("linux", "amd64")


def planned(path: Path, platform: Platform = AMD64) -> Plan:
    """The plan, with every base an empty image of one layer."""
    dockerfile = parse(path.read_bytes(), "Dockerfile")
    bases: dict = {}
    for _ in range(20):
        found = lower(PlanInput(dockerfile, BuildRequest("."), platform, bases, {}))
        if not isinstance(found, NeedsBases):
            return found
        for name, wanted, _ in found.wanted:
            config = {
                "os": wanted.os,
                "architecture": wanted.arch,
                "config": {"Env": ["GOPATH=/go"], "WorkingDir": "/go"},
            }
            bases[name, wanted] = BaseImage(f"{name.partition('@')[0]}@sha256:{'0' * 64}", config, 1)
    raise AssertionError("bases without end")


def described(path: Path) -> str:
    dockerfile = parse(path.read_bytes(), "Dockerfile")
    plan = planned(path)
    steps = [v.name.replace("@sha256:" + "0" * 64, "") for v in walk([plan.target] if plan.target else [])]
    facts = Facts(platform=AMD64, base_config=dict(plan.base_configs).get)
    warnings = [*check(dockerfile), *check_stages(dockerfile, facts, options=options_of(dockerfile))]
    target = find_target(dockerfile, "")
    shown = outline(dockerfile, target, {s.index for s in reachable(dockerfile, target)})
    config = plan.image.config["config"]
    parts = [
        "# steps", *(s for s in steps if s != "scratch"),
        "# not needed", *plan.skipped,
        "# warnings", *(w.short for w in warnings),
        "# config", *(f"{k}: {config[k]}" for k in sorted(config)),
        "# outline", outline_text(shown),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def test_there_are_enough():
    assert len(CASES) >= 40


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_as_expected(path):
    expected = path.with_suffix(".expected")
    text = described(path)
    if os.environ.get("LAPSTRAKE_UPDATE"):
        expected.write_text(text)
    assert text == expected.read_text()
