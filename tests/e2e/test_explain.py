"""For each kind of change, the printed reason names exactly that change."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM busybox AS base
ARG VERSION=1
ENV MODE=fast
RUN echo base $VERSION > /version

FROM busybox
COPY src /src
RUN --mount=type=bind,source=bound,target=/b cat /b/x > /x
WORKDIR /w
COPY <<EOF /inline
one
EOF
COPY --from=base /version /version
RUN <<EOF
echo two
EOF
COPY --link top /top
"""
FILES = {"Dockerfile": DOCKERFILE, "src/a.py": "a", "src/run.sh": "#!/bin/sh\n", "src/c": "c", "bound/x": "x", "top": "t"}  # fmt: skip


def edit(old, new):
    return lambda c: (c / "Dockerfile").write_text(DOCKERFILE.replace(old, new))


def two_files(c):
    (c / "src/a.py").write_text("b")
    (c / "src/run.sh").chmod(0o755)


# what is changed, flags, and the reasons of the steps that run again (a part of the step: its reason)
TABLE = [
    ("content", lambda c: (c / "src/a.py").write_text("b"), (), {"COPY src": "1 of 3 files differs: a.py (content)"}),
    ("mode", lambda c: (c / "src/run.sh").chmod(0o755), (), {"COPY src": "1 of 3 files differs: run.sh (mode 0644->0755)"}),
    ("two", two_files, (), {"COPY src": "2 of 3 files differ: a.py (content), run.sh (mode 0644->0755)"}),
    ("added", lambda c: (c / "src/d").write_text(""), (), {"COPY src": "1 of 4 files differs: d (added)"}),
    ("removed", lambda c: (c / "src/c").unlink(), (), {"COPY src": "1 of 2 files differs: c (removed)"}),
    ("bind", lambda c: (c / "bound/x").write_text("y"), (), {"RUN --mount": "1 file differs: x (content)"}),
    ("link", lambda c: (c / "top").write_text("T"), (), {"COPY --link": "1 file differs: top (content)"}),
    ("ARG", lambda c: None, ("--build-arg", "VERSION=2"), {"RUN echo base": "ARG VERSION changed", "COPY --from": "1 file differs: version (content)"}),
    ("ENV", edit("MODE=fast", "MODE=slow"), (), {"RUN echo base": "ENV MODE changed"}),
    ("text", edit("echo base $VERSION", "true; echo base $VERSION"), (), {"RUN true; echo": "the instruction's text changed"}),
    ("heredoc of COPY", edit("one", "eins"), (), {"COPY <<EOF": "the text of heredoc EOF changed"}),
    ("heredoc of RUN", edit("two", "zwei"), (), {"RUN <<EOF": "the heredoc's text changed"}),
    ("workdir", edit("WORKDIR /w", "WORKDIR /v"), (), {"WORKDIR": "the instruction's text changed", "RUN <<EOF": "the working directory (WORKDIR) changed"}),
    ("base", edit("FROM busybox\n", "FROM alpine\n"), (), {"COPY src": "the base image changed: docker.io/library/busybox:latest -> docker.io/library/alpine:latest"}),
    ("shell", edit("AS base\n", 'AS base\nSHELL ["/bin/busybox", "ash", "-c"]\n'), (), {"RUN echo base": "the shell (SHELL) changed"}),
    ("network", lambda c: None, ("--network", "none"), dict.fromkeys(("RUN echo base", "RUN --mount", "RUN <<EOF"), "the network mode (--network) changed")),
    ("a line above", edit("FROM busybox\n", "FROM busybox\nRUN true\n"), (), {"RUN true": "no earlier run of this step is known", "COPY src": "what it stands on changed: [stage-1 2/9] RUN true"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def built(shared_lap, tmp_path_factory):
    """One root in which the build was done once; every case starts from the same context."""
    directory = tmp_path_factory.mktemp("explain")
    write(directory)
    shared_lap("build", "-q", directory)
    return directory


def write(directory):
    for name, data in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(data)
        path.chmod(0o644)
    for name in directory.glob("src/d"):
        name.unlink()


def reasons(text):
    """Step -> reason, from the plain display."""
    names, found = {}, {}
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        if number.startswith("#") and rest.startswith("["):
            names[number] = rest
        elif number.startswith("#") and rest.startswith("NOT CACHED: "):
            found[names[number].partition("] ")[2]] = rest.partition(": ")[2]
    return found


@pytest.mark.parametrize(("change", "flags", "expected"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_one_change_one_reason(shared_lap, built, change, flags, expected):
    write(built)
    shared_lap("build", "-q", "--no-cache", built)  # so that the nearest earlier run is this one
    change(built)
    told = reasons(shared_lap("build", "--progress=plain", "--explain", *flags, built).stderr)
    for part, reason in expected.items():
        assert [r for step, r in told.items() if part in step and r.startswith(reason)], told
    caused = {step for step, r in told.items() if not r.startswith("what it stands on changed")}
    assert [step for step in caused if not any(part in step for part in expected)] == [], told


def test_why_afterwards_and_require_cached(lap, context):
    directory = context({"Dockerfile": "FROM busybox\nCOPY a /a\nRUN cat /a > /b\n", "a": "1"})
    lap("build", "-q", directory)
    assert lap("build", "-q", "--require-cached", directory).returncode == 0
    (directory / "a").write_text("2")
    refused = lap("build", "--require-cached", directory, check=False)
    assert refused.returncode == 1
    detailed = {"LAPSTRAKE_EXIT_CODES": "detailed"}
    assert lap("build", "--require-cached", directory, check=False, env=detailed).returncode == 6
    assert "not everything is cached: [2/3] COPY a /a" in refused.stderr
    assert "1 file differs: a (content)" in refused.stderr
    lap("build", "-q", directory)
    assert "1 file differs: a (content)" in lap("why", "copy a").stdout
    (row,) = json.loads(lap("why", "--json", "COPY").stdout)
    assert row["why"] == "1 file differs: a (content)"
    assert row["step"] == "[2/3] COPY a /a"
    other = context({"Dockerfile": "FROM busybox\nRUN echo other\n"})
    lap("build", "-q", other)
    assert "copy a" not in lap("why").stdout.lower()  # of the last build only
    assert "COPY a" in lap("why", "--context", directory).stdout
    missing = lap("why", "nonsense", check=False)
    assert missing.returncode == 1


def test_verify_cache_names_what_is_not_reproducible(lap, context):
    text = "FROM busybox\nCOPY a /a\nWORKDIR /w\nRUN echo same > /same && rm /a\nRUN head -c 8 /dev/urandom > /random && echo same > /other\nCOPY --link <<EOF /h\nx\nEOF\n"
    directory = context({"Dockerfile": text, "a": "1"})
    lap("build", "-q", "-t", "x", directory)
    done = lap("build", "--progress=plain", "--verify-cache=100%", directory)
    assert done.stderr.count("not reproducible") >= 1
    told = {line for line in done.stderr.splitlines() if "not reproducible" in line}
    assert all("RUN head" in line for line in told)
    assert all(line.endswith("run again it gives other files: random (content)") for line in told)
    assert done.stderr.count("the same files as the cached result") >= 4
    before = sorted(p.name for p in (lap.root / "layers").iterdir())
    lap("build", "-q", "--verify-cache=100%", directory)
    assert sorted(p.name for p in (lap.root / "layers").iterdir()) == before  # nothing of it stays
    assert lap("build", "-q", "--require-cached", "-t", "x", directory).returncode == 0
    one = lap("build", "--progress=plain", "--verify-cache", directory).stderr
    assert len({line for line in one.splitlines() if "[verify]" in line and " DONE" not in line}) == 1
