"""A cache in an S3 bucket: ``<prefix>blobs/<digest>`` and ``<prefix>manifests/<name>/<key>``.

Requests are signed and retried by botocore (extra ``s3``), imported when the first one is made.
"""

from __future__ import annotations

from ..errors import CacheError, UsageError
from ..optspec import duration
from ..values import Value
from .record import MAX_RECORD, decode, encode, seal, summary, unseal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, BinaryIO

    from ..oci.descriptor import Descriptor
    from ..plan.request import CacheSpec
    from .base import Write
    from .record import RemoteRecord

_PART = 64 << 20
_CHUNK = 1 << 20
_ABSENT = ("404", "NoSuchKey", "NotFound")


class S3Place(Value):
    """Where the cache is and how to talk to it.  Credentials not given are botocore's to find."""

    bucket: str
    region: str = ""
    names: tuple[str, ...] = ("buildkit",)
    prefix: str = ""
    blobs: str = "blobs/"
    manifests: str = "manifests/"
    endpoint: str = ""
    path_style: bool = False
    key_id: str = ""
    secret: str = ""
    token: str = ""
    retry_mode: str = "standard"
    attempts: int = 3
    touch_s: float = 86400.0
    no_encoding: bool = False

    def __repr__(self) -> str:
        return f"S3Place(bucket={self.bucket!r}, names={self.names!r})"  # the rest holds credentials


def place_of(spec: CacheSpec, environ: Mapping[str, str]) -> S3Place:
    """The attributes, with their defaults.  Raises UsageError."""
    from .options import flag, number

    bucket = spec.get("bucket") or environ.get("AWS_BUCKET", "")
    region = spec.get("region") or environ.get("AWS_REGION", "")
    if not bucket:
        raise UsageError("bucket ($AWS_BUCKET) not set for s3 cache")
    if not region:
        raise UsageError("region ($AWS_REGION) not set for s3 cache")
    names = tuple(n for n in (spec.get("name") or "buildkit").split(";") if n)
    mode = spec.get("retry_mode") or "standard"
    if mode not in ("standard", "adaptive", "legacy"):
        raise UsageError(f"invalid retry_mode {mode}", hint="use standard or adaptive")
    return S3Place(
        bucket, region, names, spec.get("prefix"), spec.get("blobs_prefix", "blobs/"), spec.get("manifests_prefix", "manifests/"),
        spec.get("endpoint_url"), flag(spec, "use_path_style", False), spec.get("access_key_id"), spec.get("secret_access_key"),
        spec.get("session_token"), mode, number(spec, "retry_max_attempts", 3, 1, 100),
        duration(spec.get("touch_refresh") or "24h"), flag(spec, "disable_accept_encoding", False),
    )  # fmt: skip


class S3Cache:
    """Both directions of ``type=s3``."""

    def __init__(self, place: S3Place, *, part: int = _PART) -> None:
        import threading

        self.place = place
        self.part = part  # bytes of one request, at least 5 MiB
        self._client: Any = None
        self._guard = threading.Lock()

    @property
    def title(self) -> str:
        """The bucket and the name."""
        return f"s3://{self.place.bucket}/{self.place.prefix}{';'.join(self.place.names)}"

    def origin(self) -> dict[str, Any]:
        """How to find it again, without credentials."""
        p = self.place
        return {
            "type": "s3", "bucket": p.bucket, "region": p.region, "prefix": p.prefix, "blobs_prefix": p.blobs,
            "endpoint_url": p.endpoint, "use_path_style": str(p.path_style).lower(),
        }  # fmt: skip

    def client(self) -> Any:
        """The S3 client, made once."""
        with self._guard:
            if self._client is None:
                self._client = _connect(self.place)
            return self._client

    # -- reading ---------------------------------------------------------------

    def open(self) -> bool:
        """Whether the bucket answers."""
        return self._call("head_bucket", Bucket=self.place.bucket) is not None

    def record(self, key: str) -> RemoteRecord | None:
        """The record of a key under the first name that has one."""
        for name in self.place.names:
            answer = self._call("get_object", Bucket=self.place.bucket, Key=self._key(name, key))
            if answer is not None:
                with answer["Body"] as body:
                    return decode(unseal(body.read(MAX_RECORD + 200)))
        return None

    def fetch(self, desc: Descriptor, write: Write) -> None:
        """A layer."""
        answer = self._call("get_object", Bucket=self.place.bucket, Key=self._blob(desc.digest))
        if answer is None:
            raise CacheError(f"{self.title}: {desc.digest} is not there")
        try:
            with answer["Body"] as body:
                while chunk := body.read(_CHUNK):
                    write(chunk)
        except _http_errors() as e:
            raise CacheError(f"{self.title}: {desc.digest}: {e}") from e

    # -- writing ---------------------------------------------------------------

    def known(self, key: str) -> RemoteRecord | None:
        """The record that is there under the first name; a bad one, or one without its layers, counts as none."""
        answer = self._call("get_object", Bucket=self.place.bucket, Key=self._key(self.place.names[0], key))
        if answer is None:
            return None
        try:
            with answer["Body"] as body:
                record = decode(unseal(body.read(MAX_RECORD + 200)))
        except CacheError:
            return None
        there = all(self._has(x.digest, x.size) for x in record.layers if not x.base)
        return record if there and key in record.keys else None

    def blob(self, desc: Descriptor, content: Callable[[], BinaryIO]) -> bool:
        """Upload a layer unless it is there; one that grows old is touched, for the bucket's expiry rules."""
        if self._has(desc.digest, desc.size):
            return False
        where = {"Bucket": self.place.bucket, "Key": self._blob(desc.digest)}
        with content() as f:
            if desc.size <= self.part:
                self._call("put_object", Body=f.read(), **where)
            else:
                self._in_parts(f, where)
        return True

    def _in_parts(self, f: BinaryIO, where: dict[str, str]) -> None:
        upload = self._call("create_multipart_upload", **where)["UploadId"]
        parts: list[dict[str, Any]] = []
        try:
            while chunk := f.read(self.part):
                n = len(parts) + 1
                done = self._call("upload_part", Body=chunk, PartNumber=n, UploadId=upload, **where)
                parts.append({"ETag": done["ETag"], "PartNumber": n})
            self._call(
                "complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts}, **where
            )
        except BaseException:
            self._call("abort_multipart_upload", UploadId=upload, **where)
            raise

    def put(self, record: RemoteRecord) -> None:
        """Put a record under each of its keys and each name."""
        data = seal(encode(record))
        for name in self.place.names:
            for key in record.keys:
                self._call("put_object", Bucket=self.place.bucket, Key=self._key(name, key), Body=data)

    def finish(self, records: Iterable[RemoteRecord]) -> dict[str, Any]:
        """The list of this build's records, for people: nothing is found through it."""
        data = summary(records)
        for name in self.place.names:
            key = f"{self.place.prefix}{self.place.manifests}{name}.json"
            self._call("put_object", Bucket=self.place.bucket, Key=key, Body=data)
        return {}

    # -- calls -----------------------------------------------------------------

    def _has(self, digest: str, size: int) -> bool:
        where = {"Bucket": self.place.bucket, "Key": self._blob(digest)}
        found = self._call("head_object", **where)
        if found is None or found["ContentLength"] != size:
            return False
        import time

        if time.time() - found["LastModified"].timestamp() > self.place.touch_s:
            self._call("copy_object", CopySource=where, MetadataDirective="REPLACE", **where)
        return True

    def _call(self, name: str, **kw: Any) -> Any:
        """One request; None when the thing isn't there.  Raises CacheError."""
        client = self.client()
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(client, name)(**kw)
        except ClientError as e:
            code = str(e.response.get("Error", {}).get("Code", ""))
            if code in _ABSENT:
                return None
            raise CacheError(f"{self.title}: {e}") from e
        except BotoCoreError as e:
            raise CacheError(f"{self.title}: {e}") from e

    def _key(self, name: str, key: str) -> str:
        return f"{self.place.prefix}{self.place.manifests}{name}/{key}"

    def _blob(self, digest: str) -> str:
        return f"{self.place.prefix}{self.place.blobs}{digest}"


def _connect(place: S3Place) -> Any:
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError:
        raise UsageError(
            "an s3 cache needs the package botocore", hint="pip install 'lapstrake[s3]'"
        ) from None
    config = Config(
        retries={"total_max_attempts": place.attempts, "mode": place.retry_mode},
        s3={"addressing_style": "path" if place.path_style else "auto"},
        connect_timeout=10, read_timeout=60, max_pool_connections=16,
    )  # fmt: skip
    session = botocore.session.Session()
    client = session.create_client(
        "s3", region_name=place.region, endpoint_url=place.endpoint or None, config=config,
        aws_access_key_id=place.key_id or None, aws_secret_access_key=place.secret or None, aws_session_token=place.token or None,
    )  # fmt: skip
    if place.no_encoding:
        client.meta.events.register("before-sign.s3", _no_encoding)
    return client


def _no_encoding(request: Any, **_kw: object) -> None:
    request.headers["Accept-Encoding"] = "identity"


def _http_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, HTTPClientError

    return (BotoCoreError, HTTPClientError, OSError)
