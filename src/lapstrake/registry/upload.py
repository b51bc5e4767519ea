"""Uploading blobs: exists, mount, monolithic, in chunks (spec oci.md §10.4)."""

from __future__ import annotations

import threading

from ..errors import ResolveError
from .calls import Call, Caller, pull_scope, push_scope, repository_on
from .failures import failure_of
from .transport import Body, Response, origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from ..oci.descriptor import Descriptor
    from ..oci.reference import Reference
    from .config import Host

_CHUNK = 32 << 20
_MAX_CHUNK = 1 << 30
_RESTART = (404, 416, 502, 503, 504, 500, 408, 429)  # a lost or confused upload session: begin a new one


class Uploader:
    """Puts blobs on a host.  Thread-safe."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._lock = threading.Lock()
        self._open: dict[tuple[Host, str, str], str] = {}  # uploads a declined mount left open

    def refused(self, host: Host, ref: Reference, response: Response) -> ResolveError:
        """A push's failure, with the way out where there is one."""
        err = failure_of(response, f"failed to push {ref.full}")
        if response.status in (401, 403):
            err.hint = self._caller.hint(host)
        elif response.status == 404 and ".ecr." in host.address:
            err.hint = "this registry needs the repository to be created first"
        return err

    def exists(self, host: Host, ref: Reference, digest: str) -> bool:
        """HEAD of the blob."""
        repo = repository_on(host, ref)
        with self._caller.call(host, Call("HEAD", f"{repo}/blobs/{digest}", (pull_scope(repo),))) as response:
            if response.status not in (200, 401, 403, 404):
                raise self.refused(host, ref, response)
            return response.status == 200

    def mount(self, host: Host, ref: Reference, digest: str, from_repo: str) -> bool:
        """Mount from another repository; where that is declined the upload it opened is kept for ``push``."""
        from urllib.parse import urlencode

        repo = repository_on(host, ref)
        path = f"{repo}/blobs/uploads/?{urlencode({'mount': digest, 'from': from_repo})}"
        call = Call("POST", path, (push_scope(repo), pull_scope(from_repo)), (("Content-Length", "0"),))
        with self._caller.call(host, call) as response:
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
        location = self._begin(host, ref)
        with self._caller.call(host, Call("DELETE", location, (push_scope(repository_on(host, ref)),))):
            return  # a registry that can't cancel forgets it in time

    def push(
        self, host: Host, ref: Reference, descriptor: Descriptor, source: Callable[[], BinaryIO]
    ) -> bool:
        """Upload unless it is there; begins again after a temporary fault."""
        repo = repository_on(host, ref)
        with self._lock:
            location = self._open.pop((host, repo, descriptor.digest), "")
        transport = self._caller.transport
        delays = iter(transport.config.backoff)
        while True:
            if not location and self.exists(host, ref, descriptor.digest):
                return False
            try:
                self._upload(host, ref, descriptor, source, location=location or self._begin(host, ref))
                return True
            except ResolveError as err:
                if not (err.temporary or err.status in _RESTART):
                    raise
                delay = next(delays, None)
                if delay is None:
                    raise
            location = ""
            transport.pause(delay)

    def _begin(self, host: Host, ref: Reference) -> str:
        repo = repository_on(host, ref)
        with self._caller.call(
            host, Call("POST", f"{repo}/blobs/uploads/", (push_scope(repo),), (("Content-Length", "0"),))
        ) as response:
            if response.status != 202:
                raise self.refused(host, ref, response)
            return _location(response)

    def _upload(
        self,
        host: Host,
        ref: Reference,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        *,
        location: str,
    ) -> None:
        headers = (("Content-Type", "application/octet-stream"),)
        scopes = (push_scope(repository_on(host, ref)),)
        put = Call(
            "PUT",
            _with_digest(location, descriptor.digest),
            scopes,
            headers,
            Body(source, descriptor.size),
            retry=False,
        )
        with self._caller.call(host, put) as response:
            if response.status == 201:
                return
            if response.status != 413:
                raise self.refused(host, ref, response)
        self._in_chunks(host, ref, descriptor, source, location=self._begin(host, ref))

    def _in_chunks(
        self,
        host: Host,
        ref: Reference,
        descriptor: Descriptor,
        source: Callable[[], BinaryIO],
        *,
        location: str,
    ) -> None:
        """For registries that refuse a blob in one piece."""
        scopes = (push_scope(repository_on(host, ref)),)
        start, size = 0, _CHUNK
        with source() as stream:
            while start < descriptor.size:
                data = stream.read(min(size, descriptor.size - start))
                if not data:
                    raise ResolveError(
                        f"failed to push {ref.full}: {descriptor.digest} ends after {start} of {descriptor.size} bytes",
                        code="SIZE_INVALID",
                    )
                headers = (
                    ("Content-Type", "application/octet-stream"),
                    ("Content-Range", f"{start}-{start + len(data) - 1}"),
                )
                with self._caller.call(
                    host, Call("PATCH", location, scopes, headers, data, retry=False)
                ) as response:
                    if response.status not in (202, 201, 204):
                        raise self.refused(host, ref, response)
                    location = _location(response)
                    least = response.header("OCI-Chunk-Min-Length")
                    if least.isascii() and least.isdigit():
                        size = max(size, min(int(least[:12]), _MAX_CHUNK))
                start += len(data)
        put = Call(
            "PUT", _with_digest(location, descriptor.digest), scopes, (("Content-Length", "0"),), retry=False
        )
        with self._caller.call(host, put) as response:
            if response.status != 201:
                raise self.refused(host, ref, response)


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
