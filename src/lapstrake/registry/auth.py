"""Credentials and tokens (spec oci.md §10.2).

Credentials of a registry go to that registry, and to the token service it names over a
connection at least as safe as its own; nowhere else.
"""

from __future__ import annotations

import threading

from ..errors import ResolveError
from ..values import Value, replace
from . import realms
from .config import Host, hostname
from .transport import Request, Transport, origin, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_MAX_FILE = 1 << 20
_HELPER_TIMEOUT = 60
_MIN_LIFE = 60.0


class Credentials(Value):
    """What a registry may be told.  Never shown: ``repr`` keeps the secrets out of logs."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, ...)"


class Challenge(Value):
    """One ``WWW-Authenticate`` challenge: scheme in lower case and its parameters."""

    scheme: str
    params: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """A parameter, empty when absent."""
        return dict(self.params).get(name, "")


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """All challenges of all ``WWW-Authenticate`` headers, in order."""
    import re

    token = re.compile(
        r'\s*,?\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?'
    )
    out: list[Challenge] = []
    for text in values:
        pos = 0
        while m := token.match(text[:8192], pos):
            pos = m.end()
            name, quoted, bare = m.groups()
            if quoted is None and bare is None:
                out.append(Challenge(name.lower()))
            elif out:
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
                out[-1] = Challenge(out[-1].scheme, (*out[-1].params, (name.lower(), value)))
    return out


def _grants(scopes: Iterable[str]) -> frozenset[tuple[str, str]]:
    """``repository:a/b:pull,push`` as {(repository:a/b, pull), (repository:a/b, push)}."""
    out: set[tuple[str, str]] = set()
    for scope in scopes:
        target, _, actions = scope.rpartition(":")
        out.update((target, a) for a in actions.split(",") if a)
    return frozenset(out)


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """One scope per target, sorted, actions united."""
    by_target: dict[str, set[str]] = {}
    for target, action in _grants(scopes):
        by_target.setdefault(target, set()).add(action)
    return tuple(f"{t}:{','.join(sorted(a))}" for t, a in sorted(by_target.items()))


class _Token:
    __slots__ = ("expires", "grants", "header")

    def __init__(self, header: str, grants: frozenset[tuple[str, str]], expires: float) -> None:
        self.header, self.grants, self.expires = header, grants, expires


class Auth:
    """Finds credentials and turns challenges into ``Authorization`` headers.  Thread-safe.

    ``docker_config``: the directory of config.json; ``auth_files``: further files of its
    shape (REGISTRY_AUTH_FILE, containers' auth.json), read after it; ``explicit``: per
    registry, before any file; ``helper_path``: where ``docker-credential-*`` are looked up.
    """

    def __init__(
        self, *, docker_config: str = "", auth_files: tuple[str, ...] = (),
        explicit: Mapping[str, Credentials] | None = None, helper_path: str | None = None, client_id: str = "lapstrake",
    ) -> None:  # fmt: skip
        self._files = (*((f"{docker_config.rstrip('/')}/config.json",) if docker_config else ()), *auth_files)
        self._explicit = {_key(k): v for k, v in (explicit or {}).items()}
        self._helper_path = helper_path
        self._client_id = client_id
        self._docs: list[tuple[str, dict[str, Any]]] | None = None
        self._sources: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._found: dict[tuple[str, str], Credentials | None] = {}
        self._helped: dict[tuple[str, str], Credentials | None] = {}
        self._tokens: dict[str, list[_Token]] = {}
        self.notes: list[str] = []  # why credentials were passed over; shown as a hint when access is denied

    # -- credentials --------------------------------------------------------------------------

    def credentials(self, registry: str, repository: str = "") -> Credentials | None:
        """Those of a registry (files may name a more specific path); None: anonymous."""
        key = (registry, repository)
        with self._lock:
            if key in self._found:
                return self._found[key]
            if self._docs is None:
                self._docs = [(path, doc) for path in self._files if (doc := self._load(path))]
            docs = self._docs
        found, source = self._explicit.get(_key(registry)), "the command line"
        for path, doc in docs if found is None else ():
            found, where = self._from_doc(doc, registry, repository)
            source = f"{where} in {path}"
            if found is not None:
                break
        with self._lock:
            self._found[key] = found
            self._sources[key] = source if found is not None else ""
        return found

    def source(self, registry: str, repository: str = "") -> str:
        """Where the credentials come from, for people; empty when there are none."""
        self.credentials(registry, repository)
        return self._sources[registry, repository]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _load(self, path: str) -> dict[str, Any]:
        import json

        try:
            with open(path, "rb") as f:
                raw = f.read(_MAX_FILE + 1)
        except OSError as err:
            if not isinstance(err, (FileNotFoundError, NotADirectoryError)):
                self.notes.append(f"{path}: {err.strerror}")
            return {}
        try:
            doc = json.loads(raw) if len(raw) <= _MAX_FILE else None
        except (ValueError, RecursionError):
            doc = None
        if not isinstance(doc, dict):
            self.notes.append(f"{path}: not a JSON object, so no credentials were taken from it")
            return {}
        return doc

    def _from_doc(
        self, doc: dict[str, Any], registry: str, repository: str
    ) -> tuple[Credentials | None, str]:
        names = _HUB_NAMES if registry == HUB else (registry,)
        helpers = doc.get("credHelpers")
        auths = doc.get("auths")
        by_name = (
            next((helpers[n] for n in names if n in helpers), None) if isinstance(helpers, dict) else None
        )
        for helper, member in ((by_name, "credHelpers"), (doc.get("credsStore"), "credsStore")):
            if isinstance(helper, str) and helper:
                asked = (helper, HUB_KEY if registry == HUB else registry)
                if asked not in self._helped:
                    self._helped[asked] = self._ask_helper(*asked)
                if (found := self._helped[asked]) is not None:
                    return found, f"docker-credential-{helper}, from {member}"
        if not isinstance(auths, dict):
            return None, ""
        entries = {_key(k): v for k, v in auths.items() if isinstance(v, dict)}
        path = repository
        while True:
            name = _key(registry) + (f"/{path}" if path else "")
            entry = entries.get(name)
            if entry is not None and (found := self._from_entry(entry, registry)) is not None:
                return found, f"auths of {name}"
            if not path:
                return None, ""
            path = path.rpartition("/")[0]

    def _from_entry(self, entry: dict[str, Any], registry: str) -> Credentials | None:
        from base64 import b64decode

        def text(name: str) -> str:
            value = entry.get(name)
            return value if isinstance(value, str) else ""

        user, password = text("username"), text("password")
        if text("auth"):
            try:
                user, _, password = (
                    b64decode(text("auth"), validate=True).decode().rstrip("\0").partition(":")
                )
            except ValueError:
                self.notes.append(f"the stored credentials for {registry} can't be decoded")
        found = Credentials(user, password, text("identitytoken"), text("registrytoken"))
        return None if found == Credentials() else found

    def _ask_helper(self, name: str, server: str) -> Credentials | None:
        """``docker-credential-<name> get``; None when it knows nothing of that server."""
        import json
        import shutil
        import subprocess

        program = f"docker-credential-{name}"
        path = shutil.which(program, path=self._helper_path) if "/" not in name else None
        if path is None:
            self.notes.append(f"the credential helper {program} is not installed")
            return None
        try:
            done = subprocess.run(
                [path, "get"],
                input=server.encode(),
                capture_output=True,
                timeout=_HELPER_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise ResolveError(
                f"error getting credentials for {server}: {program}: {type(err).__name__}"
            ) from err
        if done.returncode != 0:
            said = (done.stdout.strip() or done.stderr.strip()).decode("utf-8", "replace")[:300]
            if "credentials not found" in said or "no credentials server URL" in said:
                return None
            raise ResolveError(
                f"error getting credentials for {server}: {program}: {said or f'exit code {done.returncode}'}"
            )
        try:
            doc = json.loads(done.stdout)
            user, secret = doc["Username"], doc["Secret"]
        except (ValueError, KeyError, TypeError) as err:
            raise ResolveError(
                f"error getting credentials for {server}: {program} gave no valid answer"
            ) from err
        if not isinstance(user, str) or not isinstance(secret, str):
            raise ResolveError(f"error getting credentials for {server}: {program} gave no valid answer")
        return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)

    # -- headers ------------------------------------------------------------------------------

    def header(self, host: Host, scopes: Iterable[str]) -> str:
        """A header known to be good for these scopes, or empty."""
        import time

        wanted, now = _grants(scopes), time.monotonic()
        with self._lock:
            for token in self._tokens.get(host.address, ()):
                if wanted <= token.grants and now < token.expires:
                    return token.header
        return ""

    def answer(
        self,
        transport: Transport,
        host: Host,
        url: str,
        challenges: list[Challenge],
        *,
        scopes: tuple[str, ...],
        used: str,
    ) -> str:
        """The header to try after a 401 to ``used``; empty when there is no other.  One token request at a time."""
        with self._lock:
            lock = self._locks.setdefault(host.address, threading.Lock())
        with lock:
            known = self.header(host, scopes)
            if known and known != used:
                return known  # another thread was quicker
            self._forget(host, used)
            creds = self.credentials(host.registry, _repository(scopes))
            for challenge in sorted(challenges, key=lambda c: c.scheme != "bearer"):
                if challenge.scheme == "bearer":
                    header, life = self._bearer(transport, host, url, challenge, scopes=scopes, creds=creds)
                    wanted = _grants(merge_scopes((*scopes, *challenge.get("scope").split())))
                elif challenge.scheme == "basic" and creds is not None and creds.username:
                    header, life, wanted = _basic(creds), float("inf"), _grants(scopes)
                else:
                    continue
                if header and header != used:
                    with self._lock:
                        self._tokens.setdefault(host.address, []).append(_Token(header, wanted, life))
                    return header
        return ""

    def _forget(self, host: Host, header: str) -> None:
        import time

        now = time.monotonic()
        with self._lock:
            known = self._tokens.get(host.address, [])
            self._tokens[host.address] = [t for t in known if t.header != header and now < t.expires]

    def _bearer(
        self, transport: Transport, host: Host, url: str, challenge: Challenge, *, scopes: tuple[str, ...], creds: Credentials | None
    ) -> tuple[str, float]:  # fmt: skip
        import time

        if creds is not None and creds.registry_token:
            return f"Bearer {creds.registry_token}", float("inf")
        realm = realms.check(challenge.get("realm"), url)
        if creds is not None and not realms.may_have_credentials(host, realm):
            name = origin(realm)[1]
            self._note(
                f"the credentials for {host.registry} were not sent to {name}, which is not known to belong to it; "
                f'if it does: [registry."{host.registry}"] realms = ["{name}"]'
            )
            creds = None
        base = Request(
            "GET",
            realm,
            host=_realm_host(host, realm, url),
            public_only=not (transport.is_private(url) or host.trusts(origin(realm)[1])),
        )
        ask = _TokenRequest(transport, base, self._client_id)
        wanted = merge_scopes((*scopes, *challenge.get("scope").split()))
        started = time.monotonic()
        doc = ask.fetch(challenge.get("service"), wanted, creds)
        token = doc.get("token") or doc.get("access_token")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise ResolveError(f"{shown(realm)} gave no token", code="UNAUTHORIZED")
        life = doc.get("expires_in")
        seconds = float(life) if isinstance(life, (int, float)) and 0 < life < 1e9 else _MIN_LIFE
        return f"Bearer {token}", started + max(seconds, _MIN_LIFE) * 0.9


class _TokenRequest:
    """Asks a token service, one way or the other."""

    def __init__(self, transport: Transport, base: Request, client_id: str) -> None:
        self._transport, self._base, self._client_id = transport, base, client_id

    def fetch(self, service: str, scopes: tuple[str, ...], creds: Credentials | None) -> dict[str, Any]:
        """GET, then POST where that is refused; an identity token can only be posted."""
        if creds is not None and creds.identity_token:
            return self._post(
                service, scopes, {"grant_type": "refresh_token", "refresh_token": creds.identity_token}
            )
        login = creds is not None and bool(creds.username)
        try:
            return self._get(service, scopes, creds if login else None)
        except ResolveError as err:
            if creds is None or not login or err.status not in (401, 403, 404, 405):
                raise
            try:
                return self._post(
                    service,
                    scopes,
                    {"grant_type": "password", "username": creds.username, "password": creds.password},
                )
            except ResolveError:
                raise err from None

    def _get(self, service: str, scopes: tuple[str, ...], creds: Credentials | None) -> dict[str, Any]:
        from urllib.parse import urlencode

        query = [("service", service)] if service else []
        query += [("scope", s) for s in scopes]
        headers: tuple[tuple[str, str], ...] = ()
        if creds is not None:
            query.append(("account", creds.username))
            headers = (("Authorization", _basic(creds)),)
        realm = self._base.url
        url = realm + ("&" if "?" in realm else "?") + urlencode(query)
        return self._read(replace(self._base, url=url, headers=headers))

    def _post(self, service: str, scopes: tuple[str, ...], grant: dict[str, str]) -> dict[str, Any]:
        from urllib.parse import urlencode

        form = {**grant, "client_id": self._client_id, "service": service, "scope": " ".join(scopes)}
        headers = (("Content-Type", "application/x-www-form-urlencoded"),)
        # Not redirected: the body holds the password.
        body = urlencode(form).encode()
        return self._read(replace(self._base, method="POST", headers=headers, body=body, follow=False))

    def _read(self, request: Request) -> dict[str, Any]:
        from ..oci import codec
        from .failures import failure_of

        with self._transport.open(request) as response:
            if response.status != 200:
                raise failure_of(response, "failed to fetch a token")
            return codec.loads(response.read(_MAX_FILE), f"the token from {shown(self._base.url)}")


def _basic(creds: Credentials) -> str:
    from base64 import b64encode

    return "Basic " + b64encode(f"{creds.username}:{creds.password}".encode()).decode()


def _repository(scopes: Iterable[str]) -> str:
    """The repository the first scope is about."""
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        if kind == "repository":
            return rest.rpartition(":")[0]
    return ""


def _key(name: str) -> str:
    """A key of ``auths`` as host[/path]: scheme and API version dropped, Hub's names united."""
    name = name.partition("://")[2] or name
    name = name.rstrip("/")
    for version in ("/v1", "/v2"):
        name = name.removesuffix(version)
    host, slash, path = name.partition("/")
    return (HUB if host in _HUB_NAMES else host) + slash + path


def _realm_host(host: Host, realm: str, url: str) -> Host:
    """TLS settings for the token service: the registry's CA, its laxness and client key only on the same machine."""
    if hostname(origin(realm)[1]) == hostname(origin(url)[1]):
        return host
    name = origin(realm)[1]
    return replace(host, verify=True, keypair=(), address=name, registry=name, mirror=False)
