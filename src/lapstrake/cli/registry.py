"""``registry explain``: where a name would be pulled from and pushed to, and with what."""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .images import one_of
from .main import global_flags
from .registryflags import access_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import RegistryAccess
    from ..registry.explain import HostReport
    from .flags import Parsed
    from .main import Globals


def command(words: Sequence[str], given: Globals) -> int:
    """``registry``: its subcommands."""
    from ..errors import UsageError
    from .flags import HelpWanted

    overview = Command(
        f"{given.program} registry",
        "explain NAME",
        "Say how this machine talks to registries.",
        global_flags(),
    )
    if not words or words[0] in ("--help", "-h"):
        raise HelpWanted(overview)
    if words[0] != "explain":
        raise UsageError(
            f"unknown command: registry {words[0]}", hint=f"there is '{given.program} registry explain NAME'"
        )
    return _explain(words[1:], given)


def _explain(words: Sequence[str], given: Globals) -> int:
    flags = (
        Flag("format", help='"text" or "json"', default="text", metavar="FORMAT"),
        Flag("ask", "bool", "Ask every host for the name, and show what it says and its rate limit"),
    )
    about = (
        "Show which mirrors, certificates, proxies and credentials apply to an image name, in the order they are "
        "tried, and which file each comes from. Secrets are not shown."
    )
    spec = Command(
        f"{given.program} registry explain", "[OPTIONS] NAME", about, (*flags, *access_flags(), *global_flags()), 1, 1
    )  # fmt: skip
    args = parse(spec, words)
    form = one_of(args.text("format"), ("text", "json"))
    from ..engine.network import open_client
    from ..oci.reference import parse as parse_reference
    from ..registry.explain import explain
    from ..values import replace

    ref = parse_reference(args.args[0])
    settings = replace(given.settings(args), access=access_of(args, (ref.registry,)))
    with open_client(settings) as client:
        pull = explain(client.config, client.auth, ref)
        push = explain(client.config, client.auth, ref, push=True)
        if args.flag("ask"):
            hosts = client.config.hosts_for(ref.registry, ref.repository, by_digest=bool(ref.digest))
            pull = [replace(row, answer=client.ask(host, ref)) for row, host in zip(pull, hosts, strict=True)]
        notes = client.auth.notes
    if form == "json":
        import json

        doc = {
            "name": ref.full,
            "pull": [h.to_json() for h in pull],
            "push": [h.to_json() for h in push],
            "notes": notes,
        }
        sys.stdout.write(json.dumps(doc, indent=2) + "\n")
    else:
        sys.stdout.write(_text(ref.full, pull, push, notes))
    return 0


def _text(name: str, pull: list[HostReport], push: list[HostReport], notes: list[str]) -> str:
    lines = [name, "", "Pulled from, in this order:"]
    for n, host in enumerate(pull, 1):
        first, *rest = host.lines()
        lines += [f"  {n}. {first}", *rest]
    same = push[0] == pull[-1]
    lines += ["", f"Pushed to: {push[0].address}" + ("" if same else f"/{push[0].repository}")]
    if not same:
        lines += push[0].lines()[1:]
    lines += [f"note: {note}" for note in notes]
    return "\n".join(lines) + "\n"


def registries_of_build(args: Parsed) -> list[str]:
    """The registries a build's command line names: of tags, pushed names and caches."""
    from ..errors import BuildError
    from ..oci.reference import parse as parse_reference
    from ..optspec import fields

    names = args.many("tag")
    found = []
    for raw in (*args.many("output"), *args.many("cache-from"), *args.many("cache-to")):
        for item in fields(raw):
            key, eq, value = item.partition("=")
            if key.strip().lower() in ("name", "ref"):
                names += value.split(",")
            elif not eq and "/" in item:
                names.append(item)
    for name in names:
        try:
            found.append(parse_reference(name).registry)
        except BuildError:
            continue  # told where the name is used
    return list(dict.fromkeys(found))


def access_of(args: Parsed, registries: Sequence[str], *, new_file: bool = False) -> RegistryAccess:
    """The flags as a value.  ``registries``: those the command line names; ``--creds`` without one is theirs.

    ``new_file``: the authfile may not be there yet."""
    import os

    from ..config import RegistryAccess
    from ..errors import UsageError

    creds = []
    for raw in args.many("creds"):
        registry, eq, login = raw.partition("=")
        if not eq or (":" in registry and not registry.rpartition(":")[2].isdigit()):
            registry, login = "", raw  # the '=' belongs to the password
        user, colon, password = login.partition(":")
        if not user or not colon:
            raise UsageError("--creds must be [REGISTRY=]USER:PASSWORD")
        names = [registry] if registry else list(dict.fromkeys(registries))
        if not names:
            raise UsageError(
                "--creds: the command names no registry the credentials could be for",
                hint="write --creds REGISTRY=USER:PASSWORD",
            )
        creds += [(name, user, password) for name in names]
    authfile, cert_dir = args.text("authfile"), args.text("cert-dir")
    if authfile and not new_file and not os.path.isfile(authfile):
        raise UsageError(f"--authfile {authfile}: no such file")
    if cert_dir and not os.path.isdir(cert_dir):
        raise UsageError(f"--cert-dir {cert_dir}: no such directory")
    verify = args.flag("tls-verify") if args.has("tls-verify") else None
    return RegistryAccess(authfile, tuple(creds), cert_dir, verify, _backoff(args))


def _backoff(args: Parsed) -> tuple[float, ...] | None:
    """The pauses of ``--retry`` and ``--retry-delay``: buildah's even ones, or our own growing ones."""
    from ..errors import UsageError

    if not (args.has("retry") or args.has("retry-delay")):
        return None
    count = args.number("retry")
    if not 0 <= count <= 100:
        raise UsageError("--retry must be from 0 to 100")
    if args.text("retry-delay"):
        from ..dockerfile.numbers import parse_duration

        try:
            seconds = parse_duration(args.text("retry-delay")) / 1e9
        except ValueError as e:
            raise UsageError(f"--retry-delay: {e}", hint="write a duration such as 2s or 500ms") from None
        if not 0 <= seconds <= 600:
            raise UsageError("--retry-delay must be from 0s to 10m")
        return (seconds,) * count
    from ..registry.config import RegistryConfig

    usual = RegistryConfig().backoff
    return (usual + usual[-1:] * count)[:count]
