"""YAML of strangers: plain data only, no tags, no aliases that grow, merge keys as Compose has them."""

from __future__ import annotations

from ..errors import BakeError, Span, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .source import Source

MAX_NODES = 200_000
MAX_DEPTH = 64


def read(source: Source) -> Any:
    """The first document.  Raises BakeError with the line of the problem."""
    try:
        import yaml
    except ImportError:
        raise UsageError(
            f"reading {source.name} needs the PyYAML package", hint="pip install pyyaml"
        ) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(source.text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, yaml)
        return _plain(loader.construct_document(node), source)
    except yaml.YAMLError as e:
        raise _error(e, source) from None
    except RecursionError:
        raise BakeError(f"{source.name}: the document is nested too deeply") from None
    except ValueError as e:  # dates and numbers that can't be
        raise BakeError(f"{source.name}: {e}") from None
    finally:
        loader.dispose()


def _measure(root: Any, yaml: Any) -> None:
    """Refuse what aliases would blow up: the size counts every use of an anchor."""
    sizes: dict[int, int] = {}
    active: set[int] = set()

    def size(node: Any, depth: int) -> int:
        key = id(node)
        if key in sizes:
            return sizes[key]
        if key in active or depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", node.start_mark)
        active.add(key)
        total = 1
        if isinstance(node, yaml.MappingNode):
            for k, v in node.value:
                total += size(k, depth + 1) + size(v, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for v in node.value:
                total += size(v, depth + 1)
        active.discard(key)
        if total > MAX_NODES:
            raise yaml.composer.ComposerError(None, None, "its aliases make it too large", node.start_mark)
        sizes[key] = total
        return total

    size(root, 0)


def _plain(value: Any, source: Source) -> Any:
    """Only what JSON has; keys are strings."""
    if isinstance(value, dict):
        return {_key(k): _plain(v, source) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v, source) for v in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return str(value)  # a date


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _error(e: Any, source: Source) -> BakeError:
    mark = getattr(e, "problem_mark", None) or getattr(e, "context_mark", None)
    problem = str(getattr(e, "problem", "") or getattr(e, "reason", "") or "can't be read")
    if mark is None:
        return BakeError(f"failed to parse {source.name}: yaml: {problem}")
    line = mark.line + 1
    return BakeError(
        f"failed to parse {source.name}: yaml: line {line}: {problem}",
        span=Span(source.name, line, line, source.text),
    )
