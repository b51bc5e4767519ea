"""What a build says when it is over: what ran, what it cost, and how big the image is against its stages."""

from __future__ import annotations

from ..progress.model import short_size, short_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..engine.build import BuildResult
    from ..errors import Span
    from ..events import Warned
    from ..plan.request import BuildRequest

_NAME_WIDTH = 56


def summary(result: BuildResult, mode: str) -> str:
    """The text for ``--summary=mode``; empty when there is nothing to say."""
    return _text(result.steps, _images([result], [""]), mode)


def joint_summary(results: Sequence[BuildResult], names: Sequence[str], mode: str) -> str:
    """The same of several builds in one run: steps that they share count once."""
    steps = {s["digest"]: s for result in results for s in result.steps}
    return _text(tuple(steps.values()), _images(results, names if len(names) > 1 else [""]), mode)


def _text(every: Sequence[Mapping[str, Any]], images: list[str], mode: str) -> str:
    steps = [s for s in every if "internal]" not in s["name"]]
    if mode == "none" or not steps:
        return ""
    parts = [step_table(steps)] if mode == "full" else []
    parts += [_line(steps), *images]
    return "\n".join(p.rstrip("\n") for p in parts if p) + "\n"


def _images(results: Sequence[BuildResult], names: Sequence[str]) -> list[str]:
    out = []
    for result, name in zip(results, names, strict=True):
        of = f"{name}: " if name else ""
        if result.sizes is not None:
            many = "s" if len(result.sizes.platforms) > 1 else ""
            about = "" if result.sizes.exact else "about "
            out.append(
                f"{of}build stages: {short_size(result.sizes.stages)}, final image{many}: {about}{short_size(result.sizes.image)}"
            )
        if result.skipped:
            out.append(f"{of}not needed, so not run: {', '.join(result.skipped)}")
    return out


def _line(steps: Sequence[Mapping[str, Any]]) -> str:
    work = [s for s in steps if s.get("inputs") or s["state"] == "cached"]
    ran = [s for s in work if s["state"] != "cached"]
    cached = len(work) - len(ran)
    if not work:
        return ""
    if not ran:
        return f"all {cached} steps cached" if cached > 1 else "1 step cached"
    text = f"{len(ran)} step{'s' if len(ran) > 1 else ''} ran"
    text += f", {cached} cached" if cached else ""
    slowest = max(ran, key=_spent)
    figures = _figures(ran)
    if len(ran) > 1 and _spent(slowest) >= 1:
        figures.append(f"slowest: {short_name(slowest['name'])} {short_time(_spent(slowest))}")
    return text + (f" ({', '.join(figures)})" if figures else "")


def _figures(ran: Sequence[Mapping[str, Any]]) -> list[str]:
    stats = [s.get("stats", {}) for s in ran]
    cpu = sum(x.get("cpu", 0) for x in stats)
    peak = max((x.get("peak_rss", 0) for x in stats), default=0)
    added = sum(x.get("bytes_added", 0) for x in stats)
    out = []
    if cpu >= 0.05:
        out.append(f"{short_time(cpu)} CPU")
    if peak >= 1 << 20:
        out.append(f"peak memory {short_size(peak)}")
    if added:
        out.append(f"{short_size(added)} added")
    return out


def _spent(step: Mapping[str, Any]) -> float:
    return max(float(step.get("completed", 0)) - float(step.get("started", 0)), 0.0)


def step_table(steps: Sequence[Mapping[str, Any]]) -> str:
    """A line for each step: wall and CPU time, peak memory, bytes added, hit or why not."""
    from .template import align

    rows = [["STEP", "TIME", "CPU", "MEMORY", "ADDED", "CACHE"]]
    for s in steps:
        stats = s.get("stats", {})
        rows.append(
            [
                short_name(s["name"]),
                "" if s["state"] == "cached" else short_time(_spent(s)),
                short_time(stats["cpu"]) if "cpu" in stats else "",
                short_size(stats["peak_rss"]) if stats.get("peak_rss") else "",
                short_size(stats["bytes_added"]) if "bytes_added" in stats else "",
                _cache(s),
            ]
        )
    return align(rows, 2)


def _cache(step: Mapping[str, Any]) -> str:
    if step["state"] == "cached":
        return "hit"
    if step["state"] in ("error", "canceled"):
        return str(step["state"])
    return str(step.get("reason") or ("ran" if step.get("inputs") else ""))


def short_name(name: str, width: int = _NAME_WIDTH) -> str:
    """A step's name in a table: without digests, cut at ``width``."""
    from ..progress.text import clip, safe

    head, at, rest = name.partition("@sha256:")
    if at and len(rest) >= 64:
        name = head + rest[64:]
    return clip(safe(name), width)


def github_marks(request: BuildRequest, warnings: Sequence[Warned], error: BaseException | None) -> str:
    """GitHub's marks beside the lines of the Dockerfile: for warnings and for what failed."""
    from ..errors import BuildError, Cancelled
    from ..progress.folds import annotation

    out = []
    for w in dict.fromkeys(warnings):
        file, line = _place(request, w.span)
        rule, _, text = w.short.partition(": ")
        out.append(annotation("warning", text or rule, file=file, line=line, title=rule if text else ""))
    if isinstance(error, BuildError) and not isinstance(error, Cancelled):
        file, line = _place(request, error.span)
        out.append(annotation("error", error.message, file=file, line=line, title="build failed"))
    return "".join(out)


def _place(request: BuildRequest, span: Span | None) -> tuple[str, int]:
    """The file as the repository names it, and the line."""
    import os

    if span is None:
        return "", 0
    given = request.dockerfile or ""
    if given and "://" not in given and os.path.basename(given) == os.path.basename(span.filename):
        path = given
    elif "://" in request.context or request.context in ("", "-"):
        return "", 0
    else:
        path = os.path.join(request.context, span.filename)
    return os.path.relpath(path), span.first
