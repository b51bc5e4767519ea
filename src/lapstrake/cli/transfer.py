"""``push``, ``pull``, ``login`` and ``logout``: registries without a build."""

from __future__ import annotations

import sys

from .flags import Command, Flag, parse
from .main import global_flags
from .registry import access_of
from .registryflags import access_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config import Settings
    from .flags import Parsed
    from .main import Globals

_QUIET = Flag("quiet", "bool", "Show nothing but the digest", short="q")


def command_push(words: Sequence[str], given: Globals) -> int:
    """``push``."""
    about = (
        "Push images of the local store to their registries. An image whose push failed after a build is pushed "
        "from where it stopped, without building it again."
    )
    flags = (_QUIET, Flag("resume", "bool", hidden=True), *access_flags(), *global_flags())
    args = parse(Command(f"{given.program} push", "[OPTIONS] NAME...", about, flags, 1), words)
    from ..engine.engine import Engine
    from ..engine.transfer import push_image

    with Engine(_settings(args, given)) as engine:
        for name in args.args:
            digest = push_image(engine, name, _teller(args))
            if args.flag("quiet"):
                sys.stdout.write(digest + "\n")
    return 0


def command_pull(words: Sequence[str], given: Globals) -> int:
    """``pull``."""
    flags = (
        _QUIET,
        Flag(
            "platform",
            "list",
            "Fetch the layers of these platforms (default: the host's)",
            metavar="PLATFORM",
        ),
        Flag("all-platforms", "bool", "Fetch the layers of all platforms"),
        *access_flags(),
        *global_flags(),
    )
    about = "Pull images into the local store. Layers of other platforms are fetched when they are needed."
    args = parse(Command(f"{given.program} pull", "[OPTIONS] NAME...", about, flags, 1), words)
    from ..engine.engine import Engine
    from ..engine.transfer import pull_image
    from ..oci.platform import host_platform
    from ..optspec import platforms

    settings = _settings(args, given)
    wanted = platforms(args.many("platform") or [settings.platform]) or (host_platform(),)
    with Engine(settings) as engine:
        for name in args.args:
            digest = pull_image(engine, name, None if args.flag("all-platforms") else wanted, _teller(args))
            if args.flag("quiet"):
                sys.stdout.write(digest + "\n")
    return 0


def _settings(args: Parsed, given: Globals) -> Settings:
    from ..oci.reference import parse as parse_reference
    from ..values import replace

    names = [parse_reference(n).registry for n in args.args]
    return replace(given.settings(args), access=access_of(args, names))


def _teller(args: Parsed) -> Callable[[str], None]:
    if args.flag("quiet"):
        return lambda _text: None
    return lambda text: print(text, flush=True)  # noqa: T201 - the command's output


def command_login(words: Sequence[str], given: Globals) -> int:
    """``login``."""
    flags = (
        Flag("username", help="User name", short="u", metavar="NAME"),
        Flag("password", help="Password; better use --password-stdin", short="p", metavar="TEXT"),
        Flag("password-stdin", "bool", "Read the password from standard input"),
        *access_flags(),
        *global_flags(),
    )
    about = "Check credentials with a registry (default: Docker Hub) and keep them where docker keeps them."
    args = parse(Command(f"{given.program} login", "[OPTIONS] [REGISTRY]", about, flags, 0, 1), words)
    from ..config import registry_files
    from ..engine.network import open_client
    from ..registry.login import store
    from ..values import replace

    registry = _registry(args)
    user, password = _login(args)
    settings = given.settings(args)
    access = replace(access_of(args, (registry,), new_file=True), creds=((registry, user, password),))
    settings = replace(settings, access=access)
    with open_client(settings) as client:
        client.check_login(registry)
    place = store(_file(args, settings), registry, user, password, registry_files(settings).helper_path)
    sys.stdout.write(f"Login Succeeded (kept in {place})\n")
    return 0


def command_logout(words: Sequence[str], given: Globals) -> int:
    """``logout``."""
    flags = (*access_flags(), *global_flags())
    about = "Forget the credentials of a registry (default: Docker Hub)."
    args = parse(Command(f"{given.program} logout", "[REGISTRY]", about, flags, 0, 1), words)
    from ..config import registry_files
    from ..registry.login import erase

    settings = given.settings(args)
    registry = _registry(args)
    if erase(_file(args, settings), registry, registry_files(settings).helper_path):
        sys.stdout.write(f"Removed login credentials for {registry}\n")
    else:
        sys.stdout.write(f"Not logged in to {registry}\n")
    return 0


def _registry(args: Parsed) -> str:
    from ..oci.reference import parse as parse_reference

    text = args.args[0] if args.args else "docker.io"
    text = (text.partition("://")[2] or text).rstrip("/").removesuffix("/v1").removesuffix("/v2")
    return parse_reference(f"{text}/x").registry


def _file(args: Parsed, settings: Settings) -> str:
    import os

    return args.text("authfile") or os.path.join(settings.docker_config, "config.json")


def _login(args: Parsed) -> tuple[str, str]:
    from ..errors import UsageError

    user, password = args.text("username"), args.text("password")
    if password and args.flag("password-stdin"):
        raise UsageError("--password and --password-stdin are mutually exclusive")
    if args.flag("password-stdin"):
        if not user:
            raise UsageError("must provide --username with --password-stdin")
        password = sys.stdin.read(1 << 16).rstrip("\r\n")
    elif not (user and password) and sys.stdin.isatty():
        from getpass import getpass

        user = user or input("Username: ")
        password = password or getpass("Password: ")
    if not user or not password or ":" in user:
        raise UsageError("a user name and a password are needed", hint="use --username and --password-stdin")
    return user, password
