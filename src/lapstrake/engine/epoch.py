"""``SOURCE_DATE_EPOCH``: seconds, or the source whose time it is (spec dockerfile.md §6).

Besides a number it may be ``context`` (the main context's time), the name of a named context, or
the name of a stage that does nothing but add one remote source.
"""

from __future__ import annotations

import os

from ..dockerfile.instructions import Arg, CopyAdd
from ..errors import BuildError, DockerfileError
from ..plan.lower_copy import is_git, is_remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..dockerfile.instructions import Dockerfile, Stage
    from ..plan.request import BuildRequest
    from .contexts import Inputs
    from .engine import Engine

NAME = "SOURCE_DATE_EPOCH"


def find_epoch(engine: Engine, request: BuildRequest, inputs: Inputs, dockerfile: Dockerfile) -> int | None:
    """The epoch of a build, or None; the build argument wins over the default of a global ARG."""
    if request.source_date_epoch is not None:
        return request.source_date_epoch
    text = request.epoch_from or _default(dockerfile)
    if not text:
        return None
    if text.isdigit() and len(text) <= 15:
        return int(text)
    if text == "context":
        return _context_time(engine, request, inputs)
    scheme, url = inputs.named.get(text, ("", ""))
    if scheme not in ("git", "http"):
        stage = next((s for s in reversed(dockerfile.stages) if s.name == text.lower()), None)
        url = _only_source(stage) if stage is not None else ""
    if not url:
        raise DockerfileError(
            f"invalid {NAME}: {text}",
            hint="give whole seconds since 1970-01-01, context, or the name of a remote source",
        )
    return remote_time(engine, request, url)


def _context_time(engine: Engine, request: BuildRequest, inputs: Inputs) -> int | None:
    """A commit's time, Last-Modified, else the newest file of an archive; nothing for a local directory."""
    if inputs.origin is not None:
        found = remote_time(engine, request, request.context)
        if found is not None:
            return found
    elif request.context != "-":
        return None
    root = getattr(inputs.contexts["context"], "root", None)
    times = [
        int(os.lstat(os.path.join(where, name)).st_mtime)
        for where, _, names in os.walk(root or "")
        for name in names
    ]
    return max(times, default=None)


def _default(dockerfile: Dockerfile) -> str:
    for arg in dockerfile.global_args:
        for pair in arg.args:
            if pair.name == NAME and pair.default:
                from ..dockerfile.lint import default_args

                return default_args(dockerfile).get(NAME, "")
    return ""


def _only_source(stage: Stage) -> str:
    """The URL of a stage that is ``FROM scratch`` and one remote ADD, else an empty string."""
    found = [i for i in stage.instructions if not isinstance(i, Arg)]
    if stage.base.image != "scratch" or len(found) != 1 or not isinstance(found[0], CopyAdd):
        return ""
    add = found[0]
    remote = add.add and len(add.sources) == 1 and not add.heredocs and is_remote(add.sources[0])
    if not remote or "$" in add.sources[0]:
        return ""
    return add.sources[0]


def remote_time(engine: Engine, request: BuildRequest, url: str) -> int | None:
    """The commit's time of a git source, an HTTP source's Last-Modified; None when it has none."""
    from ..source import credentials
    from .clientside import RequestSecrets

    secrets = RequestSecrets(request.secrets, engine.settings.environ)
    if is_git(url):
        from ..source import git

        ref = git.parse(url)
        return git.commit_time(
            ref, engine.new_active().work, credentials.git_access(ref.remote, secrets, None)
        )
    from ..source import http

    try:
        return http.last_modified(url, authorization=credentials.http_authorization(url, secrets)) or None
    except BuildError as exc:
        raise DockerfileError(exc.message, hint=exc.hint) from exc
