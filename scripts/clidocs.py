#!/usr/bin/env python3
"""docs/cli.md: every command as it describes itself.

clidocs.py            write it
clidocs.py --check    exit code 1 when it is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "src"))

from lapstrake.cli.complete import _BELOW, spec_of
from lapstrake.cli.flags import Command, Flag
from lapstrake.cli.kaniko import _spec as kaniko_spec
from lapstrake.cli.main import ALIASES, COMMANDS, Globals, global_flags
from lapstrake.cli.registryflags import access_flags

PAGE = PROJECT / "docs" / "cli.md"

GROUPS = {
    "Building": ("build", "bake", "context", "debug", "why", "policy"),
    "Images": (
        "run", "images", "inspect", "tag", "rmi", "save", "diff", "validate",
    ),
    "Registries": ("push", "pull", "login", "logout", "imagetools", "registry"),
    "Builds that were run": ("history", "report"),
    "The store": ("du", "prune", "cache", "fsck"),
    "Builders": ("create", "use", "ls", "rm", "stop", "dial-stdio"),
    "This machine": ("doctor", "install", "uninstall", "completion", "version"),
}  # fmt: skip

#: What a command's exit code says beside success and failure.
EXITS = {
    "build": "With `--check`: 1 when there are warnings. With `--check-repro`: 1 when the two builds differ.",
    "run": "That of the command.",
    "debug": "That of the command or shell.",
    "context why": "1: the build does not see the path.",
    "why": "1: nothing is known of such a step.",
    "diff": "1: the images differ.",
    "validate": "1: something is wrong.",
    "fsck": "1: something is wrong and was not repaired.",
    "doctor": "1: no build can run here.",
    "history logs": "With `--step`: 1 when no such step wrote anything.",
}

HEAD = """\
# Commands

<!-- Written by scripts/clidocs.py from the commands' own descriptions. Change those, then run it. -->

`lapstrake [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARG...]`. `lapstrake COMMAND --help` prints the same as this page.
Flags are read as Docker's tools read them: `--flag VALUE`, `--flag=VALUE`, `-fVALUE`; flags may follow arguments;
a flag shown with `[=VALUE]` takes its value only after `=`. Called as `docker-buildx` (`lapstrake install`), the program is
docker's plugin and knows the same commands.

Some flags are not listed here because they only exist for other tools' habits: those of buildx that are deprecated, those
of buildah that don't clash. They work or say why not; [migrating](migrating.md) has them.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | what was asked for failed |
| 2 | the command line, or a configuration file, is wrong |
| 4, 5, 6 | with `LAPSTRAKE_EXIT_CODES=detailed` only (1 without): a registry denied access, a push failed, a cache export failed |
| 130 | cancelled (Ctrl-C, SIGTERM) |
| 141 | whoever read the output went away |

What else a code means stands with the command.

## Global options

Before any command or after its name; also in the environment or the [configuration](configuration.md).

"""
REGISTRY_HEAD = """
## Registry options

Of the commands that say so. [Registries](registries.md) tells where the rest is configured.

"""


def page() -> str:
    """The whole page."""
    out = [HEAD, _table(global_flags()), REGISTRY_HEAD, _table(access_flags())]
    for title, names in GROUPS.items():
        out.append(f"\n## {title}\n")
        for name in names:
            out += [_entry(f"lapstrake {n}", c, EXITS.get(n, ""), _short(n)) for n, c in commands(name)]
    out.append("\n## kaniko\n")
    out.append(_entry("kaniko", kaniko_spec(), "", ""))
    return "".join(out)


def commands(name: str) -> list[tuple[str, Command]]:
    """A command and those below it, as (words, description)."""
    found = []
    for words in ([name], *([name, below] for below in _BELOW.get(name, ()))):
        spec = spec_of(words[0], words[1:], Globals())
        if not isinstance(spec, Command):  # it only has others below it
            spec = _own(name)
        found.append((" ".join(words), spec))
        if words == ["history", "inspect"]:
            attachment = _help(name, ["inspect", "attachment", "--help"])
            found.append(("history inspect attachment", attachment))
    return found


def _own(name: str) -> Command:
    module, _, about = COMMANDS[name]
    if module == "main":
        return Command(f"lapstrake {name}", "", about)
    return _help(name, ["--help"])


def _help(name: str, words: list[str]) -> Command:
    from lapstrake.cli.flags import HelpWanted

    module, function, _ = COMMANDS[name]
    try:
        getattr(__import__(f"lapstrake.cli.{module}", fromlist=[function]), function)(words, Globals())
    except HelpWanted as e:
        return e.command
    raise AssertionError(f"{name} does not describe itself")


def _short(name: str) -> str:
    return next((short for short, long in ALIASES.items() if long == name), "")


def _entry(name: str, command: Command, exits: str, short: str) -> str:
    registry = {f.name for f in access_flags()}
    skip = {f.name for f in global_flags()}
    shown = [f for f in command.flags if not f.hidden and not f.alias_of and f.name not in skip]
    speaks = registry <= {f.name for f in shown}
    if speaks:
        shown = [f for f in shown if f.name not in registry]
    usage = f"{name} {command.usage}".rstrip()
    parts = [f"\n### {name}\n", f"\n`{usage}`" + (f" (short: `{short}`)" if short else "") + "\n"]
    if command.about:
        parts.append(f"\n{' '.join(command.about.split())}\n")
    if exits:
        parts.append(
            f"\nExit code: {exits[0].lower() if exits.startswith('That') else exits[0]}{exits[1:]}\n"
        )
    if shown:
        parts.append("\n" + _table(shown))
    if speaks:
        parts.append("\nAnd the [registry options](#registry-options).\n")
    if command.epilog:
        parts.append(
            f"\n```text\n{command.epilog.strip()}\n```\n"
            if "Example" in command.epilog
            else f"\n{command.epilog.strip()}\n"
        )
    return "".join(parts)


def _table(flags: tuple[Flag, ...] | list[Flag]) -> str:
    rows = ["| flag | |\n", "| --- | --- |\n"]
    for f in sorted(flags, key=lambda f: f.name):
        text = f.help + (f" (default `{f.default}`)" if isinstance(f.default, str) and f.default else "")
        rows.append(f"| `{_head(f)}` | {_escape(text)} |\n")
    return "".join(rows)


def _escape(text: str) -> str:
    for sign in "|*<":
        text = text.replace(sign, f"\\{sign}")
    return text


def _head(f: Flag) -> str:
    short = f"-{f.short}, " if f.short else ""
    if f.kind == "bool":
        value = ""
    elif f.implied:
        value = f"[={f.metavar}]" if f.metavar else ""
    else:
        value = " " + (f.metavar or {"int": "N"}.get(f.kind, "VALUE"))
    return f"{short}--{f.name}{value}".replace("|", "\\|")


def main(words: list[str]) -> int:
    """Write the page, or say whether it is as it should be."""
    told = {name for names in GROUPS.values() for name in names}
    if told != set(COMMANDS):
        print(f"give {', '.join(told ^ set(COMMANDS))} a place in GROUPS", file=sys.stderr)
        return 1
    text = page()
    if words == ["--check"]:
        if PAGE.read_text() == text:
            return 0
        print("docs/cli.md is not up to date: run scripts/clidocs.py", file=sys.stderr)
        return 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
