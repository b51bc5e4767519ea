"""Compose's ``$NAME``, ``${NAME}``, ``${NAME:-default}``, ``${NAME:?error}`` and ``${NAME:+other}``; ``.env`` files."""

from __future__ import annotations

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_DEPTH = 16


def expand(text: str, env: Mapping[str, str], where: str = "", depth: int = 0) -> str:
    """One string.  Raises UsageError on a bad form or a required variable that is not set."""
    if "$" not in text:
        return text
    if depth > MAX_DEPTH:
        raise UsageError(f"invalid interpolation format for {where}: it is nested too deeply")
    out: list[str] = []
    i = 0
    while i < len(text):
        if text[i] != "$":
            out.append(text[i])
            i += 1
        elif text.startswith("$$", i):
            out.append("$")
            i += 2
        elif text.startswith("${", i):
            end = _closing(text, i + 2)
            if end < 0:
                raise UsageError(
                    f'invalid interpolation format for {where}: "{text}"', hint="write $$ for a dollar sign"
                )
            out.append(_braced(text[i + 2 : end], env, where, depth))
            i = end + 1
        else:
            j = i + 1
            while j < len(text) and (text[j].isalnum() or text[j] == "_") and text[j].isascii():
                j += 1
            if j == i + 1 or text[i + 1].isdigit():
                raise UsageError(
                    f'invalid interpolation format for {where}: "{text}"', hint="write $$ for a dollar sign"
                )
            out.append(env.get(text[i + 1 : j], ""))
            i = j
    return "".join(out)


def _closing(text: str, i: int) -> int:
    depth = 1
    while i < len(text):
        if text.startswith("${", i):
            depth += 1
            i += 1
        elif text[i] == "}":
            depth -= 1
            if not depth:
                return i
        i += 1
    return -1


def _braced(body: str, env: Mapping[str, str], where: str, depth: int) -> str:
    j = 0
    while j < len(body) and (body[j].isalnum() or body[j] == "_") and body[j].isascii():
        j += 1
    name, rest = body[:j], body[j:]
    if not name or name[0].isdigit():
        raise UsageError(f'invalid interpolation format for {where}: "${{{body}}}"')
    value = env.get(name)
    if not rest:
        return value or ""
    colon = rest[0] == ":"
    op, word = rest[colon : colon + 1], rest[colon + 1 :]
    is_set = bool(value) if colon else value is not None
    if op == "-":
        return (value or "") if is_set else expand(word, env, where, depth + 1)
    if op == "+":
        return expand(word, env, where, depth + 1) if is_set else ""
    if op == "?":
        if is_set:
            return value or ""
        raise UsageError(
            f"required variable {name} is missing a value: {expand(word, env, where, depth + 1)}",
            hint=f"in {where}",
        )
    raise UsageError(f'invalid interpolation format for {where}: "${{{body}}}"')


def expand_all(value: Any, env: Mapping[str, str], where: str) -> Any:
    """Every string below; keys are left alone."""
    if isinstance(value, str):
        return expand(value, env, where)
    if isinstance(value, dict):
        return {k: expand_all(v, env, f"{where}.{k}" if where else k) for k, v in value.items()}
    if isinstance(value, list):
        return [expand_all(v, env, f"{where}.[{n}]") for n, v in enumerate(value)]
    return value


def dotenv(text: str, env: Mapping[str, str], name: str = ".env") -> dict[str, str]:
    """The variables of an ``.env`` file; ``env`` is what its ``$NAME`` may refer to besides its own."""
    out: dict[str, str] = {}
    lines = text.split("\n")
    n = 0
    while n < len(lines):
        line = lines[n].strip()
        n += 1
        if not line or line.startswith("#"):
            continue
        line = line.removeprefix("export ").lstrip()
        key, sign, value = line.partition("=")
        if not sign:
            key, sign, value = line.partition(": ")
        key, value = key.strip(), value.strip()
        if not key or not all(c.isalnum() or c in "_.-[]" for c in key):
            raise UsageError(
                f'failed to read {name}: line {n}: unexpected character in variable name "{key}"'
            )
        if not sign:
            if key in env:
                out[key] = env[key]
            continue
        quote = value[:1] if value[:1] in ("'", '"') else ""
        if quote:
            while _unquoted_end(value, quote) < 0 and n < len(lines):
                value += "\n" + lines[n]
                n += 1
            end = _unquoted_end(value, quote)
            if end < 0:
                raise UsageError(f"failed to read {name}: line {n}: unterminated quoted value")
            value = value[1:end]
            if quote == "'":
                out[key] = value
                continue
            for a, b in (("\\n", "\n"), ("\\t", "\t"), ('\\"', '"'), ("\\\\", "\\")):
                value = value.replace(a, b)
        else:
            at = value.find(" #")
            value = (value[:at] if at >= 0 else value).rstrip()
        out[key] = expand(value, {**env, **out}, f"{name} ({key})")
    return out


def _unquoted_end(value: str, quote: str) -> int:
    i = 1
    while i < len(value):
        if value[i] == "\\" and quote == '"':
            i += 2
            continue
        if value[i] == quote:
            return i
        i += 1
    return -1
