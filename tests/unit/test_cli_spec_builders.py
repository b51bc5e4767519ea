"""``ls``, ``inspect``, ``create``, ``rm``, ``use`` and ``stop`` as buildx's users type them."""

from __future__ import annotations

import json
import os

import pytest

from lapstrake.cli.main import main
from lapstrake.sandbox.emulation import host_arch, platforms


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    for name in list(os.environ):
        if name.startswith(("LAPSTRAKE", "BUILDX", "DOCKER")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "root"))

    def call(*argv):
        code = main(list(argv))
        got = capsys.readouterr()
        return code, got.out, got.err

    return call


def test_ls_takes_templates(cli):
    cli("create", "--name", "b", "--platform", "linux/arm64")
    _, out, _ = cli("ls", "--format", "{{.Name}}|{{.DriverEndpoint}}|{{.Status}}|{{.Buildkit}}")
    version = out.splitlines()[1].rpartition("|")[2]
    assert out.splitlines() == [
        "default|local||", f"default|default|running|{version}", "b|local||", f"b0|default|running|{version}",
    ]  # fmt: skip
    _, out, _ = cli("ls", "--format", "table {{.Name}}\t{{.Status}}")
    assert [line.split() for line in out.splitlines()][:3] == [
        ["NAME/NODE", "STATUS"], ["default*"], ["\\_", "default", "running"],
    ]  # fmt: skip
    code, _, err = cli("ls", "--format", "{{.Nothing}}")
    assert (code, "can't evaluate field Nothing" in err) == (2, True)


def test_ls_as_json_is_a_document_a_line(cli):
    cli("create", "--name", "b", "--use")
    _, out, _ = cli("ls", "--format", "json")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(b["Name"], b["Current"], b["Dynamic"]) for b in found] == [
        ("default", False, True),
        ("b", True, False),
    ]
    assert set(found[0]["Nodes"][0]) == {"Name", "Endpoint", "Status", "Version", "Platforms"}


def test_the_platforms_are_those_the_host_runs(cli):
    shown = platforms()
    assert shown[0] == ("linux/arm/v7" if host_arch() == "arm" else f"linux/{host_arch()}")
    _, out, _ = cli("inspect")
    line = next(x for x in out.splitlines() if x.startswith("Platforms:"))
    assert line.split(None, 1)[1].split(", ") == list(shown)
    _, out, _ = cli("ls", "--no-trunc")
    assert ", ".join(shown) in out
    cli("create", "--name", "b", "--platform", "linux/s390x")
    _, out, _ = cli("inspect", "b")
    assert "Platforms:     linux/s390x*, " in out


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["use", "nope"], 1, 'no builder "nope" found'),
        (["rm", "nope"], 1, 'no builder "nope" found'),
        (["stop", "nope"], 1, 'no builder "nope" found'),
        (["inspect", "--builder", "nope"], 1, 'no builder "nope" found'),
        (["--builder", "nope", "inspect"], 1, 'no builder "nope" found'),
        (["rm"], 2, 'builder "default" cannot be removed'),
        (["rm", "default"], 2, 'builder "default" cannot be removed'),
        (["rm", "--all-inactive", "x"], 2, "cannot specify builder name when --all-inactive is set"),
        (["create", "--name", "default"], 2, '"default" is a reserved name'),
        (["create", "--name", "a b"], 2, 'invalid builder name "a b"'),
        (["create", "--driver", "kubernetes"], 2, 'failed to find driver "kubernetes"'),
        (["create", "--leave"], 2, "leave requires instance name"),
        (["create", "--leave", "--name", "x"], 2, "leave requires node name but --node not set"),
        (["create", "--append", "--name", "x"], 1, 'failed to find instance "x" for append'),
        (["create", "a", "b"], 2, "requires at most 1 argument"),
        (["use"], 2, "'lapstrake use' requires 1 argument"),
        (["ls", "x"], 2, "'lapstrake ls' accepts no arguments"),
        (["bogus"], 2, "unknown command: bogus"),
        (["--bogus"], 2, "unknown flag: --bogus"),
        (["ls", "--bogus"], 2, "unknown flag: --bogus"),
        (["policy", "eval"], 2, "policy eval is not supported"),
    ],
)
def test_what_is_refused(cli, argv, code, message):
    got, _, err = cli(*argv)
    assert got == code
    assert err.startswith("ERROR: ")
    assert message in err


def test_nodes_come_and_go(cli):
    code, name, _ = cli("create")
    name = name.strip()
    assert code == 0
    assert name
    assert cli("create", "--append", "--name", name, "--node", "n2")[1] == f"{name}\n"
    assert [x.strip() for x in cli("ls", "--format", "{{.Name}}")[1].splitlines()][-3:] == [
        name,
        f"{name}0",
        "n2",
    ]
    cli("create", "--leave", "--name", name, "--node", "n2")
    assert "n2" not in cli("ls")[1]
    assert cli("rm", name)[1] == f"{name} removed\n"


def test_the_builder_of_the_environment(cli, monkeypatch, tmp_path):
    cli("create", "--name", "b")
    monkeypatch.setenv("BUILDX_BUILDER", "b")
    assert "b*" in cli("ls")[1]
    assert cli("inspect")[1].startswith("Name:          b\n")
    assert cli("--builder", "default", "inspect")[1].startswith("Name:          default\n")
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "elsewhere"))
    assert cli("inspect")[0] == 1  # another directory, another list
