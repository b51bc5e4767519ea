"""Where the build's files come from: the Dockerfile, the main context, named contexts (spec cli.md §2.1, §2.5)."""

from __future__ import annotations

import errno
import io
import os

from ..errors import BuildError, DockerfileError, UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    from ..dockerfile.ignore import IgnoreRules
    from ..plan.request import BuildRequest
    from ..source.git import Access
    from ..tree import Tree
    from .engine import Engine

    Origin = tuple[str, tuple[tuple[str, str], ...]] | None

MAX_DOCKERFILE = 16 << 20
MAX_IGNORE_FILE = 16 << 20
MAX_IMPORTED = 10_000  # blobs of one image of a layout


class Inputs(Value):
    """A build's inputs, opened: ``contexts`` by name (``context`` is the main one), ``named`` as the
    planner wants them: name -> (scheme, identifier).  ``origin``: of a remote main context, its URL and
    ((algorithm, hex),) of what it was.  ``ignore``: the main context's rules."""

    dockerfile: bytes
    dockerfile_name: str
    contexts: dict[str, Tree]
    named: dict[str, tuple[str, str]]
    origin: Origin = None
    ignore: IgnoreRules | None = None


def open_inputs(engine: Engine, request: BuildRequest) -> Inputs:
    """Find and read everything the request names."""
    context = request.context
    if not context and request.dockerfile_text is None:
        raise UsageError('please specify build context (e.g. "." for the current directory)')
    if request.policy and context and not _is_remote(context):
        from ..plan.policy import check_local

        check_local(request.policy, "context")
    root, text, origin = _main_context(engine, request)
    name = "Dockerfile"
    where = ""
    if text is None:
        text, name, where = _read_dockerfile(request, root)
    trees: dict[str, Tree] = {}
    # A git or HTTP context is taken as it is: ignore files count for local directories only (§13).
    local = root is not None and os.path.isdir(context)
    rules, rules_name = ignore_rules(root, where, request.ignore_file) if local else (None, "")
    trees["context"] = _local_tree(engine, root, rules, rules_name)
    named: dict[str, tuple[str, str]] = {}
    for key, value in request.named_contexts:
        named[key] = _named(engine, request, (key, value), trees)
    return Inputs(text, name, trees, named, origin, rules)


def bounded(stream: BinaryIO, limit: int, what: str) -> bytes:
    """All of a stream; more than ``limit`` bytes are an error, never silently cut off."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise BuildError(f"{what} is larger than {limit >> 20} MiB")
    return data


def _is_remote(context: str) -> bool:
    return context.startswith(("http://", "https://", "git://", "git@", "ssh://", "github.com/"))


def _main_context(engine: Engine, request: BuildRequest) -> tuple[str | None, bytes | None, Origin]:
    """(directory or None, Dockerfile text when the context itself is one, where a remote one came from)."""
    context = request.context
    if not context:
        return None, request.dockerfile_text, None
    if context == "-":
        return _stdin_context(engine, request), None, None
    if _is_remote(context):
        return _remote_context(engine, request)
    if not os.path.isdir(context):
        raise UsageError(f'unable to prepare context: path "{context}" not found')
    return os.path.abspath(context), request.dockerfile_text, None


def _stdin_context(engine: Engine, request: BuildRequest) -> str:
    """Unpack the archive on standard input, whose first bytes the request already holds."""
    import sys

    from ..source import archive

    active = engine.new_active()
    stream = _Joined(request.stdin_head, sys.stdin.buffer)
    archive.extract(io.BufferedReader(stream, 1 << 20), active.upper)
    return active.upper


class _Joined(io.RawIOBase):
    """Bytes already read, then the rest of a stream."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)] or self._rest.read(len(view))
        self._head = self._head[len(view) :]
        view[: len(data)] = data
        return len(data)


def _remote_context(engine: Engine, request: BuildRequest) -> tuple[str | None, bytes | None, Origin]:
    context, checksum = _permitted(request)
    active = engine.new_active()
    if context.startswith(("http://", "https://")) and not context.split("#")[0].split("?")[0].endswith(
        ".git"
    ):
        from ..source import archive, credentials, http
        from .clientside import RequestSecrets

        secrets = RequestSecrets(request.secrets, engine.settings.environ)
        got = http.download(
            context,
            active.work,
            checksum=checksum,
            authorization=credentials.http_authorization(context, secrets),
        )
        origin = (context, ((got.digest.partition(":")[0], got.digest.partition(":")[2]),))
        with open(got.path, "rb") as f:
            head = f.read(1024)
            f.seek(0)
            if not archive.sniff(head):
                return None, bounded(f, MAX_DOCKERFILE, "the Dockerfile"), origin
            archive.extract(f, active.upper)
        return active.upper, None, origin
    from ..source import git

    keep = dict(request.build_args).get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in ("1", "true")
    ref = git.with_flags(git.parse(context), checksum=checksum)
    commit = git.checkout(
        ref, active.upper, keep_git_dir=keep or None, access=_git_access(engine, request, ref.remote)
    )
    found = (("sha256" if len(commit) == 64 else "sha1", commit),)
    return active.upper, request.dockerfile_text, (context, found)


def _permitted(request: BuildRequest) -> tuple[str, str]:
    """The remote context and what it must be, as the source policy says."""
    context = request.context
    if not request.policy:
        return context, ""
    from ..plan.lower_copy import is_git
    from ..plan.policy import git_url, http_url

    git = is_git(context) or context.startswith("github.com/")
    return (git_url if git else http_url)(request.policy, context)


def _git_access(engine: Engine, request: BuildRequest, remote: str) -> Access:
    """The client's secrets; for ssh its agent, as if ``--ssh default`` had been given."""
    from ..source import credentials
    from ..values import replace
    from .clientside import RequestSecrets

    environ = engine.settings.environ
    access = credentials.git_access(remote, RequestSecrets(request.secrets, environ), None)
    given = next((s.paths[0] for s in request.ssh if s.id == "default" and s.paths), "")
    ssh = remote.startswith("ssh://") or "://" not in remote
    return replace(access, ssh_auth_sock=given or environ.get("SSH_AUTH_SOCK", "")) if ssh else access


def _read_dockerfile(request: BuildRequest, root: str | None) -> tuple[bytes, str, str]:
    """(text, display name, path on disk or '')."""
    given = request.dockerfile
    if request.dockerfile_text is not None:
        return request.dockerfile_text, given or "Dockerfile", ""
    if given == "-":
        import sys

        return bounded(sys.stdin.buffer, MAX_DOCKERFILE, "the Dockerfile"), "Dockerfile", ""
    if given and given.startswith(("http://", "https://")):
        import tempfile

        from ..source import http

        checksum = ""
        if request.policy:
            from ..plan.policy import http_url

            given, checksum = http_url(request.policy, given)
        with (
            tempfile.TemporaryDirectory() as tmp,
            open(http.download(given, tmp, checksum=checksum).path, "rb") as f,
        ):
            return bounded(f, MAX_DOCKERFILE, "the Dockerfile"), "Dockerfile", ""
    base = root or os.getcwd()
    if root is not None and not os.path.isdir(request.context) and not (given and os.path.isabs(given)):
        return *_fetched_dockerfile(root, given or "Dockerfile"), ""
    path = find_dockerfile(base, given or "")
    name = given or os.path.basename(path)
    try:
        with open(path, "rb") if given else _regular(path) as f:
            return bounded(f, MAX_DOCKERFILE, "the Dockerfile"), os.path.basename(name), path
    except FileNotFoundError:
        hint = _dockerfile_hint(base)
        raise DockerfileError(
            f"failed to read dockerfile: open {os.path.basename(path)}: no such file or directory", hint=hint
        ) from None
    except OSError as exc:
        raise DockerfileError(
            f"failed to read dockerfile: open {os.path.basename(path)}: {(exc.strerror or '').lower()}"
        ) from exc


def _regular(path: str) -> BinaryIO:
    """A file that was found, not named: a FIFO in its place would be waited for, for ever."""
    import stat

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "Not a regular file", path)
    return open(fd, "rb")


def find_dockerfile(base: str, given: str) -> str:
    """The Dockerfile's path on disk: ``given`` from the current directory, else in ``base`` (spec §0)."""
    path = os.path.abspath(given) if given else os.path.join(base, "Dockerfile")
    if not os.path.exists(path) and os.path.basename(path) == "Dockerfile":
        for name in ("dockerfile", *(() if given else ("Containerfile",))):
            other = os.path.join(os.path.dirname(path), name)
            if os.path.exists(other):
                return other
    return path


def _fetched_dockerfile(root: str, name: str) -> tuple[bytes, str]:
    """(text, name) of a Dockerfile inside a context that came from elsewhere: no link leads out of it."""
    from ..layer.select import clean, resolve
    from ..source.local import LocalTree

    names = [name, name[: -len("Dockerfile")] + "dockerfile"] if _is_default(name) else [name]
    names += ["Containerfile"] if name == "Dockerfile" else []
    with LocalTree(root) as tree:
        for given in names:
            path = resolve(tree.lstat, clean(given))
            node = tree.lstat(path)
            if node is not None and node.kind == "file":
                with tree.open(path) as f:
                    return bounded(f, MAX_DOCKERFILE, "the Dockerfile"), given
    raise DockerfileError(
        f"failed to read dockerfile: open {os.path.basename(name)}: no such file or directory",
        hint=_dockerfile_hint(root),
    )


def _is_default(name: str) -> bool:
    return os.path.basename(name) == "Dockerfile"


def _dockerfile_hint(base: str) -> str | None:
    try:
        near = [n for n in os.listdir(base) if "dockerfile" in n.lower() or n == "Containerfile"]
    except OSError:
        return None
    return f"there is {near[0]}: pass -f {near[0]}" if near else "pass -f FILE to name the Dockerfile"


def ignore_rules(root: str | None, dockerfile: str, named: str = "") -> tuple[IgnoreRules | None, str]:
    """The rules for a local directory and the name of their file.  ``named``: that file and no other."""
    candidates = [dockerfile + ".dockerignore"] if dockerfile else []
    if named:
        candidates = [named]
        if not os.path.isfile(named):
            raise UsageError(
                f"failed to read {named}: no such file", hint="--ignorefile names the ignore file"
            )
    elif root is not None:
        candidates += [os.path.join(root, name) for name in (".dockerignore", ".containerignore")]
    for path in candidates:
        try:
            with _regular(path) as f:
                text = bounded(f, MAX_IGNORE_FILE, os.path.basename(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:  # going on without would put into the image what it keeps out
            name = os.path.basename(path)
            raise BuildError(f"failed to read {name}: {(exc.strerror or '').lower()}") from exc
        from ..dockerfile.ignore import IgnoreRules

        try:
            return IgnoreRules.parse(text), os.path.basename(path)
        except BuildError as exc:
            raise BuildError(
                f"failed parsing .dockerignore: {exc.message}", span=exc.span, hint=exc.hint
            ) from exc
    return None, ""


def _local_tree(engine: Engine, root: str | None, ignore: IgnoreRules | None, name: str = "") -> Tree:
    from ..source.local import LocalTree

    if root is None:
        return LocalTree(engine.new_active().upper, None, None)
    tree = LocalTree(root, ignore, engine.index.get("stat", root))
    tree.ignore_name = name or tree.ignore_name
    return tree


def save_stat_caches(engine: Engine, trees: dict[str, Tree]) -> None:
    """Remember what was hashed, so that an unchanged file costs one stat next time."""
    for tree in trees.values():
        dump = getattr(tree, "dump_stat_cache", None)
        data = dump() if dump is not None else None
        if data is not None and isinstance(root := getattr(tree, "root", None), str):
            engine.index.put("stat", root, data)


def _named(
    engine: Engine, request: BuildRequest, given: tuple[str, str], trees: dict[str, Tree]
) -> tuple[str, str]:
    name, value = given
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
            what = "not a directory" if os.path.exists(value) else "no such file or directory"
            raise UsageError(
                f"stat {value}: {what}",
                hint="a directory, docker-image://, oci-layout://, a git or an HTTP URL is expected",
            )
    except BuildError as exc:
        raise UsageError(f"failed to get build context {name}: {exc.message}", hint=exc.hint) from exc
    if request.policy:
        from ..plan.policy import check_local

        check_local(request.policy, name)
    root = os.path.abspath(value)
    trees[name] = _local_tree(engine, root, *ignore_rules(root, ""))
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
    found = [e for e in entries if _ref_name(e) == (tag or "latest")]
    if digest:
        found = [e for e in entries if e.get("digest") == digest]
    elif not found and len(entries) == 1 and not tag:
        found = entries
    if not found:
        raise BuildError(f"oci-layout {path}: no image {digest or tag or 'latest'}")
    from ..oci.manifest import parse_descriptor

    top = parse_descriptor(found[0])
    _import_blobs(engine, os.path.join(path, "blobs"), top.digest)
    full = f"layout.lapstrake.invalid/{sha256(os.path.abspath(path).encode()).hexdigest()[:32]}:{tag or 'latest'}"
    known = {"mediaType": top.media_type, "digest": top.digest, "size": top.size}
    engine.index.put("ref", full, json.dumps(known).encode())
    return full


def _ref_name(entry: dict[str, object]) -> object:
    notes = entry.get("annotations")
    return notes.get("org.opencontainers.image.ref.name") if isinstance(notes, dict) else None


def _import_blobs(engine: Engine, blobs: str, top: str) -> None:
    """Bring in what is reached from ``top`` and there; what is missing shows when it is needed."""
    import json

    from ..oci.codec import MAX_DOCUMENT
    from ..oci.digest import is_digest

    todo, seen = [top], {top}
    while todo:
        digest = todo.pop()
        path = os.path.join(blobs, digest.replace(":", "/"))
        if not os.path.isfile(path):
            continue
        if not engine.content.has(digest):
            with open(path, "rb") as f, engine.content.writer(digest) as out:
                while chunk := f.read(1 << 20):
                    out.write(chunk)
        if engine.content.size(digest) > MAX_DOCUMENT:
            continue
        try:
            doc = json.loads(engine.content.read(digest))
        except (ValueError, RecursionError):
            continue
        for child in _children(doc):
            if is_digest(child) and child not in seen:
                if len(seen) >= MAX_IMPORTED:
                    raise BuildError(
                        f"oci-layout {blobs}: more than {MAX_IMPORTED} blobs belong to one image"
                    )
                seen.add(child)
                todo.append(child)


def _children(doc: object) -> list[str]:
    """The digests an index or a manifest speaks of, whatever else it is."""
    if not isinstance(doc, dict):
        return []
    below = [doc.get("config")]
    for name in ("manifests", "layers"):
        listed = doc.get(name)
        below += listed if isinstance(listed, list) else []
    return [d["digest"] for d in below if isinstance(d, dict) and isinstance(d.get("digest"), str)]
