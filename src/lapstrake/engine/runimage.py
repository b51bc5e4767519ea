"""``lapstrake run``: try a built image in the sandbox that built it."""

from __future__ import annotations

import sys

from ..errors import BuildError, Cancelled
from ..oci.platform import Platform, host_platform, parse
from ..values import Value
from .engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..config import Settings
    from ..sandbox.spec import Mount, ProcessSpec


class RunOptions(Value):
    """How to run: overrides of what the image's config says.  ``platform`` as text."""

    platform: str = ""
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    network: str = ""
    interactive: bool = False
    tty: bool = False
    volumes: tuple[str, ...] = ()
    readonly: bool = False


def run_image(settings: Settings, name: str, argv: Sequence[str], options: RunOptions | None = None) -> int:
    """Run an image's command, or ``argv`` in place of its CMD; gives the exit code."""
    options = options or RunOptions()
    with Engine(settings) as engine:
        resolved = _resolve(engine, name, options)
        worker = engine.worker(lambda _event: None)
        lowers = worker.dirs(resolved.layers)
        config = resolved.config.get("config") or {}
        active = engine.layers.new_active()
        try:
            rootfs = engine.snapshotter().prepare(lowers, active)
            spec = _spec(worker, resolved, config, rootfs, argv, options)
            return attach(engine, spec, interactive=options.interactive, tty=options.tty)
        finally:
            active.close()


def attach(engine: Engine, spec: ProcessSpec, *, interactive: bool, tty: bool) -> int:
    """Run ``spec`` with our own standard streams; its exit code."""
    from ..solver.cancel import CancelToken
    from ..values import replace

    cancel = CancelToken()
    _forward_signals(cancel)
    out, err = sys.stdout.buffer, sys.stderr.buffer

    def output(stream: int, data: bytes) -> None:
        target = out if stream == 1 else err
        target.write(data)
        target.flush()

    executor = engine.executor()
    try:
        if not tty:
            return executor.run(replace(spec, stdin=interactive), output, cancel).status
        from ..sandbox.terminal import raw_terminal

        with raw_terminal():
            return executor.run(replace(spec, stdin=interactive, tty=True), output, cancel).status
    except Cancelled:
        return 130
    finally:
        cancel.close()


def _resolve(engine: Engine, name: str, options: RunOptions) -> Any:
    platform = parse(options.platform) if options.platform else host_platform()
    try:
        return engine.images.resolve(name, platform)
    except BuildError:
        if options.platform:
            raise
        only = _only_platform(engine, name)
        if only is None:
            raise
        return engine.images.resolve(name, only)


def _only_platform(engine: Engine, name: str) -> Platform | None:
    import json

    from ..oci import reference

    raw = engine.index.get("image", reference.parse(name).full)
    if raw is None:
        return None
    value = json.loads(raw)
    value = value.get("descriptor", value)
    doc = json.loads(engine.content.read(value["digest"]))
    found = [
        m["platform"]
        for m in doc.get("manifests", [])
        if m.get("platform", {}).get("os") not in (None, "unknown")
    ]
    if not found and "config" in doc:
        found = [json.loads(engine.content.read(doc["config"]["digest"]))]
    return Platform.from_json(found[0]) if len(found) == 1 else None


def _forward_signals(cancel: Any) -> None:
    import signal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: cancel.set())


def _spec(
    worker: Any, resolved: Any, config: dict[str, Any], rootfs: Any, argv: Sequence[str], options: RunOptions
) -> Any:
    from ..sandbox.spec import Mount, ProcessSpec
    from ..worker.run_exec import DEFAULT_PATH, resolv_conf
    from ..worker.users import Account, lookup

    entrypoint = (
        list(options.entrypoint) if options.entrypoint is not None else list(config.get("Entrypoint") or [])
    )
    command = list(argv) or ([] if options.entrypoint is not None else list(config.get("Cmd") or []))
    args = entrypoint + command
    if not args:
        raise BuildError("no command specified", hint="give one after the image's name")
    user = options.user or str(config.get("User") or "")
    account = lookup(worker.view(resolved.layers), user) if user else Account(0, 0, (), "/root")
    env = {e.partition("=")[0]: e.partition("=")[2] for e in [*(config.get("Env") or []), *options.env]}
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("HOME", account.home)
    network = options.network or "default"
    hosts = b"127.0.0.1\tlocalhost lapstrake\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    mounts: tuple[Mount, ...] = (
        Mount("/etc/hosts", "file", data=hosts, mode=0o644),
        Mount("/etc/resolv.conf", "file", data=resolv_conf(host=network == "host"), mode=0o644),
        *(_volume(raw) for raw in options.volumes),
    )
    return ProcessSpec(
        rootfs=rootfs, args=tuple(args), env=tuple(f"{k}={v}" for k, v in env.items()), cwd=options.workdir or config.get("WorkingDir") or "/",
        uid=account.uid, gid=account.gid, groups=account.groups, mounts=mounts, hostname="lapstrake", network=network,
        arch=str(resolved.config.get("architecture") or ""), readonly_root=options.readonly,
    )  # fmt: skip


def _volume(raw: str) -> Mount:
    """``HOST:TARGET[:ro|rw]``, the host's side a path."""
    import os

    from ..errors import UsageError
    from ..sandbox.spec import Mount

    source, _, rest = raw.partition(":")
    target, _, mode = rest.partition(":")
    if not source.startswith(("/", ".")) or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(f"invalid volume {raw!r}", hint="give HOST_PATH:/target or HOST_PATH:/target:ro")
    source = os.path.realpath(source)
    if not os.path.exists(source):
        raise UsageError(f"the volume's source {source} does not exist")
    return Mount(target, "bind", source=source, readonly=mode == "ro")
