"""``.dockerignore`` rules and Go's ``filepath.Match`` (spec §13, §12.1).

A path is excluded by the last rule that matches it or one of its parents.  Rules are
compared component by component; no pattern can make a match slow.
"""

from __future__ import annotations

from ..errors import DockerfileError, Span
from ..values import Value
from .numbers import SPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LITERAL, _ANY, _STAR, _CLASS = range(4)
_META = frozenset("*?[\\")
_DEEP = None  # a component that stands for any number of components


class BadPattern(ValueError):
    """``syntax error in pattern``."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


# -- one pattern -------------------------------------------------------------

_Token = tuple[int, str, tuple[tuple[str, str], ...]]
_compiled: dict[str, tuple[_Token, ...]] = {}


def _compile(pattern: str) -> tuple[_Token, ...]:
    tokens = _compiled.get(pattern)
    if tokens is not None:
        return tokens
    out: list[_Token] = []
    i = 0
    while i < len(pattern):
        ch = pattern[i]
        i += 1
        if ch == "*":
            if not out or out[-1][0] != _STAR:
                out.append((_STAR, "", ()))
        elif ch == "?":
            out.append((_ANY, "", ()))
        elif ch == "[":
            token, i = _class(pattern, i)
            out.append(token)
        elif ch == "\\":
            if i == len(pattern):
                raise BadPattern
            out.append((_LITERAL, pattern[i], ()))
            i += 1
        else:
            out.append((_LITERAL, ch, ()))
    tokens = tuple(out)
    if len(_compiled) > 1000:
        _compiled.clear()
    _compiled[pattern] = tokens
    return tokens


def _class(pattern: str, i: int) -> tuple[_Token, int]:
    """The class whose ``[`` was just read: (token, index behind ``]``)."""
    negated = pattern[i : i + 1] == "^"
    i += negated
    ranges: list[tuple[str, str]] = []
    while True:
        if pattern[i : i + 1] == "]" and ranges:
            return (_CLASS, "^" if negated else "", tuple(ranges)), i + 1
        low, i = _class_char(pattern, i)
        high = low
        if pattern[i : i + 1] == "-":
            high, i = _class_char(pattern, i + 1)
        ranges.append((low, high))


def _class_char(pattern: str, i: int) -> tuple[str, int]:
    ch = pattern[i : i + 1]
    if ch in ("", "-", "]"):
        raise BadPattern
    if ch == "\\":
        i += 1
        ch = pattern[i : i + 1]
    if not ch or i + 1 >= len(pattern):
        raise BadPattern
    return ch, i + 1


def _matches(tokens: tuple[_Token, ...], name: str) -> bool:
    """Greedy match that only ever returns to the last star."""
    t = n = 0
    star, resume = -1, 0
    while n < len(name) or t < len(tokens):
        if t < len(tokens):
            kind, text, ranges = tokens[t]
            if kind == _STAR:
                star, resume = t, n
                t += 1
                continue
            if n < len(name):
                ch = name[n]
                if kind == _LITERAL:
                    hit = ch == text
                elif kind == _ANY:
                    hit = ch != "/"
                else:
                    hit = any(low <= ch <= high for low, high in ranges) is not bool(text)
                if hit:
                    t += 1
                    n += 1
                    continue
        if star < 0 or resume >= len(name) or name[resume] == "/":
            return False
        resume += 1
        t, n = star + 1, resume
    return True


def match(pattern: str, name: str) -> bool:
    """Go's ``filepath.Match``; raises BadPattern."""
    return _matches(_compile(pattern), name)


def has_wildcards(pattern: str) -> bool:
    """Whether a COPY source is a pattern and not a plain path."""
    return not _META.isdisjoint(pattern)


def clean(path: str) -> str:
    """Go's ``path.Clean``: ``a//b/../c`` gives ``a/c``, the empty path ``.``."""
    rooted = path.startswith("/")
    out: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            out.append(part)
        elif out and out[-1] != "..":
            out.pop()
        elif not rooted:
            out.append("..")
    return ("/" if rooted else "") + "/".join(out) or "."


# -- rules -------------------------------------------------------------------

_Component = str | tuple[_Token, ...] | None  # a literal, a pattern, or any number of components
_ONE: tuple[_Token, ...] = ((_STAR, "", ()),)


class Rule(Value):
    """One line.  ``pattern`` as written but cleaned; ``parts`` its components, or None: see ``_nfa``."""

    line: int
    pattern: str
    negated: bool
    parts: tuple[_Component, ...]
    odd: bool = False  # `**` inside a component: matched character by character

    def covers(self, path: str, names: list[str]) -> bool:
        """Whether the rule matches the path or one of its parents."""
        if self.odd:
            return _odd_covers(self.pattern, path)
        return _covers(self.parts, names)

    def may_reach_below(self, names: list[str]) -> bool:
        """Whether the rule could match something below the directory ``names``."""
        if self.odd:
            return True
        for i, name in enumerate(names):
            if i >= len(self.parts):
                return True
            part = self.parts[i]
            if part is _DEEP:
                return True
            if not _component(part, name):
                return False
        return True


def _component(part: str | tuple[_Token, ...], name: str) -> bool:
    if isinstance(part, str):
        return part == name
    return part is _ONE or _matches(part, name)


def _covers(parts: tuple[_Component, ...], names: list[str]) -> bool:
    """Greedy over components; running out of parts is a match, since parents count."""
    p = n = 0
    deep, resume = -1, 0
    while p < len(parts):
        part = parts[p]
        if part is _DEEP:
            deep, resume = p, n
            p += 1
        elif n < len(names) and _component(part, names[n]):
            p += 1
            n += 1
        elif deep >= 0 and resume < len(names):
            resume += 1
            p, n = deep + 1, resume
        else:
            return False
    return True


def _odd_covers(pattern: str, path: str) -> bool:
    """Patterns such as ``a**b``: sets of token positions, one character at a time."""
    tokens = _odd_tokens(pattern)
    end = len(tokens)

    def close(states: set[int]) -> set[int]:
        todo = list(states)
        while todo:
            s = todo.pop()
            if 0 <= s < end and tokens[s][0] in ("*", "**", "**/") and s + 1 not in states:
                states.add(s + 1)
                todo.append(s + 1)
        return states

    states = close({0})
    for i, ch in enumerate(path):
        if ch == "/" and i and end in states:
            return True
        step: set[int] = set()
        for s in states:
            if not 0 <= s < end:
                continue
            kind, token = tokens[s]
            if kind == "**" or (kind == "*" and ch != "/"):
                step.add(s)
            elif kind == "**/":
                step.add(-s - 1)  # inside the run, not yet behind a slash
            elif kind == "t" and token is not None and _matches((token,), ch):
                step.add(s + 1)
        for s in [s for s in states if s < 0]:
            step.add(s)
            if ch == "/":
                step.add(-s)
        for s in [s for s in step if s < 0 and ch == "/"]:
            step.add(-s)
        states = close(step)
        if not states:
            return False
    return end in states


def _odd_tokens(pattern: str) -> list[tuple[str, _Token | None]]:
    out: list[tuple[str, _Token | None]] = []
    i = 0
    while i < len(pattern):
        if pattern.startswith("**", i):
            i += 2
            while pattern[i : i + 1] == "*":
                i += 1
            if pattern[i : i + 1] == "/":
                i += 1
            out.append(("**/" if i < len(pattern) else "**", None))
            continue
        j = i + 1
        if pattern[i] == "[":
            _, j = _class(pattern, j)
        elif pattern[i] == "\\":
            j += 1
        token = _compile(pattern[i:j])[0]
        out.append(("*" if token[0] == _STAR else "t", token))
        i = j
    return out


def _rule(number: int, text: str) -> Rule | None:
    """A trimmed, non-empty line; None for one that cleans to nothing.  Raises ValueError."""
    negated = text.startswith("!")
    body = text[1:].strip(SPACE) if negated else text
    if negated and not body:
        raise ValueError('illegal exclusion pattern: "!"')
    body = clean(body)
    if len(body) > 1 and body.startswith("/"):
        body = body[1:]
    _compile(body)
    parts: list[_Component] = []
    odd = False
    for name in body.split("/"):
        if name.strip("*") == "" and len(name) > 1:
            if not parts or parts[-1] is not _DEEP:
                parts.append(_DEEP)
        elif "**" in name:
            odd = True
        elif name == "*":
            parts.append(_ONE)
        else:
            parts.append(_compile(name) if has_wildcards(name) else name)
    if parts and parts[-1] is _DEEP:
        parts.append(_ONE)
    return Rule(number, body, negated, tuple(parts), odd)


_AT_ROOT, _ANYWHERE, _CONTAINS = range(3)


def _test(rule: Rule) -> tuple[int, str]:
    """A cheap test of ``/path/``: one that decides for plain names, else a text it must contain."""
    parts = rule.parts
    literals = [part for part in parts if isinstance(part, str)]
    if not rule.odd and parts:
        if len(literals) == len(parts):
            return _AT_ROOT, "/" + "/".join(literals) + "/"
        if parts[0] is _DEEP and len(literals) == len(parts) - 1:
            return _ANYWHERE, "/" + "/".join(literals) + "/"
    runs = literals
    for part in parts:
        if isinstance(part, tuple):
            text = "".join(token[1] if token[0] == _LITERAL else "/" for token in part)
            runs += text.split("/")
    return _CONTAINS, max(runs, key=len, default="")


class IgnoreRules(Value):
    """The rules of one ignore file, in order.  ``tests``: see ``_test``."""

    rules: tuple[Rule, ...] = ()
    has_exceptions: bool = False
    tests: tuple[tuple[int, str], ...] = ()

    @classmethod
    def parse(cls, text: bytes, filename: str = ".dockerignore") -> IgnoreRules:
        """Read an ignore file; raises DockerfileError with the line."""
        if text.startswith(b"\xef\xbb\xbf"):
            text = text[3:]
        source = text.decode("utf-8", "surrogateescape")
        rules: list[Rule] = []
        for number, line in enumerate(source.split("\n"), 1):
            if line.startswith("#") or not (line := line.strip(SPACE)):
                continue
            try:
                rule = _rule(number, line)
            except ValueError as e:
                span = Span(filename, number, number, source)
                raise DockerfileError(f"failed parsing {filename}: {e}", span=span) from None
            if rule is not None:
                rules.append(rule)
        return cls.of(rules)

    @classmethod
    def of(cls, rules: list[Rule]) -> IgnoreRules:
        """From rules already made."""
        return cls(tuple(rules), any(r.negated for r in rules), tuple(_test(r) for r in rules))

    @classmethod
    def from_patterns(cls, patterns: tuple[str, ...] | list[str]) -> IgnoreRules:
        """From single patterns, as ``COPY --exclude`` has them; raises DockerfileError."""
        rules: list[Rule] = []
        for number, text in enumerate(patterns, 1):
            if not (text := text.strip(SPACE)):
                continue
            try:
                rule = _rule(number, text)
            except ValueError as e:
                raise DockerfileError(f"invalid exclude pattern {text}: {e}") from None
            if rule is not None:
                rules.append(rule)
        return cls.of(rules)

    def _decisive(self, path: str) -> int:
        """The index of the last rule that matches, or -1."""
        tests = self.tests
        slashed = f"/{path}/"
        names: list[str] | None = None
        for i in range(len(tests) - 1, -1, -1):
            kind, text = tests[i]
            if kind == _AT_ROOT:
                if slashed.startswith(text):
                    return i
            elif text in slashed:
                if kind == _ANYWHERE:
                    return i
                if names is None:
                    names = path.split("/")
                if self.rules[i].covers(path, names):
                    return i
        return -1

    def excluded(self, path: str, is_dir: bool = False) -> bool:
        """Whether ``path`` (relative, ``/``-separated) is left out; its parents are considered."""
        if not self.rules:
            return False
        path = path.strip("/")
        if path in ("", "."):
            return False
        i = self._decisive(path)
        return i >= 0 and not self.rules[i].negated

    def can_skip_dir(self, path: str) -> bool:
        """Whether the directory is excluded and no exception can bring back anything below it."""
        path = path.strip("/")
        if not self.rules or path in ("", "."):
            return False
        i = self._decisive(path)
        if i < 0 or self.rules[i].negated:
            return False
        names = path.split("/")
        return not any(r.negated and r.may_reach_below(names) for r in self.rules[i + 1 :])

    def rule_for(self, path: str) -> tuple[int, str] | None:
        """The rule that decides about ``path``: its line number and pattern (``!`` kept), or None."""
        path = path.strip("/")
        i = self._decisive(path) if path else -1
        if i < 0:
            return None
        rule = self.rules[i]
        return rule.line, ("!" if rule.negated else "") + rule.pattern

    def matcher(self) -> Callable[[str], bool]:
        """``excluded`` as a plain function, for walks over many files."""
        return self.excluded if self.rules else _never


def _never(_path: str) -> bool:
    return False
