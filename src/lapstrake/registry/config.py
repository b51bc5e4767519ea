"""Which hosts serve a registry, and how to talk to them (spec oci.md §10.5; buildkitd.toml's ``[registry]``)."""

from __future__ import annotations

from ..errors import UsageError
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
    """One ``[registry."name"]`` table.  ``http`` and ``insecure`` are None when not given."""

    mirrors: tuple[str, ...] = ()
    http: bool | None = None
    insecure: bool | None = None
    ca: tuple[str, ...] = ()
    keypair: tuple[KeyPair, ...] = ()


class Host(Value):
    """One API endpoint.  ``registry``: whose credentials it may see; ``schemes`` are tried in order."""

    address: str  # host[:port]
    registry: str
    prefix: str = ""  # of a mirror: repositories live below it
    schemes: tuple[str, ...] = ("https",)
    verify: bool = True
    ca: tuple[str, ...] = ()
    keypair: tuple[KeyPair, ...] = ()
    namespace: str = ""  # of a mirror: the registry it stands for


class Proxies(Value):
    """The proxy environment, as values."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""


class RegistryConfig(Value):
    """Everything the registry client needs to know of the world besides credentials."""

    entries: tuple[tuple[str, Entry], ...] = ()
    proxies: Proxies = Proxies()
    ca_bundle: str = ""  # instead of the system's
    certs_dirs: tuple[str, ...] = ()  # as /etc/docker/certs.d
    timeout: float = 30.0
    backoff: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
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

    def hosts_for(self, registry: str, *, push: bool = False) -> list[Host]:
        """Mirrors first, then the origin; a push goes to the origin only."""
        out = [] if push else [self._mirror(m, registry) for m in self.entry(registry).mirrors]
        out.append(self._host(_ORIGIN.get(registry, registry), registry, self.entry(registry), "", ""))
        return out

    def _mirror(self, text: str, registry: str) -> Host:
        scheme, sep, rest = text.partition("://")
        if not sep:
            scheme, rest = "", text
        address, _, prefix = rest.partition("/")
        own = self.entry(address)
        if scheme == "http" and own.http is None:
            own = replace(own, http=True)
        return self._host(
            address, address, own, prefix.strip("/").removesuffix("/v2").removeprefix("v2/"), registry
        )

    @staticmethod
    def _host(address: str, registry: str, entry: Entry, prefix: str, namespace: str) -> Host:
        schemes: tuple[str, ...] = ("https",)
        if entry.http:
            schemes = ("http",)
        elif entry.insecure or (entry.http is None and entry.insecure is None and is_loopback(address)):
            schemes = ("https", "http")
        return Host(
            address, registry, prefix, schemes, not entry.insecure, entry.ca, entry.keypair, namespace
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
    return Entry(mirrors, flags["http"], flags["insecure"], _strings(table.get("ca"), f"{where}.ca"), keypair)


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
