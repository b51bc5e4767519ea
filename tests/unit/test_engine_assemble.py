"""The finished image config: times of the history and of the image."""

from __future__ import annotations

import pytest

from lapstrake.engine.assemble import finish_config
from lapstrake.oci.platform import Platform
from lapstrake.plan.image import ImageState
from lapstrake.plan.lower import Plan

BASE = {
    "os": "linux", "architecture": "amd64", "created": "2025-01-02T00:00:00Z", "config": {},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    "history": [{"created": "2025-01-01T00:00:00Z", "created_by": "base"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "times", "epoch", "want"),
    [
        # metadata only: as old as the base
        (["m"], [], None, ["2025-01-01T00:00:00Z"]),
        # metadata before the first layer has the layer's time, behind it too
        (["m", "l", "m"], [1e9], None, ["2001-09-09T01:46:40Z"] * 3),
        (["l", "l"], [1e9, 1e9 + 1], None, ["2001-09-09T01:46:40Z", "2001-09-09T01:46:41Z"]),
        (["m"], [], 5, ["1970-01-01T00:00:05Z"]),
        (["l"], [1e9], 5, ["1970-01-01T00:00:05Z"]),
    ],
)
def test_times(steps, times, epoch, want):
    state = ImageState.of_base(BASE, Platform("linux", "amd64"))
    for kind in steps:
        state.history("RUN x" if kind == "l" else "LABEL a=1", layer=kind == "l")
    plan = Plan(Platform("linux", "amd64"), None, state, 1, ())
    config = finish_config(
        plan, BASE["rootfs"]["diff_ids"] + ["sha256:" + "2" * 64] * len(times), times, epoch
    )
    assert [h["created"] for h in config["history"]] == ["2025-01-01T00:00:00Z", *want]
    assert config["created"] == want[-1]
