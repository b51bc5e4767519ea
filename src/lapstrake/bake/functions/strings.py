"""Functions of strings."""

from __future__ import annotations

from ..types import ListOf
from .base import FunctionError, Problem, define, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from typing import Any


@define("upper", "str:string")
def upper(s: str) -> str:
    return s.upper()


@define("lower", "str:string")
def lower(s: str) -> str:
    return s.lower()


@define("title", "str:string")
def title(s: str) -> str:
    out, fresh = [], True
    for c in s:
        out.append(c.title() if fresh else c)
        fresh = not (c.isalnum() or c in "_'")
    return "".join(out)


@define("trim", "str:string", "cutset:string")
def trim(s: str, cutset: str) -> str:
    return s.strip(cutset) if cutset else s


@define("trimprefix", "str:string", "prefix:string")
def trimprefix(s: str, prefix: str) -> str:
    return s.removeprefix(prefix)


@define("trimsuffix", "str:string", "suffix:string")
def trimsuffix(s: str, suffix: str) -> str:
    return s.removesuffix(suffix)


@define("trimspace", "str:string")
def trimspace(s: str) -> str:
    return s.strip()


@define("chomp", "str:string")
def chomp(s: str) -> str:
    return s.rstrip("\r\n")


@define("indent", "spaces:number", "str:string")
def indent(spaces: Any, s: str) -> str:
    return s.replace("\n", "\n" + " " * min(whole(spaces, 0), 1000))


@define("replace", "str:string", "substr:string", "replace:string")
def replace(s: str, old: str, new: str) -> str:
    return s.replace(old, new)


@define("split", "separator:string", "str:string")
def split(separator: str, s: str) -> Any:
    return ListOf(s.split(separator) if separator else list(s))


@define("join", "separator:string", rest="lists:strings")
def join(separator: str, *lists: Any) -> str:
    if not lists:
        raise FunctionError("at least one list is required")
    items = [x for one in lists for x in one]
    if None in items:
        raise Problem(1, "an element is null")
    return separator.join(items)


@define("strlen", "str:string")
def strlen(s: str) -> int:
    import unicodedata

    return sum(1 for c in s if not unicodedata.combining(c))


@define("substr", "str:string", "offset:number", "length:number")
def substr(s: str, offset: Any, length: Any) -> str:
    start, size = whole(offset, 1), whole(length, 2)
    if start < 0:
        start = max(len(s) + start, 0)
    return s[start:] if size < 0 else s[start : start + size]


@define("reverse", "str:string")
def reverse(s: str) -> str:
    return s[::-1]


@define("byteslen", "buf:string")
def byteslen(s: str) -> int:
    return len(s.encode())


@define("bytesslice", "buf:string", "offset:number", "length:number")
def bytesslice(s: str, offset: Any, length: Any) -> str:
    raw, start, size = s.encode(), whole(offset, 1), whole(length, 2)
    if start < 0 or size < 0 or start + size > len(raw):
        raise FunctionError(f"offset {start} and length {size} are outside of {len(raw)} bytes")
    return raw[start : start + size].decode("utf-8", "replace")


@define("basename", "path:string")
def basename(path: str) -> str:
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


@define("dirname", "path:string")
def dirname(path: str) -> str:
    import posixpath

    head = path.rpartition("/")[0] + ("/" if "/" in path else "")
    return posixpath.normpath(head) if head.strip("/") else ("/" if head else ".")


@define("sanitize", "name:string")
def sanitize(name: str) -> str:
    good = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    return "".join(c if c in good else "_" for c in name)


@define("homedir")
def homedir() -> str:
    import os

    return os.path.expanduser("~")


@define("parseint", "number:any", "base:number")
def parseint(value: Any, base: Any) -> int:
    if not isinstance(value, str):
        raise Problem(0, "first argument must be a string")
    if whole(base, 1) not in range(2, 63):
        raise Problem(1, "base must be between 2 and 62")
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    body = value.lstrip("+-") if value[:1] in ("+", "-") else value
    out = 0
    for c in body if len(value) - len(body) < 2 and len(body) < 1000 else "":
        d = digits.find(c.lower() if base <= 36 else c)
        if not 0 <= d < base:
            body = ""
            break
        out = out * base + d
    if not body:
        raise Problem(0, f'cannot parse "{value}" as a base {base} integer')
    return -out if value[0] == "-" else out


_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": "\\s",
    "word": "\\w", "xdigit": "0-9A-Fa-f", "punct": "!-/:-@\\[-`{-~",
}  # fmt: skip


def _pattern(text: str) -> re.Pattern[str]:
    """Go's RE2 syntax, as far as Python's has it."""
    import re

    text = re.sub(r"\(\?<(?![=!])", "(?P<", text).replace("\\z", "\\Z")
    for name, chars in _CLASSES.items():
        text = text.replace(f"[:{name}:]", chars)
    try:
        return re.compile(text, re.ASCII)
    except (re.error, RecursionError) as e:
        raise Problem(0, f"invalid regular expression: {e}") from None


def _found(pattern: re.Pattern[str], match: re.Match[str]) -> Any:
    if not pattern.groups:
        return match.group()
    if pattern.groupindex:
        if len(pattern.groupindex) != pattern.groups:
            raise Problem(0, "named and unnamed groups can't be mixed")
        return {name: match.group(name) for name in pattern.groupindex}
    return tuple(match.groups())


@define("regex", "pattern:string", "string:string")
def regex(pattern: str, s: str) -> Any:
    compiled = _pattern(pattern)
    match = compiled.search(s)
    if match is None:
        raise FunctionError("pattern did not match any part of the given string")
    return _found(compiled, match)


@define("regexall", "pattern:string", "string:string")
def regexall(pattern: str, s: str) -> Any:
    compiled = _pattern(pattern)
    return ListOf(_found(compiled, m) for m in compiled.finditer(s))


@define("regex_replace", "str:string", "pattern:string", "replace:string")
def regex_replace(s: str, pattern: str, new: str) -> str:
    compiled = _pattern(pattern)
    return compiled.sub(lambda m: _template(new, m), s)


def _template(new: str, match: re.Match[str]) -> str:
    """Go's ``Regexp.Expand``: ``$1``, ``$name``, ``${name}``, ``$$``; unknown names are empty."""
    out, i = [], 0
    while i < len(new):
        if new[i] != "$":
            out.append(new[i])
            i += 1
            continue
        if new[i + 1 : i + 2] == "$":
            out.append("$")
            i += 2
            continue
        braced = new[i + 1 : i + 2] == "{"
        j = i + 1 + braced
        k = j
        while k < len(new) and (new[k].isalnum() or new[k] == "_"):
            k += 1
        if k == j or (braced and new[k : k + 1] != "}"):
            out.append("$")
            i += 1
            continue
        name = new[j:k]
        try:
            out.append(match.group(int(name) if name.isdigit() else name) or "")
        except IndexError:
            pass
        i = k + braced
    return "".join(out)


@define("format", "format:string", rest="args:any?")
def format_(spec: str, *args: Any) -> str:
    from .printf import sprintf

    return sprintf(spec, args)


@define("formatlist", "format:string", rest="args:any?")
def formatlist(spec: str, *args: Any) -> Any:
    from .printf import sprintf

    sizes = {len(a) for a in args if isinstance(a, tuple)}
    if len(sizes) > 1:
        raise FunctionError("lists of different lengths can't be formatted together")
    count = sizes.pop() if sizes else 1
    return ListOf(sprintf(spec, [a[n] if isinstance(a, tuple) else a for a in args]) for n in range(count))
