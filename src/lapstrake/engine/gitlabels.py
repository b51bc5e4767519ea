"""``BUILDX_GIT_LABELS``: labels that say which commit an image was built from (spec cli.md §1)."""

from __future__ import annotations

import os

from ..values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..plan.request import BuildRequest

REVISION = "org.opencontainers.image.revision"
SOURCE = "org.opencontainers.image.source"
ENTRYPOINT = "com.docker.image.source.entrypoint"


def with_git_labels(request: BuildRequest, environ: Mapping[str, str]) -> BuildRequest:
    """The request with the labels of a context that is in a git working tree; the user's own labels win."""
    if environ.get("BUILDX_GIT_LABELS", "").lower() not in ("1", "t", "true", "full"):
        return request
    if not request.context or not os.path.isdir(request.context):
        return request
    from .facts import git_facts, git_top

    facts = dict(git_facts(request.context, {**environ, "BUILDX_GIT_INFO": "1"}))
    if not facts:
        return request
    labels = {REVISION: facts["revision"]}
    if facts.get("source"):
        labels[SOURCE] = facts["source"]
    top = git_top(request.context, environ)
    file = os.path.realpath(request.dockerfile or os.path.join(request.context, "Dockerfile"))
    if top and request.dockerfile_text is None and file.startswith(os.path.realpath(top) + "/"):
        labels[ENTRYPOINT] = os.path.relpath(file, os.path.realpath(top))
    return replace(request, labels=tuple({**labels, **dict(request.labels)}.items()))
