"""Which hosts serve a registry, and how to talk to them (spec oci.md §10.5; buildkitd.toml's ``[registry]``)."""

from __future__ import annotations

from ..errors import ResolveError, UsageError
from ..values import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_ORIGIN = {"docker.io": "registry-1.docker.io"}


class KeyPair(Value):
    """A client certificate: paths of PEM files."""

    key: str
    cert: str


class Entry(Value):
    """One ``[registry."name"]`` table.  ``http`` and ``insecure`` are None when not given.

    ``realms``: hosts of token services that may be told this registry's credentials although
    nothing about their names says that they belong to it; the registry may also send us to
    these hosts when they are in a private network.
    """

    mirrors: tuple[str, ...] = ()
    http: bool | None = None
    insecure: bool | None = None
    ca: tuple[str, ...] = ()
    keypair: tuple[KeyPair, ...] = ()
    realms: tuple[str, ...] = ()


class RuleMirror(Value):
    """One ``[[registry.mirror]]`` of a registries.conf.  ``pulls``: all, digest-only or tag-only."""

    location: str
    insecure: bool = False
    pulls: str = "all"


class Rule(Value):
    """One ``[[registry]]`` of a registries.conf (version 2).  ``source``: the file it is from."""

    prefix: str
    location: str = ""
    mirrors: tuple[RuleMirror, ...] = ()
    insecure: bool = False
    blocked: bool = False
    source: str = ""

    def matches(self, name: str) -> int:
        """How much of ``host/repository`` the prefix covers; 0: not this one."""
        prefix = self.prefix
        if prefix.startswith("*."):
            host = name.partition("/")[0]
            return len(prefix) - 1 if host.endswith(prefix[1:]) and len(host) > len(prefix) - 1 else 0
        return len(prefix) if name == prefix or name.startswith(prefix + "/") else 0


class Host(Value):
    """One API endpoint.  ``registry``: whose credentials it may see; ``schemes`` are tried in order.

    ``strip`` and ``prefix`` turn a repository's name into the one this host knows: the first is
    taken from its front, the second put there.
    """

    address: str  # host[:port]
    registry: str
    prefix: str = ""
    schemes: tuple[str, ...] = ("https",)
    verify: bool = True
    ca: tuple[str, ...] = ()
    keypair: tuple[KeyPair, ...] = ()
    namespace: str = ""  # of a buildkitd.toml mirror: the registry it stands for
    strip: str = ""
    mirror: bool = False  # there is another host to ask: don't wait long for this one
    why: str = ""  # what names this host, for ``registry explain``
    realms: tuple[str, ...] = ()

    def trusts(self, name: str) -> bool:
        """Whether the user said that this registry may send us to a host."""
        return any(name == hostname(r) for r in self.realms)

    def repository(self, path: str) -> str:
        """A repository's name as this host knows it."""
        strip = self.strip
        if strip and (path == strip or path.startswith(strip + "/")):
            path = path[len(strip) + 1 :]
        return f"{self.prefix}/{path}" if self.prefix and path else self.prefix or path


class Proxies(Value):
    """The proxy environment, as values."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""


class RegistryConfig(Value):
    """Everything the registry client needs to know of the world besides credentials.

    ``entries`` are the user's own tables and win over ``rules`` (registries.conf) and
    ``hub_mirrors`` and ``insecure_hosts`` (dockerd's daemon.json).  ``aliases`` are followed for
    names without a registry only when the user wants that.  ``connect_to``: (host:port, address),
    as ``curl --connect-to``, for tests and split networks.
    """

    entries: tuple[tuple[str, Entry], ...] = ()
    rules: tuple[Rule, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    hub_mirrors: tuple[str, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    tls_verify: bool | None = None  # --tls-verify
    proxies: Proxies = Proxies()
    ca_bundle: str = ""  # instead of the system's
    certs_dirs: tuple[str, ...] = ()  # as /etc/docker/certs.d
    cert_dir: str = ""  # --cert-dir: one directory for every registry
    connect_to: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0
    backoff: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
    user_agent: str = "lapstrake"

    def entry(self, name: str) -> Entry:
        """The table of one registry; empty when there is none."""
        for key, value in self.entries:
            if key == name:
                return value
        return Entry()

    def allowing_insecure(self, registry: str) -> RegistryConfig:
        """The same, but plain HTTP and unverified TLS are accepted from one registry (``registry.insecure=true``)."""
        changed = replace(self.entry(registry), insecure=True)
        return replace(
            self, entries=(*((k, v) for k, v in self.entries if k != registry), (registry, changed))
        )

    def rule(self, name: str) -> Rule | None:
        """The registries.conf rule with the longest prefix of ``host/repository``."""
        best, size = None, 0
        for rule in self.rules:
            if (n := rule.matches(name)) > size:
                best, size = rule, n
        return best

    def hosts_for(
        self, registry: str, repository: str = "", *, push: bool = False, by_digest: bool = False
    ) -> list[Host]:
        """Mirrors first, then the origin; a push goes to the origin only, under its own name.

        Raises ResolveError for a registry that is blocked.
        """
        alias = dict(self.aliases).get(repository.removeprefix("library/")) if self.aliases else None
        if alias and registry == "docker.io" and not push:
            there, _, path = alias.partition("/")
            hosts = replace(self, aliases=()).hosts_for(there, path, by_digest=by_digest)
            return [replace(h, prefix=h.repository(path), strip=repository) for h in hosts]
        name = f"{registry}/{repository}" if repository else registry
        rule = self.rule(name)
        if rule is not None and rule.blocked:
            raise ResolveError(
                f"registry {rule.prefix} is blocked in {rule.source or 'registries.conf'}", code="BLOCKED"
            )
        own = self.entry(registry)
        out: list[Host] = []
        if not push:
            out = self._mirrors(registry, own, rule, by_digest=by_digest)
        if rule is not None and rule.location and not push and rule.location != rule.prefix:
            out.append(self._at(rule.location, rule, insecure=rule.insecure, mirror=False))
        else:
            insecure = rule is not None and rule.insecure
            out.append(self._host(_ORIGIN.get(registry, registry), registry, "the registry itself", insecure))
        return out

    def _mirrors(self, registry: str, own: Entry, rule: Rule | None, *, by_digest: bool) -> list[Host]:
        if own.mirrors:
            return [self._mirror(m, registry, f'mirror of [registry."{registry}"]') for m in own.mirrors]
        if rule is not None and rule.mirrors:
            wanted = ("all", "digest-only" if by_digest else "tag-only")
            return [
                self._at(m.location, rule, insecure=m.insecure, mirror=True)
                for m in rule.mirrors
                if m.pulls in wanted
            ]
        if registry == "docker.io":
            return [self._mirror(m, registry, "registry-mirrors of daemon.json") for m in self.hub_mirrors]
        return []

    def _mirror(self, text: str, registry: str, why: str) -> Host:
        scheme, sep, rest = text.partition("://")
        if not sep:
            scheme, rest = "", text
        address, _, prefix = rest.partition("/")
        host = self._host(address, address, why)
        if scheme == "http" and self.entry(address).http is None:
            host = replace(host, schemes=("http",))
        prefix = prefix.strip("/").removesuffix("/v2").removeprefix("v2/")
        return replace(host, prefix=prefix, namespace=registry, mirror=True)

    def _at(self, location: str, rule: Rule, *, insecure: bool, mirror: bool) -> Host:
        """Where a rule's prefix is to be found instead."""
        address, _, prefix = location.partition("/")
        address = _ORIGIN.get(address, address)
        registry = "docker.io" if address == _ORIGIN["docker.io"] else address
        strip = "" if rule.prefix.startswith("*.") else rule.prefix.partition("/")[2]
        what = "mirror" if mirror else "location"
        host = self._host(address, registry, f"{what} of {rule.prefix} in {rule.source}", insecure)
        return replace(host, prefix=prefix, strip=strip, mirror=mirror)

    def _host(self, address: str, registry: str, why: str, insecure: bool = False) -> Host:
        entry = self.entry(registry)
        lax = entry.insecure
        if lax is None and (insecure or self._listed_insecure(address)):
            lax = True
        if self.tls_verify is not None:
            lax = not self.tls_verify
        schemes: tuple[str, ...] = ("https",)
        if entry.http:
            schemes = ("http",)
        elif lax or (entry.http is None and lax is None and is_loopback(address)):
            schemes = ("https", "http")
        return Host(
            address, registry, "", schemes, not lax, entry.ca, entry.keypair, why=why, realms=entry.realms
        )

    def _listed_insecure(self, address: str) -> bool:
        """Whether daemon.json's ``insecure-registries`` names the host or its network."""
        return any(
            item in (address, hostname(address)) or ("/" in item and in_network(hostname(address), item))
            for item in self.insecure_hosts
        )


def parse(tables: Mapping[str, object]) -> RegistryConfig:
    """From the ``registry`` table of a buildkitd.toml, already decoded.  Raises UsageError."""
    return RegistryConfig(tuple((name, _entry(name, table)) for name, table in tables.items()))


def _entry(name: str, table: object) -> Entry:
    where = f'registry."{name}"'
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table")
    flags: dict[str, bool | None] = {}
    for key in ("http", "insecure"):
        value = table.get(key)
        if value is not None and not isinstance(value, bool):
            raise UsageError(f"{where}.{key} must be true or false")
        flags[key] = value
    mirrors = _strings(table.get("mirrors"), f"{where}.mirrors")
    for mirror in mirrors:
        address = mirror.partition("://")[2] or mirror
        if not address or address.startswith("/") or "@" in address or any(c.isspace() for c in address):
            raise UsageError(f"{where}.mirrors: invalid mirror {mirror!r}", hint="write host[:port][/path]")
    pairs = table.get("keypair", [])
    if not isinstance(pairs, list) or not all(
        isinstance(p, dict) and isinstance(p.get("key"), str) and isinstance(p.get("cert"), str)
        for p in pairs
    ):
        raise UsageError(f"{where}.keypair must be tables with key and cert")
    keypair = tuple(KeyPair(p["key"], p["cert"]) for p in pairs)
    ca, realms = _strings(table.get("ca"), f"{where}.ca"), _strings(table.get("realms"), f"{where}.realms")
    return Entry(mirrors, flags["http"], flags["insecure"], ca, keypair, realms)


def _strings(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{where} must be a list of strings")
    return tuple(value)


def hostname(address: str) -> str:
    """The name in ``host[:port]``, without the brackets of an IPv6 literal."""
    if address.startswith("["):
        return address[1:].partition("]")[0].lower()
    return address.partition(":")[0].lower()


def has_port(address: str) -> bool:
    """Whether ``host[:port]`` names a port."""
    return ":" in (address.partition("]")[2] if address.startswith("[") else address)


def is_loopback(address: str) -> bool:
    """localhost, 127.0.0.0/8 and ::1."""
    name = hostname(address)
    parts = name.split(".")
    return name in ("localhost", "::1") or (
        len(parts) == 4 and parts[0] == "127" and all(p.isdecimal() for p in parts)
    )


def in_network(name: str, network: str) -> bool:
    """Whether an IP literal lies in a network written as address/bits."""
    import ipaddress

    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
