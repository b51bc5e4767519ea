"""What a shell is told could follow."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from tests.conftest import PROJECT

from lapstrake.cli.complete import _BELOW, _SCRIPTS, SHELLS, answer, complete
from lapstrake.cli.main import COMMANDS, Globals, main


def found(*words: str) -> list[str]:
    return [text for text, _ in complete(list(words), Globals())[0]]


@pytest.mark.parametrize(
    ("words", "some", "others"),
    [
        (["b"], ["build", "bake"], ["run"]),
        (["build", "--pl"], ["--platform"], ["--push"]),
        (["buildx", "build", "--progress", "p"], ["plain"], ["tty"]),
        (["build", "--progress=q"], ["--progress=quiet"], []),
        (["build", "--platform", "linux/amd64,linux/arm6"], ["linux/amd64,linux/arm64"], ["linux/arm64"]),
        (["build", "-o", "type=o"], ["type=oci"], ["type=docker"]),
        (["imagetools", ""], ["create", "inspect"], []),
        (["imagetools", "create", "--dry"], ["--dry-run"], []),
        (["build", "--memory"], [], ["--memory"]),
    ],
)
def test_candidates(words, some, others):
    got = found(*words)
    assert set(some) <= set(got)
    assert not set(others) & set(got)


def test_stages_of_the_dockerfile(tmp_path, monkeypatch):
    (tmp_path / "Dockerfile").write_text("FROM a AS base\nFROM base AS final\n")
    monkeypatch.chdir(tmp_path)
    assert found("build", "--target", "") == ["base", "final"]
    assert found("build", "--target=f") == ["--target=final"]


def test_nothing_fails(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert answer(["build", "--target", ""], Globals()) == 0
    assert capsys.readouterr().out == ":0\n"
    assert answer(["no-such-command", "x"], Globals()) == 0
    assert main(["__complete", "vers"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["version\tShow the version", ":4"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_describes_itself(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage:") or name == "version"
    for below in _BELOW.get(name, ()):
        assert main([name, below, "--help"]) == 0, (name, below)
        assert capsys.readouterr().out.startswith("Usage:")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_right(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(_SCRIPTS[shell])
    subprocess.run([shell, "-n", str(script)], check=True)


def test_bash_really_completes(tmp_path):
    (tmp_path / "lapstrake").write_text(
        f'#!/bin/sh\nPYTHONPATH={PROJECT}/src exec {sys.executable} -m lapstrake "$@"\n'
    )
    (tmp_path / "lapstrake").chmod(0o755)
    (tmp_path / "script").write_text(_SCRIPTS["bash"])
    text = f"""
        PATH={tmp_path}:$PATH; . {tmp_path}/script
        try() {{ COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _lapstrake
                echo "${{COMPREPLY[*]}}"; }}
        try lapstrake bui
        try lapstrake build --progress = pl
    """
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "build"
