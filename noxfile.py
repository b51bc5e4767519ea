"""The tasks of the project. `nox` runs them each in its own environment, `nox --no-venv` in this one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "imports", "tests"]
nox.options.default_venv_backend = "venv"

_PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())
_REPORT_ONLY = frozenset(_PROJECT["tool"]["lapstrake"]["report-only"])


def _ready(session: nox.Session) -> None:
    if session.venv_backend != "none":
        session.install("-e", ".[dev]")


def _check(session: nox.Session, *command: str) -> None:
    """Run a check; one that pyproject.toml lists under report-only prints its findings and passes."""
    codes = [0, 1] if session.name in _REPORT_ONLY else [0]
    session.run(*command, success_codes=codes, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely mistakes and format."""
    _ready(session)
    _check(session, "ruff", "check", "--output-format=concise", *session.posargs)
    _check(session, "ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    _ready(session)
    _check(session, "mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Imports point down, and the core touches nothing."""
    _ready(session)
    _check(session, "lint-imports", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the soak runs."""
    _ready(session)
    session.run("python", "-m", "pytest", *(session.posargs or ["-m", "not soak"]))
