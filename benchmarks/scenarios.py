"""What is measured: each scenario prepares a directory for a tool and says what a round is."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tools import Tool

ALL = ("lapstrake", "buildah", "buildx")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


class Steps:
    """One round: ``before`` is not timed, ``timed`` is."""

    def __init__(self, timed: Callable[[int], None], before: Callable[[int], None] = lambda _: None) -> None:
        self.timed = timed
        self.before = before


class Scenario:
    """A named measurement with its target in seconds."""

    def __init__(
        self,
        name: str,
        title: str,
        prepare: Callable[[Tool, Path], Steps],
        target: float | None = None,
        tools: tuple[str, ...] = ALL,
    ) -> None:
        self.name = name
        self.title = title
        self.prepare = prepare
        self.target = target
        self.tools = tools


def _context(directory: Path, dockerfile: str, files: dict[str, str] | None = None) -> Path:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    for name, content in {"Dockerfile": dockerfile, **(files or {})}.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(content)
    return context


def _warm(directory: Path) -> Path:
    """A context that brings the base into the store."""
    (directory / "warm").mkdir()
    return _context(directory / "warm", "FROM busybox\nRUN true\n")


def noop(tool: Tool, directory: Path) -> Steps:
    text = 'FROM busybox\nWORKDIR /app\nCOPY . .\nRUN echo one > /one\nRUN echo two > /two\nCMD ["cat", "/one"]\n'
    context = _context(directory, text, {f"src/f{n}.txt": str(n) for n in range(100)})
    tool.build(directory, context)
    return Steps(lambda _: tool.build(directory, context))


def one_byte(tool: Tool, directory: Path) -> Steps:
    text = (
        "FROM busybox\nRUN echo first > /first\nCOPY changing /changing\n"
        "RUN cat /changing > /a\nRUN cat /a > /b\nRUN cat /b > /c\n"
    )
    context = _context(directory, text, {"changing": "0"})
    tool.build(directory, context)
    return Steps(
        lambda _: tool.build(directory, context),
        lambda n: (context / "changing").write_text(f"change {n} {random.random()}") and None,
    )


def runs(count: int) -> Callable[[Tool, Path], Steps]:
    def prepare(tool: Tool, directory: Path) -> Steps:
        text = "FROM busybox\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(count))
        context = _context(directory, text)
        tool.build(directory, _warm(directory))
        return Steps(lambda _: tool.build(directory, context, cache=False))

    return prepare


def stages(count: int) -> Callable[[Tool, Path], Steps]:
    def prepare(tool: Tool, directory: Path) -> Steps:
        text = "".join(f"FROM busybox AS s{n}\nRUN sleep 1; echo {n} > /{n}\n" for n in range(count))
        text += "FROM busybox\n" + "".join(f"COPY --from=s{n} /{n} /{n}\n" for n in range(count))
        context = _context(directory, text)
        tool.build(directory, _warm(directory))
        return Steps(lambda _: tool.build(directory, context, cache=False))

    return prepare


def _many(directory: Path, files: int) -> Path:
    """Small files of text-like content, as a dependency tree has them."""
    context = _context(directory, "FROM busybox\nCOPY tree /tree\n")
    chance = random.Random(7)
    words = [chance.randbytes(chance.randint(2, 9)).hex() for _ in range(4000)]
    for n in range(files):
        path = context / "tree" / f"d{n % 500}" / f"f{n}.js"
        if n < 500:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(chance.choices(words, k=chance.randint(20, 180))))
    return context


def many_unchanged(files: int) -> Callable[[Tool, Path], Steps]:
    def prepare(tool: Tool, directory: Path) -> Steps:
        context = _many(directory, files)
        tool.build(directory, context)
        return Steps(lambda _: tool.build(directory, context))

    return prepare


def many_cold(files: int) -> Callable[[Tool, Path], Steps]:
    def prepare(tool: Tool, directory: Path) -> Steps:
        context = _many(directory, files)
        warm = _warm(directory)

        def before(_: int) -> None:
            tool.forget(directory)
            tool.build(directory, warm)
            os.sync()

        return Steps(lambda _: tool.build(directory, context), before)

    return prepare


def many_one_changed(files: int) -> Callable[[Tool, Path], Steps]:
    def prepare(tool: Tool, directory: Path) -> Steps:
        context = _many(directory, files)
        tool.build(directory, context)
        changing = context / "tree" / "d1" / "f1.js"
        return Steps(
            lambda _: tool.build(directory, context),
            lambda n: (changing.write_text(f"{n} {random.random()}"), os.sync()) and None,
        )

    return prepare


def many_exported(files: int) -> Callable[[Tool, Path], Steps]:
    """First export: built into the store, then written as an OCI tar with gzip layers."""

    def prepare(tool: Tool, directory: Path) -> Steps:
        context = _many(directory, files)

        def before(_: int) -> None:
            (directory / "image.tar").unlink(missing_ok=True)
            tool.forget(directory)
            tool.build(directory, context)
            os.sync()

        return Steps(lambda _: tool.save(directory, "bench", directory / "image.tar"), before)

    return prepare


def large_file(size: int) -> Callable[[Tool, Path], Steps]:
    """One file, half of it compressible, cold into an OCI tar."""

    def prepare(tool: Tool, directory: Path) -> Steps:
        context = _context(directory, "FROM busybox\nCOPY large /large\n")
        chance = random.Random(3)
        with (context / "large").open("wb") as file:
            block = b"".join(chance.randbytes(32 << 10) + bytes(32 << 10) for _ in range(16))
            for n in range(size // len(block)):
                file.write(n.to_bytes(8, "little") + block[8:])

        def before(_: int) -> None:
            (directory / "image.tar").unlink(missing_ok=True)
            tool.forget(directory)

        return Steps(lambda _: tool.build(directory, context, output=str(directory / "image.tar")), before)

    return prepare


def pull(tool: Tool, directory: Path) -> Steps:
    """A base of some 35 MB compressed, from the loopback registry, and one RUN on it."""
    context = _context(directory, "FROM debian:bookworm-slim\nRUN true\n")
    return Steps(lambda _: tool.build(directory, context), lambda _: tool.forget(directory))


def multi_platform(tool: Tool, directory: Path) -> Steps:
    """A cross-compiling shape: one shared stage, one step a platform, nothing emulated."""
    text = (
        "FROM --platform=$BUILDPLATFORM busybox AS build\nRUN echo shared > /shared\nARG TARGETARCH\n"
        "RUN echo $TARGETARCH > /out\nFROM busybox\nCOPY --from=build /out /out\n"
    )
    context = _context(directory, text)
    tool.build(directory, context, platforms="linux/amd64,linux/arm64")
    return Steps(lambda _: tool.build(directory, context, platforms="linux/amd64,linux/arm64", cache=False))


def multi_platform_noop(tool: Tool, directory: Path) -> Steps:
    context = directory / "context"
    shutil.copytree(EXAMPLES / "3-multi-platform", context)
    both = "linux/amd64,linux/arm64"
    tool.build(directory, context, platforms=both)
    return Steps(lambda _: tool.build(directory, context, platforms=both))


def all_of(scale: int = 1) -> list[Scenario]:
    """Every scenario; ``scale`` divides the number of files and bytes."""
    files, gib = 50_000 // scale, (1 << 30) // scale
    count = f"{files:,}"
    full = scale == 1
    return [
        Scenario("noop", "no-op rebuild, small context", noop, 0.07),
        Scenario("byte", "one byte changed, 3 RUNs re-run", one_byte, 0.15),
        Scenario("runs1", "one RUN, --no-cache", runs(1), 0.09),
        Scenario("runs50", "50 trivial RUN steps", runs(50), 0.6),
        Scenario("stages20", "20 parallel stages sleeping 1 s each", stages(20), 1.4),
        Scenario(
            "many", f"COPY of {count} files, nothing changed", many_unchanged(files), 0.3 if full else None
        ),
        Scenario("manycold", f"COPY of {count} files, cold", many_cold(files), 2.0 if full else None),
        Scenario("manyone", "the same, one file changed", many_one_changed(files), 1.5 if full else None),
        Scenario(
            "manyexport",
            "that image as a gzip OCI tar, first export",
            many_exported(files),
            1.2 if full else None,
        ),
        Scenario("large", f"one file of {gib >> 20} MiB, cold, as a gzip OCI tar", large_file(gib)),
        Scenario("pull", "pull debian:bookworm-slim and one RUN", pull),
        Scenario("platforms", "two platforms, 3 RUNs, --no-cache", multi_platform),
        Scenario("platformsnoop", "example 3, two platforms, nothing changed", multi_platform_noop),
    ]


NAMES = tuple(scenario.name for scenario in all_of())
