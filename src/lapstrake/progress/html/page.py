"""Puts the page of a build together from its record, its logs and its layers."""

from __future__ import annotations

from time import gmtime, strftime

from ...values import Value
from ...version import VERSION
from ..model import short_size as size
from .parts import LogView, e, graph, log, seconds, short, span, state, table, timeline
from .style import CSS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence
    from typing import Any

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MAX_SHOWN = 400  # files and arguments listed


class LayerView(Value):
    """One layer of an image.  ``size``: bytes as packed; ``files``: largest first, (path, bytes);
    ``count``/``unpacked``: all of them, 0 when the content is not here."""

    digest: str
    created_by: str
    size: int
    files: tuple[tuple[str, int], ...] = ()
    count: int = 0
    unpacked: int = 0


class ImageView(Value):
    """One image of the result."""

    platform: str
    digest: str
    layers: tuple[LayerView, ...]


def page(
    record: Mapping[str, Any],
    logs: Mapping[str, tuple[LogView, str]],
    images: Sequence[ImageView],
) -> str:
    """The whole document.  ``logs``: by vertex, with the path of the whole log."""
    steps = [s for s in record["steps"] if isinstance(s, dict)]
    steps.sort(key=lambda s: span(s)[0])
    start = min([float(record["started"]), *(span(s)[0] for s in steps)])
    end = max([float(record.get("completed", start)), *(span(s)[1] for s in steps)])
    numbers = {s["digest"]: n for n, s in enumerate(steps)}
    work = [s for s in steps if "internal]" not in str(s["name"])]
    drawn = graph(work, numbers)
    logged = {
        numbers[s["digest"]] for s in steps if s["digest"] in logs or s.get("statuses") or s.get("error")
    }
    told = logged | {numbers[s["digest"]] for s in work}
    body = [
        _head(record, end - start), _tiles(work, end - start), _sizes(record), _failure(record),
        _section("Timeline", f'<div class="panel">{timeline(steps, start, end, told)}</div>'),
        _section("Graph", f'<div class="panel scroll">{drawn}</div>') if drawn else "",
        _section("Steps", f'<div class="panel">{_steps(work, numbers, logged)}</div>'),
        _section("Logs", _logs([s for s in steps if numbers[s["digest"]] in logged], logs, numbers)), *map(_image, images), _warnings(record), _about(record),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>Build {e(record['name'])}</title><style>{CSS}</style></head><body><main>"
        + "".join(body)
        + f"<footer>Build {e(record['id'])} · written by Lapstrake {e(VERSION)}</footer></main></body></html>\n"
    )


def _section(title: str, body: str, note: str = "") -> str:
    return (
        f"<section><h2>{title}{f'<small>{note}</small>' if note else ''}</h2>{body}</section>" if body else ""
    )


def _head(record: Mapping[str, Any], spent: float) -> str:
    status = str(record.get("status", ""))
    asked = record["request"]
    when = strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(float(record["started"])))
    parts = [when, seconds(spent), ", ".join(asked.get("tags", [])), ", ".join(asked.get("platforms", []))]
    return (
        f'<div class="top"><h1>{e(record["name"])}</h1><span class="badge {e(status)}">{e(status)}</span></div>'
        f'<p class="sub">{" · ".join(e(p) for p in parts if p)}</p>'
    )


def _tiles(work: Sequence[Mapping[str, Any]], spent: float) -> str:
    stats = [s.get("stats") or {} for s in work]
    cached = sum(state(s) == "cached" for s in work)
    tiles = [
        (seconds(spent), "wall time"), (seconds(sum(float(x.get("cpu", 0)) for x in stats)), "CPU time of steps"),
        (f"{len(work) - cached}", "steps ran"), (f"{cached}", "steps cached"),
        (size(max((float(x.get("peak_rss", 0)) for x in stats), default=0)), "peak memory of a step"),
        (size(sum(float(x.get("bytes_added", 0)) for x in stats)), "added by steps"),
    ]  # fmt: skip
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for v, k in tiles)
        + "</div>"
    )


def _sizes(record: Mapping[str, Any]) -> str:
    result = record.get("result") or {}
    image, stages = float(result.get("image_bytes", 0)), float(result.get("stage_bytes", 0))
    if not image + stages:
        return ""
    share = image / (image + stages) * 100
    return _section(
        "What is in the image",
        f'<div class="panel"><div class="bar"><i class="img" style="width:{share:.2f}%"></i><i class="stg" style="width:{100 - share:.2f}%"></i></div>'
        f'<div class="legend"><span><span class="key done"></span>final image {size(image)}</span>'
        f'<span><span class="key cached"></span>build stages, left out {size(stages)}</span></div></div>',
    )


def _failure(record: Mapping[str, Any]) -> str:
    error = record.get("error")
    if not isinstance(error, dict):
        return ""
    out = [f"<p>{e(error.get('message', ''))}</p>"]
    place = error.get("place")
    if isinstance(place, dict):
        first, last, n = int(place.get("first", 0)), int(place.get("last", 0)), int(place.get("from", 1))
        lines = []
        for i, text in enumerate(list(place.get("lines", []))[:MAX_SHOWN], n):
            row = f"{i:4d}  {e(text)}"
            lines.append(f'<span class="hit">{row}</span>' if first <= i <= last else row)
        out.append(
            f'<p class="note mono">{e(place.get("file", ""))}:{first}</p><pre>' + "\n".join(lines) + "</pre>"
        )
    if error.get("hint"):
        out.append(f'<p class="note">hint: {e(error["hint"])}</p>')
    return _section("Failure", f'<div class="panel failure">{"".join(out)}</div>')


def _steps(work: Sequence[Mapping[str, Any]], numbers: Mapping[str, int], logged: Container[int]) -> str:
    head = [
        ("", "Step"),
        ("n", "Time"),
        ("n wide", "CPU"),
        ("n wide", "Memory"),
        ("n", "Added"),
        ("wide", "Cache"),
    ]
    rows = []
    for s in work:
        stats, (a, b) = s.get("stats") or {}, span(s)
        n, name = numbers[s["digest"]], e(short(s["name"])[:300])
        cached = state(s) == "cached"
        why = "hit" if cached else str(s.get("reason") or ("" if state(s) == "done" else state(s)))
        rows.append(
            [
                ("", f'<a href="#s{n}">{name}</a>' if n in logged else name),
                ("n", "" if cached else seconds(b - a)),
                ("n wide", seconds(float(stats["cpu"])) if "cpu" in stats else ""),
                ("n wide", size(float(stats["peak_rss"])) if stats.get("peak_rss") else ""),
                ("n", size(float(stats["bytes_added"])) if "bytes_added" in stats else ""),
                ("wide", e(why)),
            ]
        )
    ids = [f"s{n}" if n not in logged else "" for n in (numbers[s["digest"]] for s in work)]
    return table(head, rows, ids)


def _logs(
    steps: Sequence[Mapping[str, Any]], logs: Mapping[str, tuple[LogView, str]], numbers: Mapping[str, int]
) -> str:
    out = []
    for s in steps:
        found = logs.get(s["digest"])
        a, b = span(s)
        body = "".join(
            f'<p class="note">{e(p["item"])} {size(float(p.get("total") or p["current"])) if p.get("current") else ""}</p>'
            for p in s.get("statuses", ())
        )
        if s.get("error"):
            body += f'<p class="note e">{e(s["error"])}</p>'
        if found is not None:
            body += log(*found)
        detail = "cached" if state(s) == "cached" else seconds(b - a)
        detail += f" · {size(found[0].size)}" if found is not None else ""
        opened = " open" if state(s) == "error" else ""
        out.append(
            f'<details id="s{numbers[s["digest"]]}"{opened}><summary><span class="key {state(s)}"></span><span class="nm">{e(short(s["name"]))}</span>'
            f'<span class="tm">{detail}</span></summary><div class="in">{body}</div></details>'
        )
    return "".join(out)


def _image(image: ImageView) -> str:
    whole = max(sum(x.size for x in image.layers), 1)
    biggest = max((x.size for x in image.layers), default=0)
    rows = []
    for layer in image.layers:
        files = table(
            [("", "Largest files"), ("n", "Size")],
            [[("mono", "/" + e(p)), ("n", size(n))] for p, n in layer.files],
        )
        if not layer.count:
            files = '<p class="note">The content of this layer is not in the store, or it is empty.</p>'
        more = (
            f"{layer.count} file{'s' if layer.count > 1 else ''}, {size(layer.unpacked)}, "
            if layer.count
            else ""
        )
        rows.append(
            f'<details{" open" if layer.size == biggest else ""}><summary><span class="layer"><span class="nm">{e(layer.created_by) or "base"}</span>'
            f'<span class="tm">{more}{size(layer.size)} packed</span>'
            f'<span class="bar"><i class="img" style="width:{layer.size / whole * 100:.2f}%"></i></span></span></summary>'
            f'<div class="in"><p class="note mono">{e(layer.digest)}</p>{files}</div></details>'
        )
    note = f"{e(image.platform)} · {size(whole)} packed"
    return _section("Layers", f'<p class="note mono">{e(image.digest)}</p>' + "".join(rows), note)


def _warnings(record: Mapping[str, Any]) -> str:
    rows = [f"<li>{e(w.get('short', ''))}</li>" for w in record.get("warnings", ())]
    return _section(
        "Warnings",
        f'<div class="panel"><ul style="margin:0;padding-left:20px">{"".join(rows)}</ul></div>'
        if rows
        else "",
    )


def _about(record: Mapping[str, Any]) -> str:
    asked, result = record["request"], record.get("result") or {}
    pairs: list[tuple[str, str]] = [
        ("context", asked.get("context", "")), ("Dockerfile", asked.get("dockerfile", "Dockerfile")),
        ("target", asked.get("target", "")), ("platforms", ", ".join(asked.get("platforms", []))),
        ("tags", ", ".join(asked.get("tags", []))), ("image", result.get("digest", "")),
        ("not needed", ", ".join(result.get("skipped", []))), ("builder", record.get("builder", "")),
    ]  # fmt: skip
    for title in ("build_args", "labels", "named_contexts"):
        found = list((asked.get(title) or {}).items())[:MAX_SHOWN]
        pairs += [(title.rstrip("s").replace("_", " "), f"{k}={v}") for k, v in found]
    pairs += [("secret", str(s)) for s in asked.get("secrets", ())]
    pairs += [("made from", f"{m.get('uri', '')} {m.get('digest', '')}") for m in record.get("materials", ())]
    rows = "".join(f"<dt>{e(k)}</dt><dd class=mono>{e(v)}</dd>" for k, v in pairs if v)
    return _section("What was asked", f'<div class="panel"><dl class="pairs">{rows}</dl></div>')
