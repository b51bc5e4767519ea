"""Root inputs: images (lazily), git trees and downloads."""

from __future__ import annotations

from ..graph.ops import SourceOp
from ..graph.vertex import Vertex
from ..solver.ports import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
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
            _checkout(worker, op, active.upper)
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
    if op.scheme == "git":
        from ..source import git

        found = git.resolve(git.parse(op.identifier))
    else:
        found = _download(worker, op)[0]
    worker.stats[vertex.digest] = found
    return found


def _download(worker: LocalWorker, op: SourceOp) -> tuple[str, str, str, int]:
    """(key, temporary file, name, mtime) of an http source, downloaded once per build."""
    memo_key = "http:" + op.identifier
    memo = worker.stats.get(memo_key)
    if isinstance(memo, tuple):
        return memo
    import tempfile

    from ..source import http

    directory = tempfile.mkdtemp(prefix="http-", dir=worker.scratch())
    url = op.identifier
    got = http.download(url, directory, checksum=dict(op.attrs).get("checksum", ""))
    found = (f"{got.digest}:{got.name}:{got.mtime}", got.path, got.name, got.mtime)
    worker.stats[memo_key] = found
    return found


def _checkout(worker: LocalWorker, op: SourceOp, target: str) -> None:
    import os
    import shutil

    if op.scheme == "git":
        from ..source import git

        git.checkout(git.parse(op.identifier), target, keep_git_dir=dict(op.attrs).get("keep-git-dir") == "1")
        return
    _, path, name, mtime = _download(worker, op)
    out = os.path.join(target, name)
    shutil.copyfile(path, out)
    os.chmod(out, 0o600)
    os.utime(out, (mtime, mtime))
