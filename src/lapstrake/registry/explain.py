"""Which mirror, certificate and credential apply to a name, in the order they are tried.  Shows no secret."""

from __future__ import annotations

from ..values import Value
from .config import is_loopback
from .route import certificate_files, proxy_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..oci.reference import Reference
    from .auth import Auth, Credentials
    from .config import Host, RegistryConfig


class HostReport(Value):
    """One host as it would be asked.  ``secret``-free; ``answer`` is what it said, when it was asked."""

    address: str
    why: str
    repository: str
    schemes: tuple[str, ...]
    verify: bool
    ca: tuple[str, ...]
    client_certificates: tuple[str, ...]
    credentials: str
    proxy: str
    answer: str = ""

    def to_json(self) -> dict[str, Any]:
        """For ``--format json``."""
        from ..values import asdict

        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def lines(self) -> list[str]:
        """For people."""
        tls = ", then ".join(self.schemes)
        if "https" in self.schemes and not self.verify:
            tls += " (certificates are not verified)"
        rows = [("repository", self.repository), ("scheme", tls)]
        if "https" in self.schemes and self.verify:
            rows.append(("CA", ", ".join(self.ca) or "the system's"))
        if self.client_certificates:
            rows.append(("client cert", ", ".join(self.client_certificates)))
        rows.append(("credentials", self.credentials or "none (anonymous)"))
        if self.proxy:
            rows.append(("proxy", self.proxy))
        if self.answer:
            rows.append(("answer", self.answer))
        return [f"{self.address}  ({self.why})", *(f"     {k + ':':<13}{v}" for k, v in rows)]


def explain(config: RegistryConfig, auth: Auth, ref: Reference, *, push: bool = False) -> list[HostReport]:
    """The hosts of a pull (or push) in order.  Credential helpers are asked; the network is not."""
    hosts = config.hosts_for(ref.registry, ref.repository, push=push, by_digest=bool(ref.digest))
    return [report(config, auth, host, ref) for host in hosts]


def report(config: RegistryConfig, auth: Auth, host: Host, ref: Reference, answer: str = "") -> HostReport:
    """One host."""
    repository = host.repository(ref.repository)
    ca, certificates = _certificates(config, host)
    found = auth.credentials(host.registry, repository)
    return HostReport(
        host.address,
        host.why,
        repository,
        host.schemes,
        host.verify,
        ca,
        certificates,
        _described(found, auth.source(host.registry, repository)),
        _proxy(config, host),
        answer,
    )


def _described(found: Credentials | None, source: str) -> str:
    if found is None:
        return ""
    if found.registry_token:
        what = "a fixed token"
    elif found.identity_token:
        what = "an identity token"
    else:
        what = f"user {found.username}"
    return f"{what} ({source})"


def _certificates(config: RegistryConfig, host: Host) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ca = [*([config.ca_bundle] if config.ca_bundle else []), *host.ca]
    pairs = [p.cert for p in host.keypair]
    for path in certificate_files(config, host):
        if path.endswith(".crt"):
            ca.append(path)
        elif path.endswith(".cert"):
            pairs.append(path)
    return tuple(ca), tuple(pairs)


def _proxy(config: RegistryConfig, host: Host) -> str:
    """The proxy, without user and password."""
    from .transport import shown

    if is_loopback(host.address):
        return ""
    name, _, port = host.address.rpartition(":")
    scheme = host.schemes[0]
    number = int(port) if name and port.isdigit() else 443 if scheme == "https" else 80
    url = proxy_for(config.proxies, scheme, name or host.address, number)
    return shown(url if "://" in url else f"http://{url}") if url else ""
