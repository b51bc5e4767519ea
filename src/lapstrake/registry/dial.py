"""Making connections: who may be talked to, and how slow it may be.

What a public registry names (token services, redirects, upload places, foreign layers) must be
public too: otherwise it could make this machine ask its own network, or the cloud's metadata
service, on its behalf.  The addresses are checked that the connection is made to, so a name that
resolves differently the second time gains nothing.
"""

from __future__ import annotations

import io
import threading
import time

from ..errors import ResolveError
from .config import is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    Lookup = Callable[[str, int], list[tuple[Any, ...]]]

_LEAST = 16 << 10  # bytes that must arrive within one timeout


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, seen through the forms that embed another."""
    import ipaddress

    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


def literal(name: str) -> str:
    """The IP address a host name spells in any way a resolver accepts (``2130706433``, ``0x7f.1``), or empty."""
    import ipaddress
    import socket

    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(name)) if name[:1].isdigit() else ""
    except (OSError, UnicodeError):
        return ""


def _refused(name: str) -> ResolveError:
    return ResolveError(
        f"refused to connect to {name}: it is in a private network, and the registry that names it is not",
        code="PRIVATE",
    )


class Dialer:
    """Opens sockets.  ``connect_to``: addresses used instead of what names resolve to; they count as public."""

    def __init__(self, connect_to: dict[str, str], lookup: Lookup | None = None) -> None:
        self._table = connect_to
        self._lookup = lookup or _system_lookup
        self._lock = threading.Lock()
        self._private: dict[str, bool] = {}

    def is_private(self, name: str) -> bool:
        """Whether a host was reached in a private network; unknown hosts count as public."""
        with self._lock:
            return self._private.get(name.lower(), False)

    def check_name(self, name: str) -> None:
        """What can be said of a name without resolving it, for a proxy that will."""
        address = literal(name)
        if (address and not is_public(address)) or is_loopback(f"[{name}]" if ":" in name else name):
            raise _refused(name)

    def connect(self, name: str, port: int, timeout: float, *, public_only: bool) -> socket.socket:
        """A connected socket.  A host found to be public once is never talked to at a private address."""
        import socket

        instead = self._table.get(f"{name}:{port}")
        if instead is not None:
            host, _, number = instead.rpartition(":")
            with self._lock:
                self._private.setdefault(name.lower(), False)
            return socket.create_connection((host.strip("[]"), int(number)), timeout)
        with self._lock:
            public_only = public_only or self._private.get(name.lower()) is False
        found = self._lookup(name, port)
        allowed = [info for info in found if not public_only or is_public(str(info[4][0]))]
        if found and not allowed:
            raise _refused(name)
        last: OSError | None = None
        for family, kind, proto, _, address in allowed:
            sock = socket.socket(family, kind, proto)
            try:
                sock.settimeout(timeout)
                sock.connect(address)
            except OSError as err:
                sock.close()
                last = err
                continue
            with self._lock:
                self._private.setdefault(name.lower(), not is_public(str(address[0])))
            return sock
        raise last or OSError(f"{name} has no address")


def _system_lookup(name: str, port: int) -> list[tuple[Any, ...]]:
    import socket

    return list(socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM))


class Watched:
    """A socket whose other side must keep giving: not only something within each timeout, but enough.

    Without that, a body that comes byte by byte holds a build for ever.
    """

    def __init__(self, sock: socket.socket, limit: float) -> None:
        self._sock = sock
        self._limit = limit

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        """A buffered reader, as ``http.client`` wants it."""
        return io.BufferedReader(_Reader(self._sock.makefile("rb", buffering=0), self._limit), 1 << 16)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Reader(io.RawIOBase):
    def __init__(self, raw: Any, limit: float) -> None:
        self._raw = raw
        self._limit = limit
        self._waited = 0.0
        self._got = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        n: int | None = self._raw.readinto(buffer)
        self._waited += time.monotonic() - began
        self._got += n or 0
        if self._waited > self._limit:
            if self._got < _LEAST and n:
                raise TimeoutError("too slow")
            self._waited, self._got = 0.0, 0
        return n

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
