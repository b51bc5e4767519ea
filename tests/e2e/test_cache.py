"""What runs again, and what doesn't."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM busybox AS first
RUN echo first > /first
COPY a /a
RUN cat /a > /from-a

FROM busybox
COPY b /b
RUN cat /b > /from-b
COPY --from=first /first /first
COPY --from=first /from-a /from-a
"""


def ran(steps):
    """Which instructions ran."""
    return [
        s.name.partition("] ")[2]
        for s in steps
        if s.ran and " internal" not in s.name and any(word in s.name for word in ("RUN", "COPY", "ADD"))
    ]


@pytest.fixture
def built(lap, context):
    directory = context({"Dockerfile": DOCKERFILE, "a": "a", "b": "b"})
    assert len(ran(lap.build(directory, "-t", "cached"))) == 7
    return directory


def test_an_identical_build_runs_nothing_and_needs_no_registry(lap, built, tmp_path):
    nowhere = tmp_path / "nowhere.toml"
    nowhere.write_text(
        '[registry."docker.io"]\nmirrors = ["localhost:9"]\n[registry."localhost:9"]\nhttp = true\n'
    )
    steps = lap.build(built, "-t", "cached", env={"LAPSTRAKE_CONFIG": str(nowhere)})
    assert ran(steps) == []


def test_one_byte_changed_runs_only_what_depends_on_it(lap, built):
    (built / "b").write_text("B")
    again = ran(lap.build(built, "-t", "cached"))
    assert [s.split()[0] for s in again if "a" in s.split()[1:2]] == []
    assert "COPY b /b" in again
    assert not any("cat /a" in s or "echo first" in s for s in again)


def test_same_bytes_from_a_stage_stop_the_rebuild_there(lap, context):
    text = "FROM busybox AS s\nCOPY a /a\nRUN cut -c1 /a > /head\nFROM busybox\nCOPY --from=s /head /\nRUN echo tail > /tail\n"
    directory = context({"Dockerfile": text, "a": "x1"})
    lap.build(directory)
    (directory / "a").write_text("x2")
    again = ran(lap.build(directory))
    assert any("cut" in s for s in again)
    assert not any("tail" in s for s in again)


def test_times_of_files_do_not_matter(lap, built):
    (built / "a").write_text("a")
    assert ran(lap.build(built, "-t", "cached")) == []


def test_no_cache_runs_everything(lap, built):
    assert len(ran(lap.build(built, "--no-cache"))) == 7


def test_a_stage_nobody_needs_does_not_run(lap, context):
    directory = context({"Dockerfile": "FROM busybox AS unused\nRUN false\nFROM busybox\nRUN true\n"})
    assert [s for s in ran(lap.build(directory)) if "false" in s] == []


def test_build_args_are_part_of_what_is_run(lap, context):
    directory = context(
        {"Dockerfile": "FROM busybox\nARG WHO=you\nRUN echo hello $WHO > /hello\nCMD cat /hello\n"}
    )
    lap.build(directory, "-t", "args")
    lap.build(directory, "-t", "args:other", "--build-arg", "WHO=them")
    assert lap("run", "args").stdout == "hello you\n"
    assert lap("run", "args:other").stdout == "hello them\n"
    assert ran(lap.build(directory)) == []


def test_no_cache_filter_runs_the_named_stages_and_keeps_what_they_give(lap, built):
    again = ran(lap.build(built, "--no-cache-filter=FIRST"))
    assert {s.split(" > ")[0] for s in again if s.startswith("RUN")} == {"RUN echo first", "RUN cat /a"}
    assert ran(lap.build(built)) == []


def test_a_linked_copy_stays_when_what_is_below_changes(lap, context):
    text = "FROM busybox\nRUN echo {} > /x\nCOPY --link a /a\n"
    directory = context({"Dockerfile": text.format(1), "a": "a"})
    lap.build(directory, "-t", "x")
    (directory / "Dockerfile").write_text(text.format(2))
    assert ran(lap.build(directory, "-t", "x")) == ["RUN echo 2 > /x"]
    assert lap("run", "x", "cat", "/x", "/a").stdout == "2\na"
