"""The same Dockerfiles by buildah and by Lapstrake: every difference has an explanation (docs/compatibility.md)."""

from __future__ import annotations

import importlib.util
import os

import pytest
from tests.conftest import PROJECT, need

pytestmark = [pytest.mark.e2e, pytest.mark.soak]


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = _module(PROJECT / "tests" / "data" / "differential_cases.py").CASES


@pytest.fixture(scope="module")
def builders(tmp_path_factory, bases):
    need("buildah")
    if os.geteuid():
        pytest.skip("buildah with the vfs driver wants root here")
    script = _module(PROJECT / "scripts" / "differential.py")
    return script, script.Builders(tmp_path_factory.mktemp("differential"), str(bases))


def test_there_are_enough_cases():
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_no_difference_without_a_reason(builders, case):
    script, both = builders
    assert script.unexplained(case, script.compare(both, case)) == []
