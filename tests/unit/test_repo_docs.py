"""The documentation fits the project: links lead somewhere, names and flags exist."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

import pytest
from tests.conftest import PROJECT

PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/**/*.md"),
        *PROJECT.glob("examples/*/README.md"),
    ]
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The names GitHub gives to a page's headings."""
    plain = (re.sub(r"[`*\[\]]|\([^)]*\.md[^)]*\)", "", h) for h in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(PROJECT)))
def test_links_lead_somewhere(page):
    wrong = []
    for link in _LINK.findall(prose(page)):
        if urllib.parse.urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / urllib.parse.unquote(path)).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_in_the_index():
    index = (PROJECT / "docs" / "README.md").read_text()
    pages = {str(p.relative_to(PROJECT / "docs")) for p in PROJECT.glob("docs/**/*.md")} - {"README.md"}
    assert {p for p in pages if f"]({p})" not in index} == set()


def test_the_life_of_a_build_names_what_is_there():
    """Every `module.name` of the page exists."""
    import importlib

    missing = []
    page = (PROJECT / "docs" / "dev" / "life-of-a-build.md").read_text()
    for word in re.findall(r"`([a-z]+\.[\w.]+)`", page):
        if word.endswith(".py"):
            continue
        module, _, name = f"lapstrake.{word}".rpartition(".")
        try:
            if hasattr(importlib.import_module(module), name):
                continue
            importlib.import_module(f"{module}.{name}")
        except ImportError:
            missing.append(word)
            parent, _, klass = module.rpartition(".")
            if klass[:1].isupper() and hasattr(getattr(importlib.import_module(parent), klass), name):
                missing.remove(word)
    assert missing == []


def test_every_flag_that_a_page_names_exists():
    """``--flag`` in the prose and the commands of the user pages, as some command of ours knows it."""
    from lapstrake.cli.complete import _BELOW, spec_of
    from lapstrake.cli.flags import Command
    from lapstrake.cli.kaniko import _spec
    from lapstrake.cli.main import COMMANDS, Globals

    specs = [_spec()]
    for name in COMMANDS:
        for words in ([], *([below] for below in _BELOW.get(name, ()))):
            spec = spec_of(name, words, Globals())
            specs += [spec] if isinstance(spec, Command) else []
    known = {f.name for spec in specs for f in spec.flags} | {"help", "version"}
    commands = re.compile(r"\blapstrake (?!dial)[a-z][^`\n#]*")
    unknown = set()
    for page in PROJECT.glob("docs/*.md"):
        for line in commands.findall(re.sub(r'"[^"\n]*"', "", page.read_text())):
            unknown |= {(page.name, n) for n in re.findall(r"\s--([a-z][a-z-]+)", line) if n not in known}
    assert unknown == set()
