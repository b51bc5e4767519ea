"""Questions about a Dockerfile: ``--check``, ``--call=outline|targets``; and the lint of a normal build."""

from __future__ import annotations

from ..errors import BuildError, DockerfileError, ResolveError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from ..config import Settings
    from ..dockerfile.ignore import IgnoreRules
    from ..dockerfile.instructions import Dockerfile
    from ..dockerfile.lint import LintWarning
    from ..oci.platform import Platform
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest


class Found(Value):
    """Lint findings; ``error``: the build must fail with this message."""

    warnings: tuple[LintWarning, ...]
    error: str = ""


class Answer(Value):
    """The answer to a call, as text and as a JSON document; ``status``: the exit code."""

    text: str
    document: Any
    status: int = 0


def lint_warnings(
    dockerfile: Dockerfile,
    request: BuildRequest,
    platform: Platform,
    bases: dict[int, Any],
    ignore: IgnoreRules | None,
    stages: Collection[int] | None,
) -> Found:
    """All findings of one Dockerfile: the file's own, and those of the stages evaluated."""
    from ..dockerfile import lint, lint_extra
    from ..dockerfile.lint_stages import Facts, check_stages

    given = dict(request.build_args)
    options = lint.options_of(dockerfile, given)
    facts = Facts(build_args=given, stages=stages, base_config=bases.get, platform=platform, ignore=ignore)
    found = [
        *lint.check(dockerfile, build_args=given, options=options),
        *check_stages(dockerfile, facts, options=options),
    ]
    extra = lint.Linter(options)
    for rule, message, at in lint_extra.check_extra(dockerfile, stages):
        extra.report(rule, message, at)
    found += extra.warnings
    error = ""
    if options.error and found:
        error = "lint violation found for rules: " + ", ".join(dict.fromkeys(w.rule for w in found))
    return Found(tuple(found), error)


def run_call(request: BuildRequest, settings: Settings) -> Answer:
    """Answer ``request.call``; nothing is run or exported.  Raises BuildError."""
    import json

    from ..dockerfile import outline
    from ..dockerfile.parser import parse
    from ..plan.stages import find_target, reachable
    from .build import with_policy
    from .contexts import open_inputs
    from .engine import Engine

    request = with_policy(request, settings)
    with Engine(settings) as engine:
        inputs = open_inputs(engine, request)
        source = inputs.dockerfile.decode("utf-8", "surrogateescape")
        if request.call.name == "check":
            return _check(engine, request, inputs, source)
        dockerfile = parse(inputs.dockerfile, inputs.dockerfile_name)
        if request.call.name == "targets":
            found = outline.targets(dockerfile)
            return Answer(outline.targets_text(found), json.loads(outline.targets_json(found, source)))
        target = find_target(dockerfile, request.target)
        shown = outline.outline(
            dockerfile, target, {s.index for s in reachable(dockerfile, target)}, dict(request.build_args)
        )
        return Answer(outline.outline_text(shown), json.loads(outline.outline_json(shown, source)))


def _check(engine: Any, request: BuildRequest, inputs: Any, source: str) -> Answer:
    import json

    from ..dockerfile import outline
    from ..dockerfile.parser import parse
    from ..oci.platform import host_platform
    from ..plan.stages import find_target, reachable

    platform = request.platforms[0] if request.platforms else host_platform()
    warnings: tuple[Any, ...] = ()
    error: BuildError | None = None
    try:
        dockerfile = parse(inputs.dockerfile, inputs.dockerfile_name)
        stages = None
        if request.target:
            stages = {s.index for s in reachable(dockerfile, find_target(dockerfile, request.target))}
        bases, error = _evaluate(engine, request, dockerfile, inputs, platform, stages)
        warnings = lint_warnings(dockerfile, request, platform, bases, inputs.ignore, stages).warnings
    except BuildError as exc:
        error = exc
        if isinstance(exc, DockerfileError) and exc.partial is not None:
            from ..dockerfile.lint import check_read

            warnings = tuple(check_read(exc, dict(request.build_args)))
    text = outline.check_text(warnings, error)
    document = json.loads(outline.check_json(warnings, inputs.dockerfile_name, source, error))
    return Answer(text, document, 1 if warnings or error is not None else 0)


def _unbuilt(named: dict[str, tuple[str, str]], platform: Platform) -> dict[tuple[str, Platform], Plan]:
    """Stand-ins for targets a bake file links to: a question about this one builds none of them."""
    from ..plan.image import ImageState
    from ..plan.lower import Plan

    return {
        (ident, platform): Plan(platform, None, ImageState.scratch(platform), 0, ())
        for scheme, ident in named.values()
        if scheme == "target"
    }


def _out_of_reach(exc: BuildError) -> bool:
    """Whether nobody answered, as against an answer that says no."""
    return isinstance(exc, ResolveError) and not exc.status and ": not found" not in exc.message


def _evaluate(
    engine: Any,
    request: BuildRequest,
    dockerfile: Dockerfile,
    inputs: Any,
    platform: Platform,
    stages: Collection[int] | None,
) -> tuple[dict[int, Any], BuildError | None]:
    """Plan the stages as a build would: their bases' configs, and the first error.

    A base that is nowhere is an error; one whose registry can't be reached is done without.
    """
    from ..plan.image import BaseImage
    from ..plan.lower import PlanInput, Planner, context_keys
    from ..plan.stages import reachable
    from .build import allowed_image, explain_base

    bases: dict[Any, Any] = {}
    named = context_keys(inputs.named)
    wanted = [s for s in dockerfile.stages if stages is None or s.index in stages]
    names = [s.name for s in dockerfile.stages if s.name]
    for _ in range(64):
        planner = Planner(
            PlanInput(dockerfile, request, platform, bases, named, linked=_unbuilt(named, platform))
        )
        try:
            for stage in wanted:
                reachable(dockerfile, stage)
                planner.stage(stage)
        except BuildError as exc:
            return planner.base_configs, exc
        if not planner.missing:
            break
        for name, for_platform, span in planner.missing:
            try:
                got = engine.images.resolve(allowed_image(request, name), for_platform, pull=request.pull)
            except BuildError as exc:
                exc.span = exc.span or span
                explain_base(exc, name, names)
                return planner.base_configs, None if _out_of_reach(exc) else exc
            bases[name, for_platform] = BaseImage(got.ref, got.config, len(got.layers))
    return planner.base_configs, None
