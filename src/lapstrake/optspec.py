"""The little languages inside flag values (spec cli.md §2.2-2.7): CSV records to values."""

from __future__ import annotations

from .dockerfile.numbers import parse_bool, parse_size
from .dockerfile.runflags import split_csv
from .errors import UsageError
from .plan.request import AnnotationSpec, AttestSpec, CacheSpec, CallSpec, OutputSpec, SecretSpec, SshSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .oci.platform import Platform

REGO_INSTEAD = (
    "Rego is not evaluated here: write the rules as a JSON source policy and pass it with --source-policy-file, "
    "or as EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
)
_POLICY_KEYS = ("filename", "reset", "disabled", "strict", "log-level")
Pairs = tuple[tuple[str, str], ...]
OUTPUT_TYPES = ("image", "registry", "oci", "docker", "local", "tar", "cacheonly")
CACHE_TYPES = ("inline", "registry", "local", "gha", "s3", "azblob")
CALLS = ("build", "check", "lint", "outline", "targets", "subrequests.describe")
_LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
RESOURCES = ("memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems")


def fields(text: str) -> list[str]:
    """One CSV record (RFC 4180) as its fields; of an empty text a single empty one."""
    try:
        return split_csv(text) or [""]
    except ValueError as e:
        raise UsageError(str(e), hint=f"in {text}") from None


def key_values(text: str) -> list[tuple[str, str]]:
    """One CSV record of ``key=value`` fields, keys in lower case."""
    out = []
    for field in fields(text):
        key, eq, value = field.partition("=")
        if not eq:
            raise UsageError(f"invalid field '{field}' must be a key=value pair", hint=f"in {text}")
        out.append((key.strip().lower(), value))
    return out


def duration(text: str) -> float:
    """``90s``, ``24h``, ``1h30m``, ``7d`` in seconds; a plain number is seconds, nothing is 0.  Raises UsageError."""
    total, i = 0.0, 0
    text = text.strip()
    while i < len(text):
        start = i
        while i < len(text) and (text[i].isdigit() or text[i] == "."):
            i += 1
        number, unit_at = text[start:i], i
        while i < len(text) and text[i].isalpha():
            i += 1
        unit = text[unit_at:i] or "s"
        try:
            total += float(number) * _SECONDS[unit]
        except (ValueError, KeyError):
            raise UsageError(f'invalid duration "{text}"', hint="for example 90s, 1h30m or 7d") from None
    return total


def seconds(raw: str, flag: str) -> float:
    """A flag's duration, more than nothing when it is given at all."""
    if not raw:
        return 0.0
    try:
        total = duration(raw)
    except UsageError:
        total = -1.0
    if not 0 < total < 1e9:
        raise UsageError(f"invalid duration for {flag}: {raw}", hint="for example 90s, 10m or 1h30m")
    return total


def size(text: str, flag: str = "") -> int:
    """``64m``, ``1.5GB``, ``512MiB`` or plain bytes."""
    try:
        value = parse_size(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 63:
        where = f' for "{flag}" flag' if flag else ""
        raise UsageError(
            f"invalid argument \"{text}\"{where}: invalid size: '{text}'",
            hint="write a number with b, k, m or g, for example 64m",
        )
    return value


def parse_output(text: str) -> OutputSpec:
    """``type=…,dest=…,…``, a path, or ``-``."""
    parts = fields(text)
    if len(parts) == 1 and not parts[0].startswith("type="):
        if parts[0] == "-":
            return OutputSpec("tar", "-")
        if "=" not in parts[0] or parts[0][:1] in "./":
            return OutputSpec("local", parts[0])
    kind = dest = ""
    attrs: list[tuple[str, str]] = []
    for field in parts:
        key, eq, value = field.partition("=")
        if not eq:
            raise UsageError(f"invalid value {field}", hint=f"an output is a list of key=value, in {text}")
        name = key.strip()
        low = name.lower()
        if low == "type":
            kind = value
        elif low == "dest":
            dest = value
        else:
            attrs.append((name if low.startswith("annotation") else low, value))
    if not kind:
        raise UsageError(
            "type is required for output", hint=f"in {text}; for example type=oci,dest=image.tar"
        )
    if kind not in OUTPUT_TYPES:
        raise UsageError(f'unsupported output type "{kind}"', hint="use one of " + ", ".join(OUTPUT_TYPES))
    if kind == "local" and not dest:
        raise UsageError("dest is required for local exporter")
    if kind == "local" and dest == "-":
        raise UsageError("dest cannot be stdout for local exporter")
    if kind == "tar" and not dest:
        dest = "-"
    return OutputSpec(kind, dest, tuple(attrs))


def platforms(values: Iterable[str]) -> tuple[Platform, ...]:
    """All ``--platform`` values, normalised, each once."""
    from .oci.platform import parse

    found: dict[Platform, None] = {}
    for value in values:
        for part in value.split(","):
            if part.strip():
                found[parse(part)] = None
    return tuple(found)


def build_arg(text: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """``K=V``, or ``K`` taken from the environment (None when unset there)."""
    key, eq, value = text.partition("=")
    if not key:
        raise UsageError(
            f'invalid build argument "{text}"',
            hint="write NAME=VALUE, or NAME to take it from the environment",
        )
    if eq:
        return key, value
    return (key, environ[key]) if key in environ else None


def pair(text: str, what: str) -> tuple[str, str]:
    """``KEY=VALUE``; the value may be empty."""
    key, eq, value = text.partition("=")
    if not eq or not key:
        raise UsageError(f"invalid {what} {text}", hint="write KEY=VALUE")
    return key, value


def label(text: str) -> tuple[str, str]:
    """``KEY[=VALUE]``."""
    key, _, value = text.partition("=")
    if not key:
        raise UsageError(f'invalid label "{text}"', hint="write KEY=VALUE")
    return key, value


def add_host(text: str) -> list[tuple[str, str]]:
    """``name:ip[,ip]`` or ``name=ip[,ip]``; ``[v6]`` and ``host-gateway`` are fine."""
    at = min((i for i in (text.find("="), text.find(":")) if i >= 0), default=-1)
    if at < 1 or at + 1 >= len(text):
        raise UsageError(f"invalid host {text}", hint="write name=ip, for example db=10.0.0.7")
    out = []
    for raw in text[at + 1 :].split(","):
        ip = raw.strip()
        if ip.startswith("[") and ip.endswith("]"):
            ip = ip[1:-1]
        if ip != "host-gateway" and not _is_ip(ip):
            raise UsageError(f"invalid host {text}", hint=f"{ip or 'nothing'} is not an IP address")
        out.append((text[:at], ip))
    return out


def _is_ip(text: str) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton  # the C half: ``socket`` builds enums for 4 ms

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def ulimit(text: str) -> tuple[str, int, int]:
    """``type=soft[:hard]``."""
    name, eq, value = text.partition("=")
    soft, colon, hard = value.partition(":")
    names = (
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
    if not eq or not value:
        raise UsageError(
            f"invalid ulimit argument: {text}", hint="write type=soft[:hard], for example nofile=1024:2048"
        )
    if name not in names:
        raise UsageError(f"invalid ulimit type: {name}", hint="use one of " + ", ".join(names))
    try:
        low, high = int(soft), int(hard) if colon else int(soft)
    except ValueError:
        raise UsageError(
            f"invalid ulimit argument: {text}", hint="limits are whole numbers, -1 is unlimited"
        ) from None
    if low < -1 or high < -1 or (high != -1 and (low > high or low == -1)):
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return name, low, high


def resource(text: str) -> tuple[str, str]:
    """``memory=512m``, ``cpu-shares=512``, …; sizes come back in bytes."""
    key, value = pair(text, "resource")
    if key not in RESOURCES:
        raise UsageError(f'unknown resource "{key}"', hint="use one of " + ", ".join(RESOURCES))
    if key in ("memory", "memory-swap") and value != "-1":
        value = str(size(value))
    elif key in ("cpu-shares", "cpu-period", "cpu-quota") and not value.lstrip("-").isdigit():
        raise UsageError(f'invalid value "{value}" for resource {key}: a whole number is needed')
    return key, value


def share(text: str, what: str) -> float:
    """``25%`` as 0.25; empty is 0."""
    number = text.removesuffix("%")
    if not text:
        return 0.0
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise UsageError(f"invalid value {text} for {what}", hint="give a percentage, for example 10%")
    return value / 100


def cache(values: Iterable[str]) -> tuple[CacheSpec, ...]:
    """``--cache-from``/``--cache-to``: ``ref[,ref…]`` or ``type=…,…``."""
    out: list[CacheSpec] = []
    for text in values:
        parts = fields(text)
        if all("=" not in p for p in parts):
            out += [CacheSpec("registry", (("ref", p),)) for p in parts if p]
            continue
        attrs = key_values(text)
        kind = dict(attrs).get("type", "")
        if not kind:
            raise UsageError(
                f'type required for "{text}"', hint="for example type=registry,ref=registry.example/app:cache"
            )
        if kind not in CACHE_TYPES:
            raise UsageError(f'unknown cache type "{kind}"', hint="use one of " + ", ".join(CACHE_TYPES))
        out.append(CacheSpec(kind, tuple(a for a in attrs if a[0] != "type")))
    return tuple(out)


def secret(text: str, environ: Mapping[str, str]) -> SecretSpec:
    """``id=X[,type=file|env][,src=F][,env=V]``."""
    ident = source = env = kind = ""
    for key, value in key_values(text):
        if key == "id":
            ident = value
        elif key == "type":
            if value not in ("file", "env"):
                raise UsageError(f'unsupported secret type "{value}"', hint="use file or env")
            kind = value
        elif key in ("src", "source"):
            source = value
        elif key == "env":
            env = value
        else:
            raise UsageError(
                f"unexpected key '{key}' in '{key}={value}'", hint="a secret has id, type, src and env"
            )
    if not ident:
        raise UsageError("secret missing ID", hint="for example --secret id=token,src=token.txt")
    if env or kind == "env":
        return SecretSpec(ident, "env", env or source or ident)
    if not source and not kind and ident in environ:
        return SecretSpec(ident, "env", ident)
    return SecretSpec(ident, "file", source or ident)


def ssh(values: Iterable[str], environ: Mapping[str, str]) -> tuple[SshSpec, ...]:
    """``default|ID[=socket|key[,key…]]``."""
    out: dict[str, SshSpec] = {}
    for text in values:
        ident, _, rest = text.partition("=")
        ident = ident or "default"
        if ident in out:
            raise UsageError(f'duplicate agent ID "{ident}"')
        paths = tuple(p for p in rest.split(",") if p)
        if not paths:
            sock = environ.get("SSH_AUTH_SOCK", "")
            if not sock:
                raise UsageError(
                    "invalid empty ssh agent socket",
                    hint="start an agent (SSH_AUTH_SOCK is not set), or name a key: --ssh default=~/.ssh/id_ed25519",
                )
            paths = (sock,)
        out[ident] = SshSpec(ident, paths)
    return tuple(out.values())


def named_context(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of ``--build-context``."""
    name, eq, value = text.partition("=")
    if not eq or not name or not value:
        raise UsageError(
            f"invalid context value: {text}, expected key=value",
            hint="for example --build-context src=../src",
        )
    return name, value


def annotation(text: str) -> list[AnnotationSpec]:
    """``[type[platform][,type…]:]KEY=VALUE``."""
    head, eq, value = text.partition("=")
    if not eq:
        raise UsageError(f'invalid annotation "{text}", expected key=value')
    types, colon, key = head.partition(":")
    if not colon:
        types, key = "", head
    elif "[" in types and "]" not in types.rsplit("[", 1)[1]:
        raise UsageError(
            f'invalid annotation type "{types}", expected type and optional platform in square brackets'
        )
    elif types.split(",")[0].partition("[")[0] not in _LEVELS and "." in types:
        types, key = "", head  # a colon that belongs to the key
    if not key:
        raise UsageError(f'invalid annotation "{text}", expected key=value')
    if not types:
        return [AnnotationSpec("manifest", "", key, value)]
    out = []
    for item in types.split(","):
        level, bracket, platform = item.partition("[")
        if bracket and (not platform.endswith("]") or not level):
            raise UsageError(
                f'invalid annotation type "{item}", expected type and optional platform in square brackets'
            )
        if level not in _LEVELS:
            raise UsageError(f'unknown annotation type "{level}"', hint="use one of " + ", ".join(_LEVELS))
        if bracket:
            from .oci.platform import parse

            platform = parse(platform[:-1]).full
        out.append(AnnotationSpec(level, platform, key, value))
    return out


def attests(values: Iterable[str], sbom: str = "", provenance: str = "") -> tuple[AttestSpec, ...]:
    """``--attest``, ``--sbom`` and ``--provenance`` together; the last word on a type counts."""
    records = [*values]
    for kind, text in (("sbom", sbom), ("provenance", provenance)):
        if text:
            records.append(_shorthand(kind, text))
    found: dict[str, AttestSpec | None] = {}
    for text in records:
        attrs = key_values(text) if "=" in text else [("type", text)]
        kind = dict(attrs).get("type", "")
        if not kind:
            raise UsageError(
                "attestation type not specified", hint="for example --attest type=provenance,mode=max"
            )
        if kind not in ("sbom", "provenance"):
            raise UsageError(f'unknown attestation type "{kind}"', hint="use sbom or provenance")
        off = dict(attrs).get("disabled", "false")
        try:
            disabled = parse_bool(off)
        except ValueError as e:
            raise UsageError(f'invalid value "{off}" for disabled: {e}') from None
        spec = AttestSpec(kind, tuple(a for a in attrs if a[0] not in ("type", "disabled")))
        found[kind] = None if disabled else spec
    return tuple(s for s in found.values() if s is not None)


def _shorthand(kind: str, text: str) -> str:
    try:
        return f"type={kind},disabled={'false' if parse_bool(text) else 'true'}"
    except ValueError:
        return f"type={kind},{text}" if "=" in text else f"type={kind},preset={text}"


def call(text: str) -> CallSpec:
    """``NAME[,format=json][,ignorestatus=bool]``."""
    name, form, ignore = "", "", False
    for field in fields(text):
        key, eq, value = field.partition("=")
        if not eq:
            name = key
        elif key == "format":
            if value not in ("json", "text"):
                raise UsageError(f"invalid print value: {field}", hint="format is json or text")
            form = "" if value == "text" else value
        elif key == "ignorestatus":
            try:
                ignore = parse_bool(value)
            except ValueError:
                raise UsageError(f"invalid print value: {field}") from None
        else:
            raise UsageError(f"invalid print field: {key}", hint="format and ignorestatus are known")
    name = name or "build"
    if name not in CALLS:
        raise UsageError(f"invalid print value: {name}", hint="use one of " + ", ".join(CALLS))
    return CallSpec("check" if name == "lint" else name, form, ignore)


def pull(text: str) -> str:
    """``--pull``: a boolean as docker has it, or buildah's policy word."""
    if text in ("", "always", "missing", "never", "newer"):
        return text
    try:
        return "always" if parse_bool(text) else ""
    except ValueError:
        raise UsageError(
            f'invalid pull policy "{text}"', hint="use always, missing, never or newer"
        ) from None


def epoch(text: str) -> int | None:
    """Seconds since 1970; empty means not given."""
    if not text:
        return None
    if not text.isdigit() or int(text) >= 1 << 40:
        raise UsageError(f"invalid SOURCE_DATE_EPOCH: {text}", hint="give whole seconds since 1970-01-01")
    return int(text)


def cache_mount(text: str) -> tuple[str, str]:
    """``id=ID,dir=DIR``: (id, absolute directory)."""
    import os

    given = dict(key_values(text))
    extra = sorted(set(given) - {"id", "dir"})
    if extra or not given.get("id") or not given.get("dir"):
        what = f"unexpected key '{extra[0]}'" if extra else "id and dir are both needed"
        raise UsageError(f'invalid --cache-mount "{text}": {what}', hint="write id=uv,dir=~/.cache/uv")
    return given["id"], os.path.abspath(os.path.expanduser(given["dir"]))


def refuse_rego(text: str) -> None:
    """Refuse a ``--policy`` that would have to be evaluated; one that only switches policies off is fine."""
    files = []
    for field in fields(text):
        key, eq, value = field.partition("=")
        key = key.strip().lower()
        if not eq or key not in _POLICY_KEYS:
            raise UsageError(
                f"invalid policy \"{text}\": unexpected key '{key}'",
                hint="keys are " + ", ".join(_POLICY_KEYS),
            )
        if key == "filename":
            files.append(value)
        elif key != "log-level":
            try:
                on = parse_bool(value)
            except ValueError as e:
                raise UsageError(f'invalid value "{value}" for {key}: {e}') from None
            if key == "disabled" and on:
                return
    if files:
        raise UsageError(f"policy {files[0]} is not supported", hint=REGO_INSTEAD)
