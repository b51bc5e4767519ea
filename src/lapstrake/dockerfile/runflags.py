"""``RUN --mount`` and ``--device`` values (spec §8.1, §8.2)."""

from __future__ import annotations

from ..errors import DockerfileError
from ..values import Value
from .numbers import is_digits, parse_bool, parse_size, quote
from .suggest import hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOUNT_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")
_SHARING = ("shared", "private", "locked")
_KEYS = (
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw",
    "id", "sharing", "required", "size", "mode", "uid", "gid", "env",
)  # fmt: skip
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}


class MountFlag(Value):
    """One parsed ``--mount``.  None and ``""``: not given.  For secrets ``source`` is merged into ``id``."""

    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    readonly: bool | None = None
    id: str = ""
    sharing: str = ""
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    required: bool = False
    env: str = ""

    @property
    def is_readonly(self) -> bool:
        """``readonly`` with its default: only bind mounts are read-only."""
        return self.type == "bind" if self.readonly is None else self.readonly


class DeviceFlag(Value):
    """One parsed ``--device``."""

    name: str
    required: bool = False


def split_csv(text: str) -> list[str]:
    """The fields of one CSV record, as strict as Go's reader; raises ValueError with its wording."""
    if '"' not in text and "\n" not in text and "\r" not in text:
        return text.split(",") if text else []
    out: list[str] = []
    i = 0
    while True:
        if text[i : i + 1] == '"':
            field, i = _quoted_field(text, i)
        else:
            end = text.find(",", i)
            end = len(text) if end < 0 else end
            field = text[i:end]
            if '"' in field:
                raise ValueError(
                    f'parse error on line 1, column {i + field.index(chr(34)) + 1}: bare " in non-quoted-field'
                )
            i = end
        out.append(field)
        if i >= len(text):
            return out
        i += 1


def _quoted_field(text: str, start: int) -> tuple[str, int]:
    i = start + 1
    out: list[str] = []
    while True:
        end = text.find('"', i)
        if end < 0:
            raise ValueError(
                f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field'
            )
        out.append(text[i:end])
        if text[end + 1 : end + 2] == '"':
            out.append('"')
            i = end + 2
        elif text[end + 1 : end + 2] in ("", ","):
            return "".join(out), end + 1
        else:
            raise ValueError(
                f'parse error on line 1, column {end + 1}: extraneous or missing " in quoted-field'
            )


def parse_mount(value: str, expand: Callable[[str], str] | None) -> MountFlag:
    """Parse one ``--mount`` value; ``expand`` is applied to option values except ``from``.

    ``expand`` None: the early check, where values with a variable are taken as they are.
    Raises DockerfileError without a span.
    """
    try:
        fields = split_csv(value)
    except ValueError as e:
        raise DockerfileError(f"failed to parse csv mounts: {e}") from None
    found: dict[str, Any] = {"type": "bind"}
    for field in fields:
        key, equals, text = field.partition("=")
        key = key.lower()
        if not equals:
            _bare(found, key, field)
            continue
        if expand is not None or key == "from":
            if key == "from" and "$" in text:
                raise DockerfileError(
                    f"'{key}' doesn't support variable expansion, define alias stage instead"
                )
            if expand is not None and key != "from":
                text = expand(text)
        _option(found, key, text, field, unknown=expand is None and "$" in text)
    return _checked(found)


def _bare(found: dict[str, Any], key: str, field: str) -> None:
    if key in ("readonly", "ro"):
        found["readonly"] = True
    elif key in ("readwrite", "rw"):
        found["readonly"] = False
    elif key == "required":
        _need_type(found, key, ("secret", "ssh"))
        found["required"] = True
    else:
        raise DockerfileError(f"invalid field '{field}' must be a key=value pair")


def _need_type(found: dict[str, Any], key: str, types: tuple[str, ...]) -> None:
    if found["type"] not in types:
        raise DockerfileError(f"unexpected key '{key}' for mount type '{found['type']}'")


def _option(found: dict[str, Any], key: str, text: str, field: str, *, unknown: bool) -> None:
    """Store one ``key=value``; ``unknown``: the value is not known yet, only the key is checked."""
    name = _ALIASES.get(key, key)
    if key not in _KEYS:
        raise DockerfileError(f"unexpected key '{key}' in '{field}'{hint(key, _KEYS)}")
    if name == "type":
        if text.lower() not in MOUNT_TYPES and not unknown:
            raise DockerfileError(f"unsupported mount type {quote(text)}{hint(text, MOUNT_TYPES)}")
        found["type"] = text.lower()
    elif name in ("source", "target", "id", "env"):
        found[name] = text
    elif name == "from":
        found["from_"] = text
    elif name in ("readonly", "readwrite"):
        flag = unknown or _boolean(key, text)
        found["readonly"] = flag if name == "readonly" else not flag
    elif name == "required":
        _need_type(found, key, ("secret", "ssh"))
        found["required"] = unknown or _boolean(key, text)
    elif name == "size":
        _need_type(found, key, ("tmpfs",))
        try:
            found["size"] = 0 if unknown else parse_size(text)
        except ValueError:
            raise DockerfileError(f"invalid value for {key}: {text}") from None
    elif name == "sharing":
        if text.lower() not in _SHARING and not unknown:
            raise DockerfileError(f"unsupported sharing value {quote(text)}{hint(text, _SHARING)}")
        found["sharing"] = text.lower()
    else:
        found[name] = 0 if unknown else _number(name, text)


def _boolean(key: str, text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError:
        raise DockerfileError(f"invalid value for {key}: {text}") from None


def _number(name: str, text: str) -> int:
    bad = DockerfileError(f"invalid value {text} for {name}")
    if not is_digits(text) or len(text) > 12 or (name == "mode" and set(text) & {"8", "9"}):
        raise bad
    number = int(text, 8 if name == "mode" else 10)
    if number > 0xFFFFFFFF:
        raise bad
    return number


def _checked(found: dict[str, Any]) -> MountFlag:
    """The rules between options."""
    kind = found["type"]
    if kind in ("bind", "tmpfs"):
        for key in ("mode", "uid", "gid"):
            if key in found:
                raise DockerfileError(f"{key} not allowed for {quote(kind)} type mounts")
    if kind == "secret":
        if found.get("from_"):
            raise DockerfileError("secret mount should not have a from")
        if found.get("sharing"):
            raise DockerfileError("secret mount should not define sharing")
        if not (found.get("source") or found.get("target") or found.get("id")):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if found.get("source") and found.get("id"):
            raise DockerfileError("both source and id can't be set")
        source = found.pop("source", "")
        found["id"] = found.get("id") or source or found["target"].rstrip("/").rpartition("/")[2]
    elif found.get("sharing") and kind != "cache" and "$" not in kind:
        raise DockerfileError(f"invalid cache sharing set for {kind} mount")
    if kind == "ssh" and found.get("source"):
        raise DockerfileError("ssh does not support source")
    return MountFlag(**found)


def parse_device(value: str) -> DeviceFlag:
    """Parse one ``--device=[name=]NAME[,required]``; raises DockerfileError."""
    name = ""
    required = False
    try:
        fields = split_csv(value)
    except ValueError as e:
        raise DockerfileError(f"failed to parse csv devices: {e}") from None
    for field in fields:
        key, equals, text = field.partition("=")
        key = key.lower()
        if not equals and key == "required":
            required = True
        elif equals and key == "required":
            required = _boolean(key, text)
        elif (equals and key == "name") or "/" in key or not equals:
            if name:
                raise DockerfileError(f"device name already set to {name}")
            name = text if key == "name" and equals else field
        else:
            raise DockerfileError(f"unexpected key '{key}' in '{field}'{hint(key, ('name', 'required'))}")
    return DeviceFlag(name, required)
