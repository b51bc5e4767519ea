"""``--policy`` and ``--source-policy-file`` of ``build`` (spec cli.md §2.2, §7, §8)."""

from __future__ import annotations

from ..optspec import REGO_INSTEAD, refuse_rego

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.request import PolicyRule
    from .flags import Parsed


def policy_of(args: Parsed) -> tuple[PolicyRule, ...]:
    """The rules that the command line names.  Raises UsageError, for Rego always."""
    for text in args.many("policy"):
        refuse_rego(text)
    path = args.text("source-policy-file")
    if not path:
        return ()
    from ..engine.build import read_policy

    return read_policy(path)


def unheeded(args: Parsed) -> tuple[str, ...]:
    """A warning about the policy beside the Dockerfile that buildx would have obeyed."""
    if args.many("policy") or args.text("source-policy-file"):
        return ()
    return (f"the .rego file beside the Dockerfile is not obeyed: {REGO_INSTEAD}",)
