"""What a Java archive says it is and holds: Maven's properties, else its manifest."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator
    from typing import BinaryIO

ENDINGS = (".jar", ".war", ".ear", ".hpi")
MAX_MEMBERS = 200_000
MAX_TEXT = 1 << 20
MAX_NESTED = 64 << 20


def packages(stream: BinaryIO, name: str, depth: int = 2) -> Iterator[tuple[str, str]]:
    """(``group/artifact`` or a plain name, version); archives inside the archive too."""
    import zipfile

    try:
        with zipfile.ZipFile(stream) as jar:
            members = jar.infolist()[:MAX_MEMBERS]
            found = [p for m in members if _is_properties(m.filename) and (p := _maven(_text(jar, m)))]
            if not found:
                found = _manifest(jar, name)
            yield from found
            for member in members if depth else ():
                if member.filename.endswith(ENDINGS) and member.file_size <= MAX_NESTED:
                    yield from _nested(jar, member, depth - 1)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError):
        return


def _nested(jar: zipfile.ZipFile, member: zipfile.ZipInfo, depth: int) -> Iterator[tuple[str, str]]:
    import io

    with jar.open(member) as inner:
        data = inner.read(MAX_NESTED + 1)
    if len(data) <= MAX_NESTED:
        yield from packages(io.BytesIO(data), member.filename, depth)


def _is_properties(name: str) -> bool:
    return name.startswith("META-INF/maven/") and name.endswith("/pom.properties")


def _text(jar: zipfile.ZipFile, member: zipfile.ZipInfo | str) -> str:
    with jar.open(member) as f:
        text: str = f.read(MAX_TEXT).decode("utf-8", "replace")
    return text


def _maven(text: str) -> tuple[str, str] | None:
    values = {}
    for line in text.splitlines():
        key, eq, value = line.partition("=")
        if eq and not line.startswith("#"):
            values[key.strip()] = value.strip()
    group, artifact, version = (values.get(k, "") for k in ("groupId", "artifactId", "version"))
    return (f"{group}/{artifact}" if group else artifact, version) if artifact and version else None


def _manifest(jar: zipfile.ZipFile, name: str) -> list[tuple[str, str]]:
    try:
        text = _text(jar, "META-INF/MANIFEST.MF")
    except KeyError:
        return []
    values: dict[str, str] = {}
    for line in text.replace("\r\n", "\n").replace("\n ", "").split("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values[key.strip()] = value.strip()
    version = (
        values.get("Implementation-Version")
        or values.get("Bundle-Version")
        or values.get("Specification-Version")
    )
    title = (values.get("Bundle-SymbolicName") or "").partition(";")[0] or values.get("Implementation-Title")
    title = title or name.rpartition("/")[2].rpartition(".")[0]
    return [(title, version)] if version else []
