"""Source policies: which images, URLs and repositories a build may use, and what it uses instead (spec cli.md §7).

The JSON of BuildKit's ``EXPERIMENTAL_BUILDKIT_SOURCE_POLICY`` and buildah's ``--source-policy-file``.  Rules are
read in order: the last ALLOW or DENY that matches decides, a CONVERT changes the source and begins again.
Sources are named ``docker-image://docker.io/library/alpine:3``, ``https://…``, ``git://host/path#ref`` and
``local://context``.
"""

from __future__ import annotations

from ..errors import DockerfileError, UsageError
from ..values import Value
from .request import PolicyRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match, Pattern
    from typing import Any

    from .request import Pairs

IMAGE = "docker-image://"
LOCAL = "local://"
MAX_CONVERSIONS = 10
_ACTIONS = ("ALLOW", "DENY", "CONVERT")
_MATCHES = ("WILDCARD", "EXACT", "REGEX")
_CONDITIONS = ("EQUAL", "NOTEQUAL", "MATCHES")


class Source(Value):
    """A source as rules see it: its identifier and what is asked of it (``http.checksum``, ``git.checksum``)."""

    identifier: str
    attrs: Pairs = ()


class Denied(DockerfileError):
    """A rule forbids a source."""


def parse_policy(text: bytes, where: str) -> tuple[PolicyRule, ...]:
    """The rules of a policy file.  Raises UsageError that names the rule."""
    import json

    try:
        doc = json.loads(text)
    except ValueError as e:
        raise UsageError(f"failed to parse source policy {where}: {e}", hint=_hint(where)) from None
    rules = doc.get("rules") if isinstance(doc, dict) else None
    if not isinstance(rules, list):
        raise UsageError(
            f"failed to parse source policy {where}: a list of rules is expected", hint=_hint(where)
        )
    out = []
    for n, rule in enumerate(rules):
        try:
            out.append(_rule(rule))
        except (ValueError, TypeError, AttributeError, KeyError) as e:
            raise UsageError(f"failed to parse source policy {where}: rule {n}: {e}") from None
    return tuple(out)


def _hint(where: str) -> str | None:
    if where.endswith(".rego"):
        return "policies are JSON source policies here; Rego is not supported"
    return None


def _rule(rule: Any) -> PolicyRule:
    if not isinstance(rule, dict):
        raise ValueError("not an object")  # noqa: TRY004
    selector, updates = rule.get("selector") or {}, rule.get("updates") or {}
    identifier = selector.get("identifier")
    if not isinstance(identifier, str) or not identifier:
        raise ValueError("selector.identifier is missing")
    kind = _word(selector.get("matchType", selector.get("match_type", 0)), _MATCHES, "matchType")
    _compiled(kind, identifier)
    conditions = tuple(
        (_word(c.get("condition", 0), _CONDITIONS, "condition"), str(c["key"]), str(c["value"]))
        for c in selector.get("constraints") or ()
    )
    attrs = tuple((str(k), str(v)) for k, v in (updates.get("attrs") or {}).items())
    action = _word(rule.get("action", 0), _ACTIONS, "action")
    changed = updates.get("identifier") or ""
    if action == "CONVERT" and not attrs and not changed:
        raise ValueError("CONVERT without updates")
    return PolicyRule(action, identifier, kind, conditions, str(changed), attrs)


def _word(value: object, words: tuple[str, ...], what: str) -> str:
    """A word of an enumeration, or its number as protobuf writes it."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(words):
        return words[value]
    if isinstance(value, str) and value.upper() in words:
        return value.upper()
    raise ValueError(f"unknown {what} {value!r}, expected one of {', '.join(words)}")


def evaluate(rules: tuple[PolicyRule, ...], source: Source) -> Source:
    """What is used instead of ``source``, or the same.  Raises Denied."""
    first = source.identifier
    for _ in range(MAX_CONVERSIONS):
        changed, denied = _once(rules, source)
        if denied is not None:
            raise Denied(
                f'source "{source.identifier}" denied by policy',
                hint=f"the rule for {denied.identifier} forbids it"
                + (f"; it stands for {first}" if first != source.identifier else ""),
            )
        if changed is None:
            return source
        source = changed
    raise Denied(
        f'source "{first}" denied by policy: converted more than {MAX_CONVERSIONS} times',
        hint="rules convert to each other's sources",
    )


def _once(rules: tuple[PolicyRule, ...], source: Source) -> tuple[Source | None, PolicyRule | None]:
    """(what a CONVERT makes of it, the rule that denies it)."""
    denied = None
    for rule in rules:
        found = _matches(rule, source)
        if found is None:
            continue
        if rule.action == "CONVERT":
            changed = _converted(rule, source, found)
            if changed != source:
                return changed, None
        else:
            denied = rule if rule.action == "DENY" else None
    return None, denied


def _matches(rule: PolicyRule, source: Source) -> Match[str] | None:
    """The match of the identifier, when the constraints hold too."""
    pattern = _compiled(rule.match, rule.identifier)
    found = (pattern.search if rule.match == "REGEX" else pattern.fullmatch)(source.identifier)
    attrs = dict(source.attrs)
    for condition, key, value in rule.constraints:
        have = attrs.get(key, "")
        if condition == "MATCHES":
            import re

            holds = re.search(value, have) is not None
        else:
            holds = (have == value) is (condition == "EQUAL")
        if not holds:
            return None
    return found


def _compiled(kind: str, pattern: str) -> Pattern[str]:
    import re

    if kind == "EXACT":
        return re.compile(re.escape(pattern))
    if kind == "WILDCARD":
        return re.compile("(.*?)".join(re.escape(p) for p in pattern.split("*")), re.DOTALL)
    try:
        return re.compile(pattern)
    except re.error as e:
        raise ValueError(f"invalid regular expression {pattern}: {e}") from None


def _converted(rule: PolicyRule, source: Source, found: Match[str]) -> Source:
    """The updates, with ``$1`` and ``${1}`` of patterns filled in."""
    text = rule.new_identifier or source.identifier
    if rule.new_identifier and rule.match != "EXACT":
        import re

        def group(m: Match[str]) -> str:
            n = int(m[1] or m[2])
            return (found[n] or "") if n <= (found.re.groups) else ""

        text = re.sub(r"\$(?:\{(\d+)\}|(\d+))", group, text)
    return Source(text, tuple({**dict(source.attrs), **dict(rule.new_attrs)}.items()))


# -- the kinds of sources ------------------------------------------------------------------


def image_name(rules: tuple[PolicyRule, ...], name: str) -> str:
    """The image used where ``name`` is written."""
    from ..oci import reference

    full = reference.parse(name).full
    got = evaluate(rules, Source(IMAGE + full)).identifier
    if got == IMAGE + full:
        return name
    if not got.startswith(IMAGE):
        raise _unsupported(IMAGE + full, got, "another docker-image://")
    return got[len(IMAGE) :]


def http_url(rules: tuple[PolicyRule, ...], url: str, checksum: str = "") -> tuple[str, str]:
    """(URL, checksum) used for a download."""
    got = evaluate(rules, Source(url, (("http.checksum", checksum),) if checksum else ()))
    if not got.identifier.startswith(("http://", "https://")):
        raise _unsupported(url, got.identifier, "another http:// or https://")
    return got.identifier, dict(got.attrs).get("http.checksum", "")


def git_url(rules: tuple[PolicyRule, ...], url: str, checksum: str = "") -> tuple[str, str]:
    """(URL, commit) used for a repository; ``git://host/path`` of a rule goes by the URL's own scheme."""
    scheme, sep, rest = url.partition("://")
    if not sep:
        scheme, rest = ("https", url) if url.startswith("github.com/") else ("", url.replace(":", "/", 1))
    known = f"git://{rest}"
    got = evaluate(rules, Source(known, (("git.checksum", checksum),) if checksum else ()))
    commit = dict(got.attrs).get("git.checksum", "")
    if got.identifier == known:
        return url, commit
    if got.identifier.startswith("git://"):
        return f"{scheme or 'ssh'}://{got.identifier[6:]}", commit
    if not got.identifier.startswith(("http://", "https://", "ssh://")):
        raise _unsupported(known, got.identifier, "another git://")
    return got.identifier, commit


def check_local(rules: tuple[PolicyRule, ...], name: str) -> None:
    """Whether a directory of the client may be used at all."""
    got = evaluate(rules, Source(LOCAL + name)).identifier
    if got != LOCAL + name:
        raise _unsupported(LOCAL + name, got, "nothing else")


def _unsupported(source: str, got: str, what: str) -> UsageError:
    return UsageError(f"source policy converts {source} to {got}: it can become {what} only")
