"""Settings: flags over variables over the file over defaults."""

from __future__ import annotations

import os

import pytest

from lapstrake.config import load
from lapstrake.errors import UsageError


def test_defaults(tmp_path):
    s = load(environ={"HOME": str(tmp_path)})
    assert s.root == ("/var/lib/lapstrake" if os.geteuid() == 0 else str(tmp_path / ".local/share/lapstrake"))
    assert s.docker_config == str(tmp_path / ".docker")
    assert (s.isolation, s.snapshotter, s.progress, s.registry) == ("auto", "auto", "auto", {})
    assert s.builders_dir == os.path.join(s.root, "builders")


def test_precedence(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'root = "/from/file"\n[build]\nisolation = "oci"\nprogress = "plain"\njobs = 3\n[registry."docker.io"]\nmirrors = ["localhost:5055"]\n'
    )
    env = {"LAPSTRAKE_CONFIG": str(path), "BUILDKIT_PROGRESS": "tty", "http_proxy": "http://p"}
    s = load(environ=env)
    assert (s.root, s.isolation, s.progress, s.jobs) == ("/from/file", "oci", "tty", 3)
    assert s.registry == {"docker.io": {"mirrors": ["localhost:5055"]}}
    assert s.proxies == (("HTTP_PROXY", "http://p"),)
    assert load(environ={**env, "LAPSTRAKE_ROOT": "/env"}).root == "/env"
    assert load("/flag", environ={**env, "LAPSTRAKE_ROOT": "/env"}).root == "/flag"


def test_a_buildkitd_toml_passes(tmp_path):
    path = tmp_path / "buildkitd.toml"
    path.write_text(
        'debug = true\n[worker.oci]\n  gc = true\n[registry."r.example"]\n  http = true\n  insecure = true\n'
    )
    assert load(config=str(path), environ={}).registry["r.example"] == {"http": True, "insecure": True}


@pytest.mark.parametrize("text", ["nonsense", "registry = 3\n", "root = [1]\n", "[build]\nisolation = []\n"])
def test_bad_files(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="configuration"):
        load(config=str(path), environ={})


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(UsageError, match="failed to read configuration"):
        load(config=str(tmp_path / "nope"), environ={})


def test_the_environment_is_not_shown(tmp_path):
    assert "hunter2" not in repr(load(environ={"PASSWORD": "hunter2"}))


@pytest.mark.parametrize(("value", "want"), [("", 6), ("0", 0), ("12", 12), ("x", 6), ("99999", 1000)])
def test_log_lines(value, want):
    assert load(environ={"BUILDKIT_TTY_LOG_LINES": value}).log_lines == want
