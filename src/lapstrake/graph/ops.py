"""What a vertex does.  Everything here that an executor is given is part of the cache key.

The kinds correspond to BuildKit's LLB ops (SourceOp, ExecOp, FileOp).
"""

from __future__ import annotations

from ..oci.platform import Platform
from ..values import Value


class SourceOp(Value):
    """A root input.  ``scheme``: image, local, git, http.  ``identifier`` is pinned
    (an image's by manifest digest), so that equal definitions give equal content, except for
    ``local``, which the worker keys by the content that is actually selected."""

    scheme: str
    identifier: str
    platform: Platform | None = None
    attrs: tuple[tuple[str, str], ...] = ()


class ExecMount(Value):
    """One ``RUN --mount`` after expansion.  ``input``: index of the vertex input, -1 for none."""

    kind: str  # bind cache tmpfs secret ssh file
    target: str
    input: int = -1
    selector: str = ""
    readonly: bool = False
    id: str = ""
    sharing: str = "shared"
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0
    required: bool = False
    env: str = ""
    content: bytes = b""


class ExecOp(Value):
    """``RUN``.  Input 0 is the root filesystem."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    platform: Platform
    mounts: tuple[ExecMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    hostname: str = "buildkitsandbox"
    extra_hosts: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 0
    cgroup_parent: str = ""
    devices: tuple[str, ...] = ()
    resources: tuple[tuple[str, str], ...] = ()  # not in the key
    proxy_env: tuple[str, ...] = ()  # not in the key
    arg_names: tuple[str, ...] = ()  # which of env are ARGs: only for messages, not in the key


class CopyPart(Value):
    """What one input of a COPY or ADD gives: its index, the sources taken from it, whether archives are unpacked."""

    input: int
    sources: tuple[str, ...]
    unpack: bool = False


class CopyOp(Value):
    """``COPY``/``ADD``.  Input 0: destination root; input 1: the source tree (absent for heredocs only).
    With sources of several kinds ``parts`` says, in order, what comes from which input."""

    sources: tuple[str, ...]
    dest: str
    cwd: str
    files: tuple[tuple[str, str], ...] = ()  # heredocs: (name, content)
    chown: str = ""
    chmod: str = ""
    parents: bool = False
    exclude: tuple[str, ...] = ()
    link: bool = False
    unpack: bool = False
    add: bool = False
    parts: tuple[CopyPart, ...] = ()

    def taken(self) -> tuple[CopyPart, ...]:
        """The parts, also of an operation with one source."""
        return self.parts or ((CopyPart(1, self.sources, self.unpack),) if self.sources else ())


class MkdirOp(Value):
    """``WORKDIR``: the directory and its missing parents.  Input 0: the root."""

    path: str
    user: str = ""
    epoch: int | None = None


Op = SourceOp | ExecOp | CopyOp | MkdirOp
UNKEYED = frozenset({"resources", "proxy_env", "arg_names"})
