"""The flags of ``build`` (spec cli.md §2.2): buildx's, hidden ones too, and what others' users type."""

from __future__ import annotations

from .flags import Command, Flag
from .main import global_flags
from .registryflags import access_flags

_FLAGS = (
    Flag("add-host", "list", 'Add a host-to-IP mapping ("host=ip")', metavar="HOST=IP"),
    Flag(
        "allow",
        "list",
        "Grant an entitlement: network.host, security.insecure, device, buildx.local.delete",
        metavar="NAME",
    ),
    Flag("annotation", "list", "Add an annotation to the image", metavar="[TYPE:]KEY=VALUE"),
    Flag(
        "attest", "list", 'Attach an attestation ("type=sbom" or "type=provenance,mode=max")', metavar="SPEC"
    ),
    Flag(
        "build-arg",
        "list",
        "Set a build argument; without a value it is taken from the environment",
        metavar="NAME[=VALUE]",
    ),
    Flag("build-arg-file", "list", "Read build arguments from a file of NAME=VALUE lines", metavar="FILE"),
    Flag(
        "build-context",
        "list",
        "Add a named context: a directory, docker-image://, oci-layout://, git or HTTP URL",
        metavar="NAME=PATH",
    ),
    Flag(
        "cache-from",
        "list",
        'Import a cache ("registry.example/app:cache", "type=local,src=DIR")',
        metavar="SPEC",
    ),
    Flag(
        "cache-mount",
        "list",
        "Use a host directory for the cache mounts with this id",
        metavar="id=ID,dir=DIR",
    ),
    Flag(
        "cache-to",
        "list",
        'Export the cache ("type=registry,ref=REF,mode=max", "type=local,dest=DIR")',
        metavar="SPEC",
    ),
    Flag("call", help='Instead of building: "check", "outline" or "targets"', metavar="METHOD"),
    Flag("cgroup-parent", help="Parent cgroup of RUN steps", metavar="CGROUP"),
    Flag("check", "bool", 'Check the Dockerfile only; short for "--call=check"'),
    Flag("check-repro", "bool", "Build twice and show what differs; exit code 1 when anything does"),
    Flag("explain", "bool", "Say of every step that runs why it was not cached"),
    Flag(
        "file",
        help='Dockerfile to use (default "PATH/Dockerfile"); "-" reads standard input',
        short="f",
        metavar="FILE",
    ),
    Flag("iidfile", help="Write the image ID to a file", metavar="FILE"),
    Flag("isolation", help="How RUN steps are confined: auto, namespaces, oci or chroot", metavar="NAME"),
    Flag(
        "on-fail",
        help='When a RUN step fails: "save" its state for "lapstrake debug", or open a "shell" in it',
        metavar="WHAT",
    ),
    Flag("timeout", help="Stop a RUN step that takes longer (30s, 10m, 2h)", metavar="DURATION"),
    Flag("jobs", "int", "Run at most N steps at once", default=0, metavar="N"),
    Flag("label", "list", "Add a label to the image", metavar="KEY=VALUE"),
    Flag(
        "layers",
        help="Layers of the image: all, stage, squash, squash-above-base, or at most N; the cache stays as it is",
        metavar="HOW",
        implied="all",
    ),
    Flag("load", "bool", 'Load the image into a container engine; short for "--output=type=docker"'),
    Flag("metadata-file", help="Write what was built to a JSON file", metavar="FILE"),
    Flag("min-isolation", help="Fail rather than confine RUN steps less than this", metavar="NAME"),
    Flag("network", help="Network of RUN steps: default, none or host", metavar="MODE"),
    Flag("no-cache", "bool", "Use no cached result (new results are stored)"),
    Flag("no-cache-filter", "list", "Use no cached result in these stages", metavar="STAGE"),
    Flag(
        "output",
        "list",
        'Where the result goes ("type=oci,dest=FILE", "type=local,dest=DIR", "type=registry", ...)',
        short="o",
        metavar="SPEC",
    ),
    Flag(
        "platform",
        "list",
        "Platforms to build for, comma separated (DOCKER_DEFAULT_PLATFORM)",
        metavar="PLATFORM",
    ),
    Flag("policy", "list", hidden=True),
    Flag(
        "progress",
        help='How progress is shown: "auto", "tty", "plain", "quiet", "rawjson", "none"',
        metavar="MODE",
    ),
    Flag("provenance", help='Short for "--attest=type=provenance"', metavar="SPEC"),
    Flag(
        "pull",
        help='Ask the registry for newer base images; or "always", "missing", "never", "newer"',
        metavar="POLICY",
        implied="true",
    ),
    Flag("push", "bool", 'Push the image; short for "--output=type=registry"'),
    Flag("quiet", "bool", "Show nothing but the image ID", short="q"),
    Flag("require-cached", "bool", "Fail, naming the first step that is not cached, instead of running it"),
    Flag(
        "resource",
        "list",
        "Limit RUN steps: memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems",
        metavar="KEY=VALUE",
    ),
    Flag("rewrite-timestamp", "bool", "Clamp file times in new layers to the source date epoch"),
    Flag("sbom", help='Short for "--attest=type=sbom"', metavar="SPEC"),
    Flag(
        "secret",
        "list",
        'Give RUN steps a secret ("id=token,src=FILE" or "id=token,env=NAME")',
        metavar="SPEC",
    ),
    Flag("shm-size", help="Size of /dev/shm in RUN steps", metavar="BYTES"),
    Flag(
        "source-date-epoch",
        help="Time of the image and its files, in seconds (SOURCE_DATE_EPOCH)",
        metavar="SECONDS",
    ),
    Flag(
        "source-policy-file",
        help="JSON rules about the sources a build may use (EXPERIMENTAL_BUILDKIT_SOURCE_POLICY)",
        metavar="FILE",
    ),
    Flag(
        "ssh", "list", 'Forward an SSH agent or keys ("default", "ID=SOCKET", "ID=KEY,KEY")', metavar="SPEC"
    ),
    Flag(
        "summary",
        help='What is said at the end: "short" (default), "full" (a line a step) or "none"',
        metavar="MODE",
    ),
    Flag("tag", "list", 'Name the image ("name:tag")', short="t", metavar="NAME"),
    Flag("target", help="Stage to build", metavar="STAGE"),
    Flag("ulimit", "list", "Limit of RUN steps", metavar="TYPE=SOFT[:HARD]"),
    Flag(
        "verify-cache",
        help="Run a sample of the cached steps again and compare; 10% of them unless said otherwise",
        metavar="N%",
        implied="10%",
    ),
)

# accepted because people and programs pass them
_HIDDEN = (
    Flag("compress", "bool", hidden=True),
    Flag("rm", "bool", hidden=True, default=True),
    Flag("force-rm", "bool", hidden=True),
    Flag("security-opt", "list", hidden=True),
    Flag("squash", "bool", hidden=True),
    Flag("memory", short="m", hidden=True),
    Flag("memory-swap", hidden=True),
    Flag("cpu-shares", short="c", hidden=True),
    Flag("cpu-period", hidden=True),
    Flag("cpu-quota", hidden=True),
    Flag("cpuset-cpus", hidden=True),
    Flag("cpuset-mems", hidden=True),
    Flag("context", hidden=True),
    Flag("timestamp", hidden=True),
    Flag("destination", "list", hidden=True, alias_of="tag"),
    Flag("dockerfile", hidden=True, alias_of="file"),
)

# buildah's, rewritten by ``buildahflags`` (``-t transport:where`` too)
_BUILDAH = (
    *(Flag(name, hidden=True) for name in (
        "arch", "os", "variant", "os-version", "format", "compression-format", "compression-level", "iidfile-raw", "manifest",
    )),
    *(Flag(name, "list", hidden=True) for name in ("env", "unsetenv", "unsetlabel")),
    Flag("from", hidden=True),
    Flag("ignorefile", hidden=True),
    Flag("inherit-labels", "bool", hidden=True, default=True),
    Flag("force-compression", "bool", hidden=True),
    Flag("disable-compression", "bool", hidden=True),
    Flag("omit-timestamp", "bool", hidden=True),
    Flag("skip-unused-stages", "bool", hidden=True, default=True),
)  # fmt: skip
BUILDAH = frozenset(f.name for f in _BUILDAH) | {"tag"}


def build_command(program: str = "lapstrake") -> Command:
    """The command's description."""
    return Command(
        f"{program} build",
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile. Without --output the image goes to the local store, under its tags.",
        (*_FLAGS, *access_flags(), *_HIDDEN, *_BUILDAH, *global_flags()),
        epilog=f"Example:  {program} build -t registry.example/app:1 --platform linux/amd64,linux/arm64 --push .",
    )
