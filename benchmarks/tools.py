"""The programs that are measured, behind one shape."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


class Failed(Exception):
    """A program ended with an error."""


def run(words: list[object], env: dict[str, str] | None = None, timeout: float = 900) -> str:
    """Run a program to its end; what it printed last is the reason when it fails."""
    try:
        done = subprocess.run(
            list(map(str, words)),
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as slow:
        raise Failed(f"not done after {timeout} s") from slow
    if done.returncode:
        raise Failed((done.stderr or done.stdout).strip()[-600:])
    return done.stdout


class Tool:
    """A builder: every measured directory has a store of its own."""

    name = ""

    def __init__(self, work: Path, config: Path) -> None:
        self.work = work
        self.config = config

    def version(self) -> str:
        raise NotImplementedError

    def build(
        self,
        directory: Path,
        context: Path,
        *,
        tag: str = "bench",
        cache: bool = True,
        platforms: str = "",
        output: str = "",
    ) -> None:
        """Build context; the image goes into the tool's store under tag, or to output (an OCI tar)."""
        raise NotImplementedError

    def save(self, directory: Path, tag: str, archive: Path) -> None:
        """An image of the store, as an OCI tar with gzip layers."""
        raise NotImplementedError

    def forget(self, directory: Path) -> None:
        """Empty the tool's store for this directory."""
        raise NotImplementedError

    def clean(self) -> None:
        """Remove what is left outside the working directory."""


class Lapstrake(Tool):
    name = "lapstrake"

    def _words(self) -> list[object]:
        installed = PROJECT / ".venv" / "bin" / "lapstrake"
        return [installed] if installed.exists() else [sys.executable, "-m", "lapstrake"]

    def _env(self, directory: Path) -> dict[str, str]:
        return {
            **os.environ,
            "LAPSTRAKE_ROOT": str(directory / "store"),
            "LAPSTRAKE_CONFIG": str(self.config),
            "PYTHONPATH": str(PROJECT / "src"),
        }

    def version(self) -> str:
        return run([*self._words(), "--version"], self._env(self.work)).split()[-1]

    def build(
        self,
        directory: Path,
        context: Path,
        *,
        tag: str = "bench",
        cache: bool = True,
        platforms: str = "",
        output: str = "",
    ) -> None:
        words = [*self._words(), "build", "--progress=plain", "-t", tag]
        words += [] if cache else ["--no-cache"]
        words += ["--platform", platforms] if platforms else []
        words += ["-o", f"type=oci,dest={output}"] if output else []
        run([*words, context], self._env(directory))

    def save(self, directory: Path, tag: str, archive: Path) -> None:
        self.build(directory, directory / "context", tag=tag, output=str(archive))

    def forget(self, directory: Path) -> None:
        _drop(directory / "store")


class Buildah(Tool):
    name = "buildah"

    def _words(self, directory: Path) -> list[object]:
        driver = "overlay"
        return [
            "buildah",
            "--root",
            directory / "store",
            "--runroot",
            directory / "run",
            "--storage-driver",
            driver,
            "--registries-conf",
            self._registries(),
        ]

    def _registries(self) -> Path:
        path = self.work / "registries.conf"
        if not path.exists():
            address = "localhost:" + self.config.stem.rpartition("-")[2]
            path.write_text(
                'unqualified-search-registries = ["docker.io"]\n[[registry]]\nprefix = "docker.io"\n'
                f'location = "{address}"\ninsecure = true\n'
            )
        return path

    def version(self) -> str:
        return run(["buildah", "--version"]).split()[2]

    def build(
        self,
        directory: Path,
        context: Path,
        *,
        tag: str = "bench",
        cache: bool = True,
        platforms: str = "",
        output: str = "",
    ) -> None:
        words = [*self._words(directory), "bud", "--isolation=chroot", "--network=host", "--jobs=4"]
        words += ["--layers"] if cache else ["--no-cache", "--layers"]
        # a tag becomes a manifest list, to be made anew each time
        words += (
            ["--platform", platforms, "--manifest", f"{tag}-{os.urandom(4).hex()}"]
            if platforms
            else ["-t", tag]
        )
        run([*words, context])
        if output:
            self.save(directory, tag, Path(output))

    def save(self, directory: Path, tag: str, archive: Path) -> None:
        run([*self._words(directory), "push", "-q", tag, f"oci-archive:{archive}:{tag}"])

    def forget(self, directory: Path) -> None:
        run([*self._words(directory), "rmi", "--all", "--force"])


class Buildx(Tool):
    name = "buildx"

    def version(self) -> str:
        return run(["docker", "buildx", "version"]).split()[1]

    def build(
        self,
        directory: Path,
        context: Path,
        *,
        tag: str = "bench",
        cache: bool = True,
        platforms: str = "",
        output: str = "",
    ) -> None:
        words: list[object] = ["docker", "buildx", "build", "--progress=plain", "-t", tag]
        words += [] if cache else ["--no-cache"]
        words += ["--platform", platforms] if platforms else []
        words += ["--output", f"type=oci,dest={output}"] if output else []
        run([*words, context])

    def save(self, directory: Path, tag: str, archive: Path) -> None:
        self.build(directory, directory / "context", tag=tag, output=str(archive))

    def forget(self, directory: Path) -> None:
        run(["docker", "buildx", "prune", "--all", "--force"])


def _drop(directory: Path) -> None:
    """Out of the way at once, deleted afterwards: deleting many files slows the next creations down."""
    if directory.exists():
        away = directory.with_name(f".gone-{os.urandom(4).hex()}")
        directory.rename(away)
        shutil.rmtree(away, ignore_errors=True)


def available(work: Path, config: Path) -> list[Tool]:
    """The tools that can be measured here."""
    found: list[Tool] = [Lapstrake(work, config)]
    if shutil.which("buildah"):
        found.append(Buildah(work, config))
    if shutil.which("docker"):
        engine = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
        plugin = subprocess.run(
            ["docker", "buildx", "version"], capture_output=True, text=True, timeout=20, check=False
        )
        if engine.returncode == 0 and "github.com/docker/buildx" in plugin.stdout:
            found.append(Buildx(work, config))
    return found
