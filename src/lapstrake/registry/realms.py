"""Which token service may be told a registry's credentials (spec oci.md §10.2).

A registry names its token service in the ``realm`` of a challenge, and a hostile or hijacked one
could name any.  Credentials go to a realm only if it is

1. on the registry's own host (any port),
2. known to serve that registry, from the table below,
3. named by the user: ``realms = ["auth.example"]`` in ``[registry."registry.example"]``, or
4. under the same registrable domain by the public suffix list, hosting providers' customer
   domains included.

Others are asked anonymously, and when access is denied the hint says so.  A realm without TLS is
refused unless the registry itself is spoken to without.
"""

from __future__ import annotations

from ..errors import ResolveError
from .config import Host, hostname
from .transport import origin, shown

KNOWN = {
    "docker.io": ("auth.docker.io",),
    "registry-1.docker.io": ("auth.docker.io",),
    "index.docker.io": ("auth.docker.io",),
    "registry.gitlab.com": ("gitlab.com",),
}
# Registries whose customers share a domain that the public suffix list does not split.
_SHARED = ("azurecr.io", "jfrog.io", "amazonaws.com", "pkg.dev", "on.aws", "ghcr.io", "icr.io")
_SAME_MACHINE = ("localhost", "127.0.0.1", "::1")


def check(realm: str, url: str) -> str:
    """A realm that may be asked at all: http(s), no user part, not less safe than the registry itself."""
    scheme = origin(realm)[0] if realm else ""
    if not realm or "@" in realm.partition("://")[2].partition("/")[0]:
        raise ResolveError(f"{shown(url)} names no valid token service", code="UNAUTHORIZED")
    if scheme == "http" and not url.startswith("http://"):
        raise ResolveError(
            f"{shown(url)} names a token service without TLS ({shown(realm)}): refused", code="UNAUTHORIZED"
        )
    return realm


def may_have_credentials(host: Host, realm: str) -> bool:
    """Whether the token service at ``realm`` may be told ``host.registry``'s credentials."""
    name = origin(realm)[1].rstrip(".")
    own = hostname(host.address).rstrip(".")
    if name == own or (name in _SAME_MACHINE and own in _SAME_MACHINE):
        return True
    if name in KNOWN.get(host.registry, ()) or host.trusts(name):
        return True
    return same_domain(own, name)


def same_domain(one: str, other: str) -> bool:
    """Whether two host names belong to whoever registered their common domain."""
    if any(_is_address(n) or "." not in n for n in (one, other)):
        return False
    domain = _registrable(one)
    return domain != "" and domain == _registrable(other)


def _is_address(name: str) -> bool:
    return ":" in name or name.rpartition(".")[2].isdigit()


def _registrable(name: str) -> str:
    for shared in _SHARED:
        if name == shared or name.endswith("." + shared):
            return name  # customers side by side: every name for itself
    from publicsuffixlist import PublicSuffixList

    suffixes = PublicSuffixList(accept_unknown=False)  # read only when the names differ
    return suffixes.privatesuffix(name) or ""
