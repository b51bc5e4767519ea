"""The build checks that evaluate stages (spec lint.md §3.7, §3.10 to §3.14, §3.16, §3.19, §3.21, §3.22).

A light evaluation beside the planner's: it follows environments through stages, and knows
nothing of vertices.  Errors in words are left to the planner.
"""

from __future__ import annotations

from ..errors import BuildError, Span
from . import instructions as ins
from .expand import expand, expand_heredoc, expand_words
from .lint import CheckOptions, Linter, LintWarning, options_of, platform_args
from .suggest import hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from ..oci.platform import Platform
    from .ignore import IgnoreRules

_SECRET = frozenset(
    ("apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token")
)
_HARMLESS = frozenset(("public", "file", "version"))
_REMOTE = ("http://", "https://", "git://", "ssh://", "git@")
_EVERYTHING = frozenset(("*", "**", "**/*"))


class Facts:
    """What evaluation may know.

    ``stages``: the indices to report on (None: all); ``base_config(index)``: the image config
    document of a stage's base image, None when not known; ``platform``: the target's.
    """

    __slots__ = ("automatic", "base_config", "build_args", "ignore", "platform", "stages")

    def __init__(
        self,
        *,
        build_args: Mapping[str, str] | None = None,
        stages: Collection[int] | None = None,
        base_config: Callable[[int], Mapping[str, Any] | None] | None = None,
        platform: Platform | None = None,
        ignore: IgnoreRules | None = None,
        automatic: Mapping[str, str] | None = None,
    ) -> None:
        self.build_args = build_args or {}
        self.stages = stages
        self.base_config = base_config
        self.platform = platform
        self.ignore = ignore
        self.automatic = automatic


class _State:
    """A stage's environment while it is evaluated."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.declared: set[str] = set()
        self.env_known = True
        self.shell_known = True
        self.shell_set = False
        self.workdir_seen = False
        self.windows = False
        self.triggers: tuple[str, ...] = ()

    def child(self) -> _State:
        out = _State()
        out.env = dict(self.env)
        out.declared = set(self.declared)
        out.env_known, out.shell_known = self.env_known, self.shell_known
        out.shell_set, out.workdir_seen, out.windows = self.shell_set, self.workdir_seen, self.windows
        return out


def check_stages(
    dockerfile: ins.Dockerfile, facts: Facts, *, options: CheckOptions | None = None
) -> list[LintWarning]:
    """The findings of the stages in ``facts.stages``.  Raises DockerfileError for wrong options."""
    if options is None:
        options = options_of(dockerfile, facts.build_args)
    lint = Linter(options)
    silent = Linter(CheckOptions(frozenset(("all",))))
    run = _Evaluation(dockerfile, facts)
    for stage in dockerfile.stages:
        run.lint = lint if facts.stages is None or stage.index in facts.stages else silent
        run.stage(stage)
    return lint.warnings


class _Evaluation:
    """One pass over the stages in file order."""

    def __init__(self, dockerfile: ins.Dockerfile, facts: Facts) -> None:
        self.dockerfile = dockerfile
        self.facts = facts
        self.lint = Linter(CheckOptions())
        self.done: dict[str, _State] = {}
        self.state = _State()
        self.last: dict[type, ins.Instruction] = {}
        self.globals = self._globals()

    def _globals(self) -> dict[str, str]:
        automatic = self.facts.automatic
        values = dict(automatic if automatic is not None else platform_args(self.dockerfile))
        given = self.facts.build_args
        values.update({k: v for k, v in given.items() if k in values})
        for arg in self.dockerfile.global_args:
            for pair in arg.args:
                if pair.name in given:
                    values[pair.name] = given[pair.name]
                elif pair.default is not None:
                    values[pair.name] = self._quietly(pair.default, values)
        return values

    def _quietly(self, word: str, env: Mapping[str, str]) -> str:
        try:
            return expand(word, env, self.dockerfile.escape)
        except BuildError:
            return ""

    def stage(self, stage: ins.Stage) -> None:
        """Evaluate one stage and remember its state under its name."""
        image = self._quietly(stage.base.image, self.globals)
        parent = self.done.get(image)
        self.state = self._from_image(stage, image) if parent is None else parent.child()
        triggers = self.state.triggers if parent is None else parent.triggers
        self.state.triggers = ()
        self.last = {}
        for expression in triggers:
            self._trigger(expression, stage.base.span)
        for instruction in stage.instructions:
            self._visit(instruction)
        if stage.name:
            self.done[stage.name] = self.state

    def _trigger(self, expression: str, span: Span) -> None:
        from .parser import parse_onbuild

        try:
            self._visit(parse_onbuild(expression, span, self.dockerfile.escape))
        except BuildError:
            return

    def _from_image(self, stage: ins.Stage, image: str) -> _State:
        state = _State()
        document = (
            self.facts.base_config(stage.index)
            if self.facts.base_config is not None and image != "scratch"
            else None
        )
        if document is None:
            state.env_known = state.shell_known = image == "scratch"
            state.env["PATH"] = ""
            return state
        config = document.get("config")
        config = config if isinstance(config, dict) else {}
        for item in config.get("Env") or ():
            name, _, value = str(item).partition("=")
            state.env[name] = value
        state.env.setdefault("PATH", "")
        state.shell_set = bool(config.get("Shell"))
        state.windows = document.get("os") == "windows"
        state.triggers = tuple(str(t) for t in config.get("OnBuild") or ())
        self._base_platform(stage.base, document)
        return state

    def _base_platform(self, at: ins.From, document: Mapping[str, Any]) -> None:
        from ..oci.platform import Platform, parse

        expected = self.facts.platform
        if at.platform:
            try:
                expected = parse(self._quietly(at.platform, self.globals))
            except BuildError:
                return
        actual = Platform.from_json(dict(document))
        if (
            expected is None
            or not actual.os
            or not actual.arch
            or (actual.os, actual.arch) == (expected.os, expected.arch)
        ):
            return
        self.lint.report(
            "InvalidBaseImagePlatform",
            f'Base image {at.image} was pulled with platform "{actual}", expected "{expected}" for current build',
            at,
        )

    # -- instructions --------------------------------------------------------

    def _visit(self, at: ins.Instruction) -> None:
        missing: dict[str, None] = {}
        if isinstance(at, ins.Arg):
            self._arg(at, missing)
        elif isinstance(at, (ins.Env, ins.Label)):
            self._pairs(at, missing)
        elif isinstance(at, ins.CopyAdd):
            self._copy(at, missing)
        elif isinstance(at, ins.Run):
            self._run(at, missing)
        elif isinstance(at, ins.Workdir):
            self._workdir(at, missing)
        elif isinstance(at, ins.Expose):
            self._expose(at, missing)
        elif isinstance(at, ins.User):
            self._word(at.user, missing)
        elif isinstance(at, ins.StopSignal):
            self._word(at.signal, missing)
        elif isinstance(at, ins.Volume):
            for path in at.paths:
                self._word(path, missing)
        elif isinstance(at, ins.Shell):
            self.state.shell_set = True
        elif isinstance(at, ins.Onbuild):
            self.state.triggers = (*self.state.triggers, at.expression)
        elif isinstance(at, (ins.Cmd, ins.Entrypoint, ins.Healthcheck)):
            self._last_wins(at)
        if missing:
            self._undefined(at, missing)

    def _word(self, word: str, missing: dict[str, None]) -> str:
        try:
            return expand(word, self.state.env, self.dockerfile.escape, on_missing=missing.setdefault)
        except BuildError:
            return word

    def _undefined(self, at: ins.Instruction, missing: dict[str, None]) -> None:
        state = self.state
        if not state.env_known:
            return
        for name in missing:
            if name not in state.declared and not name.startswith("BUILDKIT_SBOM_SCAN_"):
                self.lint.report(
                    "UndefinedVar",
                    f"Usage of undefined variable '${name}'{hint(name, state.env, prefix='$')}",
                    at,
                )

    def _secret(self, at: ins.Instruction, keyword: str, name: str) -> None:
        parts = set(name.lower().split("_"))
        if parts & _SECRET and not parts & _HARMLESS:
            self.lint.report(
                "SecretsUsedInArgOrEnv",
                f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")',
                at,
            )

    def _arg(self, at: ins.Arg, missing: dict[str, None]) -> None:
        found: dict[str, str] = {}
        given = self.facts.build_args
        for pair in at.args:
            default = None if pair.default is None else self._word(pair.default, missing)
            value = given.get(pair.name, self.globals.get(pair.name) if default is None else default)
            self._secret(at, "ARG", pair.name)
            if value is not None:
                found[pair.name] = value
        # names of this very line are declared only behind it, as their expansion sees it
        if missing:
            self._undefined(at, missing)
            missing.clear()
        self.state.declared.update(pair.name for pair in at.args)
        self.state.env.update(found)

    def _pairs(self, at: ins.Env | ins.Label, missing: dict[str, None]) -> None:
        if at.legacy:
            word = at.keyword
            self.lint.report(
                "LegacyKeyValueFormat",
                f'"{word} key=value" should be used instead of legacy "{word} key value" format',
                at,
            )
        found = {self._word(name, missing): self._word(value, missing) for name, value in at.pairs}
        if isinstance(at, ins.Env):
            for name in found:
                self._secret(at, "ENV", name)
            if missing:
                self._undefined(at, missing)
                missing.clear()
            self.state.env.update(found)

    def _copy(self, at: ins.CopyAdd, missing: dict[str, None]) -> None:
        for source in at.sources:
            path = self._word(source, missing)
            if not at.from_ and not path.startswith(_REMOTE):
                self._ignored(at, path)
        for word in (at.dest, at.chown, at.chmod, at.checksum):
            self._word(word, missing)
        for heredoc in at.heredocs:
            if heredoc.expand:
                try:
                    expand_heredoc(heredoc.content, self.state.env, on_missing=missing.setdefault)
                except BuildError:
                    continue

    def _ignored(self, at: ins.CopyAdd, source: str) -> None:
        rules = self.facts.ignore
        if rules is None or rules.has_exceptions:
            return
        from .ignore import clean

        path = clean(source)
        if path in (".", "/"):
            hit = any(rule.pattern in _EVERYTHING for rule in rules.rules)
        else:
            hit = rules.excluded(path)
        if hit:
            verb = "Add" if at.add else "Copy"
            self.lint.report(
                "CopyIgnoredFile", f'Attempting to {verb} file "{path}" that is excluded by .dockerignore', at
            )

    def _run(self, at: ins.Run, missing: dict[str, None]) -> None:
        if not at.mounts:
            return
        from .runflags import parse_mount

        for mount in at.mounts:
            try:
                parse_mount(mount, lambda word: self._word(word, missing))
            except BuildError:
                continue

    def _workdir(self, at: ins.Workdir, missing: dict[str, None]) -> None:
        path = self._word(at.path, missing)
        absolute = path.startswith("/")
        if self.state.windows:
            absolute = absolute or path.startswith("\\") or path[1:2] == ":"
        if not absolute and not self.state.workdir_seen:
            self.lint.report(
                "WorkdirRelativePath",
                f'Relative workdir "{path}" can have unexpected results if the base image changes',
                at,
            )
        self.state.workdir_seen = True

    def _expose(self, at: ins.Expose, missing: dict[str, None]) -> None:
        from .numbers import parse_port

        words: list[str] = []
        for word in at.ports:
            try:
                words += expand_words(
                    word, self.state.env, self.dockerfile.escape, on_missing=missing.setdefault
                )
            except BuildError:
                continue
        for word in sorted(words):
            try:
                port = parse_port(word)
            except BuildError:
                continue
            if port.proto != port.proto.lower():
                self.lint.report(
                    "ExposeProtoCasing",
                    f"Defined protocol '{word}' in EXPOSE instruction should be lowercase",
                    at,
                )
            if port.ip or port.host:
                self.lint.report(
                    "ExposeInvalidFormat",
                    f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'",
                    at,
                )

    def _last_wins(self, at: ins.Cmd | ins.Entrypoint | ins.Healthcheck) -> None:
        earlier = self.last.get(type(at))
        if earlier is not None:
            self.lint.report(
                "MultipleInstructionsDisallowed",
                f"Multiple {earlier.keyword} instructions should not be used in the same stage because only the last one will be used",
                earlier,
            )
        self.last[type(at)] = at
        if (
            not isinstance(at, ins.Healthcheck)
            and at.command.shell
            and self.state.shell_known
            and not self.state.shell_set
        ):
            self.lint.report(
                "JSONArgsRecommended",
                f"JSON arguments recommended for {at.keyword} to prevent unintended behavior related to OS signals",
                at,
            )
