"""``config.json`` as ``docker login`` leaves it: credentials stored and removed."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..whole import write_whole
from .auth import HUB, HUB_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_FILE = 1 << 20


def store(path: str, registry: str, user: str, password: str, helper_path: str | None = None) -> str:
    """Keep credentials, in the credential helper where the file names one; where they are now."""
    doc = _read(path)
    key = HUB_KEY if registry == HUB else registry
    helper = _helper(doc, key, registry)
    if helper:
        secret = {"ServerURL": key, "Username": user, "Secret": password}
        _run(helper, "store", secret, helper_path)
        doc.setdefault("auths", {})[key] = {}
    else:
        from base64 import b64encode

        auth = b64encode(f"{user}:{password}".encode()).decode()
        doc.setdefault("auths", {})[key] = {"auth": auth}
    _write(path, doc)
    return f"docker-credential-{helper}" if helper else path


def erase(path: str, registry: str, helper_path: str | None = None) -> bool:
    """Forget credentials; False when there were none."""
    doc = _read(path)
    key = HUB_KEY if registry == HUB else registry
    found = doc.get("auths", {}).pop(key, None) is not None
    helper = _helper(doc, key, registry)
    if helper:
        _run(helper, "erase", key, helper_path)
        found = True
    if found:
        _write(path, doc)
    return found


def _helper(doc: dict[str, Any], key: str, registry: str) -> str:
    by_name = doc.get("credHelpers") or {}
    found = by_name.get(registry) or by_name.get(key) or doc.get("credsStore") or ""
    if not isinstance(found, str) or "/" in found:
        raise UsageError("the credential helper's name in config.json is not valid")
    return found


def _run(helper: str, action: str, value: object, helper_path: str | None) -> None:
    import json
    import shutil
    import subprocess

    program = shutil.which(f"docker-credential-{helper}", path=helper_path)
    if program is None:
        raise UsageError(f"the credential helper docker-credential-{helper} is not installed")
    text = value if isinstance(value, str) else json.dumps(value)
    done = subprocess.run(
        [program, action], input=text.encode(), capture_output=True, timeout=60, check=False
    )
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip()[:300]
        raise UsageError(f"docker-credential-{helper} {action} failed: {said or done.returncode}")


def _read(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path, "rb") as f:
            raw = f.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise UsageError(f"failed to read {path}: {e.strerror}") from None
    try:
        doc = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        doc = None
    if not isinstance(doc, dict) or not isinstance(doc.get("auths", {}), dict):
        raise UsageError(f"{path} is not a docker configuration; it was left alone")
    return doc


def _write(path: str, doc: dict[str, Any]) -> None:
    """Readable by its owner only, from the first byte on."""
    import json

    target = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        write_whole(target, (json.dumps(doc, indent="\t") + "\n").encode(), 0o600)
    except OSError as e:
        raise UsageError(f"failed to write {path}: {e.strerror}") from None
