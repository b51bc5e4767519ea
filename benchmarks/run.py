#!/usr/bin/env python3
"""Measures Lapstrake beside buildah, and docker buildx where an engine answers, interleaved in one run.

    benchmarks/run.py                         all scenarios, the tools that are here, 5 rounds
    benchmarks/run.py --only noop,runs50 --tools lapstrake --rounds 9
    benchmarks/run.py --quick                 the large scenarios smaller
    benchmarks/run.py --write                 put the table into docs/benchmarks.md

Each round runs every tool once, one after the other, so that a slow minute of the machine hits all alike. Printed are
medians and the ratio to Lapstrake. Base images come from scripts/bases.py, for every tool alike.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "scripts"))

import registry
import scenarios
import tools


def measure(
    scenario: scenarios.Scenario, programs: list[tools.Tool], rounds: int, work: Path
) -> dict[str, list[float] | str]:
    """Seconds of every round by tool; a text says why there are none."""
    found: dict[str, list[float] | str] = {}
    ready = []
    for tool in programs:
        if tool.name not in scenario.tools:
            found[tool.name] = "not possible"
            continue
        directory = work / f"{scenario.name}-{tool.name}"
        directory.mkdir(parents=True)
        try:
            steps = scenario.prepare(tool, directory)
        except tools.Failed as failure:
            found[tool.name] = str(failure)
            continue
        found[tool.name] = []
        ready.append((tool, steps))
    for round_number in range(rounds):
        for tool, steps in ready:
            samples = found[tool.name]
            if isinstance(samples, str):
                continue
            try:
                steps.before(round_number)
                began = time.perf_counter()
                steps.timed(round_number)
                samples.append(time.perf_counter() - began)
            except tools.Failed as failure:
                found[tool.name] = str(failure)
    return found


def row(scenario: scenarios.Scenario, found: dict[str, list[float] | str], programs: list[tools.Tool]) -> str:
    """One line of the table."""
    medians = {name: statistics.median(v) for name, v in found.items() if isinstance(v, list) and v}
    ours = medians.get("lapstrake")
    cells = [scenario.title]
    for tool in programs:
        if tool.name not in medians:
            cells.append(f"({found[tool.name]})" if found[tool.name] == "not possible" else "failed")
        elif tool.name == "lapstrake" or not ours:
            cells.append(f"{medians[tool.name]:.3f} s")
        else:
            cells.append(f"{medians[tool.name]:.3f} s ({medians[tool.name] / ours:.1f}x)")
    if ours is None or scenario.target is None:
        verdict = ""
    else:
        verdict = f"{scenario.target:g} s {'met' if ours < scenario.target else 'missed'}"
    return "| " + " | ".join([*cells, verdict]) + " |"


def heading(programs: list[tools.Tool], rounds: int) -> str:
    """Where and with what it was measured."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    lines = [
        f"Medians of {rounds} interleaved rounds, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({cpu}), "
        f"Linux {platform.release()}, CPython {platform.python_version()}; "
        + "; ".join(f"{tool.name} {tool.version()}" for tool in programs)
        + ". In brackets: how many times Lapstrake's.",
        "",
        "| scenario | " + " | ".join(tool.name for tool in programs) + " | target |",
        "|---|" + "---|" * (len(programs) + 1),
    ]
    return "\n".join(lines)


def write(table: str) -> None:
    """Replace the table between the marks of docs/benchmarks.md."""
    page = HERE.parent / "docs" / "benchmarks.md"
    marks = "<!-- table -->", "<!-- /table -->"
    text = page.read_text()
    new = re.sub(
        f"{marks[0]}.*?{marks[1]}", lambda _: f"{marks[0]}\n{table}\n{marks[1]}", text, flags=re.DOTALL
    )
    page.write_text(new)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="scenarios, comma separated: " + ", ".join(scenarios.NAMES))
    parser.add_argument("--tools", help="lapstrake, buildah, buildx")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the files and bytes")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    options = parser.parse_args()

    subprocess.run([sys.executable, HERE.parent / "scripts" / "bases.py"], check=True)
    # As an installed package has it: start-up without compiling.
    subprocess.run([sys.executable, "-m", "compileall", "-q", HERE.parent / "src"], check=True)
    work = Path(tempfile.mkdtemp(prefix="lapstrake-bench-"))
    try:
        wanted = options.tools.split(",") if options.tools else None
        programs = [
            t for t in tools.available(work, registry.config_path()) if not wanted or t.name in wanted
        ]
        chosen = options.only.split(",") if options.only else list(scenarios.NAMES)
        lines = [heading(programs, options.rounds)]
        print(lines[0], flush=True)
        for scenario in scenarios.all_of(scale=10 if options.quick else 1):
            if scenario.name not in chosen:
                continue
            found = measure(scenario, programs, options.rounds, work)
            lines.append(row(scenario, found, programs))
            print(lines[-1], flush=True)
            for name, samples in found.items():
                if isinstance(samples, str) and samples != "not possible":
                    print(f"  {name}: {samples}", file=sys.stderr)
            for directory in work.glob(f"{scenario.name}-*"):
                shutil.rmtree(directory, ignore_errors=True)
        if options.write:
            write("\n".join(lines))
    finally:
        for tool in tools.available(work, registry.config_path()):
            tool.clean()
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
