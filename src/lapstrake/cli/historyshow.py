"""``history inspect`` and ``history inspect attachment``: one build in full."""

from __future__ import annotations

import sys
import time

from ..errors import BuildError, UsageError
from .flags import Flag
from .history import begin, cached, completed, spent, status, steps, subcommand, when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..config import Settings
    from ..engine.history import History
    from .main import Globals

_LOG_TAIL = 64 << 10
_TYPES = {"provenance": ("slsa.dev/provenance",), "sbom": ("spdx.dev", "cyclonedx"), "index": ("image.index",), "manifest": ("image.manifest", "distribution.manifest.v2"), "image": ("image.config", "container.image")}  # fmt: skip


def command_inspect(words: Sequence[str], given: Globals) -> int:
    """``history inspect``."""
    flags = (
        Flag("format", help='"pretty", "json" or a Go template', default="pretty", metavar="FORMAT"),
        Flag("type", hidden=True),
    )
    about = "Show a build: what was asked, what ran, what it was made from, what came out."
    args, settings, history = begin(
        words, given, subcommand(given, "inspect", "[OPTIONS] [REF]", about, flags, 1)
    )
    record = history.find(args.args[0] if args.args else "")
    document = describe(record, history, settings)
    form = args.text("format")
    if form == "json":
        import json

        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif form == "pretty":
        sys.stdout.write(pretty(document, record, given.program))
    else:
        from .template import Fields, Template

        sys.stdout.write(Template(form).render(Fields(document)) + "\n")
    return 0


def describe(record: dict[str, Any], history: History, settings: Settings) -> dict[str, Any]:
    """The document of ``--format json``, with buildx's names."""
    asked = record["request"]
    end = float(record.get("completed", time.time()))
    out: dict[str, Any] = {
        "Name": record["name"], "Ref": record["id"], "Context": asked.get("context", ""),
        "Dockerfile": asked.get("dockerfile", "Dockerfile"), "Target": asked.get("target", ""),
        "Platform": asked.get("platforms", []), "NamedContexts": _pairs(asked.get("named_contexts")),
        "StartedAt": when(record["started"]), "CompletedAt": when(end) if "completed" in record else None,
        "Duration": round((end - float(record["started"])) * 1e9), "Status": str(record.get("status", "")),
        "NumCompletedSteps": completed(record), "NumTotalSteps": len(steps(record)), "NumCachedSteps": cached(record),
        "BuildArgs": _pairs(asked.get("build_args")), "Labels": _pairs(asked.get("labels")),
        "Config": {
            "Network": asked.get("network", ""), "NoCache": bool(asked.get("no_cache")),
            "NoCacheFilter": asked.get("no_cache_filter", []), "SourceDateEpoch": str(asked.get("source_date_epoch", "")),
            "ImageResolveMode": asked.get("pull") or "local", "Outputs": asked.get("outputs", []), "Tags": asked.get("tags", []),
            "Secrets": asked.get("secrets", []), "CacheFrom": asked.get("cache_from", []), "CacheTo": asked.get("cache_to", []),
        },
        "Materials": [{"URI": _uri(m), "Digests": [m["digest"]] if m.get("digest") else []} for m in record.get("materials", ())],
        "Attachments": attachments(record, settings),
        "Warnings": [w.get("short", "") for w in record.get("warnings", ())],
        "Result": record.get("result"), "Error": None,
        "Steps": [_step(s, record, history) for s in steps(record)],
    }  # fmt: skip
    if record.get("error"):
        out["Error"] = _error(record, history)
    return out


def _step(s: dict[str, Any], record: dict[str, Any], history: History) -> dict[str, Any]:
    start, end = float(s.get("started", record["started"])), s.get("completed")
    return {
        "Name": s["name"], "Digest": s["digest"], "State": s.get("state", ""), "StartedAt": when(start),
        "Duration": round((float(end) - start) * 1e9) if end is not None else None, "Stats": s.get("stats", {}),
        "Reason": s.get("reason", ""), "Error": s.get("error", ""), "LogPath": history.log_path(record, s),
    }  # fmt: skip


def _pairs(values: dict[str, str] | None) -> list[dict[str, str]]:
    return [{"Name": k, "Value": v} for k, v in (values or {}).items()]


def _uri(material: dict[str, Any]) -> str:
    if material.get("type") != "image":
        return str(material.get("uri", ""))
    from ..attest.statement import image_uri
    from ..oci.platform import parse

    try:
        platform = parse(material["platform"]) if material.get("platform") else None
        return image_uri(str(material["uri"]), platform)
    except BuildError:
        return str(material["uri"])


def _error(record: dict[str, Any], history: History) -> dict[str, Any]:
    error = record["error"]
    found = {"Message": error.get("message", ""), "Name": error.get("step", ""), "Hint": error.get("hint", ""), "Logs": [], "LogPath": ""}  # fmt: skip
    for step in steps(record):
        if step.get("state") == "error" and (path := history.log_path(record, step)):
            from ..engine.steplog import tail

            found["Name"] = step["name"]
            found["Logs"] = tail(path, _LOG_TAIL)[0].decode("utf-8", "replace").splitlines()[-10:]
            found["LogPath"] = path
    place = error.get("place")
    if isinstance(place, dict):
        found["Sources"] = _excerpt(place)
    return found


def _excerpt(place: dict[str, Any]) -> str:
    from ..errors import Span
    from .present import excerpt

    first = int(place.get("from", 1))
    source = "\n" * (first - 1) + "\n".join(map(str, place.get("lines", [])))
    return excerpt(Span(str(place.get("file", "")), int(place["first"]), int(place["last"]), source))


def pretty(d: dict[str, Any], record: dict[str, Any], program: str) -> str:
    """The text for people."""
    from ..progress.text import safe
    from .template import align

    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(record["started"])))
    share = f" ({100 * d['NumCachedSteps'] // d['NumTotalSteps']}% cached)" if d["NumTotalSteps"] else ""
    head = [
        ("Name:", d["Name"]), ("Context:", d["Context"]), ("Dockerfile:", d["Dockerfile"]), ("Target:", d["Target"]),
        ("Platforms:", ", ".join(d["Platform"])), ("Tags:", ", ".join(d["Config"]["Tags"])),
        ("Status:", status(record)), ("Started:", local), ("Duration:", spent(record, time.time())),
        ("Build Steps:", f"{d['NumCompletedSteps']}/{d['NumTotalSteps']}{share}"),
        ("Image:", (d["Result"] or {}).get("digest", "")), *_sizes(d["Result"] or {}),
    ]  # fmt: skip
    blocks = [align([(k, safe(str(v))) for k, v in head if v], 1)]
    for title, pairs in (
        ("BUILD ARG", d["BuildArgs"]),
        ("LABEL", d["Labels"]),
        ("NAMED CONTEXT", d["NamedContexts"]),
    ):
        if pairs:
            blocks.append(align([(title, "VALUE"), *((safe(p["Name"]), safe(p["Value"])) for p in pairs)]))
    from .summary import step_table

    if shown := [s for s in steps(record) if "internal]" not in s["name"]]:
        blocks.append(step_table(shown))
    if d["Materials"]:
        blocks.append(
            align([("URI", "DIGEST"), *((safe(m["URI"]), "".join(m["Digests"])) for m in d["Materials"])])
        )
    if d["Attachments"]:
        rows = [(a["Digest"], a["Platform"], safe(a["Type"])) for a in d["Attachments"]]
        blocks.append(align([("DIGEST", "PLATFORM", "TYPE"), *rows]))
    if d["Warnings"]:
        blocks.append("".join(f"WARNING: {safe(w)}\n" for w in d["Warnings"]))
    if d["Error"]:
        blocks.append(_pretty_error(d["Error"]))
    blocks.append(f"Print build logs: {program} history logs {d['Ref']}\n")
    return "\n".join(blocks)


def _sizes(result: dict[str, Any]) -> list[tuple[str, str]]:
    if "image_bytes" not in result:
        return []
    from ..progress.model import short_size as size

    return [
        ("Sizes:", f"build stages: {size(result['stage_bytes'])}, final image: {size(result['image_bytes'])}")
    ]


def _pretty_error(e: dict[str, Any]) -> str:
    from ..progress.text import safe
    from .present import log_tail

    text: str = log_tail(e["Name"], e["Logs"]) if e["Logs"] else ""
    text += str(e.get("Sources", "")) + f"Error: {safe(e['Message'])}\n"
    text += f"hint: {safe(e['Hint'])}\n" if e["Hint"] else ""
    return text + (f"The whole log of the step: {e['LogPath']}\n" if e["LogPath"] else "")


# -- attachments --------------------------------------------------------------------------------------


def attachments(record: dict[str, Any], settings: Settings) -> list[dict[str, Any]]:
    """What a build left besides its layers: index, manifests, configs and attestations that are still here."""
    digest = (record.get("result") or {}).get("digest", "")
    if not digest:
        return []
    from ..store.content import ContentStore

    content = ContentStore(settings.root)
    out: list[dict[str, Any]] = []
    top = _document(content, digest)
    if top is None:
        return []
    manifests = top.get("manifests")
    if isinstance(manifests, list):
        out.append({"Digest": digest, "Platform": "", "Type": str(top.get("mediaType", ""))})
        platforms = {m.get("digest"): _platform(m) for m in manifests}
        for m in manifests:
            of = (m.get("annotations") or {}).get("vnd.docker.reference.digest", "")
            _manifest(content, str(m.get("digest", "")), platforms.get(of) or _platform(m), out)
    else:
        _manifest(content, digest, ", ".join(record["request"].get("platforms", [])), out)
    return out


def _manifest(content: Any, digest: str, platform: str, out: list[dict[str, Any]]) -> None:
    doc = _document(content, digest)
    if doc is None:
        return
    statements = [
        layer
        for layer in doc.get("layers", [])
        if "in-toto.io/predicate-type" in (layer.get("annotations") or {})
    ]
    for layer in statements:
        kind = layer["annotations"]["in-toto.io/predicate-type"]
        out.append({"Digest": layer["digest"], "Platform": platform, "Type": str(kind)})
    if not statements:
        config = doc.get("config") or {}
        out.append({"Digest": digest, "Platform": platform, "Type": str(doc.get("mediaType", ""))})
        if config.get("digest") and content.has(config["digest"]):
            out.append(
                {"Digest": config["digest"], "Platform": platform, "Type": str(config.get("mediaType", ""))}
            )


def _platform(m: dict[str, Any]) -> str:
    p = m.get("platform") or {}
    if not p or p.get("os") == "unknown":
        return ""
    return "/".join(x for x in (p.get("os"), p.get("architecture"), p.get("variant")) if x)


def _document(content: Any, digest: str) -> dict[str, Any] | None:
    import json

    try:
        found = json.loads(content.read(digest)) if content.has(digest) else None
    except (BuildError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def command_attachment(words: Sequence[str], given: Globals) -> int:
    """``history inspect attachment``."""
    flags = (
        Flag("platform", help="Only of this platform", metavar="PLATFORM"),
        Flag("type", help='Only of this type: "provenance", "sbom", "index", "manifest", "image" or a media type', metavar="TYPE"),
    )  # fmt: skip
    about = "Print what a build attached: its provenance by default, or the attachment with a digest."
    args, settings, history = begin(
        words, given, subcommand(given, "inspect attachment", "[OPTIONS] [REF] [DIGEST]", about, flags, 2)
    )
    words = list(args.args)
    digest = words.pop() if words and words[-1].startswith("sha256:") else ""
    record = history.find(words[0] if words else "")
    if len(words) > 1:
        raise UsageError(f'invalid digest "{words[1]}"', hint="it begins with sha256:")
    found = attachments(record, settings)
    if digest:
        found = [a for a in found if a["Digest"] == digest]
    else:
        kinds = _TYPES.get(args.text("type") or "provenance", (args.text("type"),))
        found = [a for a in found if any(k in a["Type"] for k in kinds)]
    if args.text("platform"):
        found = [a for a in found if a["Platform"] == args.text("platform")]
    if not found:
        raise BuildError(
            f"no such attachment of build {record['id']}",
            hint="history inspect lists the attachments; what was pruned from the store is gone",
        )
    from ..store.content import ContentStore

    data = ContentStore(settings.root).read(found[0]["Digest"], 64 << 20)
    sys.stdout.flush()
    sys.stdout.buffer.write(data.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()
    return 0
