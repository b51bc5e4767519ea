"""``create``, ``use``, ``ls``, ``inspect``, ``rm`` and ``stop``: builders by name (spec cli.md §4)."""

from __future__ import annotations

import os
import sys

from ..builders.drivers import SSH, driver_of, is_remote, node_spec
from ..builders.state import (
    DEFAULT,
    DRIVERS,
    Builder,
    BuilderStore,
    Node,
    add_node,
    check_name,
    drop_node,
    next_node_name,
)
from ..engine.nodes import parse_endpoint
from ..errors import BuildError, UsageError
from ..optspec import fields, pair, platforms
from .flags import Command, Flag, Parsed, parse
from .main import global_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Settings
    from .main import Globals

_TIMEOUT = Flag("timeout", hidden=True)


def _open(words: Sequence[str], given: Globals, spec: Command) -> tuple[Parsed, Settings, BuilderStore]:
    args = parse(spec, words)
    settings = given.settings(args)
    return args, settings, BuilderStore(settings.builders_dir)


def command_create(words: Sequence[str], given: Globals) -> int:
    """``create``: prints the name."""
    flags = (
        Flag("append", "bool", "Add a node to a builder, or change one"),
        Flag("bootstrap", "bool", "Make sure that the builder works"),
        Flag("buildkitd-config", help="Configuration whose registry part is used", metavar="FILE"),
        Flag("config-file", hidden=True, alias_of="buildkitd-config"),
        Flag("buildkitd-flags", hidden=True),
        Flag("driver", help="How nodes are provided: " + ", ".join(DRIVERS), metavar="DRIVER"),
        Flag("driver-opt", "list", "Options of the driver", metavar="KEY=VALUE"),
        Flag("leave", "bool", "Take a node away from a builder"),
        Flag("name", help="Name of the builder", metavar="NAME"),
        Flag("node", help="Name of the node", metavar="NODE"),
        Flag("platform", "list", "Platforms of the node", metavar="PLATFORM"),
        Flag("use", "bool", "Use the builder from now on"),
        _TIMEOUT,
    )
    spec = Command(
        f"{given.program} create",
        "[OPTIONS] [ENDPOINT]",
        "Create a builder.",
        (*flags, *global_flags()),
        0,
        1,
    )
    args, settings, store = _open(words, given, spec)
    name = args.text("name")
    if args.flag("leave"):
        return _leave(args, store, name)
    if args.flag("append") and not name:
        name = settings.builder or store.current()
    name = check_name(name) if name else _new_name(store)
    builder = _builder_to_change(args, store, name)
    node = _node(args, builder)
    builder = add_node(builder, node)
    store.save(builder)
    if args.flag("use"):
        store.use(name)
    if args.flag("bootstrap"):
        for n in builder.nodes:
            _boot(n)
    sys.stdout.write(f"{name}\n")
    return 0


def _boot(node: Node) -> list[str]:
    """Make sure that a node works; the platforms it has natively.  Raises BuildError."""
    if not is_remote(node.endpoint):
        return []
    from ..engine.nodes import Connection

    connection = Connection(node_spec(node))
    try:
        connection.hello()
        return list(connection.platforms)
    finally:
        connection.close()


def _leave(args: Parsed, store: BuilderStore, name: str) -> int:
    if not name or not args.text("node"):
        raise UsageError(
            "leave requires instance name" if not name else "leave requires node name but --node not set"
        )
    builder = drop_node(store.get(name), args.text("node"))
    if builder.nodes:
        store.save(builder)
    else:
        store.remove(name)
    sys.stdout.write(f"{name}\n")
    return 0


def _builder_to_change(args: Parsed, store: BuilderStore, name: str) -> Builder:
    driver = args.text("driver")
    if driver and driver not in DRIVERS:
        raise UsageError(f'failed to find driver "{driver}"', hint="use one of " + ", ".join(DRIVERS))
    found = store.find(name) if name != DEFAULT else None
    if found is None:
        if args.flag("append"):
            raise BuildError(f'failed to find instance "{name}" for append')
        return Builder(name, driver_of(args.args[0] if args.args else "", driver))
    if not args.flag("append"):
        if args.text("node") and any(n.name == args.text("node") for n in found.nodes):
            return found
        raise BuildError(
            f'existing instance for "{name}" but no append mode, specify the node name to make changes for existing instances',
            hint="--append adds a node, --node NAME changes one",
        )
    if driver and driver != found.driver:
        raise BuildError(
            f'existing instance for "{name}" with driver "{found.driver}" but requested driver is "{driver}"'
        )
    return found


def _node(args: Parsed, builder: Builder) -> Node:
    endpoint = args.args[0] if args.args else ""
    if is_remote(endpoint):
        parse_endpoint(endpoint)
    elif builder.driver == SSH and not builder.nodes and not endpoint:
        driver_of(endpoint, SSH)  # raises: such a builder begins with an endpoint
    config = args.text("buildkitd-config")
    if config and not os.path.isfile(config):
        raise UsageError(f"failed to read {config}: no such file")
    options = [pair(f, "driver option") for raw in args.many("driver-opt") for f in fields(raw)]
    return Node(
        args.text("node") or next_node_name(builder), endpoint or DEFAULT, tuple(str(p) for p in platforms(args.many("platform"))),
        tuple(dict(options).items()), os.path.abspath(config) if config else "",
    )  # fmt: skip


def _new_name(store: BuilderStore) -> str:
    while True:
        name = f"builder_{os.urandom(4).hex()}"
        if store.find(name) is None:
            return name


def command_use(words: Sequence[str], given: Globals) -> int:
    """``use``."""
    flags = (
        Flag("default", "bool", "Also for every other docker context"),
        Flag("global", "bool", "In every docker context"),
    )
    spec = Command(
        f"{given.program} use",
        "[OPTIONS] NAME",
        "Choose the builder that is used by default.",
        (*flags, *global_flags()),
        1,
        1,
    )
    args, _, store = _open(words, given, spec)
    store.use(args.args[0], everywhere=args.flag("global"))
    return 0


def _status(node: Node) -> str:
    return "inactive" if is_remote(node.endpoint) else "running"  # a remote node runs while it is used


def _platforms(node: Node) -> list[str]:
    """The platforms asked for (marked as buildx does), then what this host runs, with emulators."""
    from ..sandbox.emulation import platforms as runnable

    own = runnable() if not is_remote(node.endpoint) else ()
    return [f"{p}*" for p in node.platforms] + [p for p in own if p not in node.platforms]


_COLUMNS = (
    ("Name", "NAME/NODE"), ("DriverEndpoint", "DRIVER/ENDPOINT"), ("Status", "STATUS"), ("Buildkit", "VERSION"), ("Platforms", "PLATFORMS"),
)  # fmt: skip


def command_ls(words: Sequence[str], given: Globals) -> int:
    """``ls``."""
    flags = (
        Flag("format", help='"table", "json" or a Go template', default="table", metavar="FORMAT"),
        Flag("no-trunc", "bool", "Show all platforms"),
        _TIMEOUT,
    )
    spec = Command(f"{given.program} ls", "[OPTIONS]", "List the builders.", (*flags, *global_flags()), 0, 0)
    args, settings, store = _open(words, given, spec)
    form = args.text("format")
    current = settings.builder or store.current()
    from .template import render_rows

    if form == "json":
        documents = [_document(b, current) for b in store.all()]
        sys.stdout.write(render_rows("json", documents, _COLUMNS))
        return 0
    table = form == "table" or form.startswith("table ")
    rows = [r for b in store.all() for r in _rows(b, current, table=table, everything=args.flag("no-trunc"))]
    sys.stdout.write(render_rows(form, rows, _COLUMNS))
    return 0


def _document(b: Builder, current: str) -> dict[str, object]:
    """A builder as ``--format json`` shows it."""
    nodes = [
        {"Name": n.name, "Endpoint": n.endpoint, "Status": _status(n), "Version": _version(), "Platforms": _platforms(n)}
        for n in b.nodes
    ]  # fmt: skip
    return {
        "Name": b.name, "Driver": b.driver, "Current": b.name == current, "Dynamic": b.dynamic, "Nodes": nodes,
    }  # fmt: skip


def _rows(b: Builder, current: str, *, table: bool, everything: bool) -> list[dict[str, object]]:
    """A row for a builder and one for each of its nodes; templates see names without the tree's marks."""
    mark, branch = ("*", " \\_ ") if table else ("", "")
    own = b.name + (mark if b.name == current else "")
    rest = {"Status": "", "Buildkit": "", "Version": "", "Platforms": "", "Error": "", "LastActivity": ""}
    rows: list[dict[str, object]] = [
        {**rest, "Name": own, "DriverEndpoint": b.driver, "Current": b.name == current}
    ]
    for n in b.nodes:
        shown = _platforms(n)
        more = f", (+{len(shown) - 4} more)" if not everything and table and len(shown) > 4 else ""
        rows.append({
            **rest, "Name": branch + n.name, "DriverEndpoint": branch + n.endpoint, "Status": _status(n), "Buildkit": _version(),
            "Version": _version(), "Platforms": ", ".join(shown[:4] if more else shown) + more, "Current": False,
        })  # fmt: skip
    return rows


def _version() -> str:
    from ..version import VERSION

    return f"v{VERSION}"


def show_builder(store: BuilderStore, name: str, settings: Settings, *, bootstrap: bool = False) -> int:
    """``inspect`` of a builder; ``bootstrap`` reaches out to nodes on other machines."""
    b = store.get(name)
    lines = [
        f"Name:          {b.name}",
        f"Driver:        {b.driver}",
        f"Root:          {settings.root}",
        "",
        "Nodes:",
    ]
    for i, n in enumerate(b.nodes):
        lines += ["", f"Name:          {n.name}"] if i else [f"Name:          {n.name}"]
        lines.append(f"Endpoint:      {n.endpoint}")
        if n.options:
            lines.append("Driver Options: " + " ".join(f'{k}="{v}"' for k, v in n.options))
        if n.config:
            lines.append(f"Config file:   {n.config}")
        status, found, problem = _status(n), _platforms(n), ""
        if bootstrap:
            try:
                found += [p for p in _boot(n) if p not in found and f"{p}*" not in found]
                status = "running"
            except BuildError as e:
                status, problem = "error", e.message
        lines += [f"Error:         {problem}"] if problem else []
        lines += [
            f"Status:        {status}",
            f"Version:       {_version()}",
            "Platforms:     " + ", ".join(found),
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def command_rm(words: Sequence[str], given: Globals) -> int:
    """``rm``."""
    flags = (
        Flag("all-inactive", "bool", "Remove every builder that nothing uses"),
        Flag("force", "bool", "Do not ask", short="f"),
        Flag("keep-daemon", "bool", hidden=True),
        Flag("keep-state", "bool", hidden=True),
        _TIMEOUT,
    )
    spec = Command(
        f"{given.program} rm",
        "[OPTIONS] [NAME...]",
        "Remove builders. The store under --root stays as it is.",
        (*flags, *global_flags()),
    )
    args, settings, store = _open(words, given, spec)
    names = list(args.args)
    if args.flag("all-inactive"):
        if names:
            raise UsageError("cannot specify builder name when --all-inactive is set")
        names = [b.name for b in store.all() if not b.dynamic and b.name != store.current()]
    elif not names:
        names = [settings.builder or store.current()]
    for name in names:
        store.remove(name)
        sys.stdout.write(f"{name} removed\n")
    return 0


def command_stop(words: Sequence[str], given: Globals) -> int:
    """``stop``: there is nothing to stop, but the builder must exist."""
    spec = Command(
        f"{given.program} stop",
        "[NAME...]",
        "Stop a builder. Nothing runs between builds, so this only checks the name.",
        global_flags(),
    )
    args, settings, store = _open(words, given, spec)
    for name in args.args or [settings.builder]:
        store.get(name)
    return 0
