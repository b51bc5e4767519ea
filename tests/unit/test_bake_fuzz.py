"""Bake files with random edits: each loads, or fails with one clear error (``pytest -m soak``, figures in docs/bake.md)."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from lapstrake.bake import files, resolve
from lapstrake.errors import BuildError

CASES = Path(__file__).parents[1] / "data" / "bake"
PIECES = (
    'target "a" {', "}", "{", "[", "]", "(", ")", "=", "=>", "\n", '"', "${", "%{", "~}", "if ", "for ", " in ", "else",
    "endif", "endfor", "[*]", ".*", "1.5e3", "-", "!", "?", ":", ",", "...", "<<EOT\n", "<<-E\n", "E\n", "null", "#",
    "/*", "*/", "\\", "\\u12", "upper(", "target.a.tags", "\0", "\r", "\u2028", "\U0001f600", "\t", "&a ", "*a ", "!!x ",
)  # fmt: skip


def seeds() -> list[tuple[str, str]]:
    found = []
    for path in sorted(CASES.glob("*.txt")):
        for part in ("\n" + path.read_text()).split("\n=== ")[1:]:
            name, _, body = part.partition("\n")
            if name.endswith((".hcl", ".json", ".yaml")):
                found.append((name, body))
    return found


def edited(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 8)):
        i, kind = rng.randrange(len(text) + 1), rng.random()
        if kind < 0.35:
            text = text[:i] + text[i + rng.randint(1, 6) :]
        elif kind < 0.75:
            text = text[:i] + rng.choice(PIECES) + text[i:]
        else:
            j = rng.randrange(len(text) + 1)
            text = text[:i] + text[j : j + rng.randint(1, 60)] + text[i:]
    return text


def run(seconds: float, rng: random.Random) -> tuple[int, int, float]:
    """(files tried, files that were valid, longest time)."""
    pool, count, valid, longest = seeds(), 0, 0, 0.0
    inputs = files.Inputs(environ={"TAG": "x"}, platform="linux/amd64", cwd="/nonexistent")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name, body = rng.choice(pool)
        text, start = edited(body, rng), time.monotonic()
        try:
            config = files.load([files.File(name, text.encode("utf-8", "surrogatepass"))], inputs)
            resolve.print_json(resolve.select(config, [], [], {}))
            valid += 1
        except BuildError as e:
            assert e.message
        except Exception as e:
            raise AssertionError(f"{name} made {e!r}:\n{text}") from e
        longest, count = max(longest, time.monotonic() - start), count + 1
    return count, valid, longest


def test_a_few():
    count, _, longest = run(1.0, random.Random(7))
    assert count > 20 and longest < 2


@pytest.mark.soak
def test_many():
    figures = run(float(os.environ.get("LAPSTRAKE_SOAK", "180")), random.Random())
    print(f"{figures[0]} files, {figures[1]} valid, slowest {figures[2]:.3f} s")
    assert figures[2] < 2
