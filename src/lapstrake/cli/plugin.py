"""``install`` and ``uninstall``: being docker's ``buildx`` plugin, which is one link."""

from __future__ import annotations

import os
import sys

from ..errors import BuildError
from .flags import Command, Flag, parse
from .main import PLUGIN, global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .main import Globals

_MARK = "from lapstrake.cli.main import main"


def _link(given: Globals, words: Sequence[str], name: str, about: str, *flags: Flag) -> tuple[str, bool]:
    spec = Command(f"{given.program} {name}", "[OPTIONS]", about, (*flags, *global_flags()), 0, 0)
    args = parse(spec, words)
    path = os.path.join(given.settings(args).docker_config, "cli-plugins", PLUGIN)
    return path, bool(flags) and args.flag("force")


def _program() -> str:
    """The ``docker-buildx`` program that was installed beside this interpreter."""
    beside = os.path.join(os.path.dirname(sys.executable), PLUGIN)
    return beside if os.access(beside, os.X_OK) else ""


def _ours(path: str) -> bool:
    try:
        with open(path, "rb") as f:
            return _MARK.encode() in f.read(4096)
    except OSError:
        return not os.path.exists(path)  # a link that leads nowhere is nobody's


def command_install(words: Sequence[str], given: Globals) -> int:
    """``install``."""
    path, force = _link(
        given, words, "install", "Let `docker buildx build` and `docker build` call Lapstrake.",
        Flag("force", "bool", "Replace another buildx", short="f"),
    )  # fmt: skip
    if os.path.lexists(path) and not _ours(path) and not force:
        raise BuildError(f"another plugin is installed as {path}", hint="--force replaces it")
    program = _program()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        if program:
            os.symlink(program, temporary)
        else:  # run from a checkout: a script of our own
            import lapstrake

            source = os.path.dirname(os.path.dirname(os.path.abspath(lapstrake.__file__)))
            with open(temporary, "w", encoding="utf-8") as f:
                f.write(
                    f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {source!r})\n{_MARK}\nsys.exit(main())\n"
                )
            os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except OSError as e:
        raise BuildError(f"failed to install {path}: {e.strerror}") from e
    sys.stdout.write(f"{path}\n")
    return 0


def command_uninstall(words: Sequence[str], given: Globals) -> int:
    """``uninstall``."""
    path, _ = _link(given, words, "uninstall", "Remove the docker plugin again.")
    if not os.path.lexists(path):
        return 0
    if not _ours(path):
        raise BuildError(f"{path} is not ours", hint="remove it by hand if it should go")
    os.unlink(path)
    return 0
