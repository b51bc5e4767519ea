"""Syntax trees to targets, groups and variables: everything is evaluated when it is asked for, once."""

from __future__ import annotations

from ..errors import BakeError, UsageError
from ..values import Value
from .evaluate import Scope, evaluate
from .functions import FunctionError, Problem, standard
from .schema import ATTRIBUTES, EXPANSION, Group, Target, merge, read
from .source import At, diagnostic, meant
from .syntax import Attribute, Block, Body, Call, Expr, GetAttr, Ref, Tuple, calls
from .types import STRING, STRINGS, ConversionError, convert

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from .variables import Variables

_LABEL = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_BLOCKS = ("target", "group", "variable", "function")
_GROUP = ("targets", "description")


class VariableInfo(Value):
    """A variable for ``--list``."""

    name: str
    type: str
    value: Any
    description: str


class Config(Value):
    """All that some bake files say.  Targets and groups in the order they were first named."""

    targets: Mapping[str, Target]
    groups: Mapping[str, Group]
    variables: tuple[VariableInfo, ...] = ()
    bases: Mapping[str, str] = {}


class Instance:
    """One target or group of a block: a block with a matrix has several."""

    def __init__(self, block: Block, scope: Scope, name: str) -> None:
        self.block = block
        self.scope = scope
        self.name = name
        self.attributes = {a.name: a for a in block.body.attributes}
        self.done: dict[str, Any] = {}
        self.active: set[str] = set()


class Loader:
    """The root of all scopes: top-level names, targets' attributes, functions."""

    def __init__(self, bodies: Sequence[Body], builtins: Mapping[str, Any], variables: Variables) -> None:
        self.scope = Scope(self)
        self.builtins = dict(builtins)
        self.variables = variables
        self.attributes: dict[str, Attribute] = {}
        self.functions: dict[str, Block] = {}
        self.blocks: list[Block] = []
        self.values: dict[str, Any] = {}
        self.active: list[str] = []
        self.calling: list[str] = []
        self.named: dict[str, dict[str, list[Instance]]] = {"target": {}, "group": {}}
        self.order: list[tuple[str, Instance]] = []
        self.renamed: dict[str, list[str]] = {}
        self.bases: Callable[[str], str] = lambda _file: (
            ""
        )  # a file's directory, when contexts are relative to it
        for body in bodies:
            self._collect(body)

    def _collect(self, body: Body) -> None:
        for a in body.attributes:
            if a.name in ("target", "group"):
                raise diagnostic(a.at, "Invalid attribute", "global attributes currently not supported")
            self.attributes[a.name] = a
        for block in body.blocks:
            if block.type not in _BLOCKS:
                raise diagnostic(
                    block.at, "Unsupported block type", f'Blocks of type "{block.type}" are not expected here.{meant(block.type, _BLOCKS)}'
                )  # fmt: skip
            if len(block.labels) != 1:
                raise diagnostic(
                    block.at, "Invalid block", f'A {block.type} has one name: {block.type} "NAME" {{ … }}'
                )
            name = block.labels[0]
            if block.type == "variable":
                if name not in self.builtins:
                    self.variables.declare(block)
            elif block.type == "function":
                self.functions[name] = block
            else:
                self.blocks.append(block)

    # -- the whole ----------------------------------------------------------------

    def load(self, below: Config | None = None) -> Config:
        """Evaluate everything, over ``below`` (what Compose files say)."""
        self.variables.check(self)
        for name, block in self.functions.items():
            self._check_function(name, block)
        for name, block in self.functions.items():
            self._check_cycle(name, _result(block).at)
        for block in self.blocks:
            self._name(block)
        targets = dict(below.targets) if below is not None else {}
        groups = dict(below.groups) if below is not None else {}
        bases = dict(below.bases) if below is not None else {}
        for kind, instance in self.order:
            if kind == "target":
                base = self.bases(instance.block.at.source.name)
                made = based(Target(instance.name, self._all(instance)), base)
                bases[instance.name] = base
                held = targets.get(instance.name)
                targets[instance.name] = merge(held, made) if held is not None else made
            else:
                said = self._all(instance)
                groups[instance.name] = Group(
                    instance.name, _once(said.get("targets", ())), said.get("description", "")
                )
        for name in self.attributes:
            self.value(name, self.attributes[name].name_at)
        for old, new in self.renamed.items():
            if new != [old]:
                held_group = groups.get(old)
                before = held_group.targets if held_group is not None else ()
                groups[old] = Group(old, _once((*before, *new)))
        return Config(targets, groups, self.variables.list(self), {n: b for n, b in bases.items() if b})

    def _name(self, block: Block) -> None:
        label, at = block.labels[0], block.label_at[0]
        _check_label(label, at)
        attributes = {a.name: a for a in block.body.attributes}
        self._check_body(block, attributes)
        scopes = [self.scope]
        if "matrix" in attributes:
            if block.type == "group":
                raise diagnostic(
                    attributes["matrix"].at, "Invalid name", "matrix is not supported for groups"
                )
            scopes = self._matrix(attributes["matrix"])
        if block.type == "group" and "targets" not in attributes:
            raise diagnostic(
                block.at,
                "Missing required argument",
                'The argument "targets" is required, but no definition was found.',
            )
        names = []
        for scope in scopes:
            name = label
            if "name" in attributes:
                if block.type == "group":
                    raise diagnostic(
                        attributes["name"].at, "Invalid name", "name is not supported for groups"
                    )
                if "matrix" not in attributes:
                    raise diagnostic(attributes["name"].at, "Invalid name", "name requires matrix")
                expr = attributes["name"].expr
                try:
                    name = str(convert(evaluate(expr, scope), STRING))
                except ConversionError as e:
                    raise diagnostic(expr.at, "Invalid name", f"{e}.") from None
                _check_label(name, expr.at)
            if name in names:
                raise diagnostic(
                    at, "Invalid name", f'duplicate name "{name}"',
                    hint=None if "name" in attributes else "a matrix needs a name with its variables in it: name = \"app-${…}\"",
                )  # fmt: skip
            names.append(name)
            instance = Instance(block, scope, name)
            self.named[block.type].setdefault(name, []).append(instance)
            self.order.append((block.type, instance))
        if block.type == "target" and "matrix" in attributes:
            self.renamed.setdefault(label, []).extend(names)

    def _check_body(self, block: Block, attributes: Mapping[str, Attribute]) -> None:
        known = (*ATTRIBUTES, *EXPANSION) if block.type == "target" else (*_GROUP, *EXPANSION)
        for inner in block.body.blocks:
            if inner.type in known:
                raise diagnostic(
                    inner.at,
                    "Unsupported block type",
                    f'"{inner.type}" is an argument: write {inner.type} = {{ … }}',
                )
            raise diagnostic(
                inner.at, "Unsupported block type", f'Blocks of type "{inner.type}" are not expected here.'
            )
        for a in attributes.values():
            if a.name not in known:
                raise diagnostic(
                    a.name_at, "Unsupported argument", f'An argument named "{a.name}" is not expected here.{meant(a.name, known)}'
                )  # fmt: skip

    def _matrix(self, attribute: Attribute) -> list[Scope]:
        from itertools import product

        value = evaluate(attribute.expr, self.scope)
        if not isinstance(value, dict):
            raise diagnostic(attribute.expr.at, "Invalid matrix", "matrix must be a map")
        for key, items in value.items():
            if not isinstance(items, tuple):
                raise diagnostic(
                    attribute.expr.at, "Invalid matrix", f'matrix values must be a list, "{key}" is not'
                )
        keys = list(value)
        if _product(map(len, value.values())) > 10_000:
            raise diagnostic(attribute.expr.at, "Invalid matrix", "It would make more than 10,000 targets.")
        return [self.scope.child(**dict(zip(keys, row, strict=True))) for row in product(*value.values())]

    def _all(self, instance: Instance) -> dict[str, Any]:
        known = ATTRIBUTES if instance.block.type == "target" else _GROUP
        out = {}
        for name in instance.attributes:
            if name in known:
                value = self._attribute(instance, name)
                if value is not None:
                    out[name] = value
        return out

    def _attribute(self, instance: Instance, name: str) -> Any:
        """One attribute of a target or group, as it is kept."""
        if name in instance.done:
            return instance.done[name]
        a = instance.attributes[name]
        if name in instance.active:
            raise diagnostic(
                a.expr.at, "Invalid expression", f"reference cycle not allowed for {instance.block.type}.{instance.name}.{name}"
            )  # fmt: skip
        instance.active.add(name)
        value = evaluate(a.expr, instance.scope)
        instance.active.discard(name)
        try:
            if instance.block.type == "target":
                found = read(name, value)
            elif name == "targets":
                found = [v for v in convert(value, STRINGS) if v is not None]
            else:
                found = convert(value, STRING)
        except ConversionError as e:
            raise diagnostic(a.expr.at, "Unsuitable value type", f"Unsuitable value: {e}") from None
        except UsageError as e:
            raise diagnostic(a.expr.at, "Invalid value", e.message, hint=e.hint) from None
        instance.done[name] = found
        return found

    # -- names ----------------------------------------------------------------------

    def value(self, name: str, at: At) -> Any:
        """A top-level name."""
        if name in self.values:
            return self.values[name]
        if name in self.builtins and name not in self.attributes:
            return self.builtins[name]
        if name in ("target", "group"):
            raise diagnostic(at, "Invalid expression", f"cannot access {name} as a variable")
        if name in self.active:
            raise diagnostic(at, "Invalid expression", f"variable cycle not allowed for {name}")
        if name not in self.attributes and name not in self.variables.declared:
            known = [*self.attributes, *self.variables.declared, *self.builtins]
            raise diagnostic(
                at, "Unknown variable", f'There is no variable named "{name}".{meant(name, known)}'
            )
        self.active.append(name)
        try:
            attribute = self.attributes.get(name)
            if name in self.variables.declared:
                found = self.variables.value(name, self, attribute.expr if attribute is not None else None)
            elif attribute is not None:
                found = evaluate(attribute.expr, self.scope)
        finally:
            self.active.remove(name)
        self.values[name] = found
        return found

    def attribute(self, node: GetAttr, scope: Scope) -> tuple[bool, Any]:
        """``target.NAME.ATTR`` and ``target.NAME``; (False, None) for anything else."""
        of = node.of
        if isinstance(of, Ref) and of.name in self.named and not scope.is_local(of.name):
            instances = self._instances(of.name, node.name, node.name_at)
            return True, {
                n: self._seen(instances, n) for n in (ATTRIBUTES if of.name == "target" else _GROUP)
            }
        if isinstance(of, GetAttr) and isinstance(of.of, Ref) and of.of.name in self.named:
            kind = of.of.name
            if scope.is_local(kind):
                return False, None
            instances = self._instances(kind, of.name, of.name_at)
            known = ATTRIBUTES if kind == "target" else _GROUP
            if node.name == "name":
                return True, of.name
            if node.name not in known:
                raise diagnostic(
                    node.name_at, "Unsupported attribute", f'A {kind} has no attribute "{node.name}".{meant(node.name, known)}'
                )  # fmt: skip
            return True, self._seen(instances, node.name)
        return False, None

    def _instances(self, kind: str, name: str, at: At) -> list[Instance]:
        found = self.named[kind].get(name)
        if not found:
            raise diagnostic(
                at, f"Unknown {kind}", f'There is no {kind} named "{name}".{meant(name, self.named[kind])}'
            )
        return found

    def _seen(self, instances: list[Instance], name: str) -> Any:
        """An attribute as expressions see it: the last block that has it."""
        for instance in reversed(instances):
            if name in instance.attributes:
                return _visible(self._attribute(instance, name))
        return None

    # -- functions --------------------------------------------------------------------

    def _check_function(self, name: str, block: Block) -> None:
        attributes = {a.name: a for a in block.body.attributes}
        for a in attributes.values():
            if a.name not in ("params", "variadic_params", "result"):
                raise diagnostic(
                    a.name_at, "Unsupported argument", f'An argument named "{a.name}" is not expected here.'
                )
        for needed in ("params", "result"):
            if needed not in attributes:
                raise diagnostic(
                    block.label_at[0], "Invalid function", f"empty {needed} not allowed for {name}"
                )
        self._params(block)

    def _check_cycle(self, name: str, at: At) -> None:
        seen: list[str] = []
        todo: list[tuple[str, tuple[str, ...]]] = [(name, (name,))]
        while todo:
            current, path = todo.pop()
            for called in sorted(calls(_result(self.functions[current]))):
                if called in path:
                    raise diagnostic(at, "Invalid function", f"function cycle not allowed for {called}")
                if called in self.functions and called not in seen:
                    seen.append(called)
                    todo.append((called, (*path, called)))

    def _params(self, block: Block) -> tuple[list[str], str]:
        attributes = {a.name: a for a in block.body.attributes}
        listed = attributes["params"].expr
        if not isinstance(listed, Tuple):
            raise diagnostic(listed.at, "Invalid function", "params must be a list of names")
        names = [_parameter(e) for e in listed.items]
        rest = attributes.get("variadic_params")
        return names, _parameter(rest.expr) if rest is not None else ""

    def call(self, node: Call, scope: Scope) -> Any:
        """A function's result."""
        from .special import SPECIAL

        special = SPECIAL.get(node.name)
        if special is not None and node.name not in self.functions:
            return special(node, scope)
        block = self.functions.get(node.name)
        function = None
        if block is None:
            function = standard().get(node.name)
            if function is None:
                known = [*self.functions, *standard(), *SPECIAL]
                raise diagnostic(
                    node.name_at, "Call to unknown function", f'There is no function named "{node.name}".{meant(node.name, known)}'
                )  # fmt: skip
        args = [evaluate(a, scope) for a in node.args]
        if node.expand:
            last = args.pop()
            if not isinstance(last, tuple):
                raise diagnostic(
                    node.args[-1].at, "Invalid expanding argument value", 'A list is needed before "...".'
                )
            args += last
        if block is not None:
            return self._user(block, node, args)
        if function is None:
            raise TypeError(node.name)
        try:
            return function(args)
        except Problem as e:
            at = node.args[min(e.index, len(node.args) - 1)].at
            raise diagnostic(
                at,
                "Invalid function argument",
                f'Invalid value for "{function.param_name(e.index)}" parameter: {e}.',
            ) from None
        except FunctionError as e:
            raise diagnostic(
                node.at, "Error in function call", f'Call to function "{node.name}" failed: {e}.'
            ) from None

    def _user(self, block: Block, node: Call, args: list[Any]) -> Any:
        names, rest = self._params(block)
        if len(args) < len(names) or (len(args) > len(names) and not rest):
            more = "at least " if rest else ""
            raise diagnostic(
                node.at, "Error in function call",
                f'Function "{node.name}" takes {more}{len(names)} argument{"" if len(names) == 1 else "s"}, not {len(args)}.',
            )  # fmt: skip
        local = dict(zip(names, args, strict=False))
        if rest:
            local[rest] = tuple(args[len(names) :])
        if len(self.calling) > 100:
            raise diagnostic(node.at, "Error in function call", "Functions call each other too deeply.")
        self.calling.append(node.name)
        try:
            return evaluate(_result(block), self.scope.child(**local))
        finally:
            self.calling.pop()


def based(target: Target, base: str) -> Target:
    """A target whose relative contexts start at ``base``."""
    if not base:
        return target
    import posixpath

    def moved(path: str) -> str:
        if (
            not path
            or "://" in path
            or path.startswith(("/", "target:", "git@", "github.com/"))
            or path == "-"
        ):
            return path
        return posixpath.normpath(posixpath.join(base, path))

    changes: dict[str, Any] = {}
    if target.get("context"):
        changes["context"] = moved(target.get("context"))
    if target.get("contexts"):
        changes["contexts"] = {k: moved(v) if v else v for k, v in target.get("contexts").items()}
    return target.with_(**changes) if changes else target


def _result(block: Block) -> Expr:
    return next(a.expr for a in block.body.attributes if a.name == "result")


def _parameter(e: Expr) -> str:
    from .syntax import Literal

    if isinstance(e, Ref):
        return e.name
    if isinstance(e, Literal) and isinstance(e.value, str) and e.value.isidentifier():
        return e.value  # JSON
    raise diagnostic(e.at, "Invalid param element", "Each parameter name must be an identifier.")


def _check_label(name: str, at: At) -> None:
    if not name or not set(name) <= _LABEL:
        raise diagnostic(at, "Invalid name", f'"{name}": only "[a-zA-Z0-9_-]+" are allowed')


def _visible(value: Any) -> Any:
    from .types import ListOf, MapOf

    if isinstance(value, list):
        return ListOf(value) if all(isinstance(v, str) for v in value) else tuple(map(_visible, value))
    if isinstance(value, dict):
        return MapOf(value)
    return value


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _product(sizes: Iterable[int]) -> int:
    from math import prod

    return prod(sizes)


__all__ = ["BakeError", "Config", "Loader", "VariableInfo"]
