#!/usr/bin/env python3
"""The registry of the demo and the tests: Debian's docker-registry on a loopback port.

    registry.py start     start it (or find it running) with its data beside the base images
    registry.py stop
    registry.py status    exit code 0 when it answers
    registry.py config    print the path of the Lapstrake configuration that uses it as Docker Hub's mirror
    registry.py hub       exit code 0 when Docker Hub itself is in reach

LAPSTRAKE_BASES chooses the directory (~/.cache/lapstrake-bases), LAPSTRAKE_REGISTRY_PORT the port (5055).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HOME = Path(os.environ.get("LAPSTRAKE_BASES") or Path.home() / ".cache" / "lapstrake-bases")
PORT = int(os.environ.get("LAPSTRAKE_REGISTRY_PORT") or 5055)
ADDRESS = f"localhost:{PORT}"

_REGISTRY_CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{data}"}}
  delete: {{enabled: true}}
http:
  addr: "127.0.0.1:{port}"
"""

_LAPSTRAKE_CONFIG = """\
# Written by scripts/registry.py: Docker Hub's images come from the registry on the loopback port.
[registry."docker.io"]
mirrors = ["{address}"]

[registry."{address}"]
http = true
"""


def answers(url: str = f"http://{ADDRESS}/v2/", timeout: float = 2) -> bool:
    """Whether a registry is behind the address, with or without asking for credentials."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return "Docker-Distribution-Api-Version" in answer.headers
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


def config_path() -> Path:
    """The Lapstrake configuration for this registry, written when it is not there."""
    path = HOME / f"lapstrake-{PORT}.toml"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        path.write_text(_LAPSTRAKE_CONFIG.format(address=ADDRESS))
    return path


def _pid() -> int:
    """The process started by us and still running, or 0."""
    try:
        pid = int((HOME / f"registry-{PORT}.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return pid if b"docker-registry" in command and str(HOME).encode() in command else 0


def start() -> None:
    """Start the registry unless it runs. Calls at the same time wait for one another."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"registry-{PORT}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if answers():
            if not _pid():
                print(f"registry: {ADDRESS} is answered by one not started here; using it", file=sys.stderr)
            return
        program = shutil.which("docker-registry")
        if program is None:
            raise SystemExit("registry: docker-registry is missing (scripts/setup.sh installs it)")
        config = HOME / f"registry-{PORT}.yml"
        config.write_text(_REGISTRY_CONFIG.format(data=HOME / "registry", port=PORT))
        log_path = HOME / f"registry-{PORT}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [program, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.defpath, "OTEL_TRACES_EXPORTER": "none"},
            )
        (HOME / f"registry-{PORT}.pid").write_text(str(process.pid))
        deadline = time.monotonic() + 20
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"registry: did not start:\n{log_path.read_text()[-2000:]}")
            time.sleep(0.05)


def stop() -> None:
    """Stop the registry this program started."""
    if pid := _pid():
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            if not _pid():
                break
            time.sleep(0.05)
    (HOME / f"registry-{PORT}.pid").unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["start"]:
            start()
        case ["stop"]:
            stop()
        case ["status"]:
            up = answers()
            print(f"{ADDRESS}: {'answers' if up else 'down'}")
            return not up
        case ["config"]:
            print(config_path())
        case ["hub"]:
            return not answers("https://registry-1.docker.io/v2/", timeout=4)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
