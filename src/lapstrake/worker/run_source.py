"""Root inputs: images (lazily), git trees and downloads."""

from __future__ import annotations

from ..errors import BuildError
from ..graph.ops import SourceOp
from ..graph.vertex import Vertex
from ..solver.ports import Record
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..source.git import GitRef
    from ..source.http import Download
    from .local import LocalWorker


def image_layers(worker: LocalWorker, op: SourceOp) -> tuple[str, ...]:
    """The layer ids of a pinned image, whose manifest was read when it was resolved."""
    from ..oci.platform import host_platform

    return worker.p.images.resolve(op.identifier, op.platform or host_platform()).layers


def run_source(worker: LocalWorker, vertex: Vertex, key: str) -> Record:
    """Bring a root input in.  An image's layers stay where they are until they are needed."""
    op = vertex.op
    if not isinstance(op, SourceOp):
        raise TypeError("not a source")
    if op.scheme == "image":
        return Record(key, image_layers(worker, op))
    layer = key[:48]
    if not worker.usable(layer):
        with worker.p.layers.new_active() as active:
            _checkout(worker, vertex, op, active.upper)
            worker.p.layers.commit(active, layer)
    return Record(key, (layer,))


def remote_key(worker: LocalWorker, vertex: Vertex) -> str:
    """The commit of a git reference, the content digest of a download; asked once per build."""
    op = vertex.op
    if not isinstance(op, SourceOp):
        raise TypeError("not a source")
    memo = worker.stats.get(vertex.digest)
    if isinstance(memo, str):
        return memo
    try:
        found = _git_commit(worker, op) if op.scheme == "git" else _http_key(worker, op)
    except BuildError as exc:
        exc.span = exc.span or vertex.span
        raise
    worker.stats[vertex.digest] = found
    return found


# -- git -------------------------------------------------------------------------


def _git_ref(op: SourceOp) -> GitRef:
    from ..source import git

    attrs = dict(op.attrs)
    keep = attrs.get("keep-git-dir")
    return git.with_flags(
        git.parse(op.identifier),
        checksum=attrs.get("checksum", ""),
        keep_git_dir=None if keep is None else keep == "1",
    )


def _git_commit(worker: LocalWorker, op: SourceOp) -> str:
    from ..source import credentials, git

    ref = _git_ref(op)
    return git.resolve(ref, credentials.git_access(ref.remote, worker.p.secrets, worker.p.ssh))


# -- http ------------------------------------------------------------------------


class _Known(Value):
    """What an earlier build learnt about a URL: enough to ask whether it is still so."""

    key: str
    etag: str


def _http_key(worker: LocalWorker, op: SourceOp) -> str:
    """With a checksum nobody is asked; else the server, with the validator of the last answer."""
    from ..source import http

    checksum = dict(op.attrs).get("checksum", "")
    if checksum:
        return f"{checksum}:{http.file_name(op.identifier)}"
    known = _remembered(worker, op)
    if known is not None:
        same = http.Download("", "", "", 0, etag=known.etag)
        if http.unchanged(op.identifier, same, authorization=_authorization(worker, op)):
            return known.key
    got = _download(worker, op)
    key = f"{got.digest}:{got.name}:{got.mtime}"
    if got.etag:
        _remember(worker, op, _Known(key, got.etag))
    return key


def _authorization(worker: LocalWorker, op: SourceOp) -> str:
    from ..source import credentials

    return credentials.http_authorization(op.identifier, worker.p.secrets)


def _memory(worker: LocalWorker, op: SourceOp) -> str:
    import os
    from hashlib import sha256

    name = sha256(op.identifier.encode("utf-8", "surrogateescape")).hexdigest()
    return os.path.join(worker.p.root, "http", name)


def _remembered(worker: LocalWorker, op: SourceOp) -> _Known | None:
    try:
        with open(_memory(worker, op), encoding="utf-8") as f:
            key, etag = f.read(1 << 16).split("\n")[:2]
    except (OSError, ValueError):
        return None
    return _Known(key, etag)


def _remember(worker: LocalWorker, op: SourceOp, known: _Known) -> None:
    import os

    from ..whole import write_whole

    path = _memory(worker, op)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write_whole(path, f"{known.key}\n{known.etag}\n".encode())


def _download(worker: LocalWorker, op: SourceOp) -> Download:
    """An http source, downloaded once per build."""
    memo_key = "http:" + op.identifier
    memo = worker.stats.get(memo_key)
    from ..source import http

    if isinstance(memo, http.Download):
        return memo
    import tempfile

    directory = tempfile.mkdtemp(prefix="http-", dir=worker.scratch())
    got = http.download(
        op.identifier,
        directory,
        checksum=dict(op.attrs).get("checksum", ""),
        authorization=_authorization(worker, op),
    )
    worker.stats[memo_key] = got
    return got


def _checkout(worker: LocalWorker, vertex: Vertex, op: SourceOp, target: str) -> None:
    import os
    import shutil

    if op.scheme == "git":
        from ..source import credentials, git

        ref = _git_ref(op)
        access = credentials.git_access(ref.remote, worker.p.secrets, worker.p.ssh)
        git.checkout(ref, target, commit=remote_key(worker, vertex), access=access)
        return
    got = _download(worker, op)
    if dict(op.attrs).get("unpack"):
        from ..source import archive

        with open(got.path, "rb") as f:
            packed = archive.sniff(f.read(512))
            f.seek(0)
            if packed:
                archive.extract(f, target)
                return
    out = os.path.join(target, got.name)
    shutil.copyfile(got.path, out)
    os.chmod(out, 0o600)
    os.utime(out, (got.mtime, got.mtime))
