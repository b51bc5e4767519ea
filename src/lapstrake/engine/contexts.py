"""Where the build's files come from: the Dockerfile, the main context, named contexts (spec cli.md §2.1, §2.5)."""

from __future__ import annotations

import os

from ..errors import BuildError, DockerfileError, UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..dockerfile.ignore import IgnoreRules
    from ..plan.request import BuildRequest
    from ..tree import Tree
    from .engine import Engine

    Origin = tuple[str, tuple[tuple[str, str], ...]] | None

MAX_DOCKERFILE = 64 << 20


class Inputs(Value):
    """A build's inputs, opened: ``contexts`` by name (``context`` is the main one), ``named`` as the
    planner wants them: name -> (scheme, identifier).  ``origin``: of a remote main context, its URL and
    ((algorithm, hex),) of what it was."""

    dockerfile: bytes
    dockerfile_name: str
    contexts: dict  # type: ignore[type-arg]
    named: dict  # type: ignore[type-arg]
    origin: Origin = None


def open_inputs(engine: Engine, request: BuildRequest) -> Inputs:
    """Find and read everything the request names."""
    context = request.context
    if not context:
        raise UsageError('please specify build context (e.g. "." for the current directory)')
    root, text, origin = _main_context(engine, request)
    name = "Dockerfile"
    where = ""
    if text is None:
        text, name, where = _read_dockerfile(request, root)
    trees: dict[str, Tree] = {}
    trees["context"] = _local_tree(engine, root, _ignore_rules(root, where))
    named: dict[str, tuple[str, str]] = {}
    for key, value in request.named_contexts:
        named[key] = _named(engine, key, value, trees)
    return Inputs(text, name, trees, named, origin)


def _is_remote(context: str) -> bool:
    return context.startswith(("http://", "https://", "git://", "git@", "ssh://", "github.com/"))


def _main_context(engine: Engine, request: BuildRequest) -> tuple[str | None, bytes | None, Origin]:
    """(directory or None, Dockerfile text when the context itself is one, where a remote one came from)."""
    context = request.context
    if context == "-":
        if request.dockerfile == "-":
            raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
        return *_stdin_context(engine, request), None
    if _is_remote(context):
        return _remote_context(engine, request)
    if not os.path.isdir(context):
        raise UsageError(f'unable to prepare context: path "{context}" not found')
    return os.path.abspath(context), request.dockerfile_text, None


def _stdin_context(engine: Engine, request: BuildRequest) -> tuple[str | None, bytes | None]:
    import sys

    from ..source import archive

    stream = sys.stdin.buffer
    head = stream.peek(1024) if hasattr(stream, "peek") else b""
    if archive.sniff(head):
        active = engine.new_active()
        archive.extract(stream, active.upper)
        return active.upper, None
    if request.dockerfile:
        raise UsageError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    return None, stream.read(MAX_DOCKERFILE)


def _remote_context(engine: Engine, request: BuildRequest) -> tuple[str | None, bytes | None, Origin]:
    context = request.context
    active = engine.new_active()
    if context.startswith(("http://", "https://")) and not context.split("#")[0].split("?")[0].endswith(
        ".git"
    ):
        from ..source import archive, http

        got = http.download(context, active.work)
        origin = (context, ((got.digest.partition(":")[0], got.digest.partition(":")[2]),))
        with open(got.path, "rb") as f:
            head = f.read(1024)
            f.seek(0)
            if not archive.sniff(head):
                return None, f.read(MAX_DOCKERFILE), origin
            archive.extract(f, active.upper)
        return active.upper, None, origin
    from ..source import git

    keep = dict(request.build_args).get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in ("1", "true")
    commit = git.checkout(git.parse(context), active.upper, keep_git_dir=keep)
    return active.upper, None, (context, (("sha256" if len(commit) == 64 else "sha1", commit),))


def _read_dockerfile(request: BuildRequest, root: str | None) -> tuple[bytes, str, str]:
    """(text, display name, path on disk or '')."""
    given = request.dockerfile
    if request.dockerfile_text is not None:
        return request.dockerfile_text, given or "Dockerfile", ""
    if given == "-":
        import sys

        return sys.stdin.buffer.read(MAX_DOCKERFILE), "Dockerfile", ""
    if given and given.startswith(("http://", "https://")):
        import tempfile

        from ..source import http

        with tempfile.TemporaryDirectory() as tmp, open(http.download(given, tmp).path, "rb") as f:
            return f.read(MAX_DOCKERFILE), "Dockerfile", ""
    base = root or os.getcwd()
    if given:
        path = (
            os.path.join(base, given.lstrip("/"))
            if _is_remote(request.context) or request.context == "-"
            else os.path.abspath(given)
        )
    else:
        path = os.path.join(base, "Dockerfile")
    if not os.path.exists(path) and os.path.basename(path) == "Dockerfile":
        lower = os.path.join(os.path.dirname(path), "dockerfile")
        path = lower if os.path.exists(lower) else path
    name = given or os.path.basename(path)
    try:
        with open(path, "rb") as f:
            return f.read(MAX_DOCKERFILE), os.path.basename(name) if os.path.isabs(name) else name, path
    except FileNotFoundError:
        hint = _dockerfile_hint(base)
        raise DockerfileError(
            f"failed to read dockerfile: open {os.path.basename(path)}: no such file or directory", hint=hint
        ) from None
    except OSError as exc:
        raise DockerfileError(
            f"failed to read dockerfile: open {os.path.basename(path)}: {(exc.strerror or '').lower()}"
        ) from exc


def _dockerfile_hint(base: str) -> str | None:
    try:
        near = [n for n in os.listdir(base) if "dockerfile" in n.lower() or n == "Containerfile"]
    except OSError:
        return None
    return f"there is {near[0]}: pass -f {near[0]}" if near else "pass -f FILE to name the Dockerfile"


def _ignore_rules(root: str | None, dockerfile: str) -> IgnoreRules | None:
    candidates = [dockerfile + ".dockerignore"] if dockerfile else []
    if root is not None:
        candidates.append(os.path.join(root, ".dockerignore"))
    for path in candidates:
        try:
            with open(path, "rb") as f:
                text = f.read(16 << 20)
        except OSError:
            continue
        from ..dockerfile.ignore import IgnoreRules

        try:
            return IgnoreRules.parse(text)
        except BuildError as exc:
            raise BuildError(
                f"failed parsing .dockerignore: {exc.message}", span=exc.span, hint=exc.hint
            ) from exc
    return None


def _local_tree(engine: Engine, root: str | None, ignore: IgnoreRules | None) -> Tree:
    from ..source.local import LocalTree

    if root is None:
        return LocalTree(engine.new_active().upper, None, None)
    return LocalTree(root, ignore, engine.index.get("stat", root))


def save_stat_caches(engine: Engine, trees: dict[str, Tree]) -> None:
    """Remember what was hashed, so that an unchanged file costs one stat next time."""
    for tree in trees.values():
        dump = getattr(tree, "dump_stat_cache", None)
        data = dump() if dump is not None else None
        if data is not None and isinstance(root := getattr(tree, "root", None), str):
            engine.index.put("stat", root, data)


def _named(engine: Engine, name: str, value: str, trees: dict[str, Tree]) -> tuple[str, str]:
    try:
        if value.startswith("docker-image://"):
            return "image", value[len("docker-image://") :]
        if value.startswith("oci-layout://"):
            return "image", _layout_image(engine, value[len("oci-layout://") :])
        if value.startswith("target:"):
            return "target", value[len("target:") :]
        if _is_remote(value):
            scheme = (
                "http"
                if value.startswith("http")
                and not value.split("#", maxsplit=1)[0].split("?", maxsplit=1)[0].endswith(".git")
                else "git"
            )
            return scheme, value
        if not os.path.isdir(value):
            raise UsageError(f"{value}: no such directory")
    except BuildError as exc:
        raise UsageError(f"failed to get build context {name}: {exc.message}", hint=exc.hint) from exc
    root = os.path.abspath(value)
    trees[name] = _local_tree(engine, root, _ignore_rules(root, ""))
    return "local", name


def _layout_image(engine: Engine, spec: str) -> str:
    """Import an image of an OCI layout into the store; gives a reference that resolves to it."""
    import json
    from hashlib import sha256

    path, at, digest = spec.partition("@")
    tag = ""
    if not at and ":" in os.path.basename(path):
        path, _, tag = path.rpartition(":")
    from ..export import layout

    entries = layout.read_index(path)
    found = [
        e
        for e in entries
        if (e.get("annotations") or {}).get("org.opencontainers.image.ref.name") == (tag or "latest")
    ]
    if digest:
        found = [e for e in entries if e.get("digest") == digest]
    elif not found and len(entries) == 1 and not tag:
        found = entries
    if not found:
        raise BuildError(f"oci-layout {path}: no image {digest or tag or 'latest'}")
    blobs = os.path.join(path, "blobs", "sha256")
    _import_blobs(engine, blobs, found[0]["digest"], set())
    full = f"layout.lapstrake.invalid/{sha256(os.path.abspath(path).encode()).hexdigest()[:32]}:{tag or 'latest'}"
    top = {"mediaType": found[0]["mediaType"], "digest": found[0]["digest"], "size": found[0]["size"]}
    engine.index.put("ref", full, json.dumps(top).encode())
    return full


def _import_blobs(engine: Engine, blobs: str, digest: str, seen: set[str]) -> None:
    import json

    if digest in seen or len(seen) > 10000:
        return
    seen.add(digest)
    path = os.path.join(blobs, digest.rpartition(":")[2])
    if "/" in digest or not os.path.isfile(path):
        return
    if not engine.content.has(digest):
        with open(path, "rb") as f, engine.content.writer(digest) as out:
            while chunk := f.read(1 << 20):
                out.write(chunk)
    if os.path.getsize(path) > 4 << 20:
        return
    try:
        doc = json.loads(engine.content.read(digest))
    except ValueError:
        return
    if isinstance(doc, dict):
        for child in [
            *(doc.get("manifests") or []),
            *(doc.get("layers") or []),
            *([doc["config"]] if isinstance(doc.get("config"), dict) else []),
        ]:
            if isinstance(child, dict) and isinstance(child.get("digest"), str):
                _import_blobs(engine, blobs, child["digest"], seen)
