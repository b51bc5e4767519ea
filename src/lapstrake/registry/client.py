"""Pull and push: manifests, blobs, tags, referrers (spec oci.md §10.3, §10.4)."""

from __future__ import annotations

from ..errors import ResolveError
from ..oci import codec
from ..oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from ..oci.digest import Verifier, algorithm_of, digest_of, is_digest
from ..oci.reference import Reference, is_tag
from .auth import parse_challenges
from .calls import Call, Caller, pull_scope, push_scope, repository_on
from .failures import failure_of, said
from .transport import Request, Response, Transport
from .upload import Uploader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import BinaryIO, Self, TypeVar

    from .auth import Auth
    from .config import Host, RegistryConfig
    from .dial import Lookup

    R = TypeVar("R")
    Write = Callable[[memoryview | bytes], object]

_ACCEPT = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}, */*"
_BUFFER = 1 << 20
_MAX_PAGES = 1000
_MAX_TAGS = 1_000_000
_DENIED = "pull access denied, repository does not exist or may require authorization"


class Client:
    """A registry client, safe to use from several threads.  A context manager; ``cancel()`` ends all its waits."""

    def __init__(self, config: RegistryConfig, auth: Auth, lookup: Lookup | None = None) -> None:
        self.config = config
        self.auth = auth
        self._transport = Transport(config, lookup)
        self._caller = Caller(self._transport, auth)
        self._uploads = Uploader(self._caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def cancel(self) -> None:
        """Make every call under way, and any later one, raise Cancelled."""
        self._transport.cancel()

    # -- pull ---------------------------------------------------------------------------------

    def resolve(self, ref: Reference, *, head: bool = True) -> Descriptor:
        """What a name means now.  ``head``: ask without the body first, which does not count as a pull on Hub."""

        def one(host: Host) -> Descriptor:
            found = self._head(host, ref) if head else None
            if found is None:
                raw, media_type, digest = self._get(host, ref)
                found = Descriptor(media_type, digest, len(raw))
            return found

        return self._any_host(ref, one)

    def head(self, ref: Reference) -> Descriptor | None:
        """What a name means now, without its content; None: this registry has to be asked with GET."""
        return self._any_host(ref, lambda host: self._head(host, ref))

    def get_manifest(self, ref: Reference) -> tuple[bytes, str, str]:
        """(raw bytes, media type, digest), the bytes verified against every digest known."""
        return self._any_host(ref, lambda host: self._get(host, ref))

    def fetch_blob(
        self, ref: Reference, descriptor: Descriptor, write: Write, *, urls: tuple[str, ...] = ()
    ) -> None:
        """Stream a blob into ``write``; returns only if digest and size were right.

        A broken connection is resumed where it broke, on the same host or the next one.
        ``urls``: where a foreign layer may be had besides.
        """
        fetch = _Fetch(descriptor, write)
        if fetch.inline():
            return
        hosts = self.config.hosts_for(ref.registry, ref.repository, by_digest=True)

        def from_host(host: Host) -> None:
            fetch.run(
                self._transport,
                lambda call: self._caller.call(host, call),
                _blob(host, ref, descriptor.digest),
            )

        def from_url(url: str) -> None:
            guarded = not self._transport.is_private(f"https://{hosts[-1].address}/")
            fetch.run(
                self._transport,
                lambda call: self._transport.open(
                    Request(call.method, call.path, call.headers, public_only=guarded)
                ),
                Call("GET", url, ()),
            )

        from functools import partial

        sources: list[Callable[[], None]] = [partial(from_host, host) for host in hosts]
        sources += [partial(from_url, url) for url in urls]
        try:
            fetch.first_of(sources)
            fetch.finish()
        except ResolveError as err:
            if err.status in (401, 403):
                err.hint = self._caller.hint(hosts[-1])
            raise _named(err, ref, descriptor.digest) from err

    def ask(self, host: Host, ref: Reference) -> str:
        """What one host says about a name, for people: its digest, or why not; and the pulls it still allows."""
        try:
            with self._caller.call(host, self._manifest_call("HEAD", host, ref)) as response:
                if response.status == 200:
                    text = response.header("Docker-Content-Digest") or "found"
                else:
                    text = f"{response.status} {response.reason}"
                left, limit = response.header("RateLimit-Remaining"), response.header("RateLimit-Limit")
        except ResolveError as err:
            return err.message
        quota = f", {left.partition(';')[0]} of {limit.partition(';')[0]} pulls left" if left else ""
        return "".join(c for c in text + quota if c.isprintable())

    def has_blob(self, ref: Reference, digest: str) -> bool:
        """Whether the registry a push goes to holds the blob."""
        algorithm_of(digest)
        return self._uploads.exists(self._origin(ref), ref, digest)

    def tags(self, ref: Reference) -> list[str]:
        """All tags of a repository."""
        return self._any_host(ref, lambda host: self._tags(host, ref))

    def referrers(self, ref: Reference, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """What refers to a manifest (signatures, attestations), by API or by fallback tag."""
        from ..oci import manifest

        algorithm_of(digest)

        def one(host: Host) -> list[Descriptor]:
            from urllib.parse import quote

            repo = repository_on(host, ref)
            path = f"{repo}/referrers/{digest}" + (
                f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
            )
            with self._caller.call(
                host, Call("GET", path, (pull_scope(repo),), (("Accept", OCI_INDEX),))
            ) as response:
                if response.status == 200 and response.header("Content-Type").partition(";")[0] == OCI_INDEX:
                    raw = response.read(codec.MAX_DOCUMENT)
                elif response.status in (200, 400, 404, 405):
                    raw = b""
                else:
                    raise self._refused(host, ref, response)
            if not raw:
                raw = self._fallback_index(host, ref, digest)
            found = manifest.parse(raw, OCI_INDEX) if raw else None
            listed = found.manifests if isinstance(found, manifest.Index) else ()
            return [d for d in listed if not artifact_type or d.artifact_type == artifact_type]

        return self._any_host(ref, one)

    def _fallback_index(self, host: Host, ref: Reference, digest: str) -> bytes:
        try:
            raw, media_type, _ = self._get(
                host, Reference(ref.registry, ref.repository, fallback_tag(digest))
            )
        except ResolveError as err:
            if err.status == 404:
                return b""
            raise
        return raw if media_type in INDEXES else b""

    # -- push ---------------------------------------------------------------------------------

    def mount_blob(self, ref: Reference, digest: str, from_repo: str) -> bool:
        """Take a blob over from another repository of the same registry; False: it has to be uploaded."""
        algorithm_of(digest)
        return self._uploads.mount(self._origin(ref), ref, digest, from_repo)

    def push_blob(self, ref: Reference, descriptor: Descriptor, open: Callable[[], BinaryIO]) -> bool:  # noqa: A002
        """Upload a blob; False when it was there already.  ``open`` may be called again after a fault."""
        algorithm_of(descriptor.digest)
        return self._uploads.push(self._origin(ref), ref, descriptor, open)

    def check_push(self, ref: Reference) -> None:
        """Raise ResolveError when pushing is not allowed: starts an upload and cancels it."""
        self._uploads.check(self._origin(ref), ref)

    def check_login(self, registry: str) -> None:
        """Raise ResolveError unless the registry takes the credentials we have for it."""
        host = self.config.hosts_for(registry, push=True)[-1]
        with self._caller.call(host, Call("GET", "", ())) as response:
            if response.status != 200:
                raise failure_of(response, f"login to {registry} failed")

    def put_manifest(self, ref: Reference, raw: bytes, media_type: str) -> str:
        """Push a manifest under the tag, or under its digest when there is none.  Returns the digest."""
        host = self._origin(ref)
        digest = digest_of(raw)
        if ref.digest and digest_of(raw, algorithm_of(ref.digest)) != ref.digest:
            raise ResolveError(
                f"failed to push {ref.full}: content does not match its digest: expected {ref.digest}, got {digest}",
                code="DIGEST_INVALID",
            )
        repo = repository_on(host, ref)
        call = Call(
            "PUT",
            f"{repo}/manifests/{ref.tag or digest}",
            (push_scope(repo),),
            (("Content-Type", media_type),),
            raw,
        )
        with self._caller.call(host, call) as response:
            if response.status not in (200, 201, 202):
                raise self._uploads.refused(host, ref, response)
            served, known = response.header("Docker-Content-Digest"), response.header("OCI-Subject")
        if is_digest(served) and served.startswith("sha256:") and served != digest:
            raise ResolveError(
                f"failed to push {ref.full}: the registry stored {served} instead of {digest}",
                code="DIGEST_INVALID",
            )
        if not known:
            self._link_subject(host, ref, raw, media_type)
        return digest

    def _link_subject(self, host: Host, ref: Reference, raw: bytes, media_type: str) -> None:
        """Without the referrers API, list a manifest with a subject under the fallback tag."""
        from ..oci import manifest

        if media_type not in MANIFESTS + INDEXES or b'"subject"' not in raw:
            return
        document = manifest.parse(raw, media_type)
        if document.subject is None:
            return
        kind = document.artifact_type or (
            document.config.media_type if isinstance(document, manifest.Manifest) else ""
        )
        own = Descriptor(media_type, digest_of(raw), len(raw), None, document.annotations, kind)
        old = self._fallback_index(host, ref, document.subject.digest)
        index = manifest.parse(old) if old else None
        listed = index.manifests if isinstance(index, manifest.Index) else ()
        if any(d.digest == own.digest for d in listed):
            return
        new, _ = manifest.make_index((*listed, own))
        self.put_manifest(
            Reference(ref.registry, ref.repository, fallback_tag(document.subject.digest)), new, OCI_INDEX
        )

    # -- one host -----------------------------------------------------------------------------

    def _origin(self, ref: Reference) -> Host:
        return self.config.hosts_for(ref.registry, ref.repository, push=True)[-1]

    def _any_host(self, ref: Reference, one: Callable[[Host], R]) -> R:
        """Mirrors in order, then the origin, whose error is the one told."""
        hosts = self.config.hosts_for(ref.registry, ref.repository, by_digest=bool(ref.digest))
        passed: list[str] = []
        missing: ResolveError | None = None
        for host in hosts[:-1]:
            try:
                return one(host)
            except ResolveError as err:
                passed.append(f"{host.address} ({host.why}): {err.message}")
                missing = missing or (err if err.status == 404 else None)
        try:
            return one(hosts[-1])
        except ResolveError as err:
            if missing is not None and not err.status:
                # A mirror says no, and nobody else can be asked: that is the answer there is.
                missing.hint = f"{hosts[-1].address} could not be asked: {err.message}"
                raise missing from err
            if passed:
                err.hint = "; ".join(
                    [*([err.hint] if err.hint else []), "asked before: " + ", ".join(passed)]
                )
            raise

    def _head(self, host: Host, ref: Reference) -> Descriptor | None:
        """None: this registry has to be asked with GET."""
        with self._caller.call(host, self._manifest_call("HEAD", host, ref)) as response:
            if response.status == 404:
                raise _not_found(ref)
            digest, size = response.header("Docker-Content-Digest"), response.length
            media_type = response.header("Content-Type").partition(";")[0].strip()
            good = (
                response.status == 200
                and is_digest(digest)
                and 0 < size <= codec.MAX_DOCUMENT
                and media_type in INDEXES + MANIFESTS
            )
        if not good or (ref.digest and digest != ref.digest):
            return None
        return Descriptor(media_type, digest, size)

    @staticmethod
    def _manifest_call(method: str, host: Host, ref: Reference) -> Call:
        repo = repository_on(host, ref)
        return Call(method, f"{repo}/manifests/{ref.identifier}", (pull_scope(repo),), (("Accept", _ACCEPT),))

    def _get(self, host: Host, ref: Reference) -> tuple[bytes, str, str]:
        with self._caller.call(host, self._manifest_call("GET", host, ref)) as response:
            if response.status != 200:
                raise self._refused(host, ref, response)
            raw = response.read(codec.MAX_DOCUMENT)
            media_type = response.header("Content-Type").partition(";")[0].strip()
            served = response.header("Docker-Content-Digest")
        expected = ref.digest or (served if is_digest(served) else "")
        digest = digest_of(raw, algorithm_of(expected) if expected else "sha256")
        if expected and digest != expected:
            raise ResolveError(
                f"{ref.full}: content does not match its digest: expected {expected}, got {digest}",
                code="DIGEST_INVALID",
            )
        if media_type not in INDEXES + MANIFESTS:  # some registries say application/json or text/plain
            own = codec.loads(raw, f"{ref.full}: manifest").get("mediaType")
            media_type = own if isinstance(own, str) else media_type
        return raw, media_type, digest

    def _refused(self, host: Host, ref: Reference, response: Response) -> ResolveError:
        if response.status == 404:
            return _not_found(ref)
        if response.status in (401, 403):
            code, message = said(response)
            errors = [
                e for c in parse_challenges(response.header_all("WWW-Authenticate")) if (e := c.get("error"))
            ]
            if errors:
                message = f"{errors[0]}: authorization failed"
            text = f"{ref.full}: {_DENIED}" + (f": server message: {message}" if message else "")
            return ResolveError(
                text, code=code or "DENIED", status=response.status, hint=self._caller.hint(host)
            )
        return failure_of(response, ref.full)

    def _tags(self, host: Host, ref: Reference) -> list[str]:
        repo = repository_on(host, ref)
        path = f"{repo}/tags/list"
        out: list[str] = []
        seen: set[str] = set()
        while path and path not in seen and len(seen) < _MAX_PAGES and len(out) <= _MAX_TAGS:
            seen.add(path)
            with self._caller.call(host, Call("GET", path, (pull_scope(repo),))) as response:
                if response.status != 200:
                    raise self._refused(host, ref, response)
                listed = codec.loads(response.read(codec.MAX_DOCUMENT), "tag list").get("tags") or []
                out += [t for t in listed if isinstance(t, str) and is_tag(t)]
                path = _next_page(response)
        return out


class _Fetch:
    """The state of one blob's download: what was written stays written, over any number of connections."""

    def __init__(self, descriptor: Descriptor, write: Write) -> None:
        self._descriptor = descriptor
        self._write = write
        self._check = Verifier(descriptor.digest, descriptor.size)
        self.failed = False  # the content is wrong: another source can't mend what was written

    def inline(self) -> bool:
        """Use the descriptor's own data, if it carries any."""
        from base64 import b64decode

        if not self._descriptor.data:
            return False
        try:
            data = b64decode(self._descriptor.data, validate=True)
        except ValueError as err:
            raise ResolveError(
                f"{self._descriptor.digest}: its inline data is not base64", code="MANIFEST_INVALID"
            ) from err
        self._check.update(data)
        self.finish()
        self._write(data)
        return True

    def first_of(self, sources: list[Callable[[], None]]) -> None:
        """Try one source after the other; the last one's error counts, unless what was written is already wrong."""
        for source in sources[:-1]:
            try:
                source()
                return
            except ResolveError:
                if self.failed:
                    raise
        sources[-1]()

    def finish(self) -> None:
        """Verify what was written."""
        self._check.finish()

    def run(self, transport: Transport, send: Callable[[Call], Response], call: Call) -> None:
        """Fetch the rest from one source, resuming as long as that makes progress."""
        delays = iter(transport.config.backoff)
        while True:
            before = self._check.size
            try:
                self._once(send, call)
                return
            except ResolveError as err:
                if not err.temporary or err.status:  # a status was already retried
                    raise
                if self._check.size > before:
                    delays = iter(transport.config.backoff)
                delay = next(delays, None)
                if delay is None:
                    raise
                transport.pause(delay if self._check.size == before else 0)

    def _once(self, send: Callable[[Call], Response], call: Call) -> None:
        offset, size = self._check.size, self._descriptor.size
        if offset and offset == size:
            return
        headers = (*call.headers, ("Range", f"bytes={offset}-")) if offset else call.headers
        with send(Call(call.method, call.path, call.scopes, headers)) as response:
            if (
                response.status == 206
                and offset
                and response.header("Content-Range").startswith(f"bytes {offset}-")
            ):
                skip = 0
            elif response.status == 200:
                skip = offset
                if 0 <= response.length != size:
                    raise ResolveError(
                        f"{self._descriptor.digest}: the registry offers {response.length} bytes, the descriptor says {size}",
                        code="SIZE_INVALID",
                    )
            else:
                raise failure_of(response, self._descriptor.digest)
            self._copy(response, skip)

    def _copy(self, response: Response, skip: int) -> None:
        buffer = memoryview(bytearray(_BUFFER))
        check, write = self._check, self._write
        while n := response.readinto(buffer):
            if skip >= n:
                skip -= n
                continue
            chunk = buffer[skip:n]
            skip = 0
            try:
                check.update(chunk)
            except ResolveError:
                self.failed = True
                raise
            write(chunk)
        if check.size < self._descriptor.size:  # only without Content-Length
            raise ResolveError(f"{self._descriptor.digest}: unexpected end of the response", temporary=True)


def fallback_tag(digest: str) -> str:
    """The tag under which referrers are listed where the API is missing."""
    return digest.replace(":", "-")[:128]


def _not_found(ref: Reference) -> ResolveError:
    return ResolveError(f"{ref.full}: not found", code="MANIFEST_UNKNOWN", status=404)


def _named(err: ResolveError, ref: Reference, digest: str) -> ResolveError:
    """The same error, saying of which image the blob is part."""
    head = f"failed to fetch {digest} of {ref.full}"
    text = f"{head}: not found" if err.status == 404 else f"{head}: {err.message.removeprefix(digest + ': ')}"
    return ResolveError(text, code=err.code, status=err.status, temporary=err.temporary, hint=err.hint)


def _blob(host: Host, ref: Reference, digest: str) -> Call:
    repo = repository_on(host, ref)
    return Call("GET", f"{repo}/blobs/{digest}", (pull_scope(repo),))


def _next_page(response: Response) -> str:
    """The ``rel="next"`` link as a path below ``/v2/``; never one to another place."""
    from urllib.parse import urljoin, urlsplit

    target, _, rest = response.header("Link").partition(">")
    if not target.startswith("<") or 'rel="next"' not in rest.replace("rel=next", 'rel="next"'):
        return ""
    parts = urlsplit(urljoin(response.url, target[1:]))
    if parts.netloc != urlsplit(response.url).netloc or not parts.path.startswith("/v2/"):
        return ""
    return parts.path.removeprefix("/v2/") + (f"?{parts.query}" if parts.query else "")
