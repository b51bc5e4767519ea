"""Which stages a target needs (spec dockerfile.md §7)."""

from __future__ import annotations

from ..dockerfile.instructions import CopyAdd, Dockerfile, Instruction, Run, Stage
from ..errors import DockerfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def find_target(df: Dockerfile, target: str) -> Stage:
    """The result stage: by name (case-insensitive), else the last one."""
    if not df.stages:
        raise DockerfileError("dockerfile contains no stages to build")
    if not target:
        return df.stages[-1]
    for stage in reversed(df.stages):
        if stage.name == target.lower():
            return stage
    raise DockerfileError(
        f'target stage "{target}" could not be found{did_you_mean(target, [s.name for s in df.stages if s.name])}'
    )


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`` (did you mean X?)`` or nothing: edit distance below 3."""
    best, best_d = "", 3
    for cand in candidates:
        d = _distance(word, cand, best_d)
        if d == 0:
            return ""
        if d < best_d:
            best, best_d = cand, d
    return f" (did you mean {best}?)" if best else ""


def _distance(a: str, b: str, cap: int) -> int:
    if abs(len(a) - len(b)) >= cap:
        return cap
    prev = list(range(len(b) + 1))
    for i, ca in enumerate(a, 1):
        row = [i]
        for j, cb in enumerate(b, 1):
            row.append(min(prev[j] + 1, row[-1] + 1, prev[j - 1] + (ca != cb)))
        prev = row
    return prev[-1]


def stage_ref(df: Dockerfile, stage: Stage, name: str) -> Stage | None:
    """The stage that ``--from=name`` in ``stage`` means, or None (a context or an image)."""
    if name.isdigit():
        n = int(name)
        if n >= len(df.stages) or n >= stage.index:
            return None
        return df.stages[n]
    found = None
    for s in df.stages:
        if s.name and s.name == name.lower():
            found = s
    if found is not None and found.index >= stage.index:
        earlier = [s for s in df.stages[: stage.index] if s.name == name.lower()]
        return earlier[-1] if earlier else found
    return found


def base_stage(df: Dockerfile, stage: Stage, image: str) -> Stage | None:
    """The earlier stage that ``FROM image`` means, or None."""
    for s in reversed(df.stages[: stage.index]):
        if s.name and s.name == image:
            return s
    return None


def mount_from(value: str) -> str:
    """The ``from`` of a raw ``--mount`` value, or ``""``."""
    for part in value.split(","):
        key, eq, val = part.strip().strip('"').partition("=")
        if eq and key.lower() == "from":
            return val
    return ""


def stage_sources(stage: Stage) -> list[tuple[str, Instruction, str]]:
    """Names that ``stage`` copies or mounts from, in order: (name, its instruction, a mount's raw value)."""
    out: list[tuple[str, Instruction, str]] = []
    for ins in stage.instructions:
        if isinstance(ins, CopyAdd) and ins.from_:
            out.append((ins.from_, ins, ""))
        elif isinstance(ins, Run):
            out.extend((name, ins, raw) for raw in ins.mounts if (name := mount_from(raw)))
    return out


def _too_late(name: str, stage: Stage, mount: str) -> str:
    if mount:
        from ..dockerfile.runflags import parse_mount

        target = parse_mount(mount, None).target
        return f'cannot mount from stage "{name}" to "{target}", stage needs to be defined before current command'
    return (
        f'cannot copy from stage "{name}", it needs to be defined before current stage '
        f'"{stage.name or stage.index}"'
    )


def reachable(df: Dockerfile, target: Stage) -> list[Stage]:
    """The stages ``target`` needs, in file order, itself included.  Raises on cycles and forward references."""
    seen = {target.index}
    work = [_needed(df, target)]  # a stack, not recursion: how long the chain is, the Dockerfile says
    while work:
        other = next(work[-1], None)
        if other is None:
            work.pop()
        elif other.index not in seen:
            seen.add(other.index)
            work.append(_needed(df, other))
    return [s for s in df.stages if s.index in seen]


def _needed(df: Dockerfile, stage: Stage) -> Iterator[Stage]:
    """The stages that one stage names itself, its base first."""
    base = base_stage(df, stage, stage.base.image)
    if base is not None:
        yield base
    for name, used, mount in stage_sources(stage):
        other = stage_ref(df, stage, name)
        if other is None:
            continue
        if other.index == stage.index:
            raise DockerfileError(
                f"circular dependency detected on stage: {stage.name or stage.index}",
                span=used.span,
            )
        if other.index > stage.index:
            raise DockerfileError(_too_late(name, stage, mount), span=used.span)
        yield other
