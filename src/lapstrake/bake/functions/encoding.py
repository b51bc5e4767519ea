"""Encodings, hashes and identifiers."""

from __future__ import annotations

from fractions import Fraction

from .. import numbers
from ..types import ListOf, MapOf
from .base import FunctionError, Problem, define

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def to_json(value: Any) -> str:
    """As Go prints it: no spaces, keys sorted, ``<``, ``>`` and ``&`` escaped."""
    import json

    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        for c in "<>&\u2028\u2029":
            text = text.replace(c, f"\\u{ord(c):04x}")
        return text
    if isinstance(value, (int, Fraction)):
        return numbers.text(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{to_json(k)}:{to_json(v)}" for k, v in sorted(value.items())) + "}"
    return "[" + ",".join(map(to_json, value)) + "]"


def from_json(text: str) -> Any:
    """JSON as HCL values; raises FunctionError."""
    import json

    def number(word: str) -> Any:
        return numbers.parse(word)

    def constant(word: str) -> Any:
        raise ValueError(f"invalid value {word}")

    try:
        found = json.loads(text, parse_float=number, parse_int=number, parse_constant=constant)
    except (ValueError, RecursionError) as e:
        raise FunctionError(f"invalid JSON: {e}") from None
    return _tuples(found)


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value


@define("jsonencode", "val:any?")
def jsonencode(value: Any) -> str:
    return to_json(value)


@define("jsondecode", "str:string")
def jsondecode(text: str) -> Any:
    return from_json(text)


@define("csvdecode", "str:string")
def csvdecode(text: str) -> Any:
    import csv
    import io

    try:
        rows = [r for r in csv.reader(io.StringIO(text, newline=""), strict=True) if r]
    except csv.Error as e:
        raise FunctionError(f"invalid CSV: {e}") from None
    if not rows:
        raise FunctionError("missing header line")
    head, *body = rows
    if len(set(head)) != len(head):
        raise FunctionError("duplicate column name in the header line")
    if any(len(row) != len(head) for row in body):
        raise FunctionError("wrong number of fields")
    return ListOf(dict(zip(head, row, strict=True)) for row in body)


@define("base64encode", "str:string")
def base64encode(text: str) -> str:
    from base64 import b64encode

    return b64encode(text.encode()).decode()


@define("base64decode", "str:string")
def base64decode(text: str) -> str:
    from base64 import b64decode

    try:
        return b64decode(text, validate=True).decode()
    except UnicodeDecodeError:
        raise FunctionError("the result of decoding the provided string is not valid UTF-8") from None
    except ValueError:
        raise FunctionError("failed to decode base64 data") from None


@define("urlencode", "str:string")
def urlencode(text: str) -> str:
    from urllib.parse import quote_plus

    return quote_plus(text, safe="").replace("~", "~")


def _hash(name: str) -> None:
    def run(text: str) -> str:
        import hashlib

        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

    define(name, "str:string")(run)


for _name in ("md5", "sha1", "sha256", "sha512"):
    _hash(_name)


@define("bcrypt", "str:string", rest="cost:number")
def bcrypt(text: str, *cost: Any) -> str:
    if len(cost) > 1:
        raise FunctionError("no more than one cost can be given")
    rounds = int(cost[0]) if cost else 10
    if not 4 <= rounds <= 18:
        raise Problem(1, "the cost is between 4 and 18")
    try:
        import bcrypt as library
    except ImportError:
        raise FunctionError("it needs the bcrypt package: pip install lapstrake[bake]") from None
    return library.hashpw(text.encode(), library.gensalt(rounds, prefix=b"2a")).decode()


@define("rsadecrypt", "ciphertext:string", "privatekey:string")
def rsadecrypt(ciphertext: str, key: str) -> str:
    from base64 import b64decode

    try:
        from cryptography.hazmat.primitives.asymmetric import padding
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise FunctionError("it needs the cryptography package: pip install lapstrake[bake]") from None
    try:
        raw = b64decode(ciphertext, validate=True)
    except ValueError:
        raise Problem(0, "cipher text must be base64-encoded") from None
    try:
        private = load_pem_private_key(key.encode(), None)
        return private.decrypt(raw, padding.PKCS1v15()).decode()  # type: ignore[union-attr]
    except Exception as e:
        raise FunctionError(f"failed to decrypt: {type(e).__name__}") from None


@define("uuidv4")
def uuidv4() -> str:
    import uuid

    return str(uuid.uuid4())


@define("uuidv5", "namespace:string", "name:string")
def uuidv5(namespace: str, name: str) -> str:
    import uuid

    known = {
        "dns": uuid.NAMESPACE_DNS, "url": uuid.NAMESPACE_URL, "oid": uuid.NAMESPACE_OID, "x500": uuid.NAMESPACE_X500,
    }  # fmt: skip
    try:
        return str(uuid.uuid5(known[namespace] if namespace in known else uuid.UUID(namespace), name))
    except ValueError:
        raise Problem(0, "a UUID, or one of dns, url, oid and x500, is needed") from None


__all__ = ["MapOf", "from_json", "to_json"]
