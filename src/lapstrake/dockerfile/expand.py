"""Word expansion: ``$name``, ``${name…}``, quotes and escapes (spec §5.1).

A word is read once, left to right; nothing is ever expanded twice.
"""

from __future__ import annotations

from ..errors import DockerfileError
from .numbers import SPACE, quote
from .patterns import Pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SPECIAL = frozenset("@*#?-$!0")
_END = ""  # what peek gives behind the last character
_MAX_RESULT = 1 << 20
_MAX_DEPTH = 64


class _ExpandError(ValueError):
    pass


class _EndOfWord(_ExpandError):
    """The word ended inside an open construct."""


class _Words:
    """Collects the words of a result: unquoted blanks separate, quoted ones don't."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.current = ""

    def add(self, text: str) -> None:
        for ch in text:
            if ch in SPACE:
                self.flush()
            else:
                self.current += ch

    def add_raw(self, text: str) -> None:
        self.current += text

    def flush(self) -> None:
        if self.current:
            self.done.append(self.current)
            self.current = ""


class _Reader:
    """One pass over one word."""

    def __init__(
        self,
        word: str,
        env: Mapping[str, str],
        escape: str,
        missing: Callable[[str], None] | None,
        quotes: bool,
    ) -> None:
        self.word = word
        self.pos = 0
        self.env = env
        self.escape = escape
        self.missing = missing
        self.quotes = quotes
        self.words = _Words()
        self.depth = 0

    def peek(self) -> str:
        return self.word[self.pos : self.pos + 1]

    def next(self) -> str:
        ch = self.word[self.pos : self.pos + 1]
        self.pos += 1
        return ch

    def until(self, stop: str, raw: bool, words: _Words | None = None) -> str:
        """Text up to the unquoted character ``stop`` (consumed; ``""``: the end).  ``raw`` keeps escapes."""
        out: list[str] = []
        size = 0
        while (ch := self.peek()) != _END:
            if stop and ch == stop:
                self.pos += 1
                return "".join(out)
            plain = False
            if ch == "$":
                text = self.dollar()
                plain = True
            elif ch == "'" and self.quotes:
                text = self.single()
            elif ch == '"' and self.quotes:
                text = self.double(raw)
            elif ch == self.escape:
                self.pos += 1
                text = (ch if raw else "") + self.next()
            else:
                text = self.run(stop)
                plain = True
            out.append(text)
            size += len(text)
            if size > _MAX_RESULT:
                raise _ExpandError("the result is too long")
            if words is not None:
                if plain:
                    words.add(text)
                else:
                    words.add_raw(text)
        if stop:
            raise _EndOfWord(f"unexpected end of statement while looking for matching {stop}")
        return "".join(out)

    def run(self, stop: str) -> str:
        """A stretch of characters without meaning."""
        word, i = self.word, self.pos + 1
        while i < len(word) and word[i] not in ("$", "'", '"', self.escape, stop):
            i += 1
        text = word[self.pos : i]
        self.pos = i
        return text

    def single(self) -> str:
        end = self.word.find("'", self.pos + 1)
        if end < 0:
            self.pos = len(self.word)
            raise _EndOfWord("unexpected end of statement while looking for matching single-quote")
        text = self.word[self.pos + 1 : end]
        self.pos = end + 1
        return text

    def double(self, raw: bool) -> str:
        self.pos += 1
        out: list[str] = []
        while True:
            ch = self.peek()
            if ch == _END:
                raise _EndOfWord("unexpected end of statement while looking for matching double-quote")
            if ch == '"':
                self.pos += 1
                return "".join(out)
            if ch == "$":
                out.append(self.dollar())
                continue
            self.pos += 1
            if ch == self.escape:
                following = self.peek()
                if following == _END:
                    continue
                if following in ('"', "$", self.escape):
                    if raw:
                        out.append(ch)
                    ch = self.next()
            out.append(ch)

    def name(self) -> str:
        word, start = self.word, self.pos
        if start >= len(word):
            return ""
        i = start
        first = word[start]
        if first.isdecimal():
            while i < len(word) and word[i].isdecimal():
                i += 1
        elif first in _SPECIAL:
            i += 1
        else:
            while i < len(word) and (word[i] == "_" or word[i].isalpha() or word[i].isdecimal()):
                i += 1
        self.pos = i
        return word[start:i]

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        if value is None and self.missing is not None:
            self.missing(name)
        return value

    def dollar(self) -> str:
        self.pos += 1
        if self.peek() != "{":
            name = self.name()
            return "$" if not name else self.lookup(name) or ""
        self.pos += 1
        if self.peek() == _END:
            raise _EndOfWord("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise _ExpandError("syntax error: bad substitution")
        if self.depth >= _MAX_DEPTH:
            raise _ExpandError("substitutions are nested too deeply")
        self.depth += 1
        try:
            return self.braced(self.name())
        finally:
            self.depth -= 1

    def braced(self, name: str) -> str:
        op = self.next()
        if op == "}":
            return self.lookup(name) or ""
        if op == _END:
            raise _EndOfWord("syntax error: missing '}'")
        if op == "/":
            return self.replaced(name)
        colon = op == ":"
        if colon:
            op = self.next()
        shown = ":" + op if colon else op
        if op not in ("+", "-", "?", "#", "%"):
            if colon:
                self.argument("}", False)
            raise _ExpandError(f"unsupported modifier ({shown}) in substitution")
        if op in "#%":
            if colon:
                raise _ExpandError(f"unsupported modifier ({shown}) in substitution")
            return self.trimmed(name, op)
        word = self.argument("}", False)
        value = self.lookup(name)
        absent = value is None or (colon and not value)
        if op == "-":
            return word if absent else value or ""
        if op == "+":
            return "" if absent else word
        if absent:
            default = "is not allowed to be unset" if value is None else "is not allowed to be empty"
            raise _ExpandError(f"{name}: {word or default}")
        return value or ""

    def argument(self, stop: str, raw: bool) -> str:
        """A word inside braces; running into the end names the missing character."""
        try:
            return self.until(stop, raw)
        except _EndOfWord:
            raise _EndOfWord(
                "syntax error: missing '}'" if stop == "}" else "syntax error: missing '/' in ${}"
            ) from None

    def trimmed(self, name: str, op: str) -> str:
        word = self.argument("}", True)
        longest = word[:1] == op
        if longest:
            word = word[1:]
        value = self.lookup(name) or ""
        pattern = self.pattern(word)
        return pattern.trim_prefix(value, longest) if op == "#" else pattern.trim_suffix(value, longest)

    def replaced(self, name: str) -> str:
        every = self.peek() == "/"
        if every:
            self.pos += 1
        pattern = self.pattern(self.argument("/", True))
        replacement = self.argument("}", False)
        value = self.lookup(name) or ""
        return pattern.replace_all(value, replacement) if every else pattern.replace_first(value, replacement)

    def pattern(self, text: str) -> Pattern:
        try:
            return Pattern(text, self.escape)
        except ValueError as e:
            raise _ExpandError(f"invalid pattern ({text}) in substitution: {e}") from None


def _failure(word: str, error: _ExpandError) -> DockerfileError:
    return DockerfileError(f"failed to process {quote(word)}: {error}")


def expand(
    word: str, env: Mapping[str, str], escape: str = "\\", *, on_missing: Callable[[str], None] | None = None
) -> str:
    """``word`` with variables replaced, quotes and escapes removed.

    ``on_missing(name)`` is called for each look-up of a name that ``env`` lacks.
    Raises DockerfileError without a span: the caller knows the place.
    """
    if "$" not in word and "'" not in word and '"' not in word and escape not in word:
        return word
    try:
        return _Reader(word, env, escape, on_missing, True).until("", False)
    except _ExpandError as e:
        raise _failure(word, e) from None


def expand_words(
    word: str, env: Mapping[str, str], escape: str = "\\", *, on_missing: Callable[[str], None] | None = None
) -> list[str]:
    """As ``expand``, then split on unquoted blanks: ``$PORTS`` may hold several words."""
    reader = _Reader(word, env, escape, on_missing, True)
    try:
        reader.until("", False, reader.words)
    except _ExpandError as e:
        raise _failure(word, e) from None
    reader.words.flush()
    return reader.words.done


def expand_heredoc(
    text: str, env: Mapping[str, str], *, on_missing: Callable[[str], None] | None = None
) -> str:
    """The body of an unquoted heredoc: quotes stay, the escape is always a backslash."""
    if "$" not in text and "\\" not in text:
        return text
    try:
        return _Reader(text, env, "\\", on_missing, False).until("", False)
    except _ExpandError as e:
        raise _failure(text, e) from None
