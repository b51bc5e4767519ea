"""The flags of every command that talks to a registry, in buildah's spelling."""

from __future__ import annotations

from .flags import Flag


def access_flags() -> tuple[Flag, ...]:
    """``--authfile --creds --cert-dir --tls-verify --retry --retry-delay``."""
    return (
        Flag("authfile", help="Take credentials from this file only (REGISTRY_AUTH_FILE)", metavar="FILE"),
        Flag(
            "creds",
            "list",
            "Credentials for the registry named, and for no other",
            metavar="[REGISTRY=]USER:PASSWORD",
        ),
        Flag(
            "cert-dir", help="Directory of CA and client certificates (*.crt, *.cert, *.key)", metavar="DIR"
        ),
        Flag("tls-verify", "bool", "Require HTTPS and verify certificates of registries", default=""),
        Flag("retry", "int", "How often a request to a registry is repeated (7)", default=7, metavar="N"),
        Flag("retry-delay", help="Wait so long between, instead of 0.25s growing to 8s", metavar="DURATION"),
    )


GIVEN = ("authfile", "creds", "cert-dir", "tls-verify", "retry", "retry-delay")
