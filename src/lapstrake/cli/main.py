"""The program: global flags, then one command, whose module is imported only when it is called.

Also docker's ``buildx`` plugin, when called as ``docker-buildx``.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Settings
    from .flags import Flag, Parsed

#: name -> (module, function, what it does); a module is ``lapstrake.cli.<module>``.
COMMANDS = {
    "build": ("build", "command", "Build an image from a Dockerfile"),
    "bake": ("bake", "command", "Build the targets of a bake or Compose file"),
    "run": ("run", "command", "Run a command in an image, to try it"),
    "images": ("images", "command_list", "List the images of the local store"),
    "inspect": ("images", "command_inspect", "Show an image, or a builder"),
    "rmi": ("images", "command_remove", "Remove images from the local store"),
    "tag": ("images", "command_tag", "Give an image of the local store another name"),
    "push": ("transfer", "command_push", "Push images of the local store"),
    "pull": ("transfer", "command_pull", "Pull images into the local store"),
    "login": ("transfer", "command_login", "Keep the credentials of a registry"),
    "logout": ("transfer", "command_logout", "Forget the credentials of a registry"),
    "save": ("save", "command_save", "Write images of the local store to an archive"),
    "validate": ("save", "command_validate", "Check an image's digests, sizes and documents"),
    "diff": ("diff", "command", "Show what differs between two images, file by file"),
    "imagetools": ("imagetools", "command", "Put images together in a registry, and look at them"),
    "registry": ("registry", "command", "Say which mirrors, certificates and credentials apply to a name"),
    "why": ("why", "command", "Say why a step of the last build was not cached"),
    "history": ("history", "command", "Look at the builds that were run: logs, times, errors, traces"),
    "context": ("context", "command", "Say which files of a directory a build sees, and why"),
    "debug": ("debug", "command", "Open a shell in the state of a failed step"),
    "report": ("report", "command", "Write a page about a build, to open in a browser"),
    "doctor": ("doctor", "command", "Say what this host can do, and how to mend what it lacks"),
    "du": ("space", "command_du", "Show what the store takes on disk"),
    "prune": ("space", "command_prune", "Remove cached results from the store"),
    "cache": ("cachemounts", "command", "List, export, import and remove cache mounts"),
    "fsck": ("fsck", "command", "Verify the store, and repair it"),
    "create": ("builders", "command_create", "Create a builder"),
    "use": ("builders", "command_use", "Choose the builder to use by default"),
    "ls": ("builders", "command_ls", "List the builders"),
    "rm": ("builders", "command_rm", "Remove builders"),
    "dial-stdio": ("dialstdio", "command", "Build for another Lapstrake over standard input and output"),
    "stop": ("builders", "command_stop", "Stop a builder (nothing runs between builds)"),
    "policy": ("policy", "command", "Say what stands in for Rego policies"),
    "completion": ("complete", "command", "Print what makes a shell complete the command line"),
    "install": ("plugin", "command_install", "Become docker's buildx plugin"),
    "uninstall": ("plugin", "command_uninstall", "Stop being docker's buildx plugin"),
    "version": ("main", "command_version", "Show the version"),
}
ALIASES = {"b": "build", "f": "bake"}
PLUGIN = "docker-buildx"
_BUILDING = ("build", "bake")
#: denied, not pushed, cache; for others they are 1, as buildx's users expect (LAPSTRAKE_EXIT_CODES=detailed)
DETAILED_CODES = (4, 5, 6)
_STORELESS = ("main", "policy", "builders", "plugin", "doctor", "images", "why", "history", "registry")
_GLOBAL_VALUES = ("--root", "--config", "--builder")
# what the docker client puts before the plugin's name; only --config means something here
_DOCKER_VALUES = (
    "--config",
    "--context",
    "-c",
    "--host",
    "-H",
    "--log-level",
    "-l",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
)


class Globals:
    """The flags that may stand before any command."""

    def __init__(self) -> None:
        self.root = self.config = self.builder = self.docker_config = ""
        self.debug = False
        self.program = "lapstrake"
        self.detailed_codes = False
        self.store = False  # the command reads or writes layers
        self.building = False

    def settings(self, given: Parsed | None = None) -> Settings:
        """Read the configuration, once the command is known to be well-formed."""
        from ..config import load
        from ..values import replace

        if given is not None:
            self.root = given.text("root") or self.root
            self.config = given.text("config") or self.config
            self.builder = given.text("builder") or self.builder
            self.debug = given.flag("debug") or self.debug
        settings = load(self.root, self.config, builder=self.builder, debug=self.debug)
        self.detailed_codes = settings.detailed_codes
        if self.docker_config:
            settings = replace(settings, docker_config=self.docker_config)
        if not self.store:
            return settings
        from ..engine.apart import own_namespace

        return own_namespace(settings)


def global_flags() -> tuple[Flag, ...]:
    """The flags every command knows, after its name too."""
    from .flags import Flag

    return (
        Flag("root", help="Directory that holds all that is kept (LAPSTRAKE_ROOT)", metavar="DIR"),
        Flag("config", help="Configuration file (LAPSTRAKE_CONFIG)", metavar="FILE"),
        Flag("builder", help="Builder to use (BUILDX_BUILDER)", metavar="NAME"),
        Flag("debug", "bool", "Show more about failures and warnings", short="D"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = Globals()
    name = sys.argv[0].rsplit("/", 1)[-1] if argv is None and sys.argv else ""
    try:
        if name == PLUGIN or words[:1] == ["docker-cli-plugin-metadata"]:
            if words[:1] == ["docker-cli-plugin-metadata"]:
                return _plugin_metadata()
            given.program = "docker buildx"
            words = _plugin_words(words, given)
        return _dispatch(words, given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return _broken_pipe()
    except MemoryError as e:
        e.__traceback__ = e.__context__ = None  # the frames hold what filled the memory
        return _out_of_memory()
    except BaseException as e:
        from .present import present

        code = present(e, debug=given.debug, building=given.building)
        return code if given.detailed_codes or code not in DETAILED_CODES else 1


def _broken_pipe() -> int:
    import os

    # the reader of our output left; whatever is buffered must not fail at exit
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


def _out_of_memory() -> int:
    import os

    os.write(
        2, b"ERROR: out of memory\nhint: what is built may be larger than this machine or its limits allow\n"
    )
    return 1


def _dispatch(words: list[str], given: Globals) -> int:
    if words[:1] in (["__complete"], ["__completeNoDesc"]):
        from .complete import answer

        return answer(words[1:], given)
    rest = _take_globals(words, given)
    if rest[:1] in (["--version"], ["-v"]):
        return command_version(rest[1:], given)
    if not rest or rest[0] in ("--help", "-h", "help"):
        if len(rest) > 1 and not rest[1].startswith("-"):
            return _call(rest[1], ["--help"], given)
        _print(_overview(given.program))
        return 0
    if rest[0].startswith("-"):
        from ..errors import UsageError

        raise UsageError(f"unknown flag: {rest[0].partition('=')[0]}", hint=f"see '{given.program} --help'")
    return _call(rest[0], rest[1:], given)


def _call(name: str, words: list[str], given: Globals) -> int:
    entry = COMMANDS.get(ALIASES.get(name, name))
    if entry is None:
        from difflib import get_close_matches

        from ..errors import UsageError

        near = get_close_matches(name, COMMANDS, 1)
        raise UsageError(
            f"unknown command: {name}",
            hint=(f"did you mean {near[0]}? " if near else "") + f"see '{given.program} --help'",
        )
    module, function, _ = entry
    given.store = module not in _STORELESS
    given.building = module in _BUILDING
    if module == "main":
        return command_version(words, given)
    from .flags import HelpWanted, render_help

    command = getattr(__import__(f"lapstrake.cli.{module}", fromlist=[function]), function)
    try:
        code: int = command(words, given)
    except HelpWanted as e:
        _print(render_help(e.command))
        return 0
    sys.stdout.flush()
    return code


def _take_globals(words: list[str], given: Globals) -> list[str]:
    i = 0
    while i < len(words):
        name, eq, value = words[i].partition("=")
        if name in _GLOBAL_VALUES:
            if not eq:
                i += 1
                if i >= len(words):
                    from ..errors import UsageError

                    raise UsageError(f"flag needs an argument: {name}", hint=f"see '{given.program} --help'")
                value = words[i]
            setattr(given, name[2:], value)
        elif words[i] in ("-D", "--debug"):
            given.debug = True
        else:
            break
        i += 1
    return words[i:]


def _plugin_words(words: list[str], given: Globals) -> list[str]:
    """What docker passes: its own global flags, ``buildx``, then our command."""
    i = 0
    while i < len(words) and words[i].startswith("-") and "buildx" in words[i:]:
        name, eq, value = words[i].partition("=")
        if name in _DOCKER_VALUES and not eq:
            i += 1
            value = words[i]
        if name == "--config":
            given.docker_config = value
        elif name in ("-D", "--debug"):
            given.debug = True
        i += 1
    words = words[i:]
    return words[1:] if words[:1] == ["buildx"] else words


def _plugin_metadata() -> int:
    from ..version import VERSION

    fields = {
        "SchemaVersion": "0.1.0", "Vendor": "Lapstrake", "Version": VERSION,
        "ShortDescription": "Build without a daemon (Lapstrake)",
    }  # fmt: skip
    _print("{" + ",".join(f'"{k}":"{v}"' for k, v in fields.items()) + "}\n")
    return 0


def command_version(_words: Sequence[str], given: Globals) -> int:
    """``lapstrake version``; imports next to nothing.

    As a plugin in buildx's form, which scripts cut at the blanks: module, version.
    """
    from ..version import VERSION

    plugin = given.program != "lapstrake"
    _print(f"lapstrake/buildx v{VERSION}\n" if plugin else f"lapstrake {VERSION}\n")
    return 0


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _overview(program: str) -> str:
    lines = [
        f"Usage:  {program} [GLOBAL OPTIONS] COMMAND", "",
        "Builds OCI images from Dockerfiles, without a daemon and without root.", "", "Commands:",
    ]  # fmt: skip
    lines += [f"  {name:<12}{about}" for name, (_, _, about) in COMMANDS.items()]
    lines += [
        "", "Global options:",
        "      --root DIR       Directory that holds all that is kept (LAPSTRAKE_ROOT)",
        "      --config FILE    Configuration file (LAPSTRAKE_CONFIG)",
        "      --builder NAME   Builder to use (BUILDX_BUILDER)",
        "  -D, --debug          Show more about failures and warnings",
        "  -v, --version        Show the version",
        "", f"'{program} COMMAND --help' says more about a command.", "",
    ]  # fmt: skip
    return "\n".join(lines)
