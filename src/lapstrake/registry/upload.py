"""Uploading blobs: exists, mount, monolithic, in chunks (spec oci.md §10.4)."""

from __future__ import annotations

import threading

from ..errors import ResolveError
from .calls import Call, Caller, pull_scope, push_scope, repository_on
from .failures import failure_of
from .transport import Body, Response, jittered, origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from ..oci.descriptor import Descriptor
    from ..oci.reference import Reference
    from .config import Host

_STREAM = 64 << 20  # larger blobs go by PATCH, which can be resumed, at the price of a request
_CHUNK = 32 << 20
_MAX_CHUNK = 1 << 30
_OCTETS = (("Content-Type", "application/octet-stream"),)
_RESTART = (404, 416, 502, 503, 504, 500, 408, 429)  # a lost or confused upload session: begin a new one


class Uploader:
    """Puts blobs on a host.  Thread-safe."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._lock = threading.Lock()
        self._open: dict[tuple[Host, str, str], str] = {}  # uploads a declined mount left open
        self._absent: set[tuple[Host, str, str]] = set()  # asked for and not there: no need to ask again

    def refused(self, host: Host, ref: Reference, response: Response) -> ResolveError:
        """A push's failure, with the way out where there is one."""
        err = failure_of(response, f"failed to push {ref.full}")
        if response.status in (401, 403):
            err.hint = self.caller.hint(host)
        elif response.status == 404 and ".ecr." in host.address:
            err.hint = "this registry needs the repository to be created first"
        return err

    def exists(self, host: Host, ref: Reference, digest: str) -> bool:
        """HEAD of the blob."""
        repo = repository_on(host, ref)
        with self.caller.call(host, Call("HEAD", f"{repo}/blobs/{digest}", (pull_scope(repo),))) as response:
            if response.status not in (200, 401, 403, 404):
                raise self.refused(host, ref, response)
            there = response.status == 200
        if not there:
            with self._lock:
                self._absent.add((host, repo, digest))
        return there

    def mount(self, host: Host, ref: Reference, digest: str, from_repo: str) -> bool:
        """Mount from another repository; where that is declined the upload it opened is kept for ``push``."""
        from urllib.parse import urlencode

        repo = repository_on(host, ref)
        path = f"{repo}/blobs/uploads/?{urlencode({'mount': digest, 'from': from_repo})}"
        call = Call("POST", path, (push_scope(repo), pull_scope(from_repo)), (("Content-Length", "0"),))
        with self.caller.call(host, call) as response:
            if response.status == 201:
                return True
            if response.status == 202:
                location = _location(response)
                with self._lock:
                    self._open[host, repo, digest] = location
                return False
            if response.status in (401, 403, 404, 405):
                return False  # not allowed to read there: an upload may still do
            raise self.refused(host, ref, response)

    def check(self, host: Host, ref: Reference) -> None:
        """Begin an upload and cancel it."""
        location = self.begin(host, ref)
        with self.caller.call(host, Call("DELETE", location, (push_scope(repository_on(host, ref)),))):
            return  # a registry that can't cancel forgets it in time

    def push(
        self, host: Host, ref: Reference, descriptor: Descriptor, source: Callable[[], BinaryIO]
    ) -> bool:
        """Upload unless it is there; goes on where it stopped after a temporary fault."""
        key = (host, repository_on(host, ref), descriptor.digest)
        with self._lock:
            location = self._open.pop(key, "")
            absent = key in self._absent
            self._absent.discard(key)
        return _Transfer(self, host, ref, descriptor, source).run(location, known_absent=absent)

    def begin(self, host: Host, ref: Reference) -> str:
        """Open an upload; its place."""
        repo = repository_on(host, ref)
        with self.caller.call(
            host, Call("POST", f"{repo}/blobs/uploads/", (push_scope(repo),), (("Content-Length", "0"),))
        ) as response:
            if response.status != 202:
                raise self.refused(host, ref, response)
            return _location(response)


class _Transfer:
    """One blob on its way: the upload's place, and how much of it the registry has confirmed."""

    def __init__(
        self,
        uploads: Uploader,
        host: Host,
        ref: Reference,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
    ) -> None:
        self._uploads, self._host, self._ref = uploads, host, ref
        self._blob, self._source = descriptor, source
        self._scopes = (push_scope(repository_on(host, ref)),)
        self._location = ""
        self._offset = 0
        self._piece = 0  # size of chunks; 0: all in one
        self._whole = False  # one PUT, whatever the size
        self._resumed = False

    def run(self, location: str, *, known_absent: bool) -> bool:
        """False when the blob turned out to be there."""
        transport = self._uploads.caller.transport
        self._location = location
        delays = iter(transport.config.backoff)
        while True:
            try:
                if not self._location:
                    if not known_absent and self._uploads.exists(self._host, self._ref, self._blob.digest):
                        return False
                    self._restart()
                self._send()
                return True
            except ResolveError as err:
                if not (err.temporary or err.status in _RESTART or (self._resumed and err.status == 400)):
                    raise
                delay = next(delays, None)
                if delay is None:
                    raise
                spoiled = err.status in (400, 416)
            known_absent = False
            transport.pause(jittered(delay))
            before = self._offset
            self._recover(spoiled)
            if self._offset > before:
                delays = iter(transport.config.backoff)

    def _restart(self) -> None:
        self._location = self._uploads.begin(self._host, self._ref)
        self._offset, self._resumed = 0, False

    def _recover(self, spoiled: bool) -> None:
        """Ask how much has arrived; without a clear answer the upload begins anew."""
        location, self._location = self._location, ""
        if not location or (spoiled and self._resumed):
            return
        try:
            with self._call("GET", location, retry=True) as response:
                arrived = _arrived(response.header("Range")) if response.status in (200, 202, 204) else 0
                if 0 < arrived <= self._blob.size:
                    self._offset, self._resumed = arrived, True
                    self._location = _location(response) if response.header("Location") else location
        except ResolveError:
            return

    def _send(self) -> None:
        size = self._blob.size
        if not self._offset and not self._piece and (size < _STREAM or self._whole):
            with self._put(Body(self._source, size), _OCTETS) as response:
                if response.status == 201:
                    return
                if response.status != 413:
                    raise self._uploads.refused(self._host, self._ref, response)
            self._piece = _CHUNK  # this registry wants it in smaller pieces
            self._restart()
        while self._offset < size:
            self._patch(min(self._piece or size, size - self._offset))
        if not self._location:  # the registry takes no PATCH
            self._restart()
            self._send()
            return
        with self._put(None, (("Content-Length", "0"),)) as response:
            if response.status != 201:
                raise self._uploads.refused(self._host, self._ref, response)

    def _patch(self, size: int) -> None:
        """Send the next ``size`` bytes.  Of a PATCH that broke off a registry may keep what it got, of a PUT never."""
        start = self._offset
        headers: tuple[tuple[str, str], ...] = _OCTETS
        if start or self._piece:  # the first of one piece goes as docker sends it
            headers = (*_OCTETS, ("Content-Range", f"{start}-{start + size - 1}"))
        with self._call("PATCH", self._location, headers, Body(lambda: self._from(start), size)) as response:
            if response.status == 413 and self._piece != _CHUNK:
                self._piece = _CHUNK
                self._restart()
                return
            if response.status in (404, 405, 501) and not start and not self._whole:
                self._whole, self._piece, self._location, self._offset = True, 0, "", self._blob.size
                return
            if response.status not in (202, 201, 204):
                raise self._uploads.refused(self._host, self._ref, response)
            self._location = _location(response)
            least = response.header("OCI-Chunk-Min-Length")
            if self._piece and least.isascii() and least.isdigit():
                self._piece = max(self._piece, min(int(least[:12]), _MAX_CHUNK))
        self._offset = start + size

    def _from(self, start: int) -> BinaryIO:
        stream = self._source()
        stream.seek(start)
        return stream

    def _put(self, body: Body | None, headers: tuple[tuple[str, str], ...]) -> Response:
        return self._call("PUT", _with_digest(self._location, self._blob.digest), headers, body)

    def _call(
        self,
        method: str,
        url: str,
        headers: tuple[tuple[str, str], ...] = (),
        body: Body | None = None,
        *,
        retry: bool = False,
    ) -> Response:
        call = Call(method, url, self._scopes, headers, body, retry=retry)
        return self._uploads.caller.call(self._host, call)


def _arrived(text: str) -> int:
    """How many bytes a ``Range: 0-N`` header of an upload confirms."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    return int(last) + 1 if first == "0" and last.isascii() and last.isdigit() and len(last) < 19 else 0


def _location(response: Response) -> str:
    """Where an upload goes on: relative or absolute, and never less safe than the registry itself."""
    from urllib.parse import urldefrag, urljoin, urlsplit

    base = response.url
    url = urldefrag(urljoin(base, response.header("Location")))[0]
    if not response.header("Location"):
        raise ResolveError("the registry began an upload without saying where", code="UNSUPPORTED")
    if origin(base)[0] == "https" and origin(url)[0] == "http":
        if origin(url)[1] != origin(base)[1]:
            raise ResolveError("the registry wants the upload to go on without TLS on another host: refused")
        parts = urlsplit(url)  # a proxy that ends TLS often leaves http:// in what the registry says
        url = parts._replace(scheme="https", netloc=urlsplit(base).netloc).geturl()
    return url


def _with_digest(location: str, digest: str) -> str:
    from urllib.parse import quote

    return location + ("&" if "?" in location else "?") + "digest=" + quote(digest, safe="")
