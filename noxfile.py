"""The tasks of the project. `nox` runs them each in its own environment, `nox --no-venv` in this one."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "imports", "tests"]
nox.options.default_venv_backend = "venv"


def _ready(session: nox.Session) -> None:
    if session.venv_backend != "none":
        session.install("-e", ".[dev]")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, likely mistakes and format."""
    _ready(session)
    session.run("ruff", "check", "--output-format=concise", *session.posargs, external=True)
    session.run("ruff", "format", "--check", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    _ready(session)
    session.run("mypy", *session.posargs, external=True)


@nox.session
def imports(session: nox.Session) -> None:
    """Imports point down, and the core touches nothing."""
    _ready(session)
    session.run("lint-imports", *session.posargs, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the soak runs."""
    _ready(session)
    session.run("python", "-m", "pytest", *(session.posargs or ["-m", "not soak"]))
