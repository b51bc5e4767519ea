"""What a directory is as a build context: which files a build sees, and which rule drops the others."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..dockerfile.ignore import IgnoreRules


class Item(Value):
    """One file, link or directory.  ``rule``: ``.dockerignore:3 "*.md"`` when one decided; ``size`` in bytes."""

    path: str
    directory: bool
    size: int
    ignored: bool
    rule: str = ""


class ContextView:
    """A local context with the rules that apply to it."""

    def __init__(self, root: str, rules: IgnoreRules | None, rules_name: str) -> None:
        self.root = root
        self.rules = rules
        self.rules_name = rules_name

    def items(self) -> Iterator[Item]:
        """Everything in path order; of a directory that is dropped as a whole, only itself."""
        stack = [self._children("")]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
                continue
            yield item
            skipped = item.ignored and (self.rules is None or self.rules.can_skip_dir(item.path))
            if item.directory and not skipped:
                stack.append(self._children(item.path))

    def look(self, path: str) -> Item | None:
        """One path, or None where nothing is; ``path`` may be absolute or relative to the context."""
        inside = os.path.relpath(path, self.root) if os.path.isabs(path) else os.path.normpath(path)
        if inside == ".." or inside.startswith("../"):
            raise UsageError(f"{path} is not in the context {self.root}")
        try:
            state = os.lstat(os.path.join(self.root, inside))
        except OSError:
            return None
        return self._item("" if inside == "." else inside, state)

    def _children(self, path: str) -> Iterator[Item]:
        where = os.path.join(self.root, path)
        try:
            names = sorted(os.listdir(where), key=os.fsencode)
        except PermissionError:
            return
        for name in names:
            below = f"{path}/{name}" if path else name
            try:
                yield self._item(below, os.lstat(os.path.join(self.root, below)))
            except FileNotFoundError:
                continue

    def _item(self, path: str, state: os.stat_result) -> Item:
        import stat

        directory = stat.S_ISDIR(state.st_mode)
        size = state.st_size if stat.S_ISREG(state.st_mode) else 0
        rules = self.rules
        if rules is None:
            return Item(path, directory, size, False)
        rule = rules.rule_for(path)
        shown = f'{self.rules_name}:{rule[0]} "{rule[1]}"' if rule else ""
        return Item(path, directory, size, rules.excluded(path, directory), shown)


def open_view(directory: str, dockerfile: str = "") -> ContextView:
    """The view of a local context; ``dockerfile``: as with ``build -f``."""
    from .contexts import find_dockerfile, ignore_rules

    if not os.path.isdir(directory):
        raise UsageError(f'unable to prepare context: path "{directory}" not found')
    root = os.path.abspath(directory)
    rules, name = ignore_rules(root, find_dockerfile(root, dockerfile))
    return ContextView(root, rules, name)
