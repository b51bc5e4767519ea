"""What is said at the end of a build."""

from __future__ import annotations

import pytest

from lapstrake.cli.summary import github_marks, joint_summary, short_name, summary
from lapstrake.engine.build import BuildResult
from lapstrake.engine.sizes import ImageSizes
from lapstrake.errors import BuildError, Cancelled, Span
from lapstrake.events import Warned
from lapstrake.plan.request import BuildRequest
from lapstrake.progress.model import short_size, short_time

INTERNAL = {"name": "[internal] load build definition", "state": "done", "started": 0.0, "completed": 9.0}
HIT = {"name": "[1/2] FROM x@sha256:" + "a" * 64, "state": "cached", "started": 1.0, "completed": 1.0}
RAN = {
    "name": "[2/2] RUN make", "state": "done", "started": 1.0, "completed": 13.4, "inputs": ["x"],
    "stats": {"wall": 12.3, "cpu": 31.2, "peak_rss": 512e6, "bytes_added": 48e6}, "reason": "the command changed",
}  # fmt: skip
COPY = {
    "name": "[2/2] COPY . .",
    "state": "done",
    "started": 1.0,
    "completed": 1.4,
    "inputs": ["x"],
    "stats": {"bytes_added": 5},
}


def result(*steps, **kw):
    return BuildResult("d", "c", {}, steps=steps, **kw)


def test_short():
    sizes = ImageSizes(9_000_000, 812_000_000, ("linux/amd64",))
    got = summary(result(INTERNAL, HIT, RAN, COPY, sizes=sizes, skipped=("test", "lint")), "short")
    assert got == (
        "2 steps ran, 1 cached (31.2s CPU, peak memory 512 MB, 48 MB added, slowest: [2/2] RUN make 12.4s)\n"
        "build stages: 812 MB, final image: 9.0 MB\n"
        "not needed, so not run: test, lint\n"
    )


def test_full():
    assert summary(result(INTERNAL, HIT, RAN, COPY), "full") == (
        "STEP            TIME   CPU    MEMORY  ADDED  CACHE\n"
        "[1/2] FROM x                                 hit\n"
        "[2/2] RUN make  12.4s  31.2s  512 MB  48 MB  the command changed\n"
        "[2/2] COPY . .  0.4s                  5 B    ran\n"
        "2 steps ran, 1 cached (31.2s CPU, peak memory 512 MB, 48 MB added, slowest: [2/2] RUN make 12.4s)\n"
    )


def test_little_to_say():
    assert summary(result(INTERNAL, HIT), "short") == "1 step cached\n"
    assert summary(result(INTERNAL, HIT, HIT), "short") == "all 2 steps cached\n"
    assert summary(result(INTERNAL), "short") == ""
    assert summary(result(HIT), "none") == ""
    several = ImageSizes(2_000_000, 130_000_000, ("linux/amd64", "linux/arm64"), exact=False)
    assert "build stages: 130 MB, final images: about 2.0 MB" in summary(result(HIT, sizes=several), "short")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9960, "10 kB"),
        (999_600, "1.0 MB"),
        (812e6, "812 MB"),
        (3e12, "3.0 TB"),
    ],
)
def test_sizes(n, text):
    assert short_size(n) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [(0.04, "0.0s"), (99.9, "99.9s"), (100, "1m40s"), (3599.7, "1h00m"), (3725, "1h02m"), (7200, "2h00m")],
)
def test_times(n, text):
    assert short_time(n) == text


def test_names_are_safe_and_short():
    assert short_name("\x1b[31mx") == "x"
    assert len(short_name("y" * 200)) == 56


def test_github_marks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    span = Span("Dockerfile", 3, 3, "a\nb\nc\n")
    warning = Warned("d", "StageNameCasing: Stage name 'X' should be lowercase (line 3)", span=span)
    error = BuildError("no\nmore", span=span)
    got = github_marks(BuildRequest("sub/dir"), [warning, warning], error)
    assert got == (
        "::warning file=sub/dir/Dockerfile,line=3,title=StageNameCasing::Stage name 'X' should be lowercase (line 3)\n"
        "::error file=sub/dir/Dockerfile,line=3,title=build failed::no%0Amore\n"
    )
    assert "file=other/Dockerfile," in github_marks(BuildRequest("x", "other/Dockerfile"), [], error)
    assert "file=" not in github_marks(BuildRequest("https://example.org/x.git"), [], error)
    assert github_marks(BuildRequest("."), [], Cancelled("canceled")) == ""


def test_several_builds_count_a_shared_step_once():
    steps = [{**s, "digest": str(n)} for n, s in enumerate((HIT, RAN, COPY))]
    sizes = ImageSizes(9_000_000, 812_000_000, ("linux/amd64",))
    one, two = result(*steps[:2], sizes=sizes), result(*steps, skipped=("test",))
    assert joint_summary([one, two], ["app", "db"], "short") == (
        "2 steps ran, 1 cached (31.2s CPU, peak memory 512 MB, 48 MB added, slowest: [2/2] RUN make 12.4s)\n"
        "app: build stages: 812 MB, final image: 9.0 MB\n"
        "db: not needed, so not run: test\n"
    )
