"""Build secrets as credentials of remote sources (spec dockerfile.md §12.6).

A secret is only ever used for the host it names, or, without a host in its name, for the host of
the source itself; redirects to other hosts never carry it (``http``, ``git``).
"""

from __future__ import annotations

from ..errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..session import Secrets, SshAgents
    from .git import Access


def git_access(remote: str, secrets: Secrets | None, ssh: SshAgents | None) -> Access:
    """How to reach a git remote: ``GIT_AUTH_HEADER[.host]``, ``GIT_AUTH_TOKEN[.host]``, the agent ``default``."""
    from .git import Access

    scheme, sep, _ = remote.partition("://")
    if sep and scheme in ("http", "https"):
        return Access(authorization=_git_header(_host(remote), secrets))
    if ssh is None or (sep and scheme != "ssh"):
        return Access()
    return Access(ssh_auth_sock=ssh.socket("default") or "")


def _git_header(host: str, secrets: Secrets | None) -> str:
    for suffix in dict.fromkeys((f".{host}", "." + host.partition(":")[0], "")):
        header = _text("GIT_AUTH_HEADER" + suffix, secrets)
        if header:
            return header
        token = _text("GIT_AUTH_TOKEN" + suffix, secrets)
        if token:
            import base64

            return "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return ""


def http_authorization(url: str, secrets: Secrets | None) -> str:
    """``HTTP_AUTH_HEADER_<host>`` as it is, or ``HTTP_AUTH_TOKEN_<host>`` as a bearer token."""
    host = _host(url)
    for name in dict.fromkeys((host, host.partition(":")[0])):
        header = _text("HTTP_AUTH_HEADER_" + name, secrets)
        if header:
            return header
        token = _text("HTTP_AUTH_TOKEN_" + name, secrets)
        if token:
            return "Bearer " + token
    return ""


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def _text(name: str, secrets: Secrets | None) -> str:
    value = secrets.get(name) if secrets is not None else None
    if value is None:
        return ""
    text = value.decode("utf-8", "replace").strip()
    if any(c < " " or c == "\x7f" for c in text):
        raise BuildError(f"the secret {name} holds a line break or a control character")
    return text
