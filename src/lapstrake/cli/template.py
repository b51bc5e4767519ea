"""``--format``: the part of Go's text/template that people write in it.

Fields (``{{.Name}}``, ``{{.Manifest.Digest}}``), variables, pipelines, parentheses, ``if``/``else if``,
``range``, ``with``, trim markers, comments, and the functions of text/template and of docker's own
(``json``, ``join``, ``split``, ``lower``, ``upper``, ``title``, ``truncate``, ``pad``, ``println``).
There is no ``define``: a format is one line.  No maintained Python library speaks this language.

Data are JSON-like values.  A :class:`Fields` acts as a Go struct: a name it lacks is an error.  In any other
mapping it is ``<no value>``.  Names are found exactly, else without regard to case (``.MediaType`` finds
``mediaType``).
"""

from __future__ import annotations

from ..errors import UsageError
from .template_functions import FUNCTIONS, Failure, show, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    Scope = dict[str, list[Any]]  # a cell for each variable, shared by inner scopes
    Expr = Callable[[Any, "Scope"], Any]
    Node = Callable[[Any, "Scope", list[str]], None]

MAX_DEPTH = 60
_CHAINED = "\0."  # a field that stands directly behind a closing parenthesis


class Fields(dict):  # type: ignore[type-arg]
    """A mapping that acts as a struct: a wrong name is an error, not ``<no value>``."""


class Template:
    """A parsed format.  Raises UsageError when it is wrong."""

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.text = text
        self._nodes = _Parser(text, {**FUNCTIONS, **(functions or {})}).parse()

    def render(self, data: object) -> str:
        """The text for ``data``.  Raises UsageError where Go would fail to execute it."""
        out: list[str] = []
        try:
            _run(self._nodes, data, {"$": [data]}, out)
        except Failure as e:
            raise UsageError(f'failed to execute template "{self.text}": {e}') from None
        return "".join(out)


def render_rows(
    form: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[tuple[str, str]], *, default: str = ""
) -> str:
    """A list as ``--format`` wants it: ``table``, ``table TEMPLATE``, ``json`` or a template for each row.

    ``columns``: (field, heading) pairs; ``default``: the template of the plain table, all columns if empty.
    """
    form = form.replace("\\t", "\t").replace("\\n", "\n")
    if form == "json":
        form = "{{json .}}"
    if form != "table" and not form.startswith("table "):
        template = Template(form)
        return "".join(template.render(Fields(row)) + "\n" for row in rows)
    text = form[6:].strip(" ") or default or "\t".join(f"{{{{.{name}}}}}" for name, _ in columns)
    template = Template(text)
    lines = [template.render(Fields(columns)).split("\t")]
    lines += [template.render(Fields(row)).split("\t") for row in rows]
    return align(lines)


def align(rows: Sequence[Sequence[str]], gap: int = 3) -> str:
    """Columns side by side, as docker's tables: padded to the widest cell, nothing behind the last."""
    from ..progress.text import width

    widths: list[int] = []
    for row in rows:
        for i, cell in enumerate(row):
            if i == len(widths):
                widths.append(0)
            widths[i] = max(widths[i], width(cell))
    lines = []
    for row in rows:
        cells = [cell + " " * (widths[i] - width(cell) + gap) for i, cell in enumerate(row[:-1])]
        lines.append("".join([*cells, *row[-1:]]).rstrip() + "\n")
    return "".join(lines)


def _run(nodes: list[Node], dot: object, scope: Scope, out: list[str]) -> None:
    for node in nodes:
        node(dot, scope, out)


class _Parser:
    """Text to nodes: literal pieces and actions."""

    def __init__(self, text: str, functions: Mapping[str, Callable[..., Any]]) -> None:
        self.text = text
        self.functions = functions
        self.pieces = _pieces(text)
        self.at = 0
        self.depth = 0

    def parse(self) -> list[Node]:
        nodes, end = self._nodes()
        if end is not None:
            raise _wrong(self.text, f"unexpected {{{{{' '.join(end) or 'end'}}}}}")
        return nodes

    def _nodes(self) -> tuple[list[Node], list[str] | None]:
        """Nodes up to ``end`` or ``else``, and the words of that action."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _wrong(self.text, "too deeply nested")
        nodes: list[Node] = []
        while self.at < len(self.pieces):
            literal, action = self.pieces[self.at]
            self.at += 1
            if not action:
                nodes.append(_literal(literal))
                continue
            words = _lex(literal, self.text)
            if not words:
                continue
            if words[0] in ("end", "else"):
                self.depth -= 1
                return nodes, words
            nodes.append(self._action(words))
        self.depth -= 1
        return nodes, None

    def _action(self, words: list[str]) -> Node:
        if words[0] in ("if", "with", "range"):
            return self._block(words)
        if words[0] in ("define", "template", "block", "break", "continue"):
            raise _wrong(self.text, f"{words[0]} is not supported")
        name, expr = self._assignment(words)
        declares = len(words) > 1 and words[1] == ":="

        def node(dot: Any, scope: Scope, out: list[str]) -> None:
            value = expr(dot, scope)
            if name and (declares or name not in scope):
                scope[name] = [value]
            elif name:
                scope[name][0] = value
            else:
                out.append(show(value))

        return node

    def _block(self, words: list[str]) -> Node:
        kind, words = words[0], words[1:]
        names: list[str] = []
        if kind == "range" and "," in words and words[0].startswith("$"):
            names, words = [words[0], words[2]], words[4:]
            expr = self._expr(words)
        else:
            name, expr = self._assignment(words)
            names = [name] if name else []
        body, end = self._nodes()
        other: list[Node] = []
        if end is None:
            raise _wrong(self.text, "unexpected EOF: an end is missing")
        if end[0] == "else":
            if len(end) > 1:
                other = [self._block(end[1:])]
                end = ["end"]
            else:
                other, end = self._nodes()
                if end is None or end[0] != "end":
                    raise _wrong(self.text, "unexpected EOF: an end is missing")
        return _make_block(kind, names, expr, body, other)

    def _assignment(self, words: list[str]) -> tuple[str, Expr]:
        if len(words) > 2 and words[0].startswith("$") and words[1] in (":=", "="):
            return words[0], self._expr(words[2:])
        return "", self._expr(words)

    def _expr(self, words: list[str]) -> Expr:
        if not words:
            raise _wrong(self.text, "missing value for command")
        expr, rest = _Expressions(self.text, self.functions, words).pipeline(0)
        if rest:
            raise _wrong(self.text, f"unexpected {rest[0]} in operand")
        return expr


def _literal(text: str) -> Node:
    def node(_dot: Any, _scope: Scope, out: list[str]) -> None:
        out.append(text)

    return node


def _make_block(kind: str, names: list[str], expr: Expr, body: list[Node], other: list[Node]) -> Node:
    def choose(dot: Any, scope: Scope, out: list[str]) -> None:
        value = expr(dot, scope)
        inner = {**scope, **({names[0]: [value]} if names else {})}
        if truth(value):
            _run(body, value if kind == "with" else dot, inner, out)
        else:
            _run(other, dot, inner, out)

    def loop(dot: Any, scope: Scope, out: list[str]) -> None:
        value = expr(dot, scope)
        pairs = _iterate(value)
        for key, item in pairs:
            inner = dict(scope)
            if names:
                inner[names[-1]] = [item]
            if len(names) == 2:
                inner[names[0]] = [key]
            _run(body, item, inner, out)
        if not pairs:
            _run(other, dot, scope, out)

    return loop if kind == "range" else choose


def _iterate(value: Any) -> list[tuple[Any, Any]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return sorted(value.items(), key=lambda p: str(p[0]))
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool) and value < 1 << 20:
        return [(i, i) for i in range(value)]
    raise Failure(f"range can't iterate over {show(value)}")


class _Expressions:
    """Words to one value: a pipeline of commands, each a function with operands or a single operand."""

    def __init__(
        self, text: str, functions: Mapping[str, Callable[..., Any]], words: list[str]
    ) -> None:  # fmt: skip
        self.text = text
        self.functions = functions
        self.words = words

    def pipeline(self, depth: int) -> tuple[Expr, list[str]]:
        """A pipeline, and the words behind it."""
        if depth > MAX_DEPTH:
            raise _wrong(self.text, "too deeply nested")
        expr = self._command(depth, None)
        while self.words and self.words[0] == "|":
            self.words = self.words[1:]
            expr = self._command(depth, expr)
        return expr, self.words

    def _command(self, depth: int, piped: Expr | None) -> Expr:
        if not self.words or self.words[0] in ("|", ")"):
            raise _wrong(self.text, "missing value for command")
        word = self.words[0]
        if word in self.functions:
            self.words = self.words[1:]
            arguments = []
            while self.words and self.words[0] not in ("|", ")"):
                arguments.append(self._operand(depth))
            if piped is not None:
                arguments.append(piped)
            return self._call(word, arguments)
        if piped is not None:
            raise _wrong(self.text, f"non executable command in pipeline: {word}")
        expr = self._operand(depth)
        if self.words and self.words[0] not in ("|", ")"):
            raise _wrong(self.text, f"can't give argument to non-function {word}")
        return expr

    def _call(self, name: str, arguments: list[Expr]) -> Expr:
        function = self.functions[name]

        def call(dot: Any, scope: Scope) -> Any:
            try:
                if name in ("and", "or"):  # these stop at the first value that decides
                    return _decide(name, arguments, dot, scope)
                return function(*(a(dot, scope) for a in arguments))
            except (TypeError, ValueError, IndexError, KeyError, OverflowError, AttributeError) as e:
                raise Failure(f"error calling {name}: {e}") from None

        return call

    def _operand(self, depth: int) -> Expr:
        word, self.words = self.words[0], self.words[1:]
        if word == "(":
            expr, rest = self.pipeline(depth + 1)
            if rest[:1] != [")"]:
                raise _wrong(self.text, "unclosed left paren")
            self.words = rest[1:]
            if self.words and self.words[0].startswith(_CHAINED):
                names, self.words = self.words[0][2:].split("."), self.words[1:]
                return _chain(expr, names)
            return expr
        if word[0] == ".":
            return _chain(lambda dot, _scope: dot, [n for n in word.split(".") if n])
        if word[0] == "$":
            name, *names = word.split(".")
            return _chain(_variable(name), names)
        if word in self.functions:
            return self._call(word, [])
        return _constant(word, self.text)


def _decide(name: str, arguments: list[Expr], dot: Any, scope: Scope) -> Any:
    if not arguments:
        raise Failure(f"wrong number of args for {name}: want at least 1 got 0")
    value: Any = None
    for argument in arguments:
        value = argument(dot, scope)
        if truth(value) == (name == "or"):
            break
    return value


def _variable(name: str) -> Expr:
    def get(_dot: Any, scope: Scope) -> Any:
        if name not in scope:
            raise Failure(f"undefined variable {name}")
        return scope[name][0]

    return get


def _chain(start: Expr, names: list[str]) -> Expr:
    def get(dot: Any, scope: Scope) -> Any:
        value = start(dot, scope)
        for name in names:
            value = field(value, name)
        return value

    return get


def field(value: Any, name: str) -> Any:
    """One field of a value, as ``.Name`` means it."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Failure(f"can't evaluate field {name} in {show(value)[:80]}")
    if name in value:
        return value[name]
    plain = name.lower()
    for key in value:
        if str(key).lower() == plain:
            return value[key]
    if isinstance(value, Fields):
        raise Failure(f"can't evaluate field {name}; there are {', '.join('.' + str(k) for k in value)}")
    return None


def _constant(word: str, text: str) -> Expr:
    value: Any
    if word[0] in "\"`'":
        value = _unquote(word, text)
    elif word in ("true", "false", "nil"):
        value = {"true": True, "false": False, "nil": None}[word]
    else:
        try:
            value = int(word, 0)
        except ValueError:
            try:
                value = float(word)
            except ValueError:
                raise _wrong(text, f'function "{word}" not defined') from None
    return lambda _dot, _scope: value


def _unquote(word: str, text: str) -> str | int:
    if word[0] == "`":
        return word[1:-1]
    import ast

    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        raise _wrong(text, f"bad string {word}") from None
    return ord(value) if word[0] == "'" and len(value) == 1 else str(value)


def _pieces(text: str) -> list[tuple[str, bool]]:
    """(literal, False) and (action, True), trim markers applied and comments gone."""
    out: list[tuple[str, bool]] = []
    i, trim = 0, False
    while True:
        start = text.find("{{", i)
        literal = text[i:] if start < 0 else text[i:start]
        if trim:
            literal = literal.lstrip(" \t\r\n")
        if start >= 0 and text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4].isspace():
            literal = literal.rstrip(" \t\r\n")
            start += 1
        if literal:
            out.append((literal, False))
        if start < 0:
            return out
        end = _action_end(text, start + 2)
        action = text[start + 2 : end]
        trim = action[-1:] == "-" and action[-2:-1].isspace()
        action = (action[:-1] if trim else action).strip()
        if not (action.startswith("/*") and action.endswith("*/")):
            out.append((action, True))
        i = end + 2


def _action_end(text: str, i: int) -> int:
    quote = ""
    while i < len(text):
        char = text[i]
        if quote:
            if char == "\\" and quote != "`":
                i += 1
            elif char == quote:
                quote = ""
        elif char in "\"`'":
            quote = char
        elif text.startswith("}}", i):
            return i
        i += 1
    raise _wrong(text, "unclosed action")


def _lex(action: str, text: str) -> list[str]:
    words: list[str] = []
    i, n = 0, len(action)
    while i < n:
        char = action[i]
        if char.isspace():
            i += 1
            continue
        start = i
        if char in "\"`'":
            i = _string_end(action, i)
        elif action.startswith(":=", i):
            i += 2
        elif char in "()|,=":
            i += 1
        else:
            while (
                i < n
                and not action[i].isspace()
                and action[i] not in "()|,=\"`'"
                and action[i : i + 2] != ":="
            ):
                i += 1
        chained = char == "." and start and action[start - 1] == ")"
        words.append(("\0" if chained else "") + action[start:i])
    if (
        any(w in (":=", "=") for w in words)
        and not words[0].startswith("$")
        and words[0] not in ("if", "with", "range")
    ):
        raise _wrong(text, "unexpected assignment")
    return words


def _string_end(action: str, i: int) -> int:
    quote = action[i]
    i += 1
    while i < len(action) and action[i] != quote:
        i += 2 if action[i] == "\\" and quote != "`" else 1
    return i + 1


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(
        f'failed to parse template "{text}": {why}', hint="a format is a Go template: {{.Name}}"
    )
