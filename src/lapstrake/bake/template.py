"""Templates: text with ``${…}`` and ``%{…}`` in it, between quotes, in a heredoc or in a JSON string."""

from __future__ import annotations

from ..values import Value
from .scan import Scanner, escape
from .source import At
from .syntax import Conditional, Expr, For, Literal, Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .parser import Parser

_SPACE = " \t\r\n"


class Piece(Value):
    """One part before the tree is made.  ``kind``: text, expr, if, else, endif, for, endfor;
    ``left``/``right``: a ``~`` that eats the white space there."""

    kind: str
    at: At
    text: str = ""
    expr: Expr | None = None
    names: tuple[str, ...] = ()
    left: bool = False
    right: bool = False


def read_quoted(p: Parser) -> Expr:
    """A quoted string; the parser stands on its first quote, and after its last one afterwards."""
    start = p.start
    pieces = _pieces(p, p.end, '"', None)
    p.end += 1
    p.advance()
    return build(p, pieces, p.at(start))


def read_heredoc(p: Parser) -> Expr:
    """A heredoc, whose marker the parser stands on."""
    start, marker = p.start, p.value
    word = marker.removeprefix("-")
    first = p.end + 1
    line = first
    while True:
        end = p.text.find("\n", line)
        stop = len(p.text) if end < 0 else end
        if line <= len(p.text) and p.text[line:stop].strip(" \t\r") == word:
            break
        if end < 0:
            raise p.error("Unterminated heredoc", f"No line says just {word}.", p.at(start, p.end))
        line = stop + 1
    pieces = _pieces(p, first, "", line)
    if marker[0] == "-":
        pieces = _flush(pieces)
    p.end = stop
    p.last = stop
    node = build(p, pieces, p.at(start, stop))
    p.advance()
    return node


def read_text(p: Parser) -> Expr:
    """A whole text as a template: what a JSON string holds."""
    pieces = _pieces(p, 0, "", len(p.text))
    return build(p, pieces, p.at(0, len(p.text)))


def _pieces(p: Parser, i: int, closing: str, limit: int | None) -> list[Piece]:
    """Everything up to ``closing`` or the offset ``limit``; ``p.end`` is there afterwards."""
    out: list[Piece] = []
    text, begin = p.text, i
    held: list[str] = []
    quoted = closing == '"'
    opened = max(i - 1, 0)

    def flush(until: int) -> None:
        if held:
            out.append(Piece("text", p.at(begin, until), "".join(held)))
            held.clear()

    while limit is None or i < limit:
        c = text[i : i + 1]
        if not c or (quoted and c == "\n"):
            raise p.error(
                "Unterminated string",
                "A quoted string ends on the line it begins on; a longer text is a heredoc (<<EOT).",
                p.at(opened, i),
            )
        if quoted and c == closing:
            break
        if quoted and c == "\\":
            value, i = escape(p, i)
            held.append(value)
        elif c in "$%" and text.startswith(c + c + "{", i):
            held.append(c + "{")
            i += 3
        elif c in "$%" and text.startswith(c + "{", i):
            flush(i)
            piece, i = _sequence(p, i, c)
            out.append(piece)
            begin = i
        else:
            held.append(c)
            i += 1
    flush(i)
    p.end = i
    return out


def _sequence(p: Parser, i: int, sign: str) -> tuple[Piece, int]:
    """``${…}`` or ``%{…}`` at ``i``; the offset behind it."""
    left = p.text.startswith("~", i + 2)
    p.end = i + 2 + left
    lines, p.lines = p.lines, False
    p.advance()
    p.enter(p.at(i, i + 2))
    piece = Piece("expr", p.at(i, i + 2), expr=p.expression()) if sign == "$" else _directive(p)
    right = p.kind == "~"
    if right:
        p.advance()
    if p.kind != "}":
        what = "interpolation" if sign == "$" else "directive"
        raise p.error(f"Unterminated template {what}", f'Expected a closing brace after the "{sign}{{".')
    p.leave()
    p.lines = lines
    end = p.end
    return Piece(piece.kind, p.at(i, end), expr=piece.expr, names=piece.names, left=left, right=right), end


def _directive(p: Parser) -> Piece:
    word = p.value if p.kind == "word" else ""
    at = p.here()
    if word in ("else", "endif", "endfor"):
        p.advance()
        return Piece(word, at)
    if word == "if":
        p.advance()
        return Piece("if", at, expr=p.expression())
    if word == "for":
        p.advance()
        names = p.for_names()
        return Piece("for", at, expr=p.expression(), names=names)
    raise p.error("Invalid template directive", "One of if, else, endif, for and endfor is needed here.")


def _flush(pieces: list[Piece]) -> list[Piece]:
    """``<<-``: the smallest indentation of all lines goes from each."""
    indents = []
    fresh = True
    for piece in pieces:
        if piece.kind == "text":
            for n, line in enumerate(piece.text.split("\n")):
                starts = n > 0 or fresh
                last = n == piece.text.count("\n")
                if starts and (line.strip(" \t") or (last and piece is not pieces[-1])):
                    indents.append(len(line) - len(line.lstrip(" ")))
            fresh = piece.text.endswith("\n")
        else:
            if fresh:
                indents.append(0)
            fresh = False
    depth = min(indents, default=0)
    if not depth:
        return pieces
    out = []
    fresh = True
    for piece in pieces:
        if piece.kind == "text":
            lines = piece.text.split("\n")
            cut = [
                line[min(depth, len(line) - len(line.lstrip(" "))) :] if n > 0 or fresh else line
                for n, line in enumerate(lines)
            ]
            out.append(Piece("text", piece.at, "\n".join(cut)))
            fresh = piece.text.endswith("\n")
        else:
            out.append(piece)
            fresh = False
    return out


def _trimmed(pieces: list[Piece]) -> list[Piece]:
    out: list[Piece] = []
    for n, piece in enumerate(pieces):
        if piece.kind == "text":
            text = piece.text
            if n and pieces[n - 1].right:
                text = text.lstrip(_SPACE)
            if n + 1 < len(pieces) and pieces[n + 1].left:
                text = text.rstrip(_SPACE)
            if text:
                out.append(Piece("text", piece.at, text))
        else:
            out.append(piece)
    return out


def build(p: Scanner, pieces: list[Piece], at: At) -> Expr:
    """The tree of a list of pieces."""
    todo = _trimmed(pieces)
    todo.reverse()
    parts = _parts(p, todo, ())
    if not parts:
        return Literal(at, "")
    if len(pieces) == 1 and pieces[0].kind == "expr":
        return Template(at, parts, wrap=True)
    if len(parts) == 1 and isinstance(parts[0], Literal) and isinstance(parts[0].value, str):
        return Literal(at, parts[0].value) if pieces[0].kind == "text" else Template(at, parts)
    return Template(at, parts)


def _parts(
    p: Scanner, todo: list[Piece], until: tuple[str, ...], opened: At | None = None
) -> tuple[Expr, ...]:
    out: list[Expr] = []
    while todo:
        piece = todo.pop()
        if piece.kind in until:
            todo.append(piece)
            return tuple(out)
        if piece.kind == "text":
            out.append(Literal(piece.at, piece.text))
        elif piece.kind == "expr" and piece.expr is not None:
            out.append(piece.expr)
        elif piece.kind == "if" and piece.expr is not None:
            yes = Template(piece.at, _parts(p, todo, ("else", "endif"), piece.at))
            no: Expr = Literal(piece.at, "")
            if todo.pop().kind == "else":
                no = Template(piece.at, _parts(p, todo, ("endif",), piece.at))
                todo.pop()
            out.append(Conditional(piece.at, piece.expr, yes, no))
        elif piece.kind == "for" and piece.expr is not None:
            body = Template(piece.at, _parts(p, todo, ("endfor",), piece.at))
            todo.pop()
            out.append(For(piece.at, piece.names, piece.expr, None, body, join=True))
        else:
            raise p.error(
                "Unexpected template directive", f"Nothing is open for this {piece.kind}.", piece.at
            )
    if until:
        raise p.error("Unterminated template directive", f"There is no {until[-1]} for it.", opened)
    return tuple(out)
