"""Which files a COPY, an ADD or a bind mount takes from a tree (§12.1, §12.4)."""

from __future__ import annotations

from ..errors import BuildError
from ..tree import DIR, SYMLINK
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from ..tree import Node, Tree
else:
    Protocol = object

_MAX_LINKS = 255


class Excludes(Protocol):
    """What ``--exclude`` and ignore files answer."""

    def excluded(self, path: str, is_dir: bool) -> bool: ...
    def can_skip_dir(self, path: str) -> bool: ...


class Chmod(Protocol):
    """A parsed ``--chmod``."""

    def apply(self, mode: int, is_dir: bool) -> int: ...


class InlineFile(Value):
    """A heredoc source: a file that exists only in the Dockerfile."""

    name: str
    data: bytes


class CopySpec(Value):
    """One COPY or ADD, everything expanded and parsed.

    ``dest`` keeps its trailing slash; ``workdir`` is absolute.  ``chown``: numbers.
    ``unpack``: extract local archives.  ``follow``: follow a symlink named as the source.
    ``ref``: what error messages call the source (``context``, a stage's name).
    """

    sources: tuple[str, ...]
    dest: str
    workdir: str = "/"
    chown: tuple[int, int] | None = None
    chmod: Chmod | None = None
    parents: bool = False
    exclude: tuple[str, ...] = ()
    link: bool = False
    unpack: bool = False
    inline: tuple[InlineFile, ...] = ()
    ref: str = "context"


class Root(Value):
    """One matched source.

    ``path``: where it is, links resolved; ``rel``: its name below the destination.
    ``contents``: a directory whose contents are merged into the destination.
    ``parents``: (source, name) of directories recreated above it (``--parents``).
    """

    path: str
    rel: str
    contents: bool = False
    parents: tuple[tuple[str, str], ...] = ()


class Selection(Value):
    """What is copied, in the order it is written; ``exclude`` holds inside directories."""

    roots: tuple[Root, ...]
    exclude: tuple[str, ...] = ()


def resolve(lstat: Callable[[str], Node | None], path: str, *, last: bool = True) -> str:
    """Follow symlinks of ``path`` inside the tree; missing parts are kept as they are.

    Absolute targets start at the tree's root and ``..`` never rises above it.
    """
    todo = [p for p in reversed(path.split("/")) if p not in ("", ".")]
    out: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if out:
                out.pop()
            continue
        if not part or part == ".":
            continue
        out.append(part)
        if not todo and not last:
            break
        node = lstat("/".join(out))
        if node is not None and node.kind == SYMLINK:
            links += 1
            if links > _MAX_LINKS:
                raise BuildError(f'"/{path}": too many levels of symbolic links')
            out.pop()
            if node.linkname.startswith("/"):
                out.clear()
            todo.extend(reversed(node.linkname.split("/")))
    return "/".join(out)


def clean(path: str) -> str:
    """Lexically cleaned path relative to the root; ``..`` stops at the root."""
    out: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if out:
                out.pop()
        elif part and part != ".":
            out.append(part)
    return "/".join(out)


def sort_key(name: str) -> bytes:
    """Byte order of names, whatever the locale."""
    return name.encode("utf-8", "surrogateescape")


def names_in(tree: Tree, path: str) -> list[str]:
    """A directory's names in byte order."""
    names = list(tree.listdir(path))
    names.sort(key=sort_key)
    return names


def has_wildcard(text: str) -> bool:
    """Whether ``*``, ``?`` or ``[`` occurs unescaped."""
    skip = False
    for char in text:
        if skip:
            skip = False
        elif char == "\\":
            skip = True
        elif char in "*?[":
            return True
    return False


def excludes_of(patterns: tuple[str, ...]) -> Excludes | None:
    """The matcher for ``--exclude`` values, None without any."""
    if not patterns:
        return None
    from ..dockerfile.ignore import IgnoreRules

    rules: Excludes = IgnoreRules.from_patterns(patterns)
    return rules


def walk(
    tree: Tree, path: str, rel: str, excludes: Excludes | None = None, base: str | None = None
) -> Iterator[tuple[str, str, Node]]:
    """Everything below directory ``path`` as (source, name below ``rel``, node), parents first.

    Excludes are matched against the path below ``path``, or prefixed with ``base`` when given.
    An excluded directory still appears when something below it is kept (``!`` patterns).
    """
    # A stack, not recursion: depth is the tree owner's choice, not ours.
    held: list[tuple[str, str, Node, str]] = []
    work = [_children(tree, path, rel, base or "")]
    while work:
        step = next(work[-1], None)
        if step is None:
            work.pop()
            continue
        src, name, below, node = step
        del held[_kept(held, name) :]
        is_dir = node.kind == DIR
        if excludes is not None and excludes.excluded(below, is_dir):
            if is_dir and not excludes.can_skip_dir(below):
                held.append((src, name, node, below))
                work.append(_children(tree, src, name, below))
            continue
        for held_src, held_name, held_node, _ in held:
            yield held_src, held_name, held_node
        held.clear()
        yield src, name, node
        if is_dir:
            work.append(_children(tree, src, name, below))


def _kept(held: list[tuple[str, str, Node, str]], name: str) -> int:
    """How many held directories are ancestors of ``name``."""
    count = 0
    for _, held_name, _, _ in held:
        if not name.startswith(held_name + "/"):
            break
        count += 1
    return count


def _children(tree: Tree, path: str, rel: str, below: str) -> Iterator[tuple[str, str, str, Node]]:
    for name in names_in(tree, path):
        src = f"{path}/{name}" if path else name
        node = tree.lstat(src)
        if node is not None and node.kind != "socket":
            yield src, f"{rel}/{name}" if rel else name, f"{below}/{name}" if below else name, node


def select(tree: Tree, spec: CopySpec) -> Selection:
    """Match a COPY's sources; a literal path that is missing is an error with a hint."""
    excludes = excludes_of(spec.exclude)
    roots: list[Root] = []
    for source in spec.sources:
        if spec.parents:
            roots += _select_parents(tree, spec, source, excludes)
            continue
        for path in _matches(tree, source):
            root = _root(tree, spec, path)
            # BuildKit does not test a file named directly; its documentation says it is excluded.
            if excludes is not None and not root.contents and excludes.excluded(root.rel, False):
                continue
            roots.append(root)
    return Selection(tuple(roots), spec.exclude)


def unmatched(tree: Tree, spec: CopySpec) -> list[str]:
    """The wildcard sources of a COPY that match nothing."""
    out = []
    for source in spec.sources:
        if not has_wildcard(source):
            continue
        found = _select_parents(tree, spec, source, None) if spec.parents else _matches(tree, source)
        if not found:
            out.append(source)
    return out


def _root(tree: Tree, spec: CopySpec, path: str) -> Root:
    real = resolve(tree.lstat, path)
    node = tree.lstat(real)
    if node is None:
        raise not_found(tree, spec.ref, path)
    return Root(real, path.rsplit("/", 1)[-1], node.kind == DIR)


def _matches(tree: Tree, source: str) -> list[str]:
    """Paths a source names: itself when literal, else every match in byte order."""
    path = clean(source)
    if not has_wildcard(path):
        if "\\" in path and tree.lstat(resolve(tree.lstat, path)) is None:
            return [_unescape(path)]
        return [path]
    parts = path.split("/")
    fixed = 0
    while not has_wildcard(parts[fixed]):
        fixed += 1
    start = _unescape("/".join(parts[:fixed]))
    found = [(resolve(tree.lstat, start), start)]
    for i, part in enumerate(parts[fixed:], fixed):
        last = i == len(parts) - 1
        found = _step(tree, found, part, last=last)
    return [name for _, name in found]


def _step(tree: Tree, found: list[tuple[str, str]], part: str, *, last: bool) -> list[tuple[str, str]]:
    out = []
    for real, shown in found:
        for name in names_in(tree, real):
            if not _match(part, name):
                continue
            child = f"{real}/{name}" if real else name
            # Like Go's filepath.Walk: a symlink is no directory while matching.
            node = tree.lstat(child)
            if node is not None and (last or node.kind == DIR):
                out.append((child, f"{shown}/{name}" if shown else name))
    return out


def _match(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    from ..dockerfile.ignore import BadPattern, match

    try:
        return match(pattern, name)
    except BadPattern as e:
        raise BuildError(f"failed to match {pattern}: {e}") from e


def _unescape(path: str) -> str:
    out, skip = [], False
    for char in path:
        if char == "\\" and not skip:
            skip = True
            continue
        skip = False
        out.append(char)
    return "".join(out)


def _select_parents(tree: Tree, spec: CopySpec, source: str, excludes: Excludes | None) -> list[Root]:
    """``--parents``: the path below the pivot (``/./``, else the root) is recreated."""
    path = source
    while path.startswith(("/", "./")):  # a leading "./" is no pivot: nothing stands before it
        path = path[1:] if path[0] == "/" else path[2:]
    head, pivot, tail = path.partition("/./")
    if not pivot or not clean(head):
        head, tail = "", source
    base = resolve(tree.lstat, _one_base(tree, spec, clean(head), source))
    rest = clean(tail)
    if not rest:
        return [Root(base, "", contents=True)]
    out = []
    for rel in _match_parents(tree, base, rest):
        root = _parents_root(tree, spec, base, rel)
        node = tree.lstat(root.path)
        if excludes is None or node is None or node.kind == DIR or not excludes.excluded(rel, False):
            out.append(root)
    return out


def _one_base(tree: Tree, spec: CopySpec, head: str, source: str) -> str:
    node = tree.lstat(resolve(tree.lstat, head))
    if node is None or node.kind != DIR:
        raise not_found(tree, spec.ref, clean(source))
    return head


def _parents_root(tree: Tree, spec: CopySpec, base: str, rel: str) -> Root:
    parts = rel.split("/")
    above: list[tuple[str, str]] = []
    real = base
    for i, part in enumerate(parts):
        real = resolve(tree.lstat, f"{real}/{part}" if real else part, last=i < len(parts) - 1)
        if i < len(parts) - 1:
            above.append((real, "/".join(parts[: i + 1])))
    if tree.lstat(real) is None:
        raise not_found(tree, spec.ref, f"{base}/{rel}" if base else rel)
    return Root(real, rel, parents=tuple(above))


def _match_parents(tree: Tree, base: str, pattern: str) -> list[str]:
    if not has_wildcard(pattern):
        return [pattern]
    found: set[str] = set()
    seen: set[tuple[str, int]] = set()
    parts = pattern.split("/")
    stack = [("", 0)]
    while stack:
        rel, i = stack.pop()
        if (rel, i) in seen:
            continue
        seen.add((rel, i))
        if i == len(parts):
            if rel:
                found.add(rel)
            continue
        real = f"{base}/{rel}" if base and rel else base or rel
        if parts[i] == "**":
            stack.append((rel, i + 1))
        for name in tree.listdir(real):
            child = f"{rel}/{name}" if rel else name
            node = tree.lstat(f"{base}/{child}" if base else child)
            if node is None or (node.kind != DIR and i < len(parts) - 1 and parts[i] != "**"):
                continue
            if parts[i] == "**":
                if node.kind == DIR:
                    stack.append((child, i))
                elif i == len(parts) - 1:
                    found.add(child)
            elif _match(parts[i], name):
                stack.append((child, i + 1))
    return _outermost(found)


def _outermost(found: set[str]) -> list[str]:
    """Without matches that lie inside another match: a directory brings all below it."""
    out = []
    for rel in sorted(found, key=sort_key):
        parts = rel.split("/")
        if not any("/".join(parts[:i]) in found for i in range(1, len(parts))):
            out.append(rel)
    return out


def not_found(tree: Tree, ref: str, path: str) -> BuildError:
    """The error for a source that is not there, with the likeliest cause as its hint."""
    message = f'failed to compute cache key: failed to calculate checksum of ref {ref}: "/{path}": not found'
    link = tree.lstat(path)
    if link is not None and link.kind == SYMLINK:
        return BuildError(
            message, hint=f"/{path} is a symbolic link to {link.linkname}, which leads to nothing in there"
        )
    why: Callable[[str], str | None] | None = getattr(tree, "why_excluded", None)
    reason = why(path) if why is not None else None
    if reason:
        return BuildError(message, hint=f"/{path} exists but {reason}")
    near = _near(tree, path)
    return BuildError(message, hint=f"did you mean {' or '.join(near)}?" if near else None)


def _near(tree: Tree, path: str) -> list[str]:
    """Names like the missing one: beside it, else the same base name elsewhere (looked for not too long)."""
    import difflib

    parent, _, base = path.rpartition("/")
    close = difflib.get_close_matches(base, list(tree.listdir(parent))[:5000], 2, 0.7)
    if close:
        return [f"{parent}/{name}" if parent else name for name in close]
    out: list[str] = []
    for count, (src, _, _) in enumerate(walk(tree, "", "")):
        if src.rsplit("/", 1)[-1] == base:
            out.append(src)
        if count > 20000 or len(out) == 2:
            break
    return out
