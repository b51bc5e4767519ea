"""The way to a host: which proxy, which certificates."""

from __future__ import annotations

import os

from ..errors import ResolveError
from .config import has_port, in_network, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from .config import Host, Proxies, RegistryConfig


def tls_context(config: RegistryConfig, host: Host | None) -> ssl.SSLContext:
    """TLS as a host wants it; None: as the system has it."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=config.ca_bundle or None)
        if host is None:
            return context
        if not host.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for path in host.ca:
            context.load_verify_locations(path)
        for pair in host.keypair:
            context.load_cert_chain(pair.cert, pair.key)
        for path in certificate_files(config, host):
            if path.endswith(".crt"):
                context.load_verify_locations(path)
            else:
                context.load_cert_chain(path, path.removesuffix(".cert") + ".key")
    except (OSError, ssl.SSLError) as err:
        where = host.address if host is not None else "the CA bundle"
        raise ResolveError(f"can't load the certificates for {where}: {err}", code="TLS") from err
    return context


def certificate_files(config: RegistryConfig, host: Host) -> list[str]:
    """The ``.crt`` and ``.cert`` files of certs.d directories that are meant for a host."""
    names = dict.fromkeys((host.address, host.registry))
    folders = [os.path.join(base, name) for base in config.certs_dirs for name in names]
    if config.cert_dir:
        folders.append(config.cert_dir)
    out = []
    for folder in folders:
        try:
            found = sorted(os.listdir(folder))
        except OSError:
            continue
        out += [os.path.join(folder, n) for n in found if n.endswith((".crt", ".cert"))]
    return out


def proxy_for(proxies: Proxies, scheme: str, name: str, port: int) -> str:
    """The proxy's URL for a host, or empty: loopback and what NO_PROXY names are reached directly."""
    url = proxies.https if scheme == "https" else proxies.http
    if is_loopback(f"[{name}]" if ":" in name else name) or _no_proxy(proxies.no_proxy, name, port):
        return ""
    return url


def _no_proxy(rules: str, name: str, port: int) -> bool:
    for item in rules.split(","):
        rule = item.strip().lower()
        if not rule:
            continue
        if rule == "*":
            return True
        if "/" in rule and in_network(name, rule):
            return True
        if has_port(rule):
            rule, _, wanted = rule.rpartition(":")
            if wanted != str(port):
                continue
        bare = rule.removeprefix("*").removeprefix(".")
        if (name == bare and not rule.startswith(".")) or name.endswith("." + bare):
            return True
    return False
