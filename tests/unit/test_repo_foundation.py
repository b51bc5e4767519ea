"""What the repository promises about itself."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_readme_commands_exist_and_are_executable():
    commands = re.findall(r"^(scripts/\S+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands == ["scripts/demo.sh", "scripts/test.sh"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK), command


def test_both_programs_are_the_same_one():
    scripts = PROJECT["project"]["scripts"]
    assert set(scripts) == {"lapstrake", "docker-buildx", "kaniko"}
    assert scripts["lapstrake"] == scripts["docker-buildx"]


@pytest.mark.parametrize("page", sorted(p for p in ROOT.glob("**/*.md") if ".venv" not in p.parts), ids=str)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_no_module_is_longer_than_600_lines():
    long = {str(p): n for p in ROOT.glob("src/**/*.py") if (n := p.read_text().count("\n")) > 600}
    assert long == {}
