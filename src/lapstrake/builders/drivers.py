"""What a builder's nodes mean for a build: which machine builds which platform, with which settings.

``local`` nodes are this machine; ``ssh`` nodes are reached by ``ssh://`` endpoints (spec cli.md §4).
One builder may have both: the first node that claims a platform gets it.
"""

from __future__ import annotations

from ..errors import UsageError
from ..plan.request import NodeSpec
from ..values import replace
from .state import DEFAULT, BuilderStore, Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Settings
    from ..plan.request import BuildRequest

SSH = "ssh"


def is_remote(endpoint: str) -> bool:
    """Whether an endpoint is another machine."""
    return endpoint.startswith("ssh://")


def driver_of(endpoint: str, asked: str) -> str:
    """The driver of a new builder: what was asked for, else what the endpoint implies."""
    if asked == SSH and not is_remote(endpoint):
        raise UsageError(
            "the ssh driver needs an endpoint", hint="lapstrake create --driver ssh ssh://user@host"
        )
    return asked or (SSH if is_remote(endpoint) else "local")


def node_spec(node: Node) -> NodeSpec:
    """A node as a build request names it."""
    from ..oci.platform import parse

    endpoint = node.endpoint if is_remote(node.endpoint) else ""
    return NodeSpec(node.name, endpoint, tuple(parse(p) for p in node.platforms), node.options)


def apply(settings: Settings, request: BuildRequest) -> tuple[Settings, BuildRequest]:
    """What the chosen builder changes: its nodes, and the registry part of its configuration."""
    name = request.builder or settings.builder
    if name == DEFAULT:
        return settings, request
    builder = BuilderStore(settings.builders_dir).get(name)
    config = next((n.config for n in builder.nodes if n.config and not is_remote(n.endpoint)), "")
    if config:
        from ..config import read_registry

        settings = replace(settings, registry={**settings.registry, **read_registry(config)})
    if any(is_remote(n.endpoint) for n in builder.nodes):
        request = replace(request, nodes=tuple(node_spec(n) for n in builder.nodes))
    return replace(settings, builder=builder.name), request
