"""``context ls`` and ``context why``: the build's own rules, seen from outside."""

from __future__ import annotations

import json

import pytest

from lapstrake.cli.main import main


@pytest.fixture
def directory(tmp_path):
    files = {
        "Dockerfile": "FROM scratch\n",
        ".dockerignore": "# rules\nnode_modules\n*.md\n!README.md\nvendor\n!vendor/keep\n",
        "README.md": "r" * 10,
        "notes.md": "n",
        "src/a": "a" * 2000,
        "node_modules/x/y": "y",
        "vendor/keep": "k",
        "vendor/drop": "d",
        "other.Dockerfile": "FROM scratch\n",
        "other.Dockerfile.dockerignore": "**\n!src\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def lines(capsys, *words):
    code = main(["context", *map(str, words)])
    return code, capsys.readouterr().out.splitlines()


def test_what_is_in_it(capsys, directory):
    code, out = lines(capsys, "ls", directory)
    assert code == 0
    assert out == [
        ".dockerignore", "Dockerfile", "README.md", "other.Dockerfile", "other.Dockerfile.dockerignore", "src/a", "vendor/keep",
    ]  # fmt: skip
    assert lines(capsys, "ls", "-f", directory / "other.Dockerfile", directory)[1] == ["src/a"]


def test_what_is_left_out_and_why(capsys, directory):
    assert lines(capsys, "ls", "--ignored", directory)[1] == [
        'node_modules/\t.dockerignore:2 "node_modules"',
        'notes.md\t.dockerignore:3 "*.md"',
        'vendor/\t.dockerignore:5 "vendor"',
        'vendor/drop\t.dockerignore:5 "vendor"',
    ]


def test_sizes(capsys, directory):
    out = lines(capsys, "ls", "--sizes", directory)[1]
    assert out[-2].endswith("\tsrc/a")
    assert out[-1].endswith("\t7 files in all")
    rows = json.loads("\n".join(lines(capsys, "ls", "--json", directory)[1]))
    assert {"path": "src/a", "directory": False, "size": 2000, "ignored": False, "rule": ""} in rows


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("notes.md", 1, 'notes.md: left out by .dockerignore:3 "*.md"'),
        ("node_modules/x/y", 1, 'node_modules/x/y: left out by .dockerignore:2 "node_modules"'),
        ("README.md", 0, 'README.md: in the context, brought back by .dockerignore:4 "!README.md"'),
        ("src", 0, "src: in the context"),
        ("./vendor/../vendor/keep", 0, './vendor/../vendor/keep: in the context, brought back by .dockerignore:6 "!vendor/keep"'),
    ],
)  # fmt: skip
def test_why(capsys, directory, path, code, text):
    assert lines(capsys, "why", "--context", directory, path) == (code, [text])


def test_paths_that_are_not_there(capsys, directory):
    assert main(["context", "why", "--context", str(directory), "absent"]) == 1
    assert capsys.readouterr().err == "absent: there is no such file in the context\n"
    assert main(["context", "why", "--context", str(directory), "/etc/passwd"]) == 2
    assert "is not in the context" in capsys.readouterr().err
    assert main(["context", "ls", "/nonexistent"]) == 2
    assert main(["context", "what"]) == 2
