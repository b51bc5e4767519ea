"""Mutated Dockerfiles and ignore files: whatever comes, the answer is a plan or one of our own errors, soon.

A soak run: ``pytest -m soak tests/fuzz``; ``LAPSTRAKE_FUZZ_SECONDS`` (120) and ``LAPSTRAKE_FUZZ_SEED``.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest

from lapstrake.dockerfile import lint, outline
from lapstrake.dockerfile.ignore import IgnoreRules
from lapstrake.dockerfile.lint_extra import check_extra
from lapstrake.dockerfile.lint_stages import Facts, check_stages
from lapstrake.dockerfile.parser import parse
from lapstrake.errors import BuildError, DockerfileError
from lapstrake.oci.platform import Platform
from lapstrake.plan.image import BaseImage
from lapstrake.plan.lower import NeedsBases, PlanInput, lower
from lapstrake.plan.request import BuildRequest
from lapstrake.plan.stages import find_target, reachable

pytestmark = pytest.mark.soak

DATA = Path(__file__).resolve().parents[1] / "data" / "real"
SLOW = 2.0  # seconds; one input may not take longer
TOKENS = [
    b"$", b"${", b"}", b"${X:-", b"${X//", b"/", b"\\", b"\\\n", b"\n", b"\r\n", b"'", b'"', b"<<EOF", b"<<-'E'\n", b"EOF\n",
    b"#", b"# escape=`\n", b"# check=skip=all\n", b"`", b"[", b"]", b'["a",', b"{}", b"\xff\xfe", b"\0", b"\xef\xbb\xbf", b"--", b"--mount=",
    b"type=cache,", b"from=", b"target=", b"FROM ", b"ONBUILD ", b"RUN ", b"COPY ", b"ADD ", b"ARG ", b"ENV ", b"HEALTHCHECK ", b"EXPOSE ",
    b"AS ", b"scratch", b"0", b"-1", b"99999999999999999999", b"*", b"**", b"?", b"[a-", b"!", b"..", b"\t", b" " * 40, b"A" * 300,
]  # fmt: skip


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with some bytes changed, cut, doubled, or taken from another."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 8))):
        at = rng.randint(0, len(data))
        kind = rng.randint(0, 5)
        if kind == 0:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 1:
            del data[at : at + rng.randint(1, 20)]
        elif kind == 2 and data:
            data[at % len(data)] = rng.randint(0, 255)
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 200)]
        elif kind == 4:
            other = rng.choice(seeds)
            start = rng.randint(0, len(other))
            data[at:at] = other[start : start + rng.randint(1, 100)]
        else:
            lines = data.split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
    return bytes(data[:100_000])


def work(data: bytes) -> str:
    """Everything that reads a Dockerfile, one after the other."""
    try:
        dockerfile = parse(data, "Dockerfile")
    except DockerfileError as e:
        assert e.span is not None
        return "refused"
    for step in (_checked, _outlined, _planned):
        try:
            step(dockerfile)
        except BuildError:
            continue
    return "read"


def _checked(dockerfile) -> None:
    options = lint.options_of(dockerfile)
    lint.check(dockerfile, options=options)
    check_stages(dockerfile, Facts(platform=Platform("linux", "amd64")), options=options)
    list(check_extra(dockerfile, None))


def _outlined(dockerfile) -> None:
    target = find_target(dockerfile, "")
    outline.outline_text(
        outline.outline(dockerfile, target, {s.index for s in reachable(dockerfile, target)})
    )
    outline.targets_text(outline.targets(dockerfile))


def _planned(dockerfile) -> None:
    bases: dict = {}
    request = BuildRequest(".", allow=("network.host", "security.insecure", "device"))
    for _ in range(20):
        found = lower(PlanInput(dockerfile, request, Platform("linux", "amd64"), bases, {}))
        if not isinstance(found, NeedsBases):
            return
        for name, platform, _ in found.wanted:
            config = {"os": platform.os, "architecture": platform.arch, "config": {"OnBuild": ["RUN x"]}}
            bases[name, platform] = BaseImage("x@sha256:" + "0" * 64, config, 1)


def ignored(data: bytes, rng: random.Random) -> None:
    """An ignore file made of the same bytes, asked about a few paths."""
    try:
        rules = IgnoreRules.parse(data[:4000])
    except DockerfileError:
        return
    for _ in range(5):
        path = "/".join(
            rng.choice(("a", "FROM", "src", "x.md", "*", "..", "b c")) for _ in range(rng.randint(1, 6))
        )
        try:
            if rules.excluded(path) is False and rules.can_skip_dir(path):
                raise AssertionError(f"{path} is in, but its directory is skipped")
        except ValueError as e:  # a bad pattern that is only reached now
            assert type(e).__name__ == "BadPattern"


@pytest.fixture
def bounded():
    """Memory and time that one input may not pass: a failure here must not become the machine's."""

    def too_long(*_: object) -> None:
        raise TimeoutError("one input takes more than 20 s")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, limits[1]))
    before = signal.signal(signal.SIGALRM, too_long)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, limits)


def test_fuzz(bounded):
    seed = int(os.environ.get("LAPSTRAKE_FUZZ_SEED") or time.time_ns() % 10**9)
    seconds = float(os.environ.get("LAPSTRAKE_FUZZ_SECONDS") or 120)
    rng = random.Random(seed)
    seeds = [p.read_bytes() for p in sorted(DATA.glob("*.Dockerfile"))]
    counts = {"read": 0, "refused": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(rng, seeds)
        started = time.process_time()
        signal.alarm(20)
        try:
            counts[work(data)] += 1
            ignored(data, rng)
        except BaseException:
            Path("fuzz-failure.Dockerfile").write_bytes(data)
            print(f"seed {seed}; the input is in fuzz-failure.Dockerfile")
            raise
        took = time.process_time() - started
        if took > SLOW:
            Path("fuzz-failure.Dockerfile").write_bytes(data)
            pytest.fail(f"seed {seed}: {took:.1f} s for {len(data)} bytes, in fuzz-failure.Dockerfile")
        if rng.random() < 0.02 and len(data) < 4000:
            seeds.append(data)
            del seeds[100:101]
    print(f"seed {seed}: {counts['read']} read, {counts['refused']} refused in {seconds:.0f} s")
    assert counts["read"] > 100
    assert counts["refused"] > 100
