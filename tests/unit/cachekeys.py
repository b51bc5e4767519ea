"""A build's cache keys without building it: parse, plan, and pretend that every step ran."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from lapstrake.dockerfile.parser import parse
from lapstrake.graph.vertex import Vertex, walk
from lapstrake.oci.platform import Platform
from lapstrake.plan.image import BaseImage
from lapstrake.plan.lower import Plan, PlanInput, context_keys, lower
from lapstrake.plan.request import BuildRequest
from lapstrake.solver.keys import Keys, digest, local_identity
from lapstrake.solver.ports import Record
from lapstrake.source.local import LocalTree
from lapstrake.worker.run_file import selection_key

AMD64 = Platform("linux", "amd64")


class Bases(dict):  # type: ignore[type-arg]
    """Knows every image; ``pinned`` tells a name's digest apart from the usual one."""

    def __init__(self, pinned: dict[str, str] | None = None) -> None:
        super().__init__()
        self.pinned = pinned or {}

    def get(self, key: Any, default: Any = None) -> Any:
        name, platform = key
        found = (
            self.pinned.get(name)
            or hashlib.sha256(f"{name.split('/')[-1]}|{platform.full}".encode()).hexdigest()
        )
        config = {
            "config": {"Env": ["PATH=/bin"]}, "rootfs": {"diff_ids": ["sha256:1"]}, "history": [{"created_by": "base"}],
            "os": platform.os, "architecture": platform.arch,
        }  # fmt: skip
        return BaseImage(f"docker.io/library/{name}@sha256:{found}", config, 1)


class Worker:
    """Content keys of build contexts for real, of stages by who made them."""

    def __init__(self, contexts: dict[str, LocalTree]) -> None:
        self.contexts = contexts

    def source_key(self, vertex: Vertex) -> str:
        op = vertex.op
        return op.identifier.rpartition("@")[2] if op.scheme == "image" else op.identifier  # type: ignore[union-attr]

    def content_key(self, source: Vertex, record: Record, vertex: Vertex, index: int) -> str:
        return selection_key(self.contexts[source.op.identifier], vertex, index)  # type: ignore[union-attr]

    def run(self, *_: object) -> Record:
        raise AssertionError


def keys(
    text: str,
    context: Path,
    *,
    platform: Platform = AMD64,
    pinned: dict[str, str] | None = None,
    named: dict[str, Path] | None = None,
    **request: Any,
) -> dict[str, str]:
    """The key of every step, by the step's text."""
    contexts = {
        "context": LocalTree(str(context)),
        **{n: LocalTree(str(p)) for n, p in (named or {}).items()},
    }
    given = context_keys({n: ("local", n) for n in named or {}})
    plan = lower(
        PlanInput(
            parse(text.encode(), "Dockerfile"),
            BuildRequest(context=".", **request),
            platform,
            Bases(pinned),
            given,
        )
    )
    assert isinstance(plan, Plan) and plan.target is not None
    records: dict[str, Record] = {}
    made = Keys(Worker(contexts), records)
    out: dict[str, str] = {}
    for v in walk([plan.target]):
        scheme = getattr(v.op, "scheme", "")
        if scheme in ("local", "scratch"):
            records[v.digest] = Record(
                local_identity(v.op.identifier) if scheme == "local" else digest("scratch", ""), ()
            )  # type: ignore[union-attr]
            continue
        key = made.definition(v)
        assert key is not None
        record = made.place(v, Record(key, (key,)))
        assert record is not None
        records[v.digest] = record
        if not scheme:
            # A step's name shows the values of its variables; the test knows it as it is written.
            out[re.sub(r"(?<=/b make )\S+$", "$USED", v.name.partition("] ")[2])] = key
    for tree in contexts.values():
        tree.close()
    return out
