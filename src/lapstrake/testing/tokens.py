"""A token service as registries want it: Basic or OAuth in, signed JWTs out.

    with FaultServer() as server:
        issuer = TokenIssuer(folder, {"ann": "secret"})
        issuer.serve(server)
        with Registry(token=issuer.auth(server.url)) as registry: ...

Users may do anything; anonymous callers may pull what is below ``public/``.
"""

from __future__ import annotations

import base64
import json
import os
import time

from .httpfaults import Reply, Seen
from .registry import TokenAuth, make_certificate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .httpfaults import FaultServer

SERVICE, ISSUER = "test-registry", "test-issuer"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenIssuer:
    """Signs tokens.  ``life``: seconds a token is good for, as it says; ``given`` counts them."""

    def __init__(self, folder: str, users: Mapping[str, str], life: int = 300) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self._users = dict(users)
        self._refresh = {f"refresh-{name}": name for name in users}
        self.life = life
        self.given = 0
        self.bundle, key = make_certificate(folder, "issuer")
        with open(key, "rb") as f:
            self._key: Any = load_pem_private_key(f.read(), None)
        with open(self.bundle, encoding="ascii") as f:
            lines = f.read().split("-----")[2].split()
        self._certificate = "".join(lines)

    def auth(self, url: str) -> TokenAuth:
        """What the registry is configured with."""
        return TokenAuth(f"{url}/token", SERVICE, ISSUER, self.bundle)

    def serve(self, server: FaultServer) -> None:
        """Answer at ``/token``."""
        server.on("GET", "/token", self._answer)
        server.on("POST", "/token", self._answer)

    def sign(self, account: str, access: list[dict[str, Any]]) -> str:
        """A JWT that docker-registry accepts."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        now = int(time.time())
        header = {"typ": "JWT", "alg": "ES256", "x5c": [self._certificate]}
        claims = {
            "iss": ISSUER, "sub": account, "aud": SERVICE, "iat": now, "nbf": now - 5, "exp": now + self.life,
            "jti": os.urandom(8).hex(), "access": access,
        }  # fmt: skip
        signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ECDSA(SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def _answer(self, seen: Seen) -> Reply:
        from urllib.parse import parse_qs, urlsplit

        form = parse_qs(seen.body.decode() if seen.method == "POST" else urlsplit(seen.path).query)
        account = self._account(seen, form)
        if account is None or form.get("service") != [SERVICE]:
            return Reply(401, b'{"details":"incorrect username or password"}')
        access = []
        for scope in " ".join(form.get("scope", [])).split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            wanted = actions.split(",")
            if not account:
                wanted = [a for a in wanted if a == "pull" and name.startswith("public/")]
            access.append({"type": kind, "name": name, "actions": wanted})
        self.given += 1
        doc = {"token": self.sign(account, access), "expires_in": self.life}
        return Reply(200, json.dumps(doc).encode(), {"Content-Type": "application/json"})

    def _account(self, seen: Seen, form: dict[str, list[str]]) -> str | None:
        """The user; empty: anonymous; None: wrong credentials."""
        basic = seen.headers.get("authorization", "")
        if basic.startswith("Basic "):
            name, _, password = base64.b64decode(basic[6:]).decode().partition(":")
        elif form.get("grant_type") == ["refresh_token"]:
            return self._refresh.get(form.get("refresh_token", [""])[0])
        elif form.get("grant_type") == ["password"]:
            name, password = form["username"][0], form["password"][0]
        else:
            return ""
        return name if self._users.get(name) == password else None
