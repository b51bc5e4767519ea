"""``kaniko``: the executor's flags, translated into a build (spec cli.md §9, §10).

For CI files written for ``/kaniko/executor``.  What kaniko's flags ask of its own machinery
(snapshotting, unpacking the base into ``/``) has nothing to act on here; those are accepted, and a
line says so once.
"""

from __future__ import annotations

import os
import sys

from ..errors import UsageError
from ..values import Value, replace
from .flags import Command, Flag, Parsed, parse
from .main import Globals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config import Settings

_FLAGS = (
    Flag("build-arg", "list", "Set a build argument", metavar="NAME=VALUE"),
    Flag("cache", "bool", "Keep layers in a registry, and use those kept there"),
    Flag("cache-repo", help="Repository of the cache (default: the destination's, with /cache)", metavar="REPO"),
    Flag("context", help="dir://, tar://, git:// or https:// (default /workspace)", short="c", metavar="CONTEXT"),
    Flag("context-sub-path", help="Directory inside the context", metavar="PATH"),
    Flag("custom-platform", help="Platform to build for", metavar="PLATFORM"),
    Flag("customPlatform", hidden=True, alias_of="custom-platform"),
    Flag("destination", "list", "Where to push the image; repeat for several", short="d", metavar="IMAGE"),
    Flag("digest-file", help="Write the digest to a file", metavar="FILE"),
    Flag("dockerfile", help="Dockerfile, relative to the context", short="f", metavar="FILE"),
    Flag("git", help="Options of a git context: branch=NAME,single-branch,...", metavar="OPTIONS"),
    Flag("image-name-with-digest-file", help="Write NAME@DIGEST to a file", metavar="FILE"),
    Flag("image-name-tag-with-digest-file", help="Write NAME:TAG@DIGEST to a file", metavar="FILE"),
    Flag("insecure", "bool", "Push over plain HTTP"),
    Flag("insecure-pull", "bool", "Pull over plain HTTP"),
    Flag("insecure-registry", "list", "Use plain HTTP for this registry", metavar="HOST"),
    Flag("label", "list", "Add a label", metavar="KEY=VALUE"),
    Flag("no-push", "bool", "Do not push"),
    Flag("oci-layout-path", help="Write the image as an OCI layout", metavar="DIR"),
    Flag("registry-certificate", "list", "CA certificate of a registry", metavar="HOST=FILE"),
    Flag("registry-client-cert", "list", "Client certificate of a registry", metavar="HOST=CERT,KEY"),
    Flag("registry-map", "list", "Registries that stand for another one", metavar="HOST=MIRROR[;HOST=MIRROR]"),
    Flag("registry-mirror", "list", "Mirror of Docker Hub", metavar="HOST"),
    Flag("reproducible", "bool", "Leave times out of the image"),
    Flag("single-snapshot", "bool", "One layer for all that is new"),
    Flag("skip-tls-verify", "bool", "Do not verify certificates when pushing"),
    Flag("skip-tls-verify-pull", "bool", "Do not verify certificates when pulling"),
    Flag("skip-tls-verify-registry", "list", "Do not verify certificates of this registry", metavar="HOST"),
    Flag("tar-path", help="Write the image as a docker archive", metavar="FILE"),
    Flag("target", help="Stage to build", metavar="STAGE"),
    Flag("verbosity", help="panic, fatal, error, warn, info, debug or trace", default="info", short="v"),
)  # fmt: skip
_NO_EFFECT = (
    ("cache-dir", ""), ("cache-ttl", ""), ("cache-copy-layers", "bool"), ("cache-run-layers", "bool"),
    ("cleanup", "bool"), ("compressed-caching", "bool"), ("force", "bool"), ("ignore-path", "list"),
    ("ignore-var-run", "bool"), ("image-download-retry", ""), ("image-fs-extract-retry", ""), ("kaniko-dir", ""),
    ("log-format", ""), ("log-timestamp", "bool"), ("no-push-cache", "bool"),
    ("push-ignore-immutable-tag-errors", "bool"), ("push-retry", ""), ("skip-default-registry-fallback", "bool"),
    ("skip-push-permission-check", "bool"), ("skip-unused-stages", "bool"), ("snapshot-mode", ""),
    ("snapshotMode", ""), ("use-new-run", "bool"),
)  # fmt: skip
_QUIET = ("panic", "fatal", "error")
_CLOUD = ("gs://", "s3://")


class Translated(Value):
    """A kaniko command line as the words of ``build``.  ``registry``: tables to add to the configuration."""

    words: tuple[str, ...]
    registry: dict[str, dict[str, object]]
    ignored: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code."""
    given = Globals()
    given.program = "kaniko"
    try:
        return _main(list(sys.argv[1:] if argv is None else argv), given)
    except KeyboardInterrupt:
        return 130
    except BaseException as e:
        from .present import present

        return present(e, debug=given.debug)


def _spec() -> Command:
    from .main import global_flags

    hidden = tuple(Flag(name, kind or "string", hidden=True) for name, kind in _NO_EFFECT)
    own = {f.name for f in (*_FLAGS, *hidden)}
    shared = tuple(f for f in global_flags() if f.name not in own)
    about = "Build an image as kaniko's executor does, and push it."
    return Command("kaniko", "[OPTIONS]", about, (*_FLAGS, *hidden, *shared), 0, 0)


def _main(argv: list[str], given: Globals) -> int:
    from .flags import HelpWanted, render_help

    try:
        args = parse(_spec(), argv)
    except HelpWanted as e:
        sys.stdout.write(render_help(e.command))
        return 0
    settings = _docker_config(given.settings(args))
    done = translate(args)
    if done.ignored:
        sys.stderr.write(f"NOTE: {', '.join(done.ignored)}: without effect here\n")
    return _build(args, done, settings)


def _docker_config(settings: Settings) -> Settings:
    """kaniko's images keep credentials in /kaniko/.docker."""
    if not settings.environ.get("DOCKER_CONFIG") and os.path.exists("/kaniko/.docker/config.json"):
        return replace(settings, docker_config="/kaniko/.docker")
    return settings


def _build(args: Parsed, done: Translated, settings: Settings) -> int:
    from .build import execute, to_request
    from .buildflags import build_command

    registry: dict[str, object] = dict(settings.registry)
    for name, table in done.registry.items():
        old = registry.get(name)
        registry[name] = {**(old if isinstance(old, dict) else {}), **table}
    settings = replace(settings, registry=registry)
    request = to_request(parse(build_command("kaniko"), done.words), settings.environ)
    files = {
        n: args.text(n)
        for n in ("digest-file", "image-name-with-digest-file", "image-name-tag-with-digest-file")
    }
    if not any(files.values()):
        return execute(request, settings)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="lapstrake-") as scratch:
        metadata = os.path.join(scratch, "metadata.json")
        code = execute(replace(request, metadata_file=metadata), settings)
        _write_digests(metadata, files, args.many("destination"))
    return code


def _write_digests(metadata: str, files: dict[str, str], names: list[str]) -> None:
    import json

    from ..oci.reference import parse as parse_reference
    from .build import write_atomic

    with open(metadata, "rb") as f:
        digest = str(json.load(f).get("containerimage.digest", ""))
    refs = [parse_reference(n) for n in names]
    texts = {
        "digest-file": digest,
        "image-name-with-digest-file": "\n".join(f"{r.name}@{digest}" for r in refs),
        "image-name-tag-with-digest-file": "\n".join(f"{r.name}:{r.tag or 'latest'}@{digest}" for r in refs),
    }
    for flag, path in files.items():
        if path:
            write_atomic(path, texts[flag].encode())


# -- translating --------------------------------------------------------------------------


def translate(args: Parsed) -> Translated:
    """kaniko's flags as ``build``'s.  Raises UsageError for what can't be said so."""
    words: list[str] = []
    for name in ("build-arg", "label"):
        words += [f"--{name}={value}" for value in args.many(name)]
    if args.text("target"):
        words.append(f"--target={args.text('target')}")
    if args.text("custom-platform"):
        words.append(f"--platform={args.text('custom-platform')}")
    if args.flag("reproducible"):
        words += ["--source-date-epoch=0", "--rewrite-timestamp"]
    words.append("--progress=" + ("quiet" if args.text("verbosity") in _QUIET else "plain"))
    words += _outputs(args) + _cache(args) + _context(args)
    ignored = tuple(f"--{name}" for name, _ in _NO_EFFECT if args.has(name))
    return Translated(tuple(words), _registries(args), ignored)


def _outputs(args: Parsed) -> list[str]:
    names, out = args.many("destination"), []
    push = not args.flag("no-push")
    if push and not names:
        raise UsageError(
            "you must provide --destination, or use --no-push", hint="--destination=registry/name:tag"
        )
    quoted = f'"name={",".join(names)}"' if len(names) > 1 else f"name={names[0]}" if names else ""
    common = [quoted] if quoted else []
    common += ["layers=squash-above-base"] if args.flag("single-snapshot") else []
    if push:
        out.append(",".join(["type=registry", *common]))
    if args.text("tar-path"):
        out.append(",".join(["type=docker", f"dest={args.text('tar-path')}", *common]))
    if args.text("oci-layout-path"):
        out.append(",".join(["type=oci", "tar=false", f"dest={args.text('oci-layout-path')}", *common]))
    return [f"--output={o}" for o in out or ["type=cacheonly"]]


def _cache(args: Parsed) -> list[str]:
    if not args.flag("cache"):
        return []
    names = args.many("destination")
    repo = args.text("cache-repo")
    if not repo and names:
        from ..oci.reference import parse as parse_reference

        repo = parse_reference(names[0]).name + "/cache"
    if not repo:
        raise UsageError("--cache without --destination needs --cache-repo")
    if repo.startswith("oci:"):
        return [f"--cache-from=type=local,src={repo[4:]}", f"--cache-to=type=local,dest={repo[4:]},mode=max"]
    to = "" if args.flag("no-push-cache") else f"--cache-to=type=registry,ref={repo},mode=max"
    return [f"--cache-from=type=registry,ref={repo}", *([to] if to else [])]


def _context(args: Parsed) -> list[str]:
    context = args.text("context") or "/workspace"
    sub, file = args.text("context-sub-path"), args.text("dockerfile")
    if context.startswith(_CLOUD):
        raise UsageError(
            f"{context}: contexts in object stores are not supported", hint="download it, and give dir://"
        )
    if context.startswith(("git://", "https://", "http://")) and not context.startswith("https://storage"):
        return _git_context(context, sub, file, args.text("git"))
    if context == "tar://stdin":
        return [*([f"--file={file}"] if file else []), "-"]
    if context.startswith("tar://"):
        raise UsageError(
            "a tar:// context is read from standard input", hint="kaniko --context tar://stdin < FILE"
        )
    path = os.path.join(context.removeprefix("dir://"), sub) if sub else context.removeprefix("dir://")
    return [f"--file={_dockerfile(path, file)}", path]


def _dockerfile(context: str, given: str) -> str:
    """As kaniko looks for it: as given, else below the context."""
    if given and not os.path.isabs(given) and not os.path.exists(given):
        return os.path.join(context, given)
    return given or os.path.join(context, "Dockerfile")


def _git_context(context: str, sub: str, file: str, options: str) -> list[str]:
    url, _, ref = context.partition("#")
    if url.startswith("git://"):
        url = "https://" + url[6:]  # kaniko clones over https
    if not url.endswith(".git") and not url.startswith("http"):
        url += ".git"
    chosen = dict(o.partition("=")[::2] for o in options.split(",") if o)
    ref = ref.removeprefix("refs/heads/") or chosen.get("branch", "")
    url = url if url.endswith(".git") else url + ".git"
    return [
        *([f"--file={file}"] if file else []),
        url + (f"#{ref}" if ref or sub else "") + (f":{sub}" if sub else ""),
    ]


def _registries(args: Parsed) -> dict[str, dict[str, object]]:
    """``[registry]`` tables, as buildkitd.toml has them."""
    from ..oci.reference import parse as parse_reference

    out: dict[str, dict[str, object]] = {}
    pushed = [parse_reference(n).registry for n in args.many("destination")]
    plain = [*args.many("insecure-registry"), *(pushed if args.flag("insecure") else ())]
    loose = [*args.many("skip-tls-verify-registry"), *(pushed if args.flag("skip-tls-verify") else ())]
    if args.flag("insecure-pull") or args.flag("skip-tls-verify-pull"):
        (plain if args.flag("insecure-pull") else loose).append("docker.io")
    for host in plain:
        out.setdefault(host, {})["http"] = True
    for host in loose:
        out.setdefault(host, {})["insecure"] = True
    mirrors: dict[str, list[str]] = {}
    if args.many("registry-mirror"):
        mirrors["docker.io"] = [m.removeprefix("https://") for m in args.many("registry-mirror")]
    for item in (i for raw in args.many("registry-map") for i in raw.split(";") if i):
        host, eq, mirror = item.partition("=")
        if not eq:
            raise UsageError(f"--registry-map {item}: expected HOST=MIRROR")
        mirrors.setdefault("docker.io" if host == "index.docker.io" else host, []).append(mirror)
    for host, found in mirrors.items():
        out.setdefault(host, {})["mirrors"] = found
    for raw in args.many("registry-certificate"):
        host, _, path = raw.partition("=")
        out.setdefault(host, {})["ca"] = [path]
    for raw in args.many("registry-client-cert"):
        host, _, pair = raw.partition("=")
        cert, comma, key = pair.partition(",")
        if not comma:
            raise UsageError(f"--registry-client-cert {raw}: expected HOST=CERT,KEY")
        out.setdefault(host, {})["keypair"] = [{"cert": cert, "key": key}]
    return out


if __name__ == "__main__":
    sys.exit(main())
