"""Variables: declared in files, overridden by ``--var`` and the environment, checked (spec cli.md §3.1)."""

from __future__ import annotations

from ..errors import UsageError
from ..optspec import fields
from ..values import Value
from . import numbers
from .evaluate import evaluate
from .source import diagnostic, meant
from .special import read_type
from .types import PRIMITIVES, STRING, ConversionError, Type, convert, friendly, is_number, text

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
        if given is None and isinstance(found, (tuple, dict)):
            given = self._json(name)  # refused below: without a type it can't be read
        if given is None:
            return "" if default is None else found
        return self._untyped(name, given, found, declared)

    def _typed(self, name: str, wanted: Type, found: Any, default: Expr | None) -> Any:
        if found is not None and default is not None:
            try:
                found = convert(found, wanted)
            except ConversionError as e:
                raise diagnostic(
                    default.at,
                    "Invalid default",
                    f"invalid type for {name} default value, which must be {wanted}: {e}",
                ) from None
        other, given = self._json(name), self.override(name)
        try:
            if other is not None:
                return _from_json(other, wanted)
            return found if given is None else from_text(given, wanted)
        except ConversionError as e:
            source = f"from JSON ({name}_JSON)" if other is not None else _source(wanted)
            raise diagnostic(
                self.declared[name].block.at,
                "Invalid value",
                f"failed to convert {name} {source} to {wanted}: {e}",
            ) from None

    def _json(self, name: str) -> str | None:
        """What ``NAME_JSON`` says, unless that is a variable of its own."""
        return None if f"{name}_JSON" in self.declared else self.override(f"{name}_JSON")

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


def _source(wanted: Type) -> str:
    return "from CSV" if wanted.kind in ("list", "set", "tuple", "map") else "from its text"


def _from_json(given: str, wanted: Type) -> Any:
    from .functions.base import FunctionError
    from .functions.encoding import from_json

    try:
        return convert(from_json(given), wanted)
    except FunctionError as e:
        raise ConversionError(str(e)) from None


def from_text(given: str, wanted: Type) -> Any:
    """An override as the declared type: lists are CSV, maps CSV of ``key:value``.  Raises ConversionError."""
    if wanted.kind in PRIMITIVES:
        return _primitive(given, wanted)
    if wanted.kind == "any":
        return given
    if wanted.kind == "object" or any(t.kind not in (*PRIMITIVES, "any") for t in wanted.of):
        raise ConversionError(f"unsupported type {wanted}: only the _JSON variable can set it")
    items = _csv(given)
    if wanted.kind == "tuple":
        if len(items) != len(wanted.of):
            raise ConversionError(f"{len(wanted.of)} elements are needed, not {len(items)}")
        return tuple(_element(item, t) for item, t in zip(items, wanted.of, strict=True))
    inner = wanted.of[0]
    if wanted.kind == "map":
        return convert({k: _element(v, inner) for k, v in map(_pair, items)}, wanted)
    return convert(tuple(_element(item, inner) for item in items), wanted)


def _pair(item: str) -> tuple[str, str]:
    key, sign, value = item.partition(":" if ":" in item else "=")
    if not sign or (sign == ":" and ":" in value):
        raise ConversionError(f"expected one k/v pair (key:value) in {item}")
    return key.strip(), value.strip()


def _element(item: str, wanted: Type) -> Any:
    try:
        return _primitive(item, wanted)
    except ConversionError as e:
        raise ConversionError(f"failed to parse element {item}: {e}") from None


def _primitive(given: str, wanted: Type) -> Any:
    if wanted.kind == "bool":
        from ..dockerfile.numbers import parse_bool

        try:
            return parse_bool(given)
        except ValueError:
            raise ConversionError(f'failed to parse "{given}" as bool') from None
    if wanted.kind == "number":
        try:
            return numbers.parse(given)
        except ValueError:
            raise ConversionError(f'failed to parse "{given}" as number') from None
    return given


def _csv(given: str) -> list[str]:
    if not given:
        return []
    try:
        return [f.strip() for f in fields(given)]
    except UsageError as e:
        raise ConversionError(f"it can't be read as CSV: {e.message}") from None
