"""``--call=outline``, ``targets`` and ``check``: what to say, as text and as JSON (spec cli.md §2.8, lint.md §2.2)."""

from __future__ import annotations

from ..errors import BuildError, Span
from ..values import Value
from . import instructions as ins
from .excerpt import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from .lint import LintWarning


class OutlineArg(Value):
    """A build argument that a target uses."""

    name: str
    value: str
    description: str
    span: Span | None = None


class Outline(Value):
    """What a target can be given.  ``secrets`` and ``ssh``: (id, required), in file order."""

    name: str
    description: str
    args: tuple[OutlineArg, ...] = ()
    secrets: tuple[tuple[str, bool], ...] = ()
    ssh: tuple[tuple[str, bool], ...] = ()


class Target(Value):
    """A stage as ``--call=targets`` lists it."""

    name: str
    default: bool
    description: str
    base: str
    platform: str
    span: Span | None = None


def outline(
    dockerfile: ins.Dockerfile,
    target: ins.Stage,
    stages: Collection[int],
    values: Mapping[str, str] | None = None,
) -> Outline:
    """The outline of ``target``; ``stages``: the indices it needs; ``values``: build arguments given."""
    given = values or {}
    chain = [s for s in dockerfile.stages if s.index in stages]
    names = {pair.name for s in chain for i in s.instructions if isinstance(i, ins.Arg) for pair in i.args}
    text = " ".join(f"{s.base.image} {s.base.platform}" for s in chain)
    args: dict[str, OutlineArg] = {}
    shown = _Values(dockerfile, given)
    for arg in reversed(dockerfile.global_args):
        for pair in reversed(arg.args):
            if pair.name in names or "$" + pair.name in text or "${" + pair.name in text:
                args[pair.name] = OutlineArg(
                    pair.name, shown.globals.get(pair.name, ""), pair.description, arg.span
                )
                text += " " + (pair.default or "")
    args = dict(reversed(args.items()))
    mounts: dict[str, dict[str, bool]] = {"secret": {}, "ssh": {}}
    stages_env: dict[str, dict[str, str]] = {}
    for stage in chain:
        known = dict(stages_env.get(stage.base.image, {}))
        stages_env[stage.name] = known
        for instruction in stage.instructions:
            if isinstance(instruction, ins.Env):
                known.update({k: shown.expand(v, known) for k, v in instruction.pairs})
            elif isinstance(instruction, ins.Arg):
                for pair in instruction.args:
                    old = args.get(pair.name)
                    value = shown.of(pair, known)
                    known[pair.name] = value
                    if old is None or (not old.description and pair.description):
                        args[pair.name] = OutlineArg(pair.name, value, pair.description, instruction.span)
            elif isinstance(instruction, ins.Run):
                _mounts(instruction, mounts)
    return Outline(
        target.name,
        target.base.description,
        tuple(args.values()),
        tuple(mounts["secret"].items()),
        tuple(mounts["ssh"].items()),
    )


class _Values:
    """The values arguments have: given, else their expanded defaults."""

    def __init__(self, dockerfile: ins.Dockerfile, given: Mapping[str, str]) -> None:
        from .lint import platform_args

        self.escape = dockerfile.escape
        self.given = given
        self.globals: dict[str, str] = platform_args(dockerfile)
        for arg in dockerfile.global_args:
            for pair in arg.args:
                self.globals[pair.name] = self.of(pair, self.globals)

    def of(self, pair: ins.ArgPair, known: Mapping[str, str]) -> str:
        """One argument's value where it is declared."""
        if pair.name in self.given:
            return self.given[pair.name]
        if pair.default is not None:
            return self.expand(pair.default, known)
        return self.globals.get(pair.name, "")

    def expand(self, word: str, known: Mapping[str, str]) -> str:
        """Expanded; as it is where that fails."""
        from .expand import expand

        try:
            return expand(word, known, self.escape)
        except BuildError:
            return word


def _mounts(run: ins.Run, found: dict[str, dict[str, bool]]) -> None:
    from .runflags import parse_mount

    for text in run.mounts:
        mount = parse_mount(text, None)
        if mount.type in found:
            ids = found[mount.type]
            name = mount.id or "default"
            ids[name] = ids.get(name, False) or mount.required


def targets(dockerfile: ins.Dockerfile) -> tuple[Target, ...]:
    """All named stages, and the last one."""
    last = len(dockerfile.stages) - 1
    return tuple(
        Target(s.name, s.index == last, s.base.description, s.base.image, s.base.platform, s.base.span)
        for s in dockerfile.stages
        if s.name or s.index == last
    )


# -- text --------------------------------------------------------------------


def table(rows: Iterable[tuple[str, ...]], gap: int = 3) -> str:
    """Rows as columns ``gap`` blanks apart, the way docker prints them."""
    shown = list(rows)
    widths = [max(len(row[i]) for row in shown) + gap for i in range(len(shown[0]))]
    return "".join(
        "".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() + "\n" for row in shown
    )


def outline_text(found: Outline) -> str:
    """The outline as blocks and tables."""
    head = [("TARGET:", found.name or "(default)")]
    if found.description:
        head.append(("DESCRIPTION:", found.description))
    parts = [table(head)]
    if found.args:
        parts.append(
            table(
                [
                    ("BUILD ARG", "VALUE", "DESCRIPTION"),
                    *((a.name, a.value, a.description) for a in found.args),
                ]
            )
        )
    for title, items in (("SECRET", found.secrets), ("SSH", found.ssh)):
        if items:
            parts.append(
                table(
                    [(title, "REQUIRED"), *((name, "true" if required else "") for name, required in items)]
                )
            )
    return "\n".join(parts)


def targets_text(found: Iterable[Target]) -> str:
    """One line per target."""
    rows = [("TARGET", "DESCRIPTION")]
    for target in found:
        name = (target.name + " (default)").strip() if target.default else target.name
        rows.append((name, target.description))
    return table(rows)


def _ordered(warnings: Iterable[LintWarning]) -> list[LintWarning]:
    return sorted(
        warnings, key=lambda w: (1, w.span.filename, w.span.first, "") if w.span else (0, "", 0, w.rule)
    )


def check_text(warnings: Iterable[LintWarning], error: BuildError | None = None) -> str:
    """What ``--check`` prints."""
    found = _ordered(warnings)
    if not found and error is None:
        return "Check complete, no warnings found.\n"
    out: list[str] = []
    if found:
        out.append(
            "Check complete, 1 warning has been found!\n"
            if len(found) == 1
            else f"Check complete, {len(found)} warnings have been found!\n"
        )
    for w in found:
        url = f" - {w.url}" if w.url else ""
        out.append(f"\nWARNING: {w.rule}{url}\n{w.message}\n{render(w.span) if w.span else ''}")
    if error is not None:
        out.append(
            f"{chr(10) if found else ''}ERROR: {error.message}\n{render(error.span) if error.span else ''}"
        )
    return "".join(out)


# -- JSON --------------------------------------------------------------------


def _location(span: Span | None) -> dict[str, Any]:
    if span is None:
        return {}
    return {"ranges": [{"start": {"line": span.first}, "end": {"line": span.last}}]}


def _dump(document: Mapping[str, Any]) -> str:
    import json

    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _base64(source: str) -> str:
    from base64 import b64encode

    return b64encode(source.encode("utf-8", "surrogateescape")).decode("ascii")


def _filled(**members: Any) -> dict[str, Any]:
    return {k: v for k, v in members.items() if v not in ("", None, False, [], {})}


def outline_json(found: Outline, source: str) -> str:
    """The outline as JSON; ``source`` is the Dockerfile's text."""
    args = [
        _filled(name=a.name, value=a.value, description=a.description, location=_location(a.span))
        for a in found.args
    ]
    secrets = [_filled(name=n, required=r) for n, r in found.secrets]
    ssh = [_filled(name=n, required=r) for n, r in found.ssh]
    return _dump(
        _filled(
            name=found.name,
            description=found.description,
            args=args,
            secrets=secrets,
            ssh=ssh,
            sources=[_base64(source)],
        )
    )


def targets_json(found: Iterable[Target], source: str) -> str:
    """The targets as JSON."""
    rows = [
        _filled(
            name=t.name,
            default=t.default,
            description=t.description,
            base=t.base,
            platform=t.platform,
            location=_location(t.span),
        )
        for t in found
    ]
    return _dump({"targets": rows, "sources": [_base64(source)]})


def check_json(
    warnings: Iterable[LintWarning], filename: str, source: str, error: BuildError | None = None
) -> str:
    """What ``--check`` gives with ``format=json``."""
    rows = [
        _filled(
            ruleName=w.rule,
            description=w.description,
            url=w.url,
            detail=w.message,
            location=_location(w.span),
        )
        for w in _ordered(warnings)
    ]
    document: dict[str, Any] = {
        "warnings": rows,
        "sources": [
            {"filename": filename, "language": "Dockerfile", "definition": {}, "data": _base64(source)}
        ],
    }
    if error is not None:
        document["buildError"] = _filled(message=error.message, location=_location(error.span))
    return _dump(document)
