"""COPY, ADD and WORKDIR: planned as entries, written as a directory only when one is needed."""

from __future__ import annotations

from ..graph.ops import CopyOp, CopyPart, ExecOp, MkdirOp
from ..graph.vertex import Vertex
from ..layer.select import CopySpec, InlineFile, select, unmatched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tree import Entry, Tree
    from .local import LocalWorker


def copy_spec(
    op: CopyOp, part: CopyPart, *, chown: tuple[int, int] | None = None, files: bool = True
) -> CopySpec:
    """One part of the op as the copier reads it; ``files``: with its heredocs."""
    chmod = None
    if op.chmod:
        from ..dockerfile.numbers import parse_chmod

        chmod = parse_chmod(op.chmod)
    inline = tuple(InlineFile(n, c.encode("utf-8", "surrogateescape")) for n, c in op.files if files)
    return CopySpec(
        sources=part.sources, dest=op.dest, workdir=op.cwd or "/", chown=chown, chmod=chmod, parents=op.parents,
        exclude=op.exclude, link=op.link, unpack=part.unpack, inline=inline,
    )  # fmt: skip


def selection_key(tree: Tree, vertex: Vertex, index: int, warn: Callable[[str], None] | None = None) -> str:
    """Content digest of what a vertex takes from an input tree; ``warn`` is told what took nothing."""
    op = vertex.op
    if isinstance(op, CopyOp):
        from ..layer.digest import selection_digest

        taken = [p for p in op.taken() if p.input == index]
        if warn is not None:
            for part in taken:
                for source in unmatched(tree, copy_spec(op, part)):
                    warn(
                        f"{'ADD' if op.add else 'COPY'} source '{source}' matches nothing: nothing is copied"
                    )
        return "+".join(selection_digest(tree, select(tree, copy_spec(op, p))) for p in taken)
    if isinstance(op, ExecOp):
        from ..layer.digest import subtree_digest

        parts = [subtree_digest(tree, m.selector).hex() for m in op.mounts if m.input == index]
        return "+".join(parts)
    raise TypeError(f"{type(op).__name__} has no content inputs")


def run_copy(
    worker: LocalWorker, op: CopyOp, key: str, base: tuple[str, ...], sources: tuple[Tree, ...]
) -> str:
    """Plan a COPY/ADD; the layer stays a list of entries for now.  ``sources``: the trees of inputs 1, 2, …"""
    from ..layer.copy import merge_entries, plan_copy
    from ..snapshot.view import StackView

    dest: Tree = StackView([]) if op.link else worker.view(base)
    chown = None
    if op.chown:
        from .users import chown_ids

        chown = chown_ids(dest, op.chown)
    taken = op.taken() or (CopyPart(0, ()),)
    done: list[list[Entry]] = []
    for n, part in enumerate(taken, 1):
        unpack = None
        if part.unpack:
            from ..source.archive import Unpacker

            unpack = Unpacker(worker.scratch())
        source = sources[part.input - 1] if part.input else StackView([])
        spec = copy_spec(op, part, chown=chown, files=n == len(taken))
        done.append(plan_copy(source, dest, spec, now_ns=worker.now_ns(), unpack=unpack))
        if n < len(taken):
            from ..layer.stacked import EntriesTree

            dest = EntriesTree(done[-1], dest)
    layer = key[:48]
    worker.p.layers.renew(layer)
    worker.pending[layer] = done[0] if len(done) == 1 else merge_entries(done)
    if any(not _is_context(worker, source) for source in sources):
        worker.ensure_dir(layer)
    return layer


def _is_context(worker: LocalWorker, tree: Tree) -> bool:
    return any(tree is t for t in worker.p.contexts.values())


def run_mkdir(worker: LocalWorker, op: MkdirOp, key: str, base: tuple[str, ...]) -> str:
    """WORKDIR: the directory and its missing parents, owned by the current user."""
    from ..layer.copy import mkdir_entries

    view = worker.view(base)
    uid = gid = 0
    if op.user:
        from .users import lookup

        account = lookup(view, op.user)
        uid, gid = account.uid, account.gid
    layer = key[:48]
    worker.p.layers.renew(layer)
    worker.pending[layer] = mkdir_entries(view, op.path, 0o755, uid, gid, worker.now_ns())
    return layer


def subtree_entries(tree: Tree, path: str) -> list[Entry]:
    """Entries that rebuild the subtree ``path`` of a tree at the root."""
    from ..layer.copy import plan_copy
    from ..snapshot.view import StackView

    return plan_copy(tree, StackView([]), CopySpec(sources=("/" + path,), dest="/"))


def whole_tree_entries(tree: Tree) -> list[Entry]:
    """Entries of a whole tree."""
    return subtree_entries(tree, "")
