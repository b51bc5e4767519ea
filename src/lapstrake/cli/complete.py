"""Shell completion: ``completion SHELL`` prints a script, which asks ``__complete`` what could follow.

``__complete`` speaks the protocol docker's client and its shell scripts speak to plugins: a
candidate a line, its description after a tab, then ``:N`` with what the shell should do.  Nothing
here fails: a shell that asked for completions shows no errors.
"""

from __future__ import annotations

import os
import sys

from ..errors import BuildError, UsageError
from .flags import Command, Flag, HelpWanted
from .main import ALIASES, COMMANDS, Globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Candidate = tuple[str, str]

FILES, NOTHING, NO_SPACE, DIRECTORIES = 0, 4, 2, 16
SHELLS = ("bash", "zsh", "fish")
_PROGRESS = ("auto", "plain", "tty", "quiet", "rawjson", "none")
_VALUES: dict[str, tuple[str, ...]] = {
    "progress": _PROGRESS,
    "call": ("check", "outline", "targets"),
    "network": ("default", "none", "host"),
    "isolation": ("auto", "namespaces", "oci", "chroot"),
    "pull": ("always", "missing", "never", "newer"),
    "allow": ("network.host", "security.insecure", "device", "buildx.local.delete"),
    "platform": (
        "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x",
        "windows/amd64", "darwin/arm64", "local",
    ),
    "output": tuple(f"type={t}" for t in ("image", "registry", "oci", "docker", "local", "tar", "cacheonly")),
    "cache-to": tuple(f"type={t}" for t in ("registry", "local", "inline", "s3")),
    "cache-from": tuple(f"type={t}" for t in ("registry", "local", "s3")),
    "sbom": ("true", "false"),
    "provenance": ("mode=max", "mode=min", "false"),
    "summary": ("short", "full", "none"),
    "driver": ("local", "ssh"),
}  # fmt: skip
_BELOW = {
    "imagetools": ("create", "inspect"),
    "history": ("ls", "inspect", "logs", "open", "rm", "trace", "export", "import"),
    "cache": ("ls", "export", "import", "rm"),
    "registry": ("explain",),
    "context": ("ls", "why"),
}
_LISTS = ("platform",)  # comma separated
_IMAGES = ("run", "rmi", "tag", "push")


def command(words: Sequence[str], given: Globals) -> int:
    """``completion bash|zsh|fish``."""
    if len(words) != 1 or words[0] not in SHELLS:
        about = f"Print what makes a shell complete {given.program}. For bash: source <({given.program} completion bash)"
        if list(words) in (["--help"], ["-h"]):
            raise HelpWanted(Command(f"{given.program} completion", "bash|zsh|fish", about))
        raise UsageError("which shell?", hint=f"{given.program} completion bash, zsh or fish")
    sys.stdout.write(_SCRIPTS[words[0]])
    return 0


def answer(words: Sequence[str], given: Globals) -> int:
    """``__complete WORD…``: the last word is the one being typed."""
    try:
        found, directive = complete(list(words), given)
    except (BuildError, OSError, ValueError):
        found, directive = [], FILES
    lines = [f"{text}\t{about}" if about else text for text, about in found]
    sys.stdout.write("".join(f"{line}\n" for line in lines) + f":{directive}\n")
    return 0


def complete(words: list[str], given: Globals) -> tuple[list[Candidate], int]:
    """What could stand where the last word is, and what the shell should do with it."""
    typed = words[-1] if words else ""
    before = words[:-1]
    if before and before[0] == "buildx":  # as docker's plugin
        before = before[1:]
    name = next((w for w in before if not w.startswith("-")), "")
    if not name:
        return _starting(((n, about) for n, (_, _, about) in COMMANDS.items()), typed), NOTHING
    spec = spec_of(name, before[before.index(name) + 1 :], given)
    if isinstance(spec, list):
        return _starting(spec, typed), NOTHING
    if spec is None:
        return [], FILES
    flag, value = _flag_being_given(spec, before, typed)
    if flag is not None:
        prefix = typed[: len(typed) - len(value)]
        found, directive = _values(flag, value, before, given)
        return [(prefix + text, about) for text, about in found], directive
    if typed.startswith("-"):
        return _flags(spec, typed)
    return _arguments(ALIASES.get(name, name), typed, given)


def spec_of(name: str, rest: Sequence[str], given: Globals) -> Command | list[Candidate] | None:
    """A command as it describes itself; the subcommands of one that has some."""
    entry = COMMANDS.get(ALIASES.get(name, name))
    if entry is None or entry[0] == "main":
        return None
    module = __import__(f"lapstrake.cli.{entry[0]}", fromlist=[entry[1]])
    below = _BELOW.get(name, ())
    words = [w for w in rest if not w.startswith("-")]
    if below and not words:
        return [(n, "") for n in below]
    function: Callable[[list[str], Globals], int] = getattr(module, entry[1])
    try:
        function([*words[:1], "--help"] if below else ["--help"], given)
    except HelpWanted as e:
        return e.command
    return None


def _starting(found: Iterable[Candidate], typed: str) -> list[Candidate]:
    return [c for c in found if c[0].startswith(typed)]


def _flag_being_given(spec: Command, before: Sequence[str], typed: str) -> tuple[Flag | None, str]:
    """The flag whose value is being typed, and the value so far."""
    table = {f"--{f.name}": f for f in spec.flags} | {f"-{f.short}": f for f in spec.flags if f.short}
    head, eq, value = typed.partition("=")
    if eq and head in table:
        return table[head], value
    last = before[-1] if before else ""
    flag = table.get(last)
    if flag is not None and flag.kind != "bool" and not flag.implied:
        return flag, typed
    return None, ""


def _flags(spec: Command, typed: str) -> tuple[list[Candidate], int]:
    found = [(f"--{f.name}", f.help) for f in spec.flags if not f.hidden and not f.alias_of]
    return _starting(sorted(found), typed), NOTHING


def _values(flag: Flag, value: str, before: Sequence[str], given: Globals) -> tuple[list[Candidate], int]:
    if flag.name == "target":
        return _starting(_targets(before), value), NOTHING
    if flag.name == "builder":
        return _starting(_builders(given), value), NOTHING
    known = _VALUES.get(flag.name)
    if known is None:
        return [], FILES
    done, comma, last = value.rpartition(",") if flag.name in _LISTS else ("", "", value)
    directive = NO_SPACE | NOTHING if flag.name in ("output", "cache-to", "cache-from") else NOTHING
    return _starting([(done + comma + k, "") for k in known if k.startswith(last)], value), directive


def _targets(before: Sequence[str]) -> list[Candidate]:
    """Stages of the Dockerfile that the words before name."""
    from ..dockerfile.parser import parse

    path, words = "", list(before)
    for i, word in enumerate(words):
        if word in ("-f", "--file") and i + 1 < len(words):
            path = words[i + 1]
        elif word.startswith("--file="):
            path = word.partition("=")[2]
    context = next((w for w in reversed(words[1:]) if os.path.isdir(w)), ".")
    with open(path or os.path.join(context, "Dockerfile"), "rb") as f:
        dockerfile = parse(f.read(1 << 20), "Dockerfile")
    return [(s.name, "") for s in dockerfile.stages if s.name]


def _builders(given: Globals) -> list[Candidate]:
    from ..builders.state import BuilderStore

    return [(b.name, b.driver) for b in BuilderStore(given.settings().builders_dir).all()]


def _arguments(name: str, typed: str, given: Globals) -> tuple[list[Candidate], int]:
    if name == "build":
        return [], DIRECTORIES
    if name in ("use", "rm", "stop"):
        return _starting(_builders(given), typed), NOTHING
    if name in (*_IMAGES, "inspect"):
        from ..engine.images import list_images
        from .images import shorten

        names = [(shorten(i.name), "") for i in list_images(given.settings())]
        return _starting(names + (_builders(given) if name == "inspect" else []), typed), NOTHING
    return [], FILES


_SCRIPTS = {
    "bash": r"""# bash completion for lapstrake
_lapstrake() {
    local words reply last directive line
    words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    # bash splits at '=' and ':'; put the pieces of the last word together again
    local typed="${COMP_LINE:0:COMP_POINT}"
    typed="${typed##* }"
    reply=$("${COMP_WORDS[0]}" __complete "${words[@]:0:${#words[@]}-1}" "$typed" 2>/dev/null) || return
    directive="${reply##*:}"
    reply="${reply%:*}"
    COMPREPLY=()
    while IFS= read -r line; do
        line="${line%%$'\t'*}"
        [ -n "$line" ] || continue
        # what bash took for words of their own is already on the line
        if [[ $typed == *[=:]* ]]; then line="${line#"${typed%"${typed##*[=:]}"}"}"; fi
        COMPREPLY+=("$line")
    done <<<"$reply"
    if (( directive & 2 )); then compopt -o nospace 2>/dev/null; fi
    if (( ${#COMPREPLY[@]} == 0 )); then
        if (( directive & 16 )); then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$typed")
        elif ! (( directive & 4 )); then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "${typed##*=}")
        fi
    fi
}
complete -F _lapstrake lapstrake
""",
    "zsh": r"""#compdef lapstrake
# zsh completion for lapstrake
_lapstrake() {
    local reply directive line
    local -a found
    reply=$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null) || return 1
    directive="${reply##*:}"
    reply="${reply%:*}"
    for line in "${(@f)reply}"; do
        [[ -n $line ]] || continue
        if [[ $line == *$'\t'* ]]; then
            found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        else
            found+=("${line//:/\\:}")
        fi
    done
    if (( ${#found} )); then
        if (( directive & 2 )); then _describe -V 'lapstrake' found -S ''; else _describe -V 'lapstrake' found; fi
    elif (( directive & 16 )); then
        _files -/
    elif ! (( directive & 4 )); then
        _files
    fi
}
compdef _lapstrake lapstrake 2>/dev/null || true
""",
    "fish": r"""# fish completion for lapstrake
function __lapstrake_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l reply ($words[1] __complete $words[2..-1] 2>/dev/null)
    for line in $reply[1..-2]
        echo $line
    end
    set -l directive (string replace ':' '' -- $reply[-1])
    if test (count $reply) -le 1; and test (math "bitand($directive, 4)") -eq 0
        __fish_complete_path (commandline -ct)
    end
end
complete -c lapstrake -f -a '(__lapstrake_complete)'
""",
}
