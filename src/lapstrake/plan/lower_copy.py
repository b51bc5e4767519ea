"""COPY and ADD to one vertex each, whatever their sources (spec dockerfile.md §12)."""

from __future__ import annotations

from ..dockerfile import instructions as ins
from ..dockerfile.numbers import parse_chmod
from ..errors import BuildError, DockerfileError
from ..graph.ops import CopyOp, CopyPart, SourceOp
from ..graph.vertex import Vertex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lower_run import Lowering

_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class _Words:
    """The instruction's words, expanded."""

    def __init__(self, low: Lowering, item: ins.CopyAdd) -> None:
        self.name = "ADD" if item.add else "COPY"
        self.sources = [low.ex(x, item) for x in item.sources]
        self.dest = low.ex(item.dest, item)
        self.chown, self.chmod = low.ex(item.chown, item), low.ex(item.chmod, item)
        self.checksum = low.ex(item.checksum, item)
        self.files = tuple((h.name, _heredoc(low, h)) for h in item.heredocs)

    def shown(self, item: ins.CopyAdd) -> str:
        """The history's text."""
        out = [self.name]
        if item.parents:
            out.append("--parents")
        if self.chown:
            out.append(f"--chown={self.chown}")
        if self.chmod:
            out.append(f"--chmod={self.chmod}")
        return " ".join([*out, *self.sources, *(f"<<{h.name}" for h in item.heredocs), self.dest])


def lower_copy(low: Lowering, item: ins.CopyAdd, prefix: str) -> None:
    """Lower one COPY or ADD: one vertex, one layer, one history entry."""
    s = low.s
    words = _Words(low, item)
    _check(words, item)
    inputs: list[Vertex] = [low.root]
    parts: list[CopyPart] = []
    local: list[str] = []
    unpack_local = item.add and item.unpack is not False

    def flush() -> None:
        if local:
            source = low.from_vertex(item.from_, item, "copy") if item.from_ else low.context()
            parts.append(CopyPart(_input(inputs, source), tuple(local), unpack_local))
            local.clear()

    for word in words.sources:
        if not is_remote(word) or item.from_:
            local.append(word)
            continue
        flush()
        names = (".",) if is_git(word) else ("*",)
        source = _remote_source(low, word, words.checksum, item)
        parts.append(CopyPart(_input(inputs, source), names, bool(item.unpack) and not is_git(word)))
    flush()
    only = parts[0] if len(parts) == 1 else None
    op = CopyOp(
        sources=only.sources if only else (), unpack=only.unpack if only else False, parts=() if only else tuple(parts),
        dest=words.dest, cwd=str(s.image.c.get("WorkingDir") or "/"), files=words.files, chown=words.chown,
        chmod=words.chmod, parents=item.parents, exclude=item.exclude, link=item.link and not words.chmod, add=item.add,
    )  # fmt: skip
    shown = words.shown(item)
    label = low.label(prefix + ("LINK " if item.link else ""), item.original or shown)
    s.root = low.vertex(op, tuple(inputs), label, item)
    s.layers.append(s.root)
    s.image.history(shown + " # buildkit", layer=True)


def _input(inputs: list[Vertex], source: Vertex) -> int:
    """The number of ``source`` among the inputs, added when new (0 is the root)."""
    for n, known in enumerate(inputs[1:], 1):
        if known == source:
            return n
    inputs.append(source)
    return len(inputs) - 1


def _check(words: _Words, item: ins.CopyAdd) -> None:
    """What can be said without looking at any file."""
    remote = [x for x in words.sources if is_remote(x)] if not item.from_ else []
    if remote and not item.add:
        what = "git ref" if any(is_git(r) for r in remote) else "URL"
        raise DockerfileError(f"source can't be a {what} for COPY", span=item.span)
    if words.chmod:
        parse_chmod(words.chmod)
    if not words.checksum:
        return
    if len(words.sources) + len(words.files) > 1:
        raise DockerfileError("checksum can't be specified for multiple sources", span=item.span)
    if not remote:
        raise DockerfileError("checksum requires HTTP(S) or Git sources", span=item.span)
    if not is_git(remote[0]):
        _check_digest(words.checksum, item)


def _check_digest(text: str, item: ins.CopyAdd) -> None:
    algorithm, colon, digits = text.partition(":")
    length = _ALGORITHMS.get(algorithm)
    problem = ""
    if not colon or not algorithm or not digits:
        problem = "invalid checksum digest format"
    elif length is None:
        problem = "unsupported digest algorithm"
    elif len(digits) != length:
        problem = "invalid checksum digest length"
    elif not _HEX.issuperset(digits):
        problem = "invalid checksum digest format"
    if problem:
        raise DockerfileError(
            problem, span=item.span, hint="write --checksum=sha256: and 64 hexadecimal digits"
        )


def _remote_source(low: Lowering, url: str, checksum: str, item: ins.CopyAdd) -> Vertex:
    attrs = []
    rules = low.planner.request.policy
    if rules:
        from .policy import git_url, http_url

        try:
            url, checksum = (git_url if is_git(url) else http_url)(rules, url, checksum)
        except BuildError as exc:
            exc.span = item.span
            raise
    if checksum:
        attrs.append(("checksum", checksum))
    if item.keep_git_dir is not None and is_git(url):
        attrs.append(("keep-git-dir", "1" if item.keep_git_dir else "0"))
    scheme = "git" if is_git(url) else "http"
    label = low.label("", f"ADD {url}") if scheme == "git" else url
    return Vertex(SourceOp(scheme, url, None, tuple(attrs)), (), label, span=item.span)


def _heredoc(low: Lowering, h: ins.Heredoc) -> str:
    if not h.expand:
        return h.content
    from ..dockerfile.expand import expand_heredoc

    return expand_heredoc(h.content, low.s.env)


def is_git(word: str) -> bool:
    """Whether a source word names a git repository (spec §12.6)."""
    if word.startswith(("git://", "git@", "ssh://")):
        return True
    if word.startswith(("http://", "https://")):
        path = word.split("#", 1)[0].split("?", 1)[0]
        return path.endswith(".git")
    head = word.split("/", 1)[0]
    return "@" in head and ":" in head and "://" not in word and head.index("@") < head.index(":")


def is_remote(word: str) -> bool:
    """Whether a source word is a URL or a git repository."""
    return word.startswith(("http://", "https://")) or is_git(word)
