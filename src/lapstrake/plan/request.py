"""What a build was asked to do: a value, free of flags, environment and file contents.

``cli.build.to_request`` and ``api.build`` make it; the planner and the engine read it.  Secret
values are never in it, only where they can be found.
"""

from __future__ import annotations

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..oci.platform import Platform

Pairs = tuple[tuple[str, str], ...]

#: What an output may be; ``cacheonly`` exports nothing.
IMAGE_OUTPUTS = ("image", "registry", "oci", "docker")


class OutputSpec(Value):
    """One ``--output``.  ``dest`` "-" is standard output; ``attrs`` hold all keys but type and dest."""

    type: str
    dest: str = ""
    attrs: Pairs = ()

    def get(self, key: str, default: str = "") -> str:
        """The last value of an attribute."""
        return dict(self.attrs).get(key, default)


class CacheSpec(Value):
    """One ``--cache-from`` or ``--cache-to``."""

    type: str
    attrs: Pairs = ()

    def get(self, key: str, default: str = "") -> str:
        """The last value of an attribute."""
        return dict(self.attrs).get(key, default)


class SecretSpec(Value):
    """Where a secret is: ``type`` "file" (``source`` a path) or "env" (``source`` a variable name)."""

    id: str
    type: str
    source: str


class SshSpec(Value):
    """A forwarded agent: one socket, or private keys for an agent of our own."""

    id: str
    paths: tuple[str, ...] = ()


class AttestSpec(Value):
    """An attestation that is asked for: ``type`` "sbom" or "provenance"."""

    type: str
    attrs: Pairs = ()


class AnnotationSpec(Value):
    """``level``: manifest, index, manifest-descriptor or index-descriptor; ``platform`` "" means all."""

    level: str
    platform: str
    key: str
    value: str

    @property
    def attribute(self) -> str:
        """The name as an output attribute: ``annotation-index[linux/amd64].KEY``."""
        level = "" if self.level == "manifest" else f"-{self.level}"
        where = f"[{self.platform}]" if self.platform else ""
        return f"annotation{level}{where}.{self.key}"


class PolicyRule(Value):
    """One rule of a source policy (``plan.policy``).  ``constraints``: (condition, attribute, value)."""

    action: str  # ALLOW | DENY | CONVERT
    identifier: str
    match: str = "WILDCARD"  # or EXACT | REGEX
    constraints: tuple[tuple[str, str, str], ...] = ()
    new_identifier: str = ""
    new_attrs: Pairs = ()


class ImageEdits(Value):
    """What the command line changes of an image besides labels (buildah's flags).

    ``base``: an image instead of the first FROM's.  ``unset_labels`` and ``inherit_labels`` concern the
    labels of the base alone; ``env`` and ``unset_env`` the finished image's variables."""

    base: str = ""
    env: Pairs = ()
    unset_env: tuple[str, ...] = ()
    unset_labels: tuple[str, ...] = ()
    inherit_labels: bool = True


class NodeSpec(Value):
    """A machine that builds for us.  ``endpoint`` "" is this one; ``platforms`` empty: what it runs natively.

    ``options``: driver options (``command``, ``root``, ``config``, ``ssh-config``).
    """

    name: str
    endpoint: str = ""
    platforms: tuple[Platform, ...] = ()
    options: Pairs = ()


class CallSpec(Value):
    """``--call``: ``build``, ``check``, ``outline`` or ``targets``."""

    name: str = "build"
    format: str = ""  # "" or "json"
    ignore_status: bool = False


class BuildRequest(Value):
    """One build.

    ``context``: a directory, a git or HTTP URL, ``-`` (an archive on standard input, whose first
    bytes already read are ``stdin_head``) or ``""`` (nothing at all, as with ``build - < Dockerfile``).
    ``dockerfile``: None means the default name in the context; a path is relative to the current
    directory for a local context and to the context otherwise.  ``dockerfile_text`` wins over both.
    ``outputs`` empty means: the local image store, under ``tags``.
    ``annotations`` are already merged into the attributes of image ``outputs``; those that are kept
    here are for the default output.
    """

    context: str
    dockerfile: str | None = None
    dockerfile_text: bytes | None = None
    stdin_head: bytes = b""
    target: str = ""
    platforms: tuple[Platform, ...] = ()
    build_args: Pairs = ()
    labels: Pairs = ()
    tags: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: str = ""  # "" as "missing", or always | missing | never | newer
    outputs: tuple[OutputSpec, ...] = ()
    named_contexts: Pairs = ()
    network: str = "default"
    add_hosts: Pairs = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 0
    resources: Pairs = ()
    cgroup_parent: str = ""
    secrets: tuple[SecretSpec, ...] = ()
    ssh: tuple[SshSpec, ...] = ()
    allow: tuple[str, ...] = ()
    annotations: tuple[AnnotationSpec, ...] = ()
    attests: tuple[AttestSpec, ...] = ()
    cache_from: tuple[CacheSpec, ...] = ()
    cache_to: tuple[CacheSpec, ...] = ()
    cache_mounts: Pairs = ()  # cache mount id -> host directory
    metadata_file: str = ""
    iidfile: str = ""
    iidfile_raw: bool = False  # without the "sha256:"
    source_date_epoch: int | None = None
    epoch_from: str = ""  # instead: the name of the source whose time it is
    call: CallSpec = CallSpec()
    progress: str = "auto"
    builder: str = ""
    isolation: str = ""
    min_isolation: str = ""
    jobs: int = 0
    step_timeout: float = 0.0  # seconds a RUN may take
    on_fail: str = ""  # "" | save | shell
    explain: bool = False
    require_cached: bool = False
    verify_cache: float = 0.0  # share of the cached steps that are run again and compared, 0 to 1
    nodes: tuple[NodeSpec, ...] = ()  # empty: this machine builds everything
    policy: tuple[
        PolicyRule, ...
    ] = ()  # which sources may be used; empty: EXPERIMENTAL_BUILDKIT_SOURCE_POLICY
    edits: ImageEdits | None = None
    ignore_file: str = ""  # instead of the context's .dockerignore
    warnings: tuple[str, ...] = ()  # what the command line has to say (ignored flags)
