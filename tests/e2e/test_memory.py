"""Memory does not grow with the layer: 4 GiB and 200,000 files, built, exported, pushed and pulled."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.conftest import Lap

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

LIMIT_MIB = 300
LAYERS = {
    "4 GiB": "RUN yes 'neither all zeros nor random' | dd of=/big bs=64k count=65536 iflag=fullblock",
    "200,000 files": (
        "RUN mkdir /f && cd /f && i=0; while [ $i -lt 200 ]; do mkdir $i && cd $i && touch $(seq 1000) && cd ..; i=$((i+1)); done"
    ),
}


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def resident(pid: int) -> int:
    """KiB resident in a process and all below it, shared pages once."""
    total = 0
    for each in family(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total


def measured(lap: Lap, *words: str) -> tuple[float, float]:
    """Run a command; (peak MiB of all its processes, seconds)."""
    started = time.monotonic()
    with subprocess.Popen(
        [*lap.command, *words], env=lap.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        stderr: list[str] = []
        reader = threading.Thread(target=lambda: stderr.append(process.stderr.read()))
        reader.start()
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)
        reader.join()
    assert process.returncode == 0, stderr
    return peak / 1024, time.monotonic() - started


@pytest.mark.parametrize("what", LAYERS)
def test_memory_is_bounded(lap, bases, context, tmp_path, registry_address, what):
    tag = f"{registry_address}/memory-{os.getpid()}:x"
    directory = context({"Dockerfile": f"FROM busybox\n{LAYERS[what]}\n"})
    found = {"build": measured(lap, "build", str(directory), "-t", tag)}
    archive = tmp_path / "x.tar"
    found["export"] = measured(lap, "build", str(directory), "-t", tag, "-o", f"type=oci,dest={archive}")
    zstd = f"type=oci,dest={archive},compression=zstd,force-compression=true"
    found["export zstd"] = measured(lap, "build", str(directory), "-t", tag, "-o", zstd)
    archive.unlink()
    found["push"] = measured(lap, "build", str(directory), "-t", tag, "--push")
    config = tmp_path / "config.toml"
    config.write_text(bases.read_text())
    other = Lap(tmp_path / "other", config)
    again = context({"Dockerfile": f"FROM {tag}\nRUN ls / > /list\n"}, "again")
    found["pull"] = measured(other, "build", str(again))
    found["copy out"] = measured(
        other,
        "build",
        str(context({"Dockerfile": f"FROM {tag} AS a\nFROM scratch\nCOPY --from=a / /all/\n"}, "third")),
        "-t",
        "y",
    )
    print(what, json.dumps({k: f"{m:.0f} MiB, {s:.1f} s" for k, (m, s) in found.items()}))
    assert max(m for m, _ in found.values()) < LIMIT_MIB, found
