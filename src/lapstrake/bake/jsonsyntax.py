"""HCL's JSON syntax: an object whose strings are templates, to the same tree as the native one."""

from __future__ import annotations

from . import numbers
from .parser import MAX_DEPTH, template_of
from .source import At, Source, diagnostic
from .syntax import Attribute, Block, Body, Expr, Literal, Object, Tuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
#: Block types of a file, and inside a variable; everything else is an attribute.
BLOCKS = ("target", "group", "variable", "function")
_WORDS = {"true": True, "false": False, "null": None}


class Node:
    """A JSON value with its place: ``value`` holds str, number, bool, None, a list of nodes or of members."""

    __slots__ = ("at", "value")

    def __init__(self, at: At, value: Any) -> None:
        self.at = at
        self.value = value


class Members(list[tuple[str, At, "Node"]]):
    """An object's members in order: (key, its place, value)."""


def parse(source: Source) -> Body:
    """A whole file.  Raises BakeError."""
    reader = _Reader(source)
    node = reader.document()
    return _file(node)


class _Reader:
    """A recursive descent over JSON that keeps places, which ``json`` does not."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.i = 0
        self.depth = 0

    def document(self) -> Node:
        node = self.node()
        self.blank()
        if self.i < len(self.text):
            raise self.error("Extraneous data", "Something follows the JSON value.")
        return node

    def error(self, summary: str, detail: str, start: int | None = None) -> Exception:
        begin = self.i if start is None else start
        return diagnostic(At(self.source, begin, max(self.i, begin + 1)), summary, detail)

    def blank(self) -> None:
        while self.i < len(self.text) and self.text[self.i] in " \t\r\n":
            self.i += 1

    def node(self) -> Node:
        self.blank()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("Too deep", f"More than {MAX_DEPTH} levels of nesting.")
        start, c = self.i, self.text[self.i : self.i + 1]
        value: Any
        if c == "{":
            value = self.members()
        elif c == "[":
            value = self.items()
        elif c == '"':
            value = self.string()
        elif c == "-" or (c.isascii() and c.isdigit()):
            value = self.number()
        else:
            value = self.word()
        self.depth -= 1
        return Node(At(self.source, start, self.i), value)

    def word(self) -> Any:
        start = self.i
        while self.text[self.i : self.i + 1].isalnum():
            self.i += 1
        word = self.text[start : self.i]
        if word in _WORDS:
            return _WORDS[word]
        if not word:
            shown = f'"{self.text[start]}"' if start < len(self.text) else "the end of the file"
            raise self.error("Invalid JSON", f"A value is needed here, but {shown} was found.")
        raise self.error("Invalid JSON keyword", f'"{word}" is no JSON value; strings are quoted.', start)

    def number(self) -> Any:
        start = self.i
        while self.text[self.i : self.i + 1] and self.text[self.i] in "+-0123456789.eE":
            self.i += 1
        try:
            return numbers.parse(self.text[start : self.i])
        except ValueError:
            raise self.error("Invalid JSON number", "It can't be read as a number.", start) from None

    def string(self) -> str:
        start = self.i
        self.i += 1
        out: list[str] = []
        while True:
            c = self.text[self.i : self.i + 1]
            if not c or c == "\n":
                raise self.error("Unclosed JSON string", "The closing quote is missing.", start)
            self.i += 1
            if c == '"':
                break
            out.append(self.escape() if c == "\\" else c)
        return "".join(out).encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def escape(self) -> str:
        c = self.text[self.i : self.i + 1]
        self.i += 1
        if c == "u":
            digits = self.text[self.i : self.i + 4]
            try:
                code = int(digits, 16) if len(digits) == 4 and digits.isalnum() else -1
            except ValueError:
                code = -1
            if code >= 0:
                self.i += 4
                return chr(code)
        if c not in _ESCAPES:
            raise self.error("Invalid JSON escape", f"\\{c} has no meaning in JSON.", self.i - 2)
        return _ESCAPES[c]

    def items(self) -> list[Node]:
        start = self.i
        self.i += 1
        out: list[Node] = []
        self.blank()
        while self.text[self.i : self.i + 1] != "]":
            out.append(self.node())
            self.comma("]", start)
        self.i += 1
        return out

    def comma(self, closing: str, start: int) -> None:
        self.blank()
        c = self.text[self.i : self.i + 1]
        if c == ",":
            self.i += 1
            self.blank()
            if self.text[self.i : self.i + 1] == closing:
                raise self.error("Trailing comma", f'JSON has no comma before "{closing}".')
        elif not c:
            raise self.error("Unclosed JSON value", f'There is no "{closing}" for it.', start)
        elif c != closing:
            raise self.error("Missing comma", f'A comma or "{closing}" is needed here.')

    def members(self) -> Members:
        start = self.i
        self.i += 1
        out = Members()
        self.blank()
        while self.text[self.i : self.i + 1] != "}":
            begin = self.i
            if self.text[self.i : self.i + 1] != '"':
                raise self.error("Invalid JSON", "A quoted name is needed here.")
            key = self.string()
            at = At(self.source, begin, self.i)
            self.blank()
            if self.text[self.i : self.i + 1] != ":":
                raise self.error("Missing colon", "A name is followed by a colon and its value.")
            self.i += 1
            out.append((key, at, self.node()))
            self.comma("}", start)
        self.i += 1
        return out


def _file(node: Node) -> Body:
    attributes: dict[str, Attribute] = {}
    blocks: list[Block] = []
    for key, at, value in _objects(node, "The file"):
        if key in BLOCKS:
            blocks += _blocks(key, value)
        elif key != "//":
            attributes[key] = Attribute(key, expression(value), at, value.at)
    return Body(tuple(attributes.values()), tuple(blocks), node.at, json=True)


def _objects(node: Node, what: str) -> list[tuple[str, At, Node]]:
    """The members of an object, or of each object of a list."""
    if isinstance(node.value, Members):
        return list(node.value)
    if isinstance(node.value, list):
        return [m for item in node.value for m in _objects(item, what)]
    raise diagnostic(node.at, "Incorrect JSON value type", f"{what} must be a JSON object.")


def _blocks(kind: str, node: Node) -> list[Block]:
    out = []
    for label, label_at, value in _objects(node, f"A {kind}"):
        if label == "//":
            continue
        items = (
            value.value if isinstance(value.value, list) and not isinstance(value.value, Members) else [value]
        )
        for item in items:
            body = _body(item, f'The {kind} "{label}"', ("validation",) if kind == "variable" else ())
            out.append(Block(kind, (label,), (label_at,), body, label_at))
    return out


def _body(node: Node, what: str, nested: tuple[str, ...]) -> Body:
    attributes: dict[str, Attribute] = {}
    blocks: list[Block] = []
    for key, at, value in _objects(node, what):
        if key in nested:
            items = (
                value.value
                if isinstance(value.value, list) and not isinstance(value.value, Members)
                else [value]
            )
            blocks += [Block(key, (), (), _body(v, what, ()), at) for v in items]
        elif key in attributes:
            raise diagnostic(
                at, "Attribute redefined", f'"{key}" was already set at {attributes[key].name_at}.'
            )
        elif key != "//":
            attributes[key] = Attribute(key, expression(value), at, value.at)
    return Body(tuple(attributes.values()), tuple(blocks), node.at, json=True)


def expression(node: Node) -> Expr:
    """A JSON value as an expression."""
    value = node.value
    if isinstance(value, str):
        return template_of(value, node.at)
    if isinstance(value, Members):
        return Object(node.at, tuple((template_of(k, at), expression(v)) for k, at, v in value))
    if isinstance(value, list):
        return Tuple(node.at, tuple(expression(v) for v in value))
    return Literal(node.at, value)
