"""The program from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import AT_WORK, COSTLY, Lap

SRC = Path(__file__).resolve().parents[2] / "src"


def run(*argv, env=None, name=None):
    code = f"import sys; sys.path.insert(0, {str(SRC)!r}); sys.argv[0] = {name or 'lapstrake'!r}\nfrom lapstrake.cli.main import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-I", "-c", code, *argv], capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], **(env or {})}, check=False,
    )  # fmt: skip


def test_version_imports_almost_nothing():
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r})\nbefore = set(sys.modules)\nfrom lapstrake.cli.main import main\n"
        "main(['--version'])\nprint(sorted(set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    first, modules = out.splitlines()
    assert first.startswith("lapstrake ")
    assert set(eval(modules)) <= {
        "__future__",
        "lapstrake",
        "lapstrake.cli",
        "lapstrake.cli.main",
        "lapstrake.version",
    }


def test_a_build_request_imports_nothing_slow(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(SRC)!r})\n"
        "import lapstrake.config, lapstrake.cli.build as b, lapstrake.progress.view as v\n"
        "from lapstrake.cli.flags import parse\n"
        "s = lapstrake.config.load(environ={})\n"
        "r = b.to_request(parse(b.build_command(), ['-t', 'a', '--platform=linux/amd64', '--add-host=a=1.2.3.4', '.']), s.environ)\n"
        "v.open_renderer('plain', sys.stderr)\n"
        "print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=True,
    )
    slow = {
        "re",
        "typing",
        "json",
        "enum",
        "argparse",
        "subprocess",
        "threading",
        "signal",
        "socket",
        "tomllib",
        "dataclasses",
        "inspect",
        "logging",
        "pathlib",
    }
    assert slow & set(eval(done.stdout)) == set()


def test_a_build_from_the_cache_imports_nothing_costly(tmp_path, context):
    lap = Lap(tmp_path / "root", None)
    directory = context(
        {
            "Dockerfile": "FROM scratch AS files\nCOPY a.txt /a\nFROM files\nARG V=1\nWORKDIR /w\n"
            "COPY --chmod=600 a.txt .\nENV V=$V\nUSER 1\n",
            "a.txt": "a",
            ".dockerignore": "*.log\n",
        }
    )
    words = ("build", "--progress=plain", "-t", "cached", directory)
    lap(*words)
    imported = lap.imports(*words)
    assert "lapstrake.engine.build" in imported
    assert imported & (COSTLY | AT_WORK) == set()


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_overview(argv):
    done = run(*argv)
    assert done.returncode == 0
    assert "  build " in done.stdout
    assert done.stderr == ""


def test_every_command_has_help():
    from lapstrake.cli.main import COMMANDS

    for name in COMMANDS:
        if name != "version":
            done = run(name, "--help")
            assert done.returncode == 0, (name, done.stderr)
            assert done.stdout.startswith(f"Usage:  lapstrake {name}"), name


@pytest.mark.parametrize(
    ("argv", "stderr"),
    [
        (["--foo"], "ERROR: unknown flag: --foo\nhint: see 'lapstrake --help'\n"),
        (["biuld"], "ERROR: unknown command: biuld\nhint: did you mean build? see 'lapstrake --help'\n"),
        (
            ["build"],
            "ERROR: please specify build context (e.g. \".\" for the current directory)\nhint: 'lapstrake build' requires 1 argument; see 'lapstrake build --help'\n",
        ),
        (["build", "--nope", "."], "ERROR: unknown flag: --nope\nhint: see 'lapstrake build --help'\n"),
        (["--root"], "ERROR: flag needs an argument: --root\nhint: see 'lapstrake --help'\n"),
    ],
)
def test_usage_errors(argv, stderr):
    done = run(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", stderr)


def test_plugin_metadata():
    done = run("docker-cli-plugin-metadata", name="/x/docker-buildx")
    meta = json.loads(done.stdout)
    assert meta["SchemaVersion"] == "0.1.0"
    assert meta["Vendor"] and meta["Version"] and meta["ShortDescription"]


@pytest.mark.parametrize(
    "argv",
    [
        ["buildx", "build", "--help"],
        ["--context", "default", "buildx", "build", "--help"],
        ["build", "--help"],
    ],
)
def test_plugin_mode(argv):
    done = run(*argv, name="/x/docker-buildx")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage:  docker buildx build ")


def test_version_is_the_packages():
    import tomllib

    from lapstrake.version import VERSION

    assert tomllib.loads((SRC.parent / "pyproject.toml").read_text())["project"]["version"] == VERSION
