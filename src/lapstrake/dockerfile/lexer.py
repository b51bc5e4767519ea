"""From physical lines to logical ones, and from a logical line to its words (spec §2-§4)."""

from __future__ import annotations

from .instructions import Heredoc
from .numbers import SPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLANKS = "\t\v\f\r "
_HEREDOC_KEYWORDS = frozenset(("run", "copy", "add"))
_DIGITS = "0123456789"


class Line:
    """One instruction's text: physical lines ``first``..``last`` joined, and what belongs to it."""

    __slots__ = ("comments", "empty_continuation", "error", "first", "heredocs", "last", "text")

    def __init__(self, text: str, first: int, last: int, comments: tuple[str, ...]) -> None:
        self.text = text
        self.first = first
        self.last = last
        self.comments = comments
        self.heredocs: tuple[Heredoc, ...] = ()
        self.empty_continuation = False
        self.error = ""


def logical_lines(lines: list[str], escape: str, skip: int = 0) -> Iterator[Line]:
    """Yield the instructions of ``lines`` (without their LF); the first ``skip`` lines are directives."""
    comments: list[str] = []
    i, total = skip, len(lines)
    while i < total:
        raw = lines[i].rstrip("\r").lstrip(SPACE)
        i += 1
        if not raw:
            continue
        if raw[0] == "#":
            comment = raw[1:].strip(SPACE)
            if comment:
                comments.append(comment)
            else:
                comments.clear()
            continue
        first = i
        text, more = _continued(raw, escape)
        empty = False
        if more:
            parts = [text]
            while more and i < total:
                raw = lines[i].rstrip("\r")
                i += 1
                bare = raw.lstrip(SPACE)
                if bare[:1] == "#":
                    continue
                if not bare:
                    empty = True
                    continue
                part, more = _continued(raw, escape)
                parts.append(part)
            text = "".join(parts)
        line = Line(text, first, min(i, total), tuple(comments))
        line.empty_continuation = empty
        comments = []
        if "<<" in text:
            i = _read_heredocs(line, lines, i)
        yield line


def _continued(raw: str, escape: str) -> tuple[str, bool]:
    """The line without its continuation mark, and whether it had one."""
    bare = raw.rstrip(" \t")
    if bare[-1:] == escape and bare[-2:-1] != escape:
        return bare[:-1], True
    return raw, False


def split_first(text: str) -> tuple[str, str]:
    """The first word and the trimmed rest."""
    text = text.strip(SPACE)
    for i, ch in enumerate(text):
        if ch in BLANKS:
            return text[:i], text[i:].strip(SPACE)
    return text, ""


def split_blanks(text: str) -> list[str]:
    """Words between runs of blanks."""
    for blank in "\t\v\f\r":
        if blank in text:
            text = text.replace(blank, " ")
    return [w for w in text.split(" ") if w]


# -- heredocs ----------------------------------------------------------------


def _read_heredocs(line: Line, lines: list[str], i: int) -> int:
    keyword, rest = split_first(line.text)
    while keyword.lower() == "onbuild" and rest:
        keyword, rest = split_first(rest)
    if keyword.lower() not in _HEREDOC_KEYWORDS:
        return i
    flagless, _ = split_flags(rest, "\\")
    if flagless.startswith("[") and json_words(flagless) is not None:
        return i
    found: list[Heredoc] = []
    for word in shell_words(line.text):
        head = parse_heredoc(word)
        if head is None:
            continue
        body: list[str] = []
        while i < len(lines):
            raw = lines[i]
            i += 1
            shown = raw.lstrip("\t") if head.chomp else raw
            if shown.rstrip("\r") == head.name:
                break
            body.append(shown + "\n")
        else:
            line.error = "unterminated heredoc"
            line.last = len(lines)
            return i
        found.append(Heredoc(head.name, "".join(body), head.expand, head.chomp, head.fd))
    line.heredocs = tuple(found)
    if found:
        line.last = i
    return i


def parse_heredoc(word: str) -> Heredoc | None:
    """The introducer ``N<<-WORD`` (its body empty), or None for any other word."""
    start = word.find("<<")
    if start < 0 or word.strip(_DIGITS)[:2] != "<<" or (start and not word[:start].isdigit()):
        return None
    rest = word[start + 2 :]
    chomp = rest[:1] == "-"
    rest = rest[1:] if chomp else rest
    if not rest or "<" in rest:
        return None
    words = shell_words(rest)
    if len(words) != 1:
        return None
    name = _unquote(words[0])
    if not name:
        return None
    fd = int(word[:start]) if 0 < start < 10 else 0
    return Heredoc(name, "", name == words[0], chomp, fd)


def shell_words(text: str) -> list[str]:
    """Blank-separated words, quotes and ``${…}`` kept together and kept as written.  Never fails."""
    out: list[str] = []
    start, i, quote, depth = -1, 0, "", 0
    last_brace = text.rfind("}")
    while i < len(text):
        ch = text[i]
        if quote:
            if ch == quote:
                quote = ""
            elif ch == "\\" and quote == '"':
                i += 1
        elif ch in SPACE and not depth:
            if start >= 0:
                out.append(text[start:i])
            start = -1
            i += 1
            continue
        elif ch in "'\"":
            quote = ch
        elif ch == "\\":
            i += 1 if start >= 0 or i + 1 < len(text) else 0
            start = i - 1 if start < 0 else start
        elif ch == "$" and text[i + 1 : i + 2] == "{" and i < last_brace:
            depth += 1
        elif ch == "}" and depth:
            depth -= 1
        if start < 0:
            start = i
        i += 1
    if start >= 0:
        out.append(text[start:])
    return out


def _unquote(word: str) -> str:
    out: list[str] = []
    i, quote = 0, ""
    while i < len(word):
        ch = word[i]
        if quote:
            if ch == quote:
                quote = ""
            elif ch == "\\" and quote == '"' and word[i + 1 : i + 2] in ('"', "$", "\\"):
                i += 1
                out.append(word[i : i + 1])
            else:
                out.append(ch)
        elif ch in "'\"":
            quote = ch
        elif ch == "\\":
            i += 1
            out.append(word[i : i + 1])
        else:
            out.append(ch)
        i += 1
    return "".join(out)


# -- words of one instruction ------------------------------------------------


def split_flags(rest: str, escape: str) -> tuple[str, list[str]]:
    """The text behind the leading ``--flag`` words, and those words without quotes and escapes."""
    flags: list[str] = []
    i, n = 0, len(rest)
    while rest.startswith("--", i):
        word: list[str] = []
        quote, quoted = "", False
        while i < n:
            ch = rest[i]
            if quote and ch == quote:
                quote = ""
            elif ch == escape:
                i += 1
                word.append(rest[i : i + 1])
            elif quote:
                word.append(ch)
            elif ch in "'\"":
                quote, quoted = ch, True
            elif ch in SPACE:
                break
            else:
                word.append(ch)
            i += 1
        while i < n and rest[i] in SPACE:
            i += 1
        flag = "".join(word)
        if flag == "--":
            break
        if flag or quoted:
            flags.append(flag)
    return rest[i:], flags


def raw_words(rest: str, escape: str) -> list[str]:
    """The words of ENV, LABEL and ARG: split at blanks outside quotes; quotes and escapes stay."""
    out: list[str] = []
    word: list[str] = []
    quote = ""
    i, n = 0, len(rest)
    while i < n:
        ch = rest[i]
        if ch == escape and quote != "'":
            if i + 1 == n:
                break  # an escape at the very end is dropped
            word.append(ch)
            i += 1
            ch = rest[i]
        elif quote:
            if ch == quote:
                quote = ""
        elif ch in "'\"":
            quote = ch
        elif ch in SPACE:
            if word:
                out.append("".join(word))
                word = []
            i += 1
            continue
        word.append(ch)
        i += 1
    if word:
        out.append("".join(word))
    return out


_JSON_SPACE = " \t\r\n"
_JSON_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class NotStrings(ValueError):
    """A valid JSON array with something else than strings in it."""


def json_words(text: str) -> list[str] | None:
    """The elements of a JSON array of strings; None: not valid JSON.  Raises NotStrings."""
    if not text.startswith("["):
        return None
    out: list[str] = []
    rest = text[1:].strip(_JSON_SPACE)
    if rest == "]":
        return out
    i = 0
    while True:
        if rest[i : i + 1] != '"':
            _other_json(text)
            return None
        found = _json_string(rest, i + 1)
        if found is None:
            return None
        value, i = found
        out.append(value)
        while rest[i : i + 1] and rest[i] in _JSON_SPACE:
            i += 1
        if rest[i : i + 1] == "]":
            return out if i + 1 == len(rest) else None
        if rest[i : i + 1] != ",":
            return None
        i += 1
        while rest[i : i + 1] and rest[i] in _JSON_SPACE:
            i += 1


def _json_string(text: str, i: int) -> tuple[str, int] | None:
    """The string that starts at ``i`` (behind its quote) and the index behind its end."""
    end = text.find('"', i)
    plain = text[i:end] if end >= 0 else ""
    if end >= 0 and "\\" not in plain and plain.isprintable():
        return plain, end + 1
    out: list[str] = []
    while i < len(text):
        ch = text[i]
        i += 1
        if ch == '"':
            joined = "".join(out)
            if any("\ud800" <= c <= "\udfff" for c in joined):
                paired = joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
                joined = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in paired)
            return joined, i
        if ch < " ":
            return None
        if ch != "\\":
            out.append("\ufffd" if "\udc80" <= ch <= "\udcff" else ch)
            continue
        kind = text[i : i + 1]
        i += 1
        if kind == "u":
            digits = text[i : i + 4]
            if len(digits) != 4 or not all(c in "0123456789abcdefABCDEF" for c in digits):
                return None
            out.append(chr(int(digits, 16)))
            i += 4
        elif kind in _JSON_ESCAPES:
            out.append(_JSON_ESCAPES[kind])
        else:
            return None
    return None


def _other_json(text: str) -> None:
    """Not an array of strings only: do nothing for bad JSON, raise NotStrings for wrong elements."""
    import json

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return
    raise NotStrings("when using JSON array syntax, arrays must be comprised of strings only")
