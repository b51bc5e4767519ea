"""CDI names to device nodes, variables and mounts (dockerfile.md §8.2)."""

from __future__ import annotations

import json

import pytest

from lapstrake.errors import SandboxError
from lapstrake.worker.cdi import CLASS, resolve

SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/gpu",
    "containerEdits": {"env": ["ALL=1"]},
    "devices": [
        {
            "name": "first",
            "annotations": {CLASS: "accelerator"},
            "containerEdits": {
                "env": ["ONE=1"],
                "deviceNodes": [
                    {"path": "/dev/g0", "hostPath": "/dev/zero", "permissions": "rw"},
                    {"path": "relative"},
                ],
                "mounts": [{"hostPath": "/usr/lib/g", "containerPath": "/g", "options": ["ro"]}],
            },
        },
        {"name": "second", "containerEdits": {"env": ["TWO=2"], "deviceNodes": [{"path": "/dev/g1"}]}},
    ],
}


@pytest.fixture
def directories(tmp_path):
    (tmp_path / "gpu.json").write_text(json.dumps(SPEC))
    (tmp_path / "readme.txt").write_text("no specification")
    return (str(tmp_path), str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "env", "nodes"),
    [
        ("vendor.com/gpu=first", ("ALL=1", "ONE=1"), ("/dev/zero:/dev/g0:rw",)),
        ("vendor.com/gpu", ("ALL=1", "ONE=1"), ("/dev/zero:/dev/g0:rw",)),
        ("name=vendor.com/gpu=second", ("ALL=1", "TWO=2"), ("/dev/g1:/dev/g1:rwm",)),
        ("vendor.com/gpu=*", ("ALL=1", "ONE=1", "TWO=2"), ("/dev/zero:/dev/g0:rw", "/dev/g1:/dev/g1:rwm")),
        ("accelerator", ("ALL=1", "ONE=1"), ("/dev/zero:/dev/g0:rw",)),
        ("vendor.com/gpu=third", (), ()),
        ("other.com/gpu=first", (), ()),
    ],
)
def test_names(directories, name, env, nodes):
    found = resolve((name,), directories)
    assert (found.env, found.nodes) == (env, nodes)


def test_mounts_are_read_only_unless_said_otherwise(directories):
    (mount,) = resolve(("vendor.com/gpu=first",), directories).mounts
    assert (mount.source, mount.target, mount.readonly) == ("/usr/lib/g", "/g", True)


def test_a_required_device_must_be_there(directories):
    with pytest.raises(SandboxError, match=r"device vendor\.com/gpu=third is required"):
        resolve(("vendor.com/gpu=third,required",), directories)


def test_a_damaged_specification_is_named(directories, tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SandboxError, match=r"bad\.json is no CDI specification"):
        resolve(("vendor.com/gpu",), directories)
