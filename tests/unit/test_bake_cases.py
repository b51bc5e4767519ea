"""What ``bake --print``, ``--list`` and failures say, for whole files: the cases of tests/data/bake.

A case is one text: first the files it runs in (``=== NAME``), then command lines (``=== $ A=B bake WORDS``), each
with all that is printed and the exit code unless it is 0.
``LAPSTRAKE_UPDATE=1 pytest tests/unit/test_bake_cases.py`` writes what is printed anew: read the diff.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from lapstrake.cli.main import main

CASES = sorted((Path(__file__).parents[1] / "data" / "bake").glob("*.txt"))
UPDATE = bool(os.environ.get("LAPSTRAKE_UPDATE"))


def sections(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("=== "):
            found.append((line[4:].rstrip("\n"), []))
        else:
            found[-1][1].append(line)
    return [(head, "".join(body)) for head, body in found]


def run(line: str, monkeypatch, capsys) -> str:
    words = shlex.split(line)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            patch.setenv(name, value)
        code = main(words)
    done = capsys.readouterr()
    return done.out + done.err + (f"exit {code}\n" if code else "")


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("BUILDX_", "BUILDKIT_", "DOCKER_", "COMPOSE_", "LAPSTRAKE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "root"))
    written = []
    for head, body in sections(path.read_text()):
        if head.startswith("$ "):
            got = run(head[2:], monkeypatch, capsys)
            if not UPDATE:
                assert got == body, head
            written.append(f"=== {head}\n{got}")
        else:
            (tmp_path / head).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / head).write_text(body)
            written.append(f"=== {head}\n{body}")
    if UPDATE:
        path.write_text("".join(written))


@pytest.mark.parametrize("case", ["language", "merge", "compose"])
def test_what_is_printed_is_a_file_that_prints_the_same(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for head, body in sections((CASES[0].parent / f"{case}.txt").read_text()):
        if head.startswith("$ "):
            break
        Path(head).write_text(body)
    first = run("bake --print", monkeypatch, capsys)
    Path("again.json").write_text(first)
    assert run("bake -f again.json --print", monkeypatch, capsys) == first
