"""What provenance tells of a build: collected from the request, the plans and the records (oci.md §9.3).

Values of secrets are never at hand here.  Build arguments are; ``attest.provenance`` decides who sees them.
"""

from __future__ import annotations

import os

from ..attest.provenance import BuildFacts, Details, Material
from ..graph.ops import CopyOp, ExecOp, SourceOp
from ..graph.vertex import walk
from ..oci.platform import host_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..dockerfile.instructions import Dockerfile
    from ..graph.vertex import Vertex
    from ..plan.lower import Plan
    from ..plan.request import BuildRequest
    from ..worker.local import LocalWorker
    from .contexts import Inputs

_SCHEMES = {"image": "docker-image://", "git": "git://", "http": "", "local": "local://"}


def build_facts(
    plan: Plan,
    request: BuildRequest,
    worker: LocalWorker,
    inputs: Inputs,
    dockerfile: Dockerfile,
    environ: Mapping[str, str],
) -> BuildFacts:
    """Everything but times, the invocation and the layers."""
    vertices = walk([plan.target]) if plan.target is not None else []
    execs = [v.op for v in vertices if isinstance(v.op, ExecOp)]
    used = {v.op.identifier for v in vertices if isinstance(v.op, SourceOp) and v.op.scheme == "local"}
    local = inputs.origin is None
    names = ["dockerfile"] if local else []
    names += ["context"] if local and any(i.partition("@")[0] == "context" for i in used) else []
    names += [k for k, (scheme, ident) in inputs.named.items() if scheme == "local" and ident in used]
    config = Material(*inputs.origin) if inputs.origin is not None else Material("", local=True)
    materials = [m for v in vertices if (m := _material(v, worker)) is not None]
    if inputs.origin is not None:
        materials.append(config)
    secrets = {m.id: not m.required for op in execs for m in op.mounts if m.kind == "secret"}
    agents = {m.id: not m.required for op in execs for m in op.mounts if m.kind == "ssh"}
    steps = {v.digest: f"step{n}" for n, v in enumerate(vertices)}
    details = Details(
        secrets=tuple(secrets.items()), ssh=tuple(agents.items()),
        steps=tuple(_step(v, steps) for v in vertices), digest_mapping=tuple(sorted(steps.items())),
        sources=((inputs.dockerfile_name, inputs.dockerfile, "Dockerfile"),),
        locations=tuple((steps[v.digest], _location(v)) for v in vertices if v.span is not None),
        vcs=git_facts(request.context, environ) if local else (),
    )  # fmt: skip
    return BuildFacts(
        plan.platform, host_platform(), config, inputs.dockerfile_name, tuple(_args(request, dockerfile)), tuple(dict.fromkeys(names)),
        tuple(materials), hermetic=all(op.network == "none" for op in execs), details=details,
    )  # fmt: skip


def _args(request: BuildRequest, dockerfile: Dockerfile) -> list[tuple[str, str]]:
    """The frontend's options, under BuildKit's names."""
    out = [(f"build-arg:{k}", v) for k, v in request.build_args]
    out += [(f"label:{k}", v) for k, v in request.labels]
    out += [(f"context:{k}", v if "://" in v else f"local:{k}") for k, v in request.named_contexts]
    syntax = dict(dockerfile.directives).get("syntax", "")
    for key, value in (
        ("target", request.target),
        ("source", syntax.split(" ")[0]),
        ("cmdline", syntax),
        ("no-cache", "" if request.no_cache else ",".join(request.no_cache_filter)),
        ("force-network-mode", "" if request.network == "default" else request.network),
        ("add-hosts", ",".join(f"{h}={ip}" for h, ip in request.add_hosts)),
        ("shm-size", str(request.shm_size or "")),
        ("ulimit", ",".join(f"{n}={a}:{b}" for n, a, b in request.ulimits)),
    ):
        if value:
            out.append((key, value))
    if request.no_cache:
        out.append(("no-cache", ""))
    return out


def _material(v: Vertex, worker: LocalWorker) -> Material | None:
    op = v.op
    if not isinstance(op, SourceOp) or op.scheme == "scratch":
        return None
    if op.scheme == "local":
        return Material(op.identifier, local=True)
    if op.scheme == "image":
        return image_material(op, worker)
    key = worker.source_key(v) or ""
    if op.scheme == "git":
        kind = "sha256" if len(key) == 64 else "sha1"
        return Material(op.identifier, ((kind, key),) if key else ())
    algorithm, _, rest = key.partition(":")
    return Material(op.identifier, ((algorithm, rest.partition(":")[0]),) if rest else ())


def image_material(op: SourceOp, worker: LocalWorker) -> Material:
    """An image by its familiar name; the digest is what the name stood for (an index, where there is one)."""
    from ..attest.statement import image_uri

    name, _, digest = op.identifier.partition("@")
    kind, shown = "docker", name
    if name.startswith("layout.lapstrake.invalid/"):
        kind, shown = "oci", name.partition("/")[2]
    tagged = ":" in name.rpartition("/")[2]
    uri = image_uri(shown if tagged else f"{shown}@{digest}", op.platform, kind=kind)
    top = worker.p.images.known_digest(name) if tagged else ""
    algorithm, _, value = (top or digest).partition(":")
    return Material(uri, ((algorithm, value),) if value else ())


def _location(v: Vertex) -> dict[str, Any]:
    span = v.span
    if span is None:
        return {}
    return {"locations": [{"ranges": [{"start": {"line": span.first}, "end": {"line": span.last}}]}]}


def _step(v: Vertex, steps: dict[str, str]) -> dict[str, Any]:
    """One vertex as LLB's JSON shows its op."""
    inputs = [f"{steps[i.digest]}:0" for i in v.inputs]
    out: dict[str, Any] = {"id": steps[v.digest], "op": {"Op": _op(v), "constraints": {}}}
    if inputs:
        out["inputs"] = inputs
    platform = getattr(v.op, "platform", None)
    if platform is not None:
        out["op"]["platform"] = {"OS": platform.os, "Architecture": platform.arch}
        if platform.variant:
            out["op"]["platform"]["Variant"] = platform.variant
    return out


def _op(v: Vertex) -> dict[str, Any]:
    from ..attest.provenance import redact

    op = v.op
    if isinstance(op, SourceOp):
        return {"source": {"identifier": _SCHEMES.get(op.scheme, "") + redact(op.identifier)}}
    if isinstance(op, ExecOp):
        meta = {"args": list(op.args), "env": list(op.env), "cwd": op.cwd, "user": op.user}
        mounts = [{"input": 0, "dest": "/", "output": 0}]
        mounts += [
            {"input": m.input, "dest": m.target, "mountType": m.kind.upper(), "readonly": m.readonly}
            for m in op.mounts
        ]
        return {"exec": {"meta": {k: w for k, w in meta.items() if w}, "mounts": mounts}}
    if isinstance(op, CopyOp):
        copy = {"src": list(op.sources), "dest": op.dest, "chown": op.chown, "chmod": op.chmod}
        return {"file": {"actions": [{"Action": {"copy": {k: w for k, w in copy.items() if w}}}]}}
    return {"file": {"actions": [{"Action": {"mkdir": {"path": op.path, "makeParents": True}}}]}}


def git_facts(context: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(source, revision) of a context in a git working tree; nothing outside of one or without git."""
    if environ.get("BUILDX_GIT_INFO", "true").lower() in ("0", "f", "false") or not os.path.isdir(context):
        return ()
    revision = _git(context, environ, "rev-parse", "HEAD")
    if not revision:
        return ()
    if environ.get("BUILDX_GIT_CHECK_DIRTY", "").lower() in ("1", "t", "true"):
        revision += "-dirty" if _git(context, environ, "status", "--porcelain", "--", ".") else ""
    source = _git(context, environ, "config", "--get", "remote.origin.url")
    scheme, sep, rest = source.partition("://")
    if sep and scheme in ("http", "https"):  # no credentials in an image
        host, slash, path = rest.partition("/")
        source = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return (*((("source", source),) if source else ()), ("revision", revision))


def git_top(context: str, environ: Mapping[str, str]) -> str:
    """The working tree's directory."""
    return _git(context, environ, "rev-parse", "--show-toplevel")


def _git(context: str, environ: Mapping[str, str], *words: str) -> str:
    """What git says, without hooks, helpers or file watchers of the working tree's own configuration."""
    import subprocess

    safe = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat")
    env = {k: v for k, v in environ.items() if not k.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *safe, "-C", context, *words],
            env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""
