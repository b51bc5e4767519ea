"""ADD of a URL: download with redirects, validators, checksum and a size cap (§12.6)."""

from __future__ import annotations

import os

from ..errors import BuildError, ResolveError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    import urllib.request
    from email.message import Message
    from typing import IO, Any

MAX_BYTES = 64 << 30
_CHUNK = 1 << 20
_TIMEOUT = 60.0
MODE = 0o600  # of the file an ADD of a URL makes


class Download(Value):
    """A downloaded file.  ``digest``: ``sha256:…``; ``mtime``: Last-Modified in seconds, else 0."""

    path: str
    name: str
    digest: str
    size: int
    mtime: int = 0
    etag: str = ""
    last_modified: str = ""


def file_name(url: str) -> str:
    """The name ADD gives: the URL path's last element."""
    from urllib.parse import unquote, urlsplit

    base = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return base if base not in ("", ".", "..") and "\0" not in base else "__unnamed__"


def download(
    url: str,
    directory: str,
    *,
    checksum: str = "",
    authorization: str = "",
    max_bytes: int = MAX_BYTES,
    timeout: float = _TIMEOUT,
) -> Download:
    """Fetch ``url`` into a new file in ``directory``; raises ResolveError, nothing is left behind then.

    ``checksum``: ``algorithm:hex`` to verify.  ``authorization``: an Authorization header's value,
    never sent to another host than the URL's.
    """
    import hashlib
    import tempfile

    want, algorithm = checksum, (checksum or "sha256:").partition(":")[0]
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise BuildError(f"unsupported checksum algorithm: {checksum}")
    fd, path = tempfile.mkstemp(prefix="download-", dir=directory)
    try:
        with open(fd, "wb", 0) as out, _open(url, "GET", {}, authorization, timeout) as response:
            total, other = hashlib.sha256(), hashlib.new(algorithm)
            size = _receive(
                url, response, out, (total, other) if algorithm != "sha256" else (total,), max_bytes
            )
            headers = response.headers
        got = f"{algorithm}:{(total if algorithm == 'sha256' else other).hexdigest()}"
        if want and got != want:
            raise ResolveError(f"digest mismatch for {redact(url)}: {got} (expected: {want})")
    except BaseException:
        os.unlink(path)
        raise
    modified = headers.get("Last-Modified") or ""
    digest = "sha256:" + total.hexdigest()
    return Download(path, file_name(url), digest, size, _mtime(modified), headers.get("ETag") or "", modified)


def unchanged(url: str, known: Download, *, authorization: str = "", timeout: float = _TIMEOUT) -> bool:
    """Ask (HEAD) whether a download made before is still what the URL gives; False when in doubt."""
    if not known.etag:
        return False
    try:
        with _open(url, "HEAD", {"If-None-Match": known.etag}, authorization, timeout) as response:
            if response.status == 304:
                return True
            return (response.headers.get("ETag") or "").removeprefix("W/") == known.etag.removeprefix("W/")
    except ResolveError:
        return False  # some servers know no HEAD


def last_modified(url: str, *, authorization: str = "", timeout: float = _TIMEOUT) -> int:
    """When a URL's content was last changed, in seconds, as its server says; 0 when it does not."""
    with _open(url, "HEAD", {}, authorization, timeout) as response:
        return _mtime(response.headers.get("Last-Modified") or "")


def _receive(
    url: str, response: http.client.HTTPResponse, out: IO[bytes], hashes: tuple[Any, ...], limit: int
) -> int:
    import http.client

    size = 0
    length = response.headers.get("Content-Length")
    try:
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise ResolveError(f"{redact(url)} is larger than {limit} bytes")
            for one in hashes:
                one.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[out.write(view) :]
    except (OSError, http.client.HTTPException) as e:
        raise ResolveError(f"failed to download {redact(url)}: {e}", temporary=True) from e
    if length is not None and length.isdigit() and size != int(length):
        raise ResolveError(f"failed to download {redact(url)}: {size} of {length} bytes came", temporary=True)
    return size


def _open(
    url: str, method: str, headers: dict[str, str], authorization: str, timeout: float
) -> http.client.HTTPResponse:
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ResolveError(f"invalid URL {redact(url)}")
    address = urllib.parse.urlunsplit((parts.scheme, _host(parts), _quoted(parts.path), parts.query, ""))
    # Identity: the bytes as stored, whatever the server would like to compress on the way.
    request = urllib.request.Request(
        address, method=method, headers={"User-Agent": "lapstrake", "Accept-Encoding": "identity", **headers}
    )
    if not authorization and parts.username is not None:
        import base64

        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    if authorization:
        if "\n" in authorization or "\r" in authorization:
            raise ResolveError("the Authorization header holds a line break")
        request.add_unredirected_header("Authorization", authorization)
    try:
        response: http.client.HTTPResponse = _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as e:
        if e.code == 304:
            return e  # type: ignore[return-value]
        status = e.code
        e.close()
        raise ResolveError(
            f"invalid response status {status}", status=status, temporary=status in (429, 500, 502, 503, 504)
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as e:
        reason = e.reason if isinstance(e, urllib.error.URLError) else e
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        raise ResolveError(f"failed to download {redact(url)}: {text}", temporary=True) from e
    return response


def _opener() -> urllib.request.OpenerDirector:
    """Only http and https, also after a redirect (urllib's own opener knows file: and ftp:)."""
    import urllib.request as ur

    class Redirects(ur.HTTPRedirectHandler):
        def redirect_request(
            self, req: ur.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
        ) -> ur.Request | None:
            new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
            secret = req.unredirected_hdrs.get("Authorization")
            if new is not None:
                new.method = req.get_method()
                # Within one origin the credentials stay; anywhere else they never go.
                if secret and (new.type, new.host) == (req.type, req.host):
                    new.add_unredirected_header("Authorization", secret)
            return new

    opener = ur.OpenerDirector()
    handlers = (
        ur.ProxyHandler,
        ur.HTTPHandler,
        ur.HTTPSHandler,
        ur.HTTPDefaultErrorHandler,
        Redirects,
        ur.HTTPErrorProcessor,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener


def _host(parts: Any) -> str:
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port}" if parts.port else host


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path or "/", safe="/%:@!$&'()*+,;=~-._")


def redact(url: str) -> str:
    """The URL without its password."""
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    shown = user.partition(":")[0] + (":xxxxx" if ":" in user else "")
    return urlunsplit((parts.scheme, f"{shown}@{host}", parts.path, parts.query, parts.fragment))


def _mtime(modified: str) -> int:
    if not modified:
        return 0
    from email.utils import parsedate_to_datetime

    try:
        return max(0, int(parsedate_to_datetime(modified).timestamp()))
    except (ValueError, OverflowError):
        return 0
