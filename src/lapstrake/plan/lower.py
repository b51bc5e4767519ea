"""Instructions to vertices, for one platform (spec dockerfile.md §5 to §12, §15).

``lower`` is a pure function: facts from the world come in through ``PlanInput.bases``; when one
is missing it returns ``NeedsBases`` instead of fetching it.
"""

from __future__ import annotations

from ..dockerfile.expand import expand
from ..dockerfile.instructions import CopyAdd, Dockerfile, From, Run, Stage, Workdir
from ..errors import BuildError, DockerfileError, Span
from ..graph.ops import SourceOp
from ..graph.vertex import Vertex
from ..oci.platform import Platform, host_platform, parse
from ..values import Value
from .image import BaseImage, ImageState
from .stages import base_stage, did_you_mean, find_target, reachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .request import BuildRequest, ImageEdits, Pairs

BaseKey = tuple[str, Platform]


class NeedsBases(Value):
    """Base images whose config the planner must know first."""

    wanted: tuple[tuple[str, Platform, Span | None], ...]


class Plan(Value):
    """One platform's graph: the result vertex (None: empty), the image config, what was left out."""

    platform: Platform
    target: Vertex | None
    image: ImageState
    base_layers: int
    skipped: tuple[str, ...]
    warnings: tuple[object, ...] = ()
    layer_vertices: tuple[Vertex, ...] = ()  # one per layer-producing history entry, in order
    base_configs: tuple[tuple[int, dict[str, Any]], ...] = ()  # stage index, its base's config


class PlanInput(Value):
    """What ``lower`` works on.  ``contexts``: named contexts resolved to (scheme, identifier).
    ``linked``: plans of other requests, which contexts of scheme ``target`` go on from; ``name`` tells
    this request's steps from theirs."""

    dockerfile: Dockerfile
    request: BuildRequest
    platform: Platform
    bases: dict[BaseKey, BaseImage]
    contexts: dict[str, tuple[str, str]]
    multi: bool = False
    epoch: int | None = None
    main_context: tuple[str, str] = ("local", "context")
    linked: Mapping[tuple[str, Platform], Plan] = {}
    name: str = ""


class StageState:
    """One stage while its instructions are lowered."""

    def __init__(self, stage: Stage, platform: Platform, image: ImageState, root: Vertex | None) -> None:
        self.stage = stage
        self.platform = platform
        self.image = image
        self.root = root
        self.args: dict[str, str | None] = {}  # declared ARGs in order
        self.env: dict[str, str] = dict(image.env())  # build-time environment
        self.own_cmd = False
        self.base_layers = 0
        self.layers: list[Vertex] = []
        self.position = self.total = 1  # steps so far and in all; the base counts when it is pulled
        self.replaced = False  # by a named context: its instructions don't count
        self.workdir_seen = False

    def inherit(self, other: StageState) -> None:
        """Start from another stage's result."""
        self.position = 0
        self.args = dict(other.args)
        self.env = dict(other.env)
        self.base_layers = other.base_layers
        self.layers = list(other.layers)
        self.workdir_seen = other.workdir_seen


class Planner:
    """Holds the state of one ``lower`` call."""

    def __init__(self, inp: PlanInput) -> None:
        self.inp = inp
        self.df = inp.dockerfile
        self.request = inp.request
        self.missing: list[tuple[str, Platform, Span | None]] = []
        self.done: dict[int, StageState] = {}
        self.build_args = dict(inp.request.build_args)
        self.globals = self._global_args()
        self.warnings: list[object] = []
        self.base_configs: dict[int, dict[str, Any]] = {}

    def _platform_args(self) -> dict[str, str]:
        host, target = host_platform(), self.inp.platform
        out = {}
        for prefix, p in (("BUILD", host), ("TARGET", target)):
            out[prefix + "PLATFORM"] = p.full
            out[prefix + "OS"] = p.os
            out[prefix + "OSVERSION"] = p.os_version
            out[prefix + "ARCH"] = p.arch
            out[prefix + "VARIANT"] = p.variant
        last = self.df.stages[-1].name if self.df.stages else ""
        out["TARGETSTAGE"] = self.request.target or last or "default"
        for name in out:
            if name in self.build_args:
                out[name] = self.build_args[name]
        return out

    def _global_args(self) -> dict[str, str | None]:
        values: dict[str, str | None] = dict(self._platform_args())
        self.automatic = set(values)
        for ins in self.df.global_args:
            for arg in ins.args:
                if arg.name in self.build_args:
                    values[arg.name] = self.build_args[arg.name]
                elif arg.default is not None:
                    known = {k: v for k, v in values.items() if v is not None}
                    values[arg.name] = self.expand(arg.default, known, ins.span)
                elif arg.name not in self.automatic:
                    values[arg.name] = None
        return values

    def expand(self, word: str, env: dict[str, str], span: Span) -> str:
        """``expand`` with the instruction's place added to its errors."""
        if "$" not in word and "'" not in word and '"' not in word and self.df.escape not in word:
            return word
        try:
            return expand(word, env, self.df.escape)
        except BuildError as exc:
            if exc.span is None:
                raise DockerfileError(exc.message, span=span, hint=exc.hint) from exc
            raise

    # -- stages ---------------------------------------------------------------

    def stage(self, stage: Stage) -> StageState | None:
        """Lower one stage (and what it stands on); None while bases are missing."""
        if stage.index in self.done:
            return self.done[stage.index]
        state = self._base_of(stage)
        if state is None:
            return None
        from .lower_run import Lowering

        if not state.replaced and not Lowering(self, state).run_all():
            return None
        self.done[stage.index] = state
        return state

    def from_platform(self, frm: From, env: dict[str, str]) -> Platform:
        if not frm.platform:
            return self.inp.platform
        text = self.expand(frm.platform, env, frm.span)
        if not text:
            names = [n for n in (_only_variable(frm.platform),) if n]
            close = did_you_mean(names[0], self.globals) if names else ""
            raise DockerfileError(
                f"empty platform value from expression {frm.platform}{close}", span=frm.span
            )
        try:
            return parse(text)
        except BuildError as exc:
            raise DockerfileError(exc.message, span=frm.span, hint=exc.hint) from exc

    def _base_of(self, stage: Stage) -> StageState | None:
        frm = stage.base
        env = {k: v for k, v in self.globals.items() if v is not None}
        image = self.expand(frm.image, env, frm.span)
        if self.request.edits and self.request.edits.base and stage is self.df.stages[0]:
            image = self.request.edits.base
        if not image:
            raise DockerfileError(f"base name ({frm.image}) should not be blank", span=frm.span)
        platform = self.from_platform(frm, env)
        own = self.context_for(frm.name, platform) if frm.name else None
        override = own or self.context_for(image, platform)
        if override is None:
            other = base_stage(self.df, stage, image)
            if other is not None:
                return self._from_stage(stage, other)
            if image == "scratch":
                state = StageState(stage, platform, ImageState.scratch(platform), None)
                state.position = 0
                return state
            scheme, ident = "image", image
        else:
            scheme, ident = override
        if scheme == "stage-image":
            scheme = "image"
        if scheme == "target":
            state = self._from_linked(stage, ident, platform)
            state.replaced = own is not None
            return state
        if scheme != "image":
            source = self.source(scheme, ident, image)
            state = StageState(stage, platform, ImageState.scratch(platform), source)
            state.replaced = own is not None
            return state
        base = self.base_image(ident, platform, frm.span)
        if base is None:
            return None
        self.base_configs[stage.index] = base.config
        config = base.config if self.request.edits is None else _unlabelled(base.config, self.request.edits)
        state = StageState(stage, platform, ImageState.of_base(config, platform), None)
        state.replaced = own is not None
        state.base_layers = base.layers
        triggers = [] if own else list((base.config.get("config") or {}).get("OnBuild") or [])
        state.total = 1 + _steps(stage, triggers)
        if base.layers:
            label = self.label(state, 1, f"FROM {base.ref}")
            state.root = Vertex(
                SourceOp("image", base.ref, platform), (), label, span=frm.span, stage=stage.name
            )
        state.image.config["_onbuild"] = triggers
        return state

    def _from_stage(self, stage: Stage, other: Stage) -> StageState | None:
        parent = self.stage(other)
        if parent is None:
            return None
        platform = parent.platform
        state = StageState(stage, platform, parent.image.copy(), parent.root)
        state.inherit(parent)
        state.image.config["_onbuild"] = list(state.image.c.pop("OnBuild", None) or [])
        return state

    def _from_linked(self, stage: Stage, name: str, platform: Platform) -> StageState:
        plan = self.linked(name, platform, stage.base.span)
        state = StageState(stage, plan.platform, plan.image.copy(), plan.target)
        state.base_layers = plan.base_layers
        state.layers = list(plan.layer_vertices)
        self.base_configs[stage.index] = plan.image.config
        state.image.config["_onbuild"] = list(state.image.c.pop("OnBuild", None) or [])
        return state

    def linked(self, name: str, platform: Platform, span: Span) -> Plan:
        """Another request's plan for ``platform``, or its only one."""
        plans = {p: plan for (n, p), plan in self.inp.linked.items() if n == name}
        found = plans.get(platform) or (next(iter(plans.values())) if len(plans) == 1 else None)
        if found is None:
            raise DockerfileError(
                f"target {name} is not built for {platform}",
                span=span,
                hint=f"it is built for {', '.join(map(str, plans))}" if plans else None,
            )
        return found

    def base_image(self, name: str, platform: Platform, span: Span | None) -> BaseImage | None:
        """A known base, or None after asking for it."""
        found = self.inp.bases.get((name, platform))
        if found is None:
            item = (name, platform, span)
            if item not in self.missing:
                self.missing.append(item)
        return found

    def context_for(self, name: str, platform: Platform) -> tuple[str, str] | None:
        """A named context that replaces ``name``."""
        contexts = self.inp.contexts
        if not contexts or name in ("scratch", "context"):
            return None
        for key in (f"{_context_key(name)}::{platform}", _context_key(name)):
            if key in contexts:
                return contexts[key]
        return None

    def source(self, scheme: str, ident: str, name: str) -> Vertex:
        """A local, git or http source vertex."""
        own = f"{self.inp.name} " if self.inp.name else ""
        label = (
            f"[{own}internal] load build context"
            if name == "context"
            else f"[{own}context {name}] load from {scheme}"
        )
        attrs: Pairs = (("unpack", "1"),) if scheme == "http" else ()
        rules = self.request.policy
        if rules and scheme in ("http", "git"):
            from .policy import git_url, http_url

            ident, checksum = (http_url if scheme == "http" else git_url)(rules, ident)
            attrs += (("checksum", checksum),) if checksum else ()
        return Vertex(SourceOp(scheme, ident, None, attrs), (), label)

    def label(self, state: StageState, n: int, text: str) -> str:
        """``[platform stage n/m] text`` (spec dockerfile.md §7)."""
        parts = [self.inp.name] if self.inp.name else []
        if self.inp.multi:
            p = str(state.platform)
            if state.platform != self.inp.platform:
                p += "->" + (
                    self.inp.platform.arch
                    if self.inp.platform.os == state.platform.os
                    else str(self.inp.platform)
                )
            parts.append(p)
        stage = state.stage
        if len(self.df.stages) > 1:
            parts.append(stage.name or f"stage-{stage.index}")
        parts.append(f"{n}/{state.total}")
        return f"[{' '.join(parts)}] {text}"


def _steps(stage: Stage, triggers: list[str]) -> int:
    """How many numbered steps a stage has above its base."""
    own = sum(isinstance(i, (CopyAdd, Run, Workdir)) for i in stage.instructions)
    return own + sum(t.split(None, 1)[0].upper() in ("ADD", "COPY", "RUN", "WORKDIR") for t in triggers)


def _only_variable(text: str) -> str:
    """NAME of ``$NAME`` or ``${NAME}``, else an empty string."""
    name = text[1:]
    if text.startswith("${") and text.endswith("}"):
        name = text[2:-1]
    return name if text.startswith("$") and name.replace("_", "a").isalnum() else ""


def _context_key(name: str) -> str:
    from ..oci import reference

    try:
        full = reference.parse(name).full
    except BuildError:
        return name
    return full.removesuffix(":latest")


def context_keys(contexts: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Named contexts by normalised name, as ``Planner.context_for`` looks them up."""
    out = {}
    for name, value in contexts.items():
        base, sep, plat = name.partition("::")
        out[_context_key(base) + sep + plat] = value
    return out


def _edit(image: ImageState, edits: ImageEdits) -> None:
    """Change the finished image's variables."""
    for name, value in edits.env:
        image.set_env(name, value)
    if edits.unset_env:
        image.c["Env"] = [e for e in image.c.get("Env") or [] if e.partition("=")[0] not in edits.unset_env]


def _unlabelled(config: dict[str, Any], edits: ImageEdits) -> dict[str, Any]:
    """A base's config without the labels that are not wanted."""
    own = config.get("config") or {}
    labels = own.get("Labels") or {}
    kept = {k: v for k, v in labels.items() if edits.inherit_labels and k not in edits.unset_labels}
    return {**config, "config": {**own, "Labels": kept}}


def lower(inp: PlanInput) -> Plan | NeedsBases:
    """One platform's plan, or the bases it needs first."""
    planner = Planner(inp)
    target = find_target(inp.dockerfile, inp.request.target)
    needed = reachable(inp.dockerfile, target)
    state = None
    for stage in needed:  # file order: dependencies first, and all missing bases in one round
        if stage is not target and stage.name and planner.context_for(stage.name, inp.platform):
            continue  # a named context stands for it, if it is used at all
        got = planner.stage(stage)
        if stage is target:
            state = got
    if planner.missing:
        return NeedsBases(tuple(planner.missing))
    if state is None:
        raise DockerfileError(f"circular dependency detected on stage: {target.name}", span=target.base.span)
    if inp.request.edits is not None:
        _edit(state.image, inp.request.edits)
    for name, value in inp.request.labels:
        state.image.c.setdefault("Labels", {})[name] = value
    state.image.config.pop("_onbuild", None)
    skipped = tuple(
        s.name or f"stage-{s.index}" for s in inp.dockerfile.stages if s.index not in planner.done
    )
    return Plan(
        inp.platform,
        state.root,
        state.image,
        state.base_layers,
        skipped,
        tuple(planner.warnings),
        tuple(state.layers),
        tuple(planner.base_configs.items()),
    )


__all__ = [
    "BaseImage",
    "NeedsBases",
    "Plan",
    "PlanInput",
    "Planner",
    "StageState",
    "context_keys",
    "did_you_mean",
    "lower",
]
