"""Bake definitions from a git repository or a URL (spec cli.md §3)."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..values import Value
from .files import DEFAULTS, File, read_local
from .requests import Place, is_remote
from .source import MAX_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..source.git import Access


class Arguments(Value):
    """Command-line words sorted: ``url`` of the definition, ``context`` that replaces the main one, names."""

    url: str = ""
    context: str = "cwd://"
    targets: tuple[str, ...] = ()


def split(words: Sequence[str]) -> Arguments:
    """``[URL [CONTEXT-URL]] [TARGET…]``."""
    left = list(words)
    url, context = "", "cwd://"
    if left and is_remote(left[0]):
        url = left.pop(0)
        if left and (is_remote(left[0]) or left[0].startswith("cwd://")):
            context = left.pop(0)
    return Arguments(url, context, tuple(left))


def fetch(
    url: str, names: Sequence[str], directory: str, environ: Mapping[str, str]
) -> tuple[list[File], Place]:
    """The definition's files and where its relative paths lead.  ``directory`` is empty and outlives the build."""
    if url.startswith(("http://", "https://")) and not url.partition("#")[0].partition("?")[0].endswith(
        ".git"
    ):
        found = _download(url, directory)
        if found is not None:
            return [
                *[f for n in names if n.startswith("cwd://") for f in read_local([n], required=True)],
                found,
            ], Place()
    else:
        from ..source import git

        target = os.path.join(directory, "definition")
        os.mkdir(target)
        git.checkout(git.parse(url), target, access=_access(url, environ))
    base = os.path.join(directory, "definition")
    return _read(names, base, url), Place(os.path.realpath(base), url)


def _download(url: str, directory: str) -> File | None:
    """A single file, or None after unpacking an archive."""
    from ..source import archive, http

    got = http.download(url, directory)
    with open(got.path, "rb") as f:
        head = f.read(1024)
        f.seek(0)
        if not archive.sniff(head):
            data = f.read(MAX_FILE + 1)
            return File(url.partition("?")[0].partition("#")[0].rpartition("/")[2] or url, data)
        target = os.path.join(directory, "definition")
        os.mkdir(target)
        archive.extract(f, target)
    return None


def _read(names: Sequence[str], base: str, url: str) -> list[File]:
    """Named files of the definition (``cwd://`` ones are ours), else those of the default names that exist."""
    out = []
    for name in names or DEFAULTS:
        if name.startswith("cwd://") or name == "-":
            out += read_local([name], required=True)
            continue
        try:
            with open(inside(base, name), "rb") as f:
                out.append(File(name, f.read(MAX_FILE + 1)))
        except OSError as e:
            if names:
                raise UsageError(f"{url}: open {name}: {(e.strerror or '').lower()}") from None
    if not out:
        raise UsageError(
            "couldn't find a bake definition",
            hint=f"{url} has none of the default files; -f FILE names another",
        )
    return out


def inside(base: str, path: str) -> str:
    """A path of a foreign definition: below its root, wherever its symlinks lead.  Raises UsageError."""
    root = os.path.realpath(base)
    full = os.path.realpath(os.path.join(root, os.path.normpath("/" + path).lstrip("/")))
    if full != root and not full.startswith(root + os.sep):
        raise UsageError(f"{path} leads out of the definition", hint="cwd://PATH is a path of this machine")
    return full


def _access(url: str, environ: Mapping[str, str]) -> Access:
    """How to reach the repository: BUILDX_BAKE_GIT_AUTH_TOKEN, …_HEADER and …_SSH."""
    from ..source.credentials import git_access

    return git_access(url, _EnvSecrets(environ), _EnvAgents(environ))


class _EnvSecrets:
    """``GIT_AUTH_TOKEN`` and ``GIT_AUTH_HEADER`` out of the environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def get(self, secret_id: str) -> bytes | None:
        value = self.environ.get(f"BUILDX_BAKE_{secret_id}", "")
        return value.encode("utf-8", "surrogateescape") if value else None


class _EnvAgents:
    """The agent for git over ssh."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def socket(self, agent_id: str) -> str | None:
        given = self.environ.get("BUILDX_BAKE_GIT_SSH", "").removeprefix("default=")
        return given or self.environ.get("SSH_AUTH_SOCK") or None
