"""What whole builds need: base images behind a real registry, and the program with a root of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


#: what costs milliseconds to import, or does what a build from the cache has no need of
COSTLY = {
    "argparse", "asyncio", "base64", "concurrent", "concurrent.futures", "csv", "ctypes", "dataclasses", "difflib",
    "email", "glob", "gzip", "heapq", "http", "http.client", "inspect", "isal", "logging", "multiprocessing", "pathlib",
    "pickle", "queue", "random", "select", "selectors", "shutil", "signal", "socket", "socketserver", "ssl", "subprocess",
    "tarfile", "tempfile", "textwrap", "tomllib", "traceback", "typing", "urllib", "urllib.parse", "urllib.request",
    "uuid", "yaml", "zipfile", "zlib", "zlib_ng", "zstandard",
}  # fmt: skip
#: our own parts that only a build which does something needs
AT_WORK = {
    f"lapstrake.{name}"
    for name in (
        "bake", "attest", "builders", "imagetools", "remotecache", "sandbox", "snapshot", "testing", "layer.apply",
        "layer.compress", "layer.copy", "layer.materialize", "layer.tar", "layer.unpack", "registry.client",
        "registry.transport", "registry.auth", "source.git", "source.http", "source.archive", "worker.run_exec",
    )
}  # fmt: skip


class Vertex:
    """One step, as --progress=rawjson told it."""

    def __init__(self, record: dict[str, object]) -> None:
        self.name = str(record.get("name", ""))
        self.cached = bool(record.get("cached"))
        self.ran = bool(record.get("started")) and not self.cached
        self.error = str(record.get("error", ""))

    def __repr__(self) -> str:
        return f"{'CACHED ' if self.cached else ''}{self.name}"


def vertices(rawjson: str) -> list[Vertex]:
    """The last state of every vertex, in the order they were first named."""
    records: dict[str, dict[str, object]] = {}
    for line in rawjson.splitlines():
        if line.startswith("{"):
            for record in json.loads(line).get("vertexes") or []:
                records.setdefault(record["digest"], {}).update(record)
    return [Vertex(record) for record in records.values()]


class Lap:
    """The program in a process of its own, with its own root, as a user calls it."""

    def __init__(self, root: Path, config: Path | None) -> None:
        self.root = root
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LAPSTRAKE_", "BUILDX_", "BUILDKIT_", "DOCKER_"))
            and name not in ("GITHUB_ACTIONS", "GITLAB_CI")  # their logs fold
        }
        self.env |= {"LAPSTRAKE_ROOT": str(root), "PYTHONPATH": str(PROJECT / "src")}
        if config is not None:
            self.env["LAPSTRAKE_CONFIG"] = str(config)

    @property
    def command(self) -> list[str]:
        """The words that start the program."""
        return [sys.executable, "-m", "lapstrake"]

    def __call__(
        self, *words: object, check=True, timeout=300, env=None, **kw
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**self.env, **(env or {})},
            stdin=None if "input" in kw else subprocess.DEVNULL,
            check=False,
            **kw,
        )
        if check and done.returncode:
            pytest.fail(
                f"lapstrake {' '.join(map(str, words))}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def build(self, context: object, *flags: object, **kw) -> list[Vertex]:
        """Build, and return what happened step by step."""
        return vertices(self("build", "--progress=rawjson", *flags, context, **kw).stderr)

    def imports(self, *words: object) -> set[str]:
        """The names of the modules that a run of the program imports."""
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "lapstrake", *map(str, words)],
            capture_output=True, text=True, timeout=60, env=self.env, stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        told = (line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
        return {fields[2].strip() for fields in told}

    def leftovers(self, patience: float = 3) -> list[str]:
        """Mounts and processes that still refer to the root; what a killed builder leaves to its helper to
        end may take a moment."""
        deadline = time.monotonic() + patience
        while (found := self._leftovers()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _leftovers(self) -> list[str]:
        name = str(self.root)
        found = [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if name in words or name in os.readlink(process / "root"):
                    found.append(f"process {process.name}: {words}")
            except OSError:
                continue
        return found


def need(*tools: str) -> None:
    """Skip the test when a tool is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (scripts/setup.sh)")


@pytest.fixture(scope="session")
def bases() -> Path:
    """The configuration under which the base images are found by their Docker Hub names."""
    need("docker-registry", "skopeo", "mmdebstrap", "busybox")
    for words in (["bases.py"], ["registry.py", "config"]):
        done = subprocess.run(
            [sys.executable, str(PROJECT / "scripts" / words[0]), *words[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"scripts/{' '.join(words)}:\n{done.stderr}")
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def registry_address(bases: Path) -> str:
    """host:port of the registry, for what a test pushes."""
    return "localhost:" + bases.stem.rpartition("-")[2]


@pytest.fixture(scope="session")
def packages_in_reach() -> None:
    """Debian's package servers, for what RUN apt-get needs."""
    try:
        urllib.request.urlopen("http://deb.debian.org/debian/dists/bookworm/InRelease", timeout=20).close()
    except (OSError, urllib.error.URLError) as error:
        pytest.skip(f"deb.debian.org is out of reach: {error}")


@pytest.fixture
def lap(tmp_path: Path, bases: Path):
    """The program with an empty root; afterwards, nothing of it may be left running or mounted."""
    program = Lap(tmp_path / "root", bases)
    yield program
    assert program.leftovers() == []


@pytest.fixture(scope="session")
def shared_lap(tmp_path_factory: pytest.TempPathFactory, bases: Path):
    """The program with one root for the session: for builds that take long to do from nothing."""
    program = Lap(tmp_path_factory.mktemp("shared") / "root", bases)
    yield program
    assert program.leftovers() == []


@pytest.fixture
def context(tmp_path: Path):
    """Make a build context: context({"Dockerfile": "...", "dir/file": "..."})."""

    def make(files: dict[str, str | bytes], name: str = "context") -> Path:
        for path, content in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return make


@pytest.fixture
def one_id():
    """As in a user namespace with a single id: owners can't be set, and those kept beside files count."""
    from lapstrake import ids

    ids.assume(ids.Ids(chown=False, userxattr=True, root=True, first=False))
    yield
    ids.forget()
