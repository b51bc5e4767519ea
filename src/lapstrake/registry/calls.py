"""One call to one registry host: URL, scheme, credentials, and a second try after a 401."""

from __future__ import annotations

import threading

from ..errors import ResolveError
from ..oci.reference import Reference
from ..values import Value
from .auth import Auth, parse_challenges
from .config import Host, has_port
from .transport import Body, Request, Response, Transport, origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .auth import Challenge

_AUTH_ROUNDS = 3


class Call(Value):
    """What to ask a host.  ``path``: below ``/v2/``, or a whole URL (an upload's Location)."""

    method: str
    path: str
    scopes: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Body | None = None
    retry: bool = True


def repository_on(host: Host, ref: Reference) -> str:
    """The repository's name as that host knows it."""
    return host.repository(ref.repository)


def pull_scope(repository: str) -> str:
    """The right to read a repository."""
    return f"repository:{repository}:pull"


def push_scope(repository: str) -> str:
    """The right to read and write a repository."""
    return f"repository:{repository}:pull,push"


class Caller:
    """Calls hosts on behalf of the client.  Thread-safe."""

    def __init__(self, transport: Transport, auth: Auth) -> None:
        self.transport = transport
        self.auth = auth
        self._lock = threading.Lock()
        self._schemes: dict[Host, str] = {}

    def call(self, host: Host, call: Call) -> Response:
        """The response, whatever its status; ResolveError when there is none."""
        if "://" in call.path:
            return self._authorised(host, call, call.path)
        with self._lock:
            known = self._schemes.get(host)
        last: ResolveError | None = None
        for scheme in (known,) if known else host.schemes:
            try:
                response = self._authorised(host, call, _url(scheme, host, call.path))
            except ResolveError as err:
                if scheme == host.schemes[-1] or not _maybe_plain(err, host):
                    raise err if last is None or _tells_more(err, last) else last from err
                last = err
                continue
            with self._lock:
                self._schemes[host] = scheme
            return response
        raise last or ResolveError(f"{host.address}: no scheme to try")

    def _authorised(self, host: Host, call: Call, url: str) -> Response:
        # Credentials only to the host they are for, also when an upload's Location points elsewhere.
        ours = origin(url)[1:] == origin(_url(origin(url)[0], host, ""))[1:]
        header = self.auth.header(host, call.scopes) if ours else ""
        for _ in range(_AUTH_ROUNDS):
            headers = (*call.headers, ("Authorization", header)) if header else call.headers
            inside = self.transport.is_private(f"https://{host.address}/") or host.trusts(origin(url)[1])
            guarded = not ours and not inside
            response = self.transport.open(
                Request(
                    call.method,
                    url,
                    headers,
                    call.body,
                    host if ours else None,
                    call.retry,
                    public_only=guarded,
                )
            )
            if response.status != 401 or not ours or origin(response.url) != origin(url):
                return response
            challenges = parse_challenges(response.header_all("WWW-Authenticate"))
            if header and _is_final(challenges):
                return response
            try:
                better = self.auth.answer(
                    self.transport, host, url, challenges, scopes=call.scopes, used=header
                )
            except BaseException:
                response.close()
                raise
            if not better or better == header:
                return response
            response.close()
            header = better
        return response

    def hint(self, host: Host) -> str:
        """What to do when access is denied."""
        notes = "; ".join(dict.fromkeys(self.auth.notes))
        return f"log in with `docker login {host.registry}`" + (f" ({notes})" if notes else "")


def _is_final(challenges: list[Challenge]) -> bool:
    return any(c.get("error") == "insufficient_scope" for c in challenges)


def _url(scheme: str, host: Host, path: str) -> str:
    if host.namespace and path:
        from urllib.parse import quote

        path += ("&" if "?" in path else "?") + "ns=" + quote(host.namespace, safe="")
    return f"{scheme}://{host.address}/v2/{path}"


def _tells_more(plain: ResolveError, tls: ResolveError) -> bool:
    """Whether the second attempt, without TLS, got further than the first."""
    return (
        bool(plain.status) or plain.code == "UNAUTHORIZED" or (tls.code == "TLS" and plain.code != "REFUSED")
    )


def _maybe_plain(err: ResolveError, host: Host) -> bool:
    """Whether a failed TLS attempt may mean that the server speaks plain HTTP.  A bad certificate does not."""
    if err.status:
        return False
    if err.code == "TLS":
        return "certificate" not in err.message.lower()
    return err.temporary or (err.code == "REFUSED" and not has_port(host.address))
