"""The commands of the documentation and of the examples, run by the real program as a reader would.

In a page that says so, every ``sh`` block is run, in order and in one directory; ``console`` and
``text`` blocks are only read.  A comment ``# prints: TEXT`` or ``# says: TEXT`` ends a line whose
standard output, or messages, must hold TEXT.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import PROJECT, need

pytestmark = pytest.mark.e2e

MARK = "are run, in order, by tests/e2e/test_docs.py"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CLAIM = re.compile(r"^(.*\S)\s+# (?:.*; )?(prints|says): (.*)$")


def pages() -> list[Path]:
    """The pages and examples that ask to be run."""
    found = [*PROJECT.glob("docs/*.md"), *PROJECT.glob("examples/*/README.md")]
    return sorted(page for page in found if MARK in page.read_text())


def script(page: Path) -> str:
    """The page's blocks as one shell script; a line with a claim has its output looked at."""
    lines = []
    for block in _BLOCK.findall(page.read_text()):
        document = ""  # inside of a here-document nothing is ours
        for line in block.splitlines():
            if document:
                document = "" if line == document else document
            elif "<<'END'" in line:
                document = "END"
            elif claim := _CLAIM.match(line):
                command, how, text = claim.groups()
                quoted = text.replace("'", "'\\''")
                arrow = ">" if how == "prints" else "2>"
                lines.append(f'{command} {arrow}"$OUT" || {{ cat "$OUT" >&2; exit 1; }}')
                lines.append(
                    f"grep -qF -- '{quoted}' \"$OUT\" || {{ echo missing: '{quoted}'; cat \"$OUT\"; exit 1; }}"
                )
                continue
            lines.append(line)
    return "\n".join(lines) + "\n"


def test_the_command_reference_is_up_to_date():
    """scripts/clidocs.py writes it."""
    words = [sys.executable, str(PROJECT / "scripts" / "clidocs.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pages_are_found():
    names = {page.name for page in pages()}
    assert {"getting-started.md", "multi-stage.md", "README.md"} <= names


@pytest.mark.parametrize("page", pages(), ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_commands(page, shared_lap, registry_address, tmp_path, request):
    example = page.stem == "README"
    if example and "apt-get" in (page.parent / "Dockerfile").read_text():
        request.getfixturevalue("packages_in_reach")
    if page.parent.name == "4-emulated":
        need("qemu-aarch64-static")
    if platform.machine() != "x86_64":
        pytest.skip("the pages show the output of an amd64 machine")
    where = tmp_path
    if example:
        where = tmp_path / page.parent.name
        shutil.copytree(page.parent, where)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "lapstrake").write_text(f'#!/bin/sh\nexec {sys.executable} -m lapstrake "$@"\n')
    (programs / "lapstrake").chmod(0o755)
    env = {
        **shared_lap.env,
        "PATH": f"{programs}:{shared_lap.env['PATH']}",
        "REGISTRY": f"{registry_address}/docs",
        "BUILDKIT_PROGRESS": "plain",
        "OUT": str(tmp_path / "out.txt"),
    }
    text = script(page)
    assert "lapstrake " in text
    done = subprocess.run(
        ["sh", "-eux"],
        input=text,
        cwd=where,
        env=env,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
