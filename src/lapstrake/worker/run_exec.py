"""RUN: an ExecOp to a process spec, run, and its upper directory committed as a layer."""

from __future__ import annotations

from ..errors import BuildError, Cancelled
from ..graph.ops import ExecMount, ExecOp
from ..graph.vertex import Vertex
from ..ids import ids
from ..sandbox.spec import Mount, ProcessSpec
from ..solver.ports import Record
from ..store.failures import full_hint
from ..store.measure import tree_bytes
from ..values import replace
from .cache_mounts import cache_mount, complete, lock_mounts
from .failures import failure, killed_by_memory, save
from .users import Account, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..sandbox.spec import Cancel, ExitInfo
    from .cache_mounts import Releasable
    from .cdi import Edits
    from .local import LocalWorker
    from .redact import Redactor

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TAIL = 200
MAX_SECRET = 500 << 10


def run_exec(
    worker: LocalWorker, vertex: Vertex, key: str, inputs: tuple[Record, ...], cancel: Cancel
) -> str:
    """Run one RUN step; gives the id of the new layer."""
    op = vertex.op
    if not isinstance(op, ExecOp):
        raise TypeError("not an exec")
    store = worker.p.layers
    lowers = worker.dirs(inputs[0].layers)
    account = lookup(worker.view(inputs[0].layers), op.user) if op.user else Account(0, 0, (), "/root")
    before = killed_by_memory()
    active = store.new_active()
    held: list[Releasable] = []
    try:
        snapshotter = worker.p.snapshotter()
        rootfs = snapshotter.prepare(lowers, active)
        owner = (account.uid, account.gid)
        devices = cdi_edits(op)
        mounts, extra_env = _mounts(worker, op, inputs, _CacheMounts(owner, held, cancel))
        mounts += devices.mounts
        extra_env += devices.env
        spec = ProcessSpec(
            rootfs=rootfs, args=op.args, env=_environment(op, account, extra_env), cwd=op.cwd, uid=account.uid, gid=account.gid,
            groups=account.groups, mounts=(*_etc_mounts(op), *mounts), hostname=op.hostname, network=op.network,
            insecure=op.security == "insecure", arch=op.platform.arch if op.platform.os == "linux" else "", ulimits=op.ulimits,
            shm_size=op.shm_size or 64 << 20, cgroup_parent=op.cgroup_parent, resources=op.resources, devices=devices.nodes,
            timeout=worker.p.step_timeout,
        )  # fmt: skip
        info, tail = _run(worker, vertex, spec, cancel)
        if not (cancel.is_set() or info.oom or info.timed_out):
            complete(held)
        if cancel.is_set() and info.status != 0:
            raise Cancelled("the build was cancelled")
        if info.status != 0:
            error = failure(op, vertex, info, tail=tail.lines(), host_oom=killed_by_memory() > before)
            error.hint = error.hint or full_hint(active.path)
            if worker.p.keep_failed:
                plain = replace(spec, env=_environment(op, account, []))
                error.saved = save(worker, vertex, plain, inputs[0], active.path)
            raise error
        upper = snapshotter.finish(active, rootfs)
        if account.uid and not ids().chown:
            from ..snapshot.owners import settle

            settle(upper, lowers, account.uid, account.gid)
        layer = key[:48]
        worker.sizes[layer] = tree_bytes(upper)
        store.renew(layer)
        store.commit(upper, layer)
        return layer
    finally:
        for lock in reversed(held):
            lock.release()
        active.close()


def cdi_edits(op: ExecOp) -> Edits:
    """What the step's devices add; nothing, and nothing imported, without any."""
    from . import cdi

    return cdi.resolve(op.devices) if op.devices else cdi.Edits()


def _run(worker: LocalWorker, vertex: Vertex, spec: ProcessSpec, cancel: Cancel) -> tuple[ExitInfo, _Tail]:
    tail = _Tail()
    hide = _redactor(worker, vertex)

    def output(stream: int, data: bytes) -> None:
        if hide is not None:
            data = hide.feed(stream, data)
        if data:
            tail.add(data)
            worker.log(vertex, stream, data)

    executor = worker.p.executor()
    info = executor.run(spec, output, cancel)
    for stream, data in hide.rest() if hide is not None else ():
        tail.add(data)
        worker.log(vertex, stream, data)
    for note in getattr(executor, "notes", ()):
        worker.remark(note)
    worker.measure(vertex, wall=info.wall, cpu=info.cpu, peak_rss=info.peak_rss)
    return info, tail


def _redactor(worker: LocalWorker, vertex: Vertex) -> Redactor | None:
    """Hides the secrets that the step is given."""
    ids = [m.id for m in getattr(vertex.op, "mounts", ()) if m.kind == "secret"]
    if not ids or worker.p.secrets is None:
        return None
    from .redact import Redactor

    return Redactor(value for i in ids if (value := worker.p.secrets.get(i)) is not None)


class _Tail:
    """The last lines of a step's output, bounded."""

    def __init__(self) -> None:
        self.data = b""

    def add(self, data: bytes) -> None:
        self.data = (self.data + data)[-65536:]

    def lines(self) -> tuple[str, ...]:
        return tuple(self.data.decode("utf-8", "replace").splitlines()[-TAIL:])


def _environment(op: ExecOp, account: Account, extra: list[str]) -> tuple[str, ...]:
    env = list(op.env)
    names = {e.partition("=")[0] for e in env}
    env += [item for item in (*op.proxy_env, *extra) if item.partition("=")[0] not in names]
    if "PATH" not in names:
        env.append("PATH=" + DEFAULT_PATH)
    if "HOME" not in names:
        env.append("HOME=" + account.home)
    return tuple(env)


def _etc_mounts(op: ExecOp) -> tuple[Mount, ...]:
    hosts = [f"127.0.0.1\tlocalhost {op.hostname}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    # the host itself is at hand in its own network only; elsewhere the name leads to nobody
    hosts += [f"{'127.0.0.1' if ip == 'host-gateway' else ip}\t{name}" for name, ip in op.extra_hosts]
    data = ("\n".join(hosts) + "\n").encode()
    return (
        Mount("/etc/hosts", "file", data=data, mode=0o644),
        Mount("/etc/resolv.conf", "file", data=resolv_conf(host=op.network == "host"), mode=0o644),
    )


def resolv_conf(*, host: bool) -> bytes:
    """The host's resolv.conf as a step may see it (spec dockerfile.md §8)."""
    text = _read("/etc/resolv.conf")
    servers = [
        w[1] for w in (line.split() for line in text.splitlines()) if len(w) > 1 and w[0] == "nameserver"
    ]
    if host:
        return text.encode()
    if servers == ["127.0.0.53"]:
        text = _read("/run/systemd/resolve/resolv.conf") or text
    kept = [line for line in text.splitlines() if not _loopback_server(line)]
    if not any(line.startswith("nameserver") for line in kept):
        kept += ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
    return ("\n".join(kept) + "\n").encode()


def _loopback_server(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver" and (words[1].startswith("127.") or words[1] == "::1")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read(1 << 20)
    except OSError:
        return ""


class _CacheMounts:
    """What cache mounts need to know of their step."""

    def __init__(self, owner: tuple[int, int], held: list[Releasable], cancel: Cancel) -> None:
        self.owner = owner
        self.held = held
        self.cancel = cancel


def _mounts(
    worker: LocalWorker, op: ExecOp, inputs: tuple[Record, ...], caches: _CacheMounts
) -> tuple[list[Mount], list[str]]:
    mounts: list[Mount] = []
    lock_mounts(worker, op, inputs, caches.held, caches.cancel)
    env: list[str] = []
    for m in op.mounts:
        if m.kind == "file":
            mounts.append(Mount(m.target, "file", data=m.content, mode=m.mode or 0o755, readonly=True))
        elif m.kind == "tmpfs":
            mounts.append(Mount(m.target, "tmpfs", size=m.size, mode=0o1777, readonly=m.readonly))
        elif m.kind == "bind":
            mounts.append(_bind(worker, m, inputs[m.input]))
        elif m.kind == "cache":
            mounts.append(cache_mount(worker, m, inputs, caches.owner, caches.held))
        elif m.kind == "secret":
            _secret(worker, m, mounts, env)
        elif m.kind == "ssh":
            _ssh(worker, m, mounts, env, caches.held)
    return mounts, env


def _bind(worker: LocalWorker, m: ExecMount, record: Record) -> Mount:
    if not record.layers:  # a local context: identity only
        root = _context_root(worker, record)
        if root is None:
            return Mount(m.target, "tmpfs", readonly=m.readonly)
        return Mount(
            m.target,
            "bind" if m.readonly else "overlay",
            source=root,
            subpath=m.selector,
            readonly=m.readonly,
            lowers=() if m.readonly else (root,),
        )
    dirs = worker.dirs(record.layers)
    if len(dirs) == 1 and m.readonly:
        return Mount(m.target, "bind", source=dirs[0], subpath=m.selector, readonly=True)
    return Mount(m.target, "overlay", subpath=m.selector, readonly=m.readonly, lowers=tuple(dirs))


def _context_root(worker: LocalWorker, record: Record) -> str | None:
    """A host directory holding a local context as the build may see it (ignore rules applied)."""
    from ..solver.keys import local_identity

    for name, tree in worker.p.contexts.items():
        if local_identity(name) == record.identity:
            return _materialized_context(worker, name, tree)
    return None


def _materialized_context(worker: LocalWorker, name: str, tree: object) -> str:
    memo = "bind-context:" + name
    with worker.lock_for(memo):
        found = worker.stats.get(memo)
        if isinstance(found, str):
            return found
        from ..layer.materialize import materialize
        from .run_file import whole_tree_entries

        active = worker.p.new_active()
        materialize(whole_tree_entries(tree), active.upper)  # type: ignore[arg-type]
        worker.stats[memo] = active.upper
        return active.upper


def _secret(worker: LocalWorker, m: ExecMount, mounts: list[Mount], env: list[str]) -> None:
    value = worker.p.secrets.get(m.id) if worker.p.secrets is not None else None
    if value is None:
        if m.required:
            raise BuildError(f"secret {m.id}: not found", hint=f"pass --secret id={m.id},src=FILE")
        return
    if len(value) > MAX_SECRET:
        raise BuildError(f"secret {m.id} too big. max size 500kB")
    if m.env:
        env.append(f"{m.env}={value.decode('utf-8', 'surrogateescape')}")
    if m.target:
        mounts.append(
            Mount(
                m.target,
                "file",
                data=value,
                mode=m.mode if m.mode is not None else 0o400,
                uid=m.uid,
                gid=m.gid,
                secret=True,
            )
        )


def _ssh(
    worker: LocalWorker, m: ExecMount, mounts: list[Mount], env: list[str], held: list[Releasable]
) -> None:
    socket = worker.p.ssh.socket(m.id) if worker.p.ssh is not None else None
    if socket is None:
        if m.required:
            raise BuildError(f'no SSH key "{m.id}" forwarded from the client', hint="pass --ssh default")
        return
    n = sum(e.startswith("SSH_AUTH_SOCK=") for e in env)
    target = m.target or f"/run/buildkit/ssh_agent.{n}"
    from .agent import AgentProxy

    proxy = AgentProxy(socket, m.mode if m.mode is not None else 0o600, m.uid, m.gid)
    held.append(proxy)
    mounts.append(Mount(target, "bind", source=proxy.path, secret=True))
    if n == 0:
        env.append(f"SSH_AUTH_SOCK={target}")
