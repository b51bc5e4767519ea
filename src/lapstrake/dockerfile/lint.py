"""Build checks: the rules, their options, and those that need nothing but the file (spec lint.md).

``check`` looks at the file alone; ``lint_stages.check_stages`` evaluates stages, which takes
facts about base images.  Both give ``LintWarning`` values; ``failure`` makes ``error=true`` fail.
"""

from __future__ import annotations

from ..errors import BuildError, DockerfileError, Span
from ..values import Value
from .expand import expand
from .instructions import Arg, Dockerfile, From, Instruction, Maintainer, Stage
from .lint_extra import BY_DEFAULT, EXTRA_RULES, PREFIX
from .numbers import parse_bool, quote
from .suggest import hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

URL = "https://docs.docker.com/go/dockerfile/rule/"
BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"

#: rule name -> what it means
RULES: dict[str, str] = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing (either upper or lower)",
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "InvalidBaseImagePlatform": "Base image platform does not match expected target platform",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
}
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))
_NO_URL = frozenset(("InvalidBaseImagePlatform",))

PLATFORM_ARGS = (
    "BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
    "TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
)  # fmt: skip


class LintWarning(Value):
    """One finding.  ``url`` is empty for a rule without a page."""

    rule: str
    message: str
    description: str
    url: str
    span: Span | None = None

    @property
    def short(self) -> str:
        """``<RuleName>: <message> (line N)``."""
        line = f" (line {self.span.first})" if self.span is not None else ""
        return f"{self.rule}: {self.message}{line}"


def rule_url(rule: str) -> str:
    """The page of a rule: its name in kebab case."""
    if rule in _NO_URL or rule.startswith(PREFIX):
        return ""
    out = ""
    for i, ch in enumerate(rule):
        starts_word = ch.isupper() and i and (rule[i - 1].islower() or rule[i + 1 : i + 2].islower())
        out += ("-" if starts_word else "") + ch.lower()
    return f"{URL}{out}/"


# -- options -----------------------------------------------------------------


class CheckOptions(Value):
    """What ``# check=`` or the build argument asks for."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def enabled(self, rule: str) -> bool:
        """Whether ``rule`` is reported: ``skip`` has no say over experimental rules."""
        if rule in EXPERIMENTAL:
            return rule in self.experimental or "all" in self.experimental
        if rule in EXTRA_RULES and rule not in BY_DEFAULT:
            return rule in self.experimental or PREFIX in self.experimental
        return rule not in self.skip and "all" not in self.skip

    def merged(self, other: CheckOptions) -> CheckOptions:
        """With an instruction's own options added; its ``error`` does not count."""
        return CheckOptions(self.skip | other.skip, self.experimental | other.experimental, self.error)


def parse_options(text: str) -> CheckOptions:
    """``skip=A,B;error=true;experimental=all``; raises ValueError."""
    found: dict[str, frozenset[str]] = {}
    error = False
    if not text:
        return CheckOptions()
    for part in text.split(";", 2):
        key, equals, value = part.strip().partition("=")
        if not equals or key not in ("skip", "error", "experimental"):
            raise ValueError(f"invalid check option {quote(part)}")
        if key == "error":
            try:
                error = parse_bool(value.strip())
            except ValueError as e:
                raise ValueError(f"failed to parse check option {quote(part)}: {e}") from None
        else:
            found[key] = frozenset(name.strip() for name in value.split(","))
    return CheckOptions(found.get("skip", frozenset()), found.get("experimental", frozenset()), error)


def options_of(dockerfile: Dockerfile, build_args: Mapping[str, str] | None = None) -> CheckOptions:
    """The options in effect: the build argument replaces the directive.  Raises DockerfileError."""
    text = (build_args or {}).get(BUILD_ARG)
    if text is not None:
        try:
            return parse_options(text)
        except ValueError as e:
            raise DockerfileError(f"failed to parse build-arg:{BUILD_ARG}: {e}") from None
    text = dict(dockerfile.directives).get("check", "").split(" ")[0]
    if not text:
        return CheckOptions()
    try:
        return parse_options(text)
    except ValueError as e:
        lines = dockerfile.source.split("\n")
        number = next((n for n, line in enumerate(lines, 1) if "check" in line.lower()), 1)
        raise DockerfileError(
            f"failed to parse check options: {e}",
            span=Span(dockerfile.filename, number, number, dockerfile.source),
        ) from None


def inline_options(comments: Iterable[str]) -> CheckOptions | None:
    """The options of the first ``# check=`` comment above an instruction; a wrong one is ignored."""
    for comment in comments:
        key, equals, value = comment.partition("=")
        if equals and key.strip().lower() == "check":
            try:
                return parse_options(value.strip().split(" ")[0])
            except ValueError:
                return None
    return None


class Linter:
    """Collects warnings under some options."""

    def __init__(self, options: CheckOptions) -> None:
        self.options = options
        self.warnings: list[LintWarning] = []

    def report(self, rule: str, message: str, at: Instruction) -> None:
        """Keep a finding at an instruction, unless an option silences it."""
        options = self.options
        if at.comments and (inline := inline_options(at.comments)) is not None:
            options = options.merged(inline)
        if not options.enabled(rule):
            return
        span = at.span
        if rule == "NoEmptyContinuation":
            span = Span(span.filename, span.last, span.last, span.source)
        meaning = RULES.get(rule) or EXTRA_RULES[rule]
        self.warnings.append(LintWarning(rule, message, meaning, rule_url(rule), span))


def failure(options: CheckOptions, warnings: Iterable[LintWarning]) -> DockerfileError | None:
    """What ``error=true`` makes of warnings, or None."""
    names = sorted({w.rule for w in warnings})
    if not options.error or not names:
        return None
    return DockerfileError("lint violation found for rules: " + ", ".join(names))


# -- rules over the file -----------------------------------------------------


def check(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str] | None = None,
    options: CheckOptions | None = None,
) -> list[LintWarning]:
    """The findings that the file alone gives, all stages looked at.  Raises DockerfileError for wrong options."""
    lint = Linter(options if options is not None else options_of(dockerfile, build_args))
    for arg in dockerfile.global_args:
        _syntax(lint, arg)
    for stage in dockerfile.stages:
        _stage_syntax(lint, stage.base)
        for instruction in stage.instructions:
            _syntax(lint, instruction)
    _stage_names(lint, dockerfile.stages)
    _casing(lint, dockerfile.stages)
    _from_lines(lint, dockerfile)
    return lint.warnings


def check_read(error: DockerfileError, build_args: Mapping[str, str] | None = None) -> list[LintWarning]:
    """What is found while reading a file, up to its first syntax error (spec §1.5)."""
    dockerfile, where = error.partial, error.span
    if not isinstance(dockerfile, Dockerfile) or where is None:
        return []
    lint = Linter(options_of(dockerfile, build_args))
    for arg in dockerfile.global_args:
        if arg.span.first < where.first:
            _syntax(lint, arg)
    for stage in dockerfile.stages:
        if stage.base.span.first < where.first:
            _stage_syntax(lint, stage.base)
        for instruction in stage.instructions:
            if instruction.span.first < where.first:
                _syntax(lint, instruction)
    return lint.warnings


def _syntax(lint: Linter, at: Instruction) -> None:
    if at.empty_continuation:
        lint.report("NoEmptyContinuation", "Empty continuation line", at)
    if isinstance(at, Maintainer):
        lint.report(
            "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", at
        )
    elif isinstance(at, Arg) and at.comments:
        names = [pair.name for pair in at.args]
        _description(lint, at, "ARG", names, names[0] if len(names) == 1 else "<arg_key>")


def _stage_syntax(lint: Linter, at: From) -> None:
    _syntax(lint, at)
    if not at.name:
        return
    if at.name_raw != at.name:
        lint.report("StageNameCasing", f"Stage name '{at.name_raw}' should be lowercase", at)
    case = _case(at.keyword)
    if case and case != _case(at.as_keyword):
        lint.report("FromAsCasing", f"'{at.as_keyword}' and '{at.keyword}' keywords' casing do not match", at)
    if at.comments:
        _description(lint, at, "FROM", [at.name, at.name_raw], at.name)


def _description(lint: Linter, at: Instruction, keyword: str, names: list[str], shown: str) -> None:
    last = at.comments[-1]
    if inline_options((last,)) is None and not any(last == n or last.startswith(n + " ") for n in names):
        lint.report(
            "InvalidDefinitionDescription",
            f"Comment for {keyword} should follow the format: `# {shown} <description>`",
            at,
        )


def _case(word: str) -> str:
    """``lower``, ``upper`` or ``""`` for mixed."""
    return "lower" if word == word.lower() else "upper" if word == word.upper() else ""


def _stage_names(lint: Linter, stages: tuple[Stage, ...]) -> None:
    seen: set[str] = set()
    for stage in stages:
        name = stage.name
        if name in ("scratch", "context"):
            lint.report(
                "ReservedStageName",
                f'Stage name should not use the same name as reserved stage "{name}"',
                stage.base,
            )
        if name and name in seen:
            lint.report(
                "DuplicateStageName",
                f'Duplicate stage name "{name}", stage names should be unique',
                stage.base,
            )
        seen.add(name)


def _casing(lint: Linter, stages: tuple[Stage, ...]) -> None:
    every = [i for stage in stages for i in (stage.base, *stage.instructions)]
    cases = [_case(i.keyword) for i in every]
    majority = "lower" if cases.count("lower") > cases.count("upper") else "upper"
    for instruction, case in zip(every, cases, strict=True):
        if case != majority:
            lint.report(
                "ConsistentInstructionCasing",
                f"Command '{instruction.keyword}' should match the case of the command majority ({majority}case)",
                instruction,
            )


def _from_lines(lint: Linter, dockerfile: Dockerfile) -> None:
    declared = [pair.name for arg in dockerfile.global_args for pair in arg.args]
    known = {*declared, *PLATFORM_ARGS}
    defaults: dict[str, str] | None = None
    for stage in dockerfile.stages:
        at = stage.base
        if at.platform:
            _platform_flag(lint, at)
        if "$" not in at.image and "$" not in at.platform:
            continue
        if defaults is None:
            defaults = default_args(dockerfile)
        seen: dict[str, None] = {}
        results: list[str] = []
        for word in (at.image, at.platform):
            try:
                results.append(expand(word, defaults or {}, dockerfile.escape, on_missing=seen.setdefault))
            except BuildError:
                results.append("?")
        for name in seen:
            if name not in known:
                lint.report(
                    "UndefinedArgInFrom",
                    f"FROM argument '{name}' is not declared{hint(name, [*declared, *PLATFORM_ARGS])}",
                    at,
                )
        if "$" in at.image and results[0] != "?" and not _valid_image(results[0]):
            lint.report(
                "InvalidDefaultArgInFrom",
                f"Default value for ARG {at.image} results in empty or invalid base image name",
                at,
            )


def default_args(dockerfile: Dockerfile) -> dict[str, str]:
    """Global ARGs by their defaults alone, with the automatic ones of this machine."""
    values = platform_args(dockerfile)
    for arg in dockerfile.global_args:
        for pair in arg.args:
            if pair.default is not None:
                try:
                    values[pair.name] = expand(pair.default, values, dockerfile.escape)
                except BuildError:
                    values.pop(pair.name, None)
    return values


def platform_args(dockerfile: Dockerfile, target: str = "") -> dict[str, str]:
    """The automatic ARGs for a build of the host's platform."""
    from ..oci.platform import host_platform

    p = host_platform()
    values = (p.full, p.os, p.os_version, p.arch, p.variant)
    last = dockerfile.stages[-1].name if dockerfile.stages else ""
    return dict(zip(PLATFORM_ARGS, (*values, *values, target or last or "default"), strict=True))


def _valid_image(name: str) -> bool:
    if name == "scratch":
        return True
    from ..oci.reference import parse

    try:
        parse(name)
    except BuildError:
        return False
    return True


def _platform_flag(lint: Linter, at: From) -> None:
    if at.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        lint.report(
            "RedundantTargetPlatform",
            f"Setting platform to predefined {at.platform} in FROM is redundant as this is the default behavior",
            at,
        )
        return
    if "$" in at.platform or at.platform == "local":
        return
    from ..oci.platform import parse

    try:
        platform = parse(at.platform)
    except BuildError:
        return
    if not at.name or (platform.os not in at.name and platform.arch not in at.name):
        lint.report(
            "FromPlatformFlagConstDisallowed",
            f'FROM --platform flag should not use constant value "{at.platform}"',
            at,
        )
