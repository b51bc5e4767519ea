"""HCL's native syntax: one recursive descent over the text, a place on every node."""

from __future__ import annotations

from ..errors import BakeError
from . import numbers
from .scan import Scanner
from .source import At, Source
from .syntax import (
    Attribute,
    Binary,
    Block,
    Body,
    Call,
    Conditional,
    Element,
    Expr,
    For,
    GetAttr,
    Index,
    Literal,
    Object,
    Ref,
    Splat,
    Tuple,
    Unary,
)

MAX_DEPTH = 64
#: Binary operators by how strongly they bind.
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))
_POWER = {op: n for n, ops in enumerate(_LEVELS) for op in ops}
_WORDS = {"true": True, "false": False, "null": None}


def parse(source: Source) -> Body:
    """A whole file.  Raises BakeError with the place of the first problem."""
    p = Parser(source)
    try:
        p.advance()
        return p.body("end", p.at(0, 0))
    except RecursionError:
        raise p.error("Too deep", "Expressions are nested too deeply.") from None


def parse_expression(text: str, name: str = "<expression>") -> Expr:
    """One expression by itself."""
    p = Parser(Source(name, text))
    p.lines = False
    p.advance()
    node = p.expression()
    if p.kind != "end":
        raise p.error("Extra characters", "Something follows the expression.")
    return node


class Parser(Scanner):
    """The grammar."""

    def __init__(self, source: Source, start: int = 0, fixed: At | None = None) -> None:
        super().__init__(source, start, fixed)
        self.depth = 0

    def enter(self, at: At) -> None:
        """One level down; a file that is too deep is refused before Python refuses."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("Too deep", f"More than {MAX_DEPTH} levels of nesting.", at)

    def leave(self) -> None:
        """One level up."""
        self.depth -= 1

    # -- bodies ---------------------------------------------------------------

    def body(self, closing: str, opened: At) -> Body:
        """Attributes and blocks up to ``closing``, on which the parser stands afterwards."""
        attributes: dict[str, Attribute] = {}
        blocks: list[Block] = []
        start = self.start
        while self.kind != closing:
            if self.kind == "newline":
                self.advance()
                continue
            if self.kind == "end":
                raise self.error("Unclosed block", "There is no closing brace for this block.", opened)
            item = self._item()
            if isinstance(item, Block):
                blocks.append(item)
            elif item.name in attributes:
                raise self.error(
                    "Attribute redefined",
                    f'The argument "{item.name}" was already set at {attributes[item.name].at}.',
                    item.name_at,
                )
            else:
                attributes[item.name] = item
            if self.kind not in ("newline", "end", closing):
                raise self.error("Missing newline", "Each argument and each block ends its line.")
        return Body(tuple(attributes.values()), tuple(blocks), self.at(start))

    def _item(self) -> Attribute | Block:
        if self.kind == "quote":
            raise self.error(
                "Invalid argument name", "Argument names are not quoted; keys of a map are, inside { }."
            )
        if self.kind != "word":
            raise self.error("Argument or block required", "A line begins with a name.")
        name, name_at, start = self.value, self.here(), self.start
        self.advance()
        if self.kind == "=":
            self.advance()
            expr = self.expression()
            return Attribute(name, expr, name_at, self.at(start))
        labels, places = [], []
        while self.kind in ("word", "quote"):
            at = self.here()
            if self.kind == "word":
                labels.append(self.value)
                self.advance()
            else:
                node = self._quoted()
                if not isinstance(node, Literal):
                    raise self.error("Invalid block label", "A name can't be a template.", node.at)
                labels.append(str(node.value))
                at = node.at
            places.append(at)
        if self.kind != "{":
            raise self.error(
                "Invalid block or argument",
                f'After "{name}" comes "=" and a value, or, for a block, its name and an opening brace.',
            )
        header = self.at(start)
        self.enter(header)
        self.advance()
        body = self.body("}", header)
        self.leave()
        self.advance()
        return Block(name, tuple(labels), tuple(places), body, header)

    # -- expressions ------------------------------------------------------------

    def expression(self) -> Expr:
        """``a ? b : c`` and everything that binds more strongly."""
        start = self.start
        self.enter(self.here())
        node = self._binary(0)
        if self.kind == "?":
            self.advance()
            yes = self.expression()
            if self.kind != ":":
                raise self.error("Missing false expression", 'After "? value" comes ": other value".')
            self.advance()
            no = self.expression()
            node = Conditional(self.at(start), node, yes, no)
        self.leave()
        return node

    def _binary(self, power: int) -> Expr:
        start = self.start
        left = self._unary()
        while (level := _POWER.get(self.kind, -1)) >= power:
            op = self.kind
            self.advance()
            right = self._binary(level + 1)
            left = Binary(self.at(start), op, left, right)
        return left

    def _unary(self) -> Expr:
        if self.kind not in ("-", "!"):
            return self._postfix()
        start, op = self.start, self.kind
        self.enter(self.here())
        self.advance()
        value = self._unary()
        self.leave()
        return Unary(self.at(start), op, value)

    def _postfix(self) -> Expr:
        start = self.start
        node = self._term()
        while True:
            if self.kind == ".":
                self.advance()
                if self.kind == "*":
                    self.advance()
                    node = self._splat(node, start, full=False)
                else:
                    node = self._attr(node, start)
            elif self.kind == "[":
                node = self._index(node, start)
            else:
                return node

    def _attr(self, node: Expr, start: int) -> Expr:
        at = self.here()
        if self.kind == "word":
            name = self.value
            self.advance()
            return GetAttr(self.at(start), node, name, at)
        if self.kind == "number":
            for part in self.value.split("."):  # a.0.1
                node = Index(self.at(start, self.end), node, Literal(at, numbers.parse(part)))
            self.advance()
            return node
        raise self.error("Invalid attribute name", "A name, a number or * is needed after a dot.")

    def _index(self, node: Expr, start: int) -> Expr:
        lines, self.lines = self.lines, False
        self.advance()
        if self.kind == "*":
            self.advance()
            if self.kind != "]":
                raise self.error("Missing closing bracket", 'A splat is written "[*]".')
            self.lines = lines
            self.advance()
            return self._splat(node, start, full=True)
        key = self.expression()
        if self.kind != "]":
            raise self.error("Missing closing bracket", "The index is not closed.")
        self.lines = lines
        self.advance()
        return Index(self.at(start), node, key)

    def _splat(self, node: Expr, start: int, *, full: bool) -> Expr:
        """What follows a splat applies to each element: all of it for ``[*]``, attributes for ``.*``."""
        self.enter(self.here())
        each: Expr = Element(self.here())
        while True:
            if self.kind == ".":
                self.advance()
                if self.kind == "*":
                    self.advance()
                    each = self._splat(each, start, full=False)
                else:
                    each = self._attr(each, start)
            elif full and self.kind == "[":
                each = self._index(each, start)
            else:
                self.leave()
                return Splat(self.at(start), node, each)

    def _term(self) -> Expr:
        start, kind = self.start, self.kind
        if kind == "word":
            return self._word()
        if kind == "number":
            try:
                value = numbers.parse(self.value)
            except ValueError:
                raise self.error("Invalid number", "It is out of range.") from None
            self.advance()
            return Literal(self.at(start), value)
        if kind == "quote":
            return self._quoted()
        if kind == "heredoc":
            from .template import read_heredoc

            return read_heredoc(self)
        if kind == "(":
            return self._group()
        if kind == "[":
            return self._tuple()
        if kind == "{":
            return self._object()
        shown = {"end": "the end of the file", "newline": "the end of the line"}.get(kind, f'"{kind}"')
        raise self.error("Invalid expression", f"A value is needed here, but {shown} was found.")

    def _quoted(self) -> Expr:
        from .template import read_quoted

        self.enter(self.here())
        node = read_quoted(self)
        self.leave()
        return node

    def _word(self) -> Expr:
        start, name, at = self.start, self.value, self.here()
        glued = self.text[self.end : self.end + 1] == "("
        self.advance()
        if glued and self.kind == "(":
            return self._call(name, at, start)
        if name in _WORDS:
            return Literal(at, _WORDS[name])
        return Ref(at, name)

    def _call(self, name: str, name_at: At, start: int) -> Expr:
        lines, self.lines = self.lines, False
        self.advance()
        args: list[Expr] = []
        expand = False
        while self.kind != ")":
            args.append(self.expression())
            if self.kind == "...":
                expand = True
                self.advance()
                if self.kind != ")":
                    raise self.error("Missing closing parenthesis", "An expanded argument is the last one.")
            elif self.kind == ",":
                self.advance()
            elif self.kind != ")":
                raise self.error("Missing argument separator", "Arguments are separated by commas.")
        self.lines = lines
        self.advance()
        return Call(self.at(start), name, name_at, tuple(args), expand)

    def _group(self) -> Expr:
        lines, self.lines = self.lines, False
        self.advance()
        node = self.expression()
        if self.kind != ")":
            raise self.error("Unbalanced parentheses", "The closing parenthesis is missing.")
        self.lines = lines
        self.advance()
        return node

    def _tuple(self) -> Expr:
        start = self.start
        lines, self.lines = self.lines, False
        self.advance()
        if self.kind == "word" and self.value == "for":
            return self._for(start, "]", lines)
        items = []
        while self.kind != "]":
            items.append(self.expression())
            if self.kind == ",":
                self.advance()
            elif self.kind != "]":
                if self.kind == "end":
                    raise self.error(
                        "Unterminated list", "It has no closing bracket.", self.at(start, start + 1)
                    )
                raise self.error("Missing item separator", "Items are separated by commas.")
        self.lines = lines
        self.advance()
        return Tuple(self.at(start), tuple(items))

    def _object(self) -> Expr:
        start = self.start
        lines, self.lines = self.lines, False
        self.advance()
        if self.kind == "word" and self.value == "for":
            return self._for(start, "}", lines)
        items: list[tuple[Expr, Expr]] = []
        self.lines = True
        while True:
            while self.kind == "newline":
                self.advance()
            if self.kind == "}":
                break
            if self.kind == "end":
                raise self.error("Unterminated map", "It has no closing brace.", self.at(start, start + 1))
            items.append(self._pair())
            if self.kind == ",":
                self.advance()
            elif self.kind not in ("newline", "}"):
                raise self.error("Missing item separator", "Items are separated by commas or by newlines.")
        self.lines = lines
        self.advance()
        return Object(self.at(start), tuple(items))

    def _pair(self) -> tuple[Expr, Expr]:
        key: Expr
        if self.kind == "word":
            name, at = self.value, self.here()
            key = self.expression()
            if isinstance(key, Ref) and key.name == name:
                key = Literal(at, name)
            elif isinstance(key, Literal) and key.at == at:
                key = Literal(at, name)  # true, false and null are words here
            elif isinstance(key, GetAttr):
                raise self.error("Ambiguous key", "Quote a key that has a dot in it.", key.at)
        else:
            key = self.expression()
        if self.kind not in ("=", ":"):
            raise self.error("Missing item value", 'A key is followed by "=" and its value.')
        self.advance()
        return key, self.expression()

    def for_names(self) -> tuple[str, ...]:
        """``v in`` or ``k, v in``; the parser stands behind ``in`` afterwards."""
        names = []
        while True:
            if self.kind != "word" or self.value == "in":
                raise self.error("Invalid for", "A variable name is needed here.")
            names.append(self.value)
            self.advance()
            if self.kind == "," and len(names) < 2:
                self.advance()
                continue
            if self.kind != "word" or self.value != "in":
                raise self.error("Invalid for", 'The word "in" is needed after the variables.')
            self.advance()
            return tuple(names)

    def _for(self, start: int, closing: str, lines: bool) -> Expr:
        self.advance()
        names = self.for_names()
        over = self.expression()
        if self.kind != ":":
            raise self.error("Invalid for", "A colon is needed after the collection.")
        self.advance()
        value = self.expression()
        key: Expr | None = None
        group = False
        if closing == "}":
            if self.kind != "=>":
                raise self.error("Invalid for", 'In braces, a key and "=>" come before the value.')
            self.advance()
            key, value = value, self.expression()
            if self.kind == "...":
                group = True
                self.advance()
        test = None
        if self.kind == "word" and self.value == "if":
            self.advance()
            test = self.expression()
        if self.kind != closing:
            raise self.error("Invalid for", f"The closing {closing} is missing.")
        self.lines = lines
        self.advance()
        return For(self.at(start), names, over, key, value, test, group)


def template_of(text: str, fixed: At) -> Expr:
    """A JSON string as a template; its nodes are all at ``fixed``."""
    from .template import read_text

    if "${" not in text and "%{" not in text:
        return Literal(fixed, text)
    return read_text(Parser(Source(fixed.source.name, text), fixed=fixed))


__all__ = ["BakeError", "Parser", "parse", "parse_expression", "template_of"]
