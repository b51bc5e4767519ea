"""Builders on disk, and the commands around the local store."""

from __future__ import annotations

import json
import os
import stat

import pytest

from lapstrake.cli.main import main
from lapstrake.cli.space import ago
from lapstrake.errors import UsageError
from lapstrake.optspec import duration


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    for name in list(os.environ):
        if name.startswith(("LAPSTRAKE", "BUILDX", "DOCKER")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "root"))

    def call(*argv):
        code = main(list(argv))
        got = capsys.readouterr()
        return code, got.out, got.err

    return call


def test_a_fresh_list_has_the_default_builder(cli):
    code, out, _ = cli("ls")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "VERSION", "PLATFORMS"]
    assert lines[1].split() == ["default*", "local"]
    assert lines[2].startswith(" \\_ default")
    assert "running" in lines[2]


def test_life_of_a_builder(cli, tmp_path):
    assert cli(
        "create",
        "--name",
        "b1",
        "--driver",
        "docker-container",
        "--platform",
        "linux/arm64,linux/amd64",
        "--driver-opt",
        "network=host",
        "--use",
    ) == (0, "b1\n", "")
    state = json.loads((tmp_path / "root/builders/instances/b1").read_text())
    assert state["Name"] == "b1"
    assert state["Driver"] == "docker-container"
    assert state["Nodes"][0]["Name"] == "b10"
    assert state["Nodes"][0]["Platforms"][0] == {"os": "linux", "architecture": "arm64"}
    assert state["Nodes"][0]["DriverOpts"] == {"network": "host"}
    assert "b1*" in cli("ls")[1]
    assert "linux/arm64*" in cli("inspect")[1]
    assert cli("create", "--name", "b1", "--append", "--node", "second")[0] == 0
    assert "Name:          second" in cli("inspect", "b1", "--bootstrap")[1]
    assert cli("create", "--name", "b1", "--leave", "--node", "second")[0] == 0
    assert "second" not in cli("inspect", "b1")[1]
    code, _, err = cli("create", "--name", "b1")
    assert code == 1
    assert 'existing instance for "b1" but no append mode' in err
    assert cli("stop", "b1")[0] == 0
    assert cli("rm", "b1") == (0, "b1 removed\n", "")
    assert "default*" in cli("ls")[1]
    assert cli("use", "b1")[0] == 1


def test_a_name_is_made_up(cli):
    name = cli("create")[1].strip()
    assert name.startswith("builder_")
    assert cli("use", name)[0] == 0
    assert f"{name}*" in cli("ls")[1]
    assert cli("use", "default")[0] == 0
    assert [json.loads(line)["Current"] for line in cli("ls", "--format", "json")[1].splitlines()] == [
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "-x", "a b"])
def test_names_stay_in_their_directory(cli, name):
    assert cli("create", f"--name={name}")[0] == 2
    assert cli("--builder", name, "stop")[0] == 1


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["create", "--driver", "kubernetes"], 2),
        (["create", "--driver", "dask"], 2),
        (["create", "--name", "default"], 2),
        (["create", "--name", "x", "--append"], 1),
        (["rm", "default"], 2),
        (["rm", "nope"], 1),
        (["inspect", "--type=builder", "nope"], 1),
        (["ls", "--format", "{{"], 2),
        (["inspect", "nope"], 1),
        (["rmi", "nope"], 1),
    ],
)
def test_refused(cli, argv, code):
    got, _, err = cli(*argv)
    assert got == code
    assert err.startswith("ERROR: ")


def test_buildx_config_holds_the_state(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "bx"))
    cli("create", "--name", "q")
    assert (tmp_path / "bx/instances/q").is_file()


def test_install_and_uninstall(cli, tmp_path):
    path = tmp_path / "docker/cli-plugins/docker-buildx"
    assert cli("install") == (0, f"{path}\n", "")
    assert os.stat(path).st_mode & stat.S_IXUSR
    assert cli("install")[0] == 0
    assert cli("uninstall")[0] == 0
    assert not path.exists()
    path.write_text("#!/bin/sh\n# somebody else's\n")
    assert cli("install")[0] == 1
    assert cli("uninstall")[0] == 1
    assert cli("install", "--force")[0] == 0


def test_images_of_an_empty_store(cli):
    assert cli("images")[1].split() == ["IMAGE", "ID", "PLATFORMS", "CREATED", "SIZE"]
    assert cli("images", "-q") == (0, "", "")


def test_du_and_prune_of_an_empty_store(cli):
    code, out, _ = cli("du")
    assert code == 0
    assert out.splitlines()[-1] == "Total:          0B"
    assert cli("prune", "-f") == (0, "Total:  0B\n", "")


def test_doctor_says_something_about_everything(cli):
    _, out, _ = cli("doctor")
    assert "root directory" in out
    assert "kernel" in out
    assert {"name", "ok", "detail", "fix"} == set(json.loads(cli("doctor", "--format=json")[1])[0])


@pytest.mark.parametrize(("text", "want"), [("90", 90), ("1h30m", 5400), ("7d", 604800), ("1.5h", 5400)])
def test_durations(text, want):
    assert duration(text) == want


def test_bad_duration():
    with pytest.raises(UsageError):
        duration("soon")


@pytest.mark.parametrize(
    ("seconds", "want"), [(5, "just now"), (61, "1 minute ago"), (7200, "2 hours ago"), (90000, "1 day ago")]
)
def test_ago(seconds, want):
    assert ago(seconds) == want
