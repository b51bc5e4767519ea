"""kill -9 at random moments of every phase: the next build is right and the store is whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.conftest import Lap
from tests.e2e.images import tool

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM debian AS tools
COPY data /data
RUN --mount=type=cache,target=/cache,sharing=private find /data -type f | sort | xargs cat > /sum; echo x >> /cache/x
FROM busybox
RUN mkdir -p /made/here && dd if=/dev/zero of=/made/here/zero bs=64k count=64 2>/dev/null
COPY --from=tools /sum /sum
COPY data /data
RUN rm -r /data/1 && echo changed > /data/2/5
WORKDIR /w
"""
FORM = "rewrite-timestamp=true"


class Victim:
    """Builds of one context that are killed, and builds of it that are not."""

    def __init__(self, lap: Lap, context: Path, out: Path, registry: str) -> None:
        self.lap = lap
        self.context = context
        self.out = out
        self.outputs = {
            "image": f"type=image,{FORM}",
            "tar": f"type=oci,dest={out}/oci.tar,{FORM}",
            "zstd": f"type=oci,dest={out}/zstd.tar,compression=zstd,force-compression=true,{FORM}",
            "layout": f"type=oci,dest={out}/layout,tar=false,{FORM}",
            "local": f"type=local,dest={out}/local",
            "push": f"type=registry,{FORM}",
            "prune": "",
        }
        self.tag = f"{registry}/kill-{os.getpid()}:x"

    def words(self, kind: str, *more: str) -> list[str]:
        """The command line of one kind of build, or of a prune."""
        if kind == "prune":
            return ["prune", "-af"]
        flags = ["--source-date-epoch=1700000000", "-t", self.tag, "-o", self.outputs[kind]]
        return ["build", *flags, *more, str(self.context)]

    def fresh(self) -> None:
        """Forget everything: the next build pulls and extracts again."""
        shutil.rmtree(self.lap.root, ignore_errors=True)

    def kill(self, kind: str, after: float, *more: str) -> bool:
        """Start, kill the builder alone after so many seconds; whether it was still running."""
        process = subprocess.Popen(
            [*self.lap.command, *self.words(kind, *more)],
            env=self.lap.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def quiet(self) -> list[str]:
        """What is still there of a killed build two seconds later."""
        for _ in range(40):
            left = self.lap.leftovers()
            if not left:
                break
            time.sleep(0.05)
        return left

    def digest(self) -> str:
        """Build to the end into a new archive; the image's digest."""
        archive = self.out / "whole.tar"
        archive.unlink(missing_ok=True)
        self.lap(*self.words("tar")[:-2], f"type=oci,dest={archive},{FORM}", self.context)
        return tool("skopeo", "inspect", "--format={{.Digest}}", f"oci-archive:{archive}").strip()

    def wrong(self) -> list[str]:
        """What fsck finds."""
        done = self.lap("fsck", "--format=json", check=False)
        problems = json.loads(done.stdout)["problems"]
        assert (done.returncode == 0) == (not problems), done.stderr
        return [f"{p['kind']} {p['id']}: {p['message']}" for p in problems]


@pytest.fixture
def victim(lap, context, tmp_path, registry_address, request):
    files = {f"data/{i}/{j}": f"{i} {j}\n" * (1 + i * 40) for i in range(20) for j in range(20)}
    text = DOCKERFILE if request.node.get_closest_marker("soak") else DOCKERFILE.replace("debian", "busybox")
    out = tmp_path / "out"
    out.mkdir()
    return Victim(lap, context({"Dockerfile": text, **files}), out, registry_address)


def harass(victim: Victim, rounds: int, seed: int, seconds: float = 1e9) -> dict[str, int]:
    """Kill ``rounds`` times; how many of each kind were killed while running."""
    rng = random.Random(seed)
    expected = victim.digest()
    lengths: dict[str, float] = {}
    hits: dict[str, int] = {}
    end = time.monotonic() + seconds
    for n in range(rounds):
        if time.monotonic() > end:
            break
        kind = list(victim.outputs)[n % len(victim.outputs)]
        cold = n % 4 == 0 and kind != "prune"
        flags = () if n % 3 == 0 or kind == "prune" else ("--no-cache",)
        if cold:
            victim.fresh()
        longest = lengths.get(f"{kind}{cold}{bool(flags)}", 1.2 if cold else 0.8)
        after = rng.uniform(0.03, longest)
        if victim.kill(kind, after, *flags):
            hits[kind] = hits.get(kind, 0) + 1
        else:
            lengths[f"{kind}{cold}{bool(flags)}"] = max(0.1, after)
        assert victim.quiet() == []
        assert victim.digest() == expected, f"round {n}: {kind} killed after {after:.3f} s"
        if n % 3 == 2 or rounds - n == 1:
            assert victim.wrong() == [], f"round {n}: {kind} killed after {after:.3f} s"
    return hits


def test_a_killed_builder_harms_nothing(victim):
    hits = harass(victim, 21, seed=int(time.time()) // 86400)
    assert sum(hits.values()) >= 6, hits


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_hundreds_of_kills(victim):
    started = time.monotonic()
    seconds = float(os.environ.get("LAPSTRAKE_KILL_SECONDS", "600"))
    hits = harass(victim, 100_000, int(time.time()), seconds)
    assert victim.wrong() == []
    print(f"killed while running: {hits}, {time.monotonic() - started:.0f} s")
