"""Variables: declared in files, overridden by ``--var`` and the environment, checked (spec cli.md §3.1)."""

from __future__ import annotations

from ..errors import UsageError
from ..optspec import fields
from ..values import Value
from . import numbers
from .evaluate import evaluate
from .source import diagnostic, meant
from .special import read_type
from .types import STRING, ConversionError, Type, convert, is_number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .load import Loader, VariableInfo
    from .syntax import Attribute, Block, Expr

_KNOWN = ("default", "type", "description", "sensitive")


class Declared(Value):
    """One ``variable`` block, by attribute."""

    block: Block
    attributes: Mapping[str, Attribute]


class Variables:
    """``given``: ``--var``; ``environ``: the client's environment, empty when it may not be asked."""

    def __init__(self, given: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self.given = given
        self.environ = environ
        self.declared: dict[str, Declared] = {}

    def declare(self, block: Block) -> None:
        """Enter a block; a later one of the same name replaces it.  Raises BakeError."""
        attributes = {a.name: a for a in block.body.attributes}
        for a in attributes.values():
            if a.name not in _KNOWN:
                raise diagnostic(
                    a.name_at,
                    "Unsupported argument",
                    f'An argument named "{a.name}" is not expected here.{meant(a.name, (*_KNOWN, "validation"))}',
                )
        for inner in block.body.blocks:
            if inner.type != "validation":
                raise diagnostic(
                    inner.at,
                    "Unsupported block type",
                    f'Blocks of type "{inner.type}" are not expected here.',
                )
            names = {a.name for a in inner.body.attributes}
            for needed in ("condition", "error_message"):
                if needed not in names:
                    raise diagnostic(
                        inner.at, "Missing required argument", f'The argument "{needed}" is required.'
                    )
        self.declared[block.labels[0]] = Declared(block, attributes)

    def override(self, name: str) -> str | None:
        """What ``--var`` or the environment says."""
        return self.given.get(name, self.environ.get(name))

    def type_of(self, name: str) -> Type | None:
        """The declared type."""
        found = self.declared[name].attributes.get("type")
        return read_type(found.expr) if found is not None else None

    def value(self, name: str, loader: Loader, default: Expr | None = None) -> Any:
        """The value.  ``default``: a top-level attribute of the same name, which comes before the block's."""
        declared = self.declared[name]
        if default is None and "default" in declared.attributes:
            default = declared.attributes["default"].expr
        wanted = self.type_of(name)
        found = evaluate(default, loader.scope) if default is not None else None
        if wanted is not None:
            return self._typed(name, wanted, found, default)
        given = self.override(name)
        if given is None:
            return "" if default is None else found
        return self._untyped(name, given, found, declared)

    def _typed(self, name: str, wanted: Type, found: Any, default: Expr | None) -> Any:
        if found is not None and default is not None:
            try:
                found = convert(found, wanted)
            except ConversionError as e:
                raise diagnostic(
                    default.at, "Invalid default", f"The default of {name} is not of its type, {wanted}: {e}."
                ) from None
        other = None if f"{name}_JSON" in self.declared else self.override(f"{name}_JSON")
        given = self.override(name)
        block = self.declared[name].block
        try:
            if other is not None:
                from .functions.base import FunctionError
                from .functions.encoding import from_json

                try:
                    return convert(from_json(other), wanted)
                except FunctionError as e:
                    raise ConversionError(f"{name}_JSON: {e}") from None
            return found if given is None else from_text(given, wanted)
        except ConversionError as e:
            raise diagnostic(
                block.at, "Invalid value", f"failed to convert the value given for {name} to {wanted}: {e}"
            ) from None

    def _untyped(self, name: str, given: str, found: Any, declared: Declared) -> Any:
        if found is None or isinstance(found, str):
            return given
        kind = "bool" if isinstance(found, bool) else "number" if is_number(found) else ""
        try:
            if kind == "bool":
                from ..dockerfile.numbers import parse_bool

                return parse_bool(given)
            if kind == "number":
                return numbers.parse(given)
        except ValueError as e:
            raise diagnostic(
                declared.block.at, "Invalid value", f'failed to parse {name} as {kind}: "{given}": {e}'
            ) from None
        from .types import friendly

        raise diagnostic(
            declared.block.at, "Invalid value", f"unsupported type {friendly(found)} for variable {name}",
            hint="declare its type, for example type = list(string), to set it from outside",
        )  # fmt: skip

    def check(self, loader: Loader) -> None:
        """Evaluate all of them, then their validations."""
        for name, declared in self.declared.items():
            loader.value(name, declared.block.at)
        for declared in self.declared.values():
            for inner in declared.block.body.blocks:
                said = {a.name: a.expr for a in inner.body.attributes}
                verdict = evaluate(said["condition"], loader.scope)
                if verdict is True:
                    continue
                if verdict is not False:
                    raise diagnostic(
                        said["condition"].at, "Invalid condition", "A condition is true or false."
                    )
                message = convert(evaluate(said["error_message"], loader.scope), STRING)
                raise diagnostic(said["condition"].at, "Validation failed", str(message))

    def list(self, loader: Loader) -> tuple[VariableInfo, ...]:
        """All of them, with their values as text."""
        from .functions.encoding import to_json
        from .load import VariableInfo

        out = []
        for name, declared in sorted(self.declared.items()):
            value = loader.values.get(name)
            described = declared.attributes.get("description")
            about = evaluate(described.expr, loader.scope) if described is not None else ""
            wanted = self.type_of(name)
            shown = (
                None if value is None else to_json(value) if isinstance(value, (tuple, dict)) else text(value)
            )
            out.append(VariableInfo(name, str(wanted) if wanted is not None else "", shown, str(about or "")))
        return tuple(out)


def from_text(given: str, wanted: Type) -> Any:
    """An override as the declared type: lists are CSV, maps CSV of ``key=value``."""
    if wanted.kind in ("list", "set", "tuple"):
        return convert(tuple(_csv(given)), wanted)
    if wanted.kind in ("map", "object"):
        table = {}
        for field in _csv(given):
            key, eq, value = field.partition("=")
            if not eq:
                raise ConversionError(f'"{field}" is not key=value; the _JSON variable takes JSON')
            table[key.strip()] = value
        return convert(table, wanted)
    if wanted.kind == "bool":
        from ..dockerfile.numbers import parse_bool

        try:
            return parse_bool(given)
        except ValueError:
            raise ConversionError(f'bool required, not "{given}"') from None
    return convert(given, wanted)


def _csv(given: str) -> list[str]:
    if not given:
        return []
    try:
        return [f.strip() for f in fields(given)]
    except UsageError as e:
        raise ConversionError(e.message) from None
