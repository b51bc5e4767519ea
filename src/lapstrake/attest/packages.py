"""Which packages a file tree holds: dpkg, apk, rpm, Python, npm, Go and Java (no program of the image runs)."""

from __future__ import annotations

from ..tree import FILE, SYMLINK
from ..values import Value
from .statement import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ..tree import Node, Tree

MAX_DATABASE = 64 << 20
MAX_METADATA = 1 << 20
MAX_BINARY = 512 << 20
_GO_MAGIC = b"\xff Go buildinf:"


class Package(Value):
    """One installed package.  ``kind`` is its purl type; ``path`` where it was found."""

    kind: str
    name: str
    version: str
    arch: str = ""
    license: str = ""
    source: str = ""  # upstream or source package, when the database tells
    path: str = ""
    distro: str = ""  # debian-12

    @property
    def purl(self) -> str:
        """The package URL."""
        from urllib.parse import quote

        space = {"deb": "debian", "apk": "alpine", "rpm": "redhat"}.get(self.kind, "")
        if self.distro and space:
            space = self.distro.rsplit("-", 1)[0]
        name = self.name
        if self.kind == "pypi":
            name = name.lower().replace("_", "-")
        path = "/".join(quote(p, safe="") for p in name.split("/"))
        epoch, version = "", self.version
        if self.kind == "rpm" and ":" in version:
            epoch, _, version = version.partition(":")
        pairs = (("arch", self.arch), ("distro", self.distro), ("epoch", epoch))
        query = [f"{k}={quote(v, safe='')}" for k, v in pairs if v]
        return (
            f"pkg:{self.kind}/"
            + (f"{space}/" if space else "")
            + path
            + f"@{quote(version, safe='')}"
            + ("?" + "&".join(query) if query else "")
        )


def scan(tree: Tree) -> list[Package]:
    """All packages, sorted and each once."""
    distro = os_release(tree)
    found: set[Package] = set()
    found.update(_dpkg(tree, distro))
    found.update(_apk(tree, distro))
    found.update(_rpm(tree, distro))
    for path, node in walk(tree):
        if node.kind == FILE:
            found.update(_by_path(tree, path, node))
    return sorted(found, key=lambda p: (p.kind, p.name, p.version, p.path))


def os_release(tree: Tree) -> str:
    """``debian-12``, or an empty string."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        node = tree.lstat(path)
        if node is None or node.kind != FILE:
            continue
        values = {}
        for line in _text(tree, path, MAX_METADATA).splitlines():
            key, eq, value = line.partition("=")
            if eq:
                values[key.strip()] = value.strip().strip("\"'")
        if values.get("ID"):
            return "-".join(v for v in (values["ID"], values.get("VERSION_ID", "")) if v)
    return ""


def _read(tree: Tree, path: str, limit: int) -> bytes:
    """At most ``limit`` bytes of a regular file; empty when it is none."""
    node = tree.lstat(path)
    if node is None or node.kind != FILE:
        return b""
    with tree.open(path) as f:
        return f.read(limit)


def _text(tree: Tree, path: str, limit: int) -> str:
    return _read(tree, path, limit).decode("utf-8", "replace")


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Debian control paragraphs; continuation lines are dropped."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif line[0] not in " \t":
            key, _, value = line.partition(":")
            fields.setdefault(key, value.strip())
    if fields:
        yield fields


def _dpkg(tree: Tree, distro: str) -> Iterator[Package]:
    files = ["var/lib/dpkg/status"]
    folder = "var/lib/dpkg/status.d"  # distroless images
    files += (
        [f"{folder}/{n}" for n in sorted(tree.listdir(folder)) if not n.endswith(".md5sums")]
        if tree.lstat(folder)
        else []
    )
    for path in files:
        for f in _stanzas(_text(tree, path, MAX_DATABASE)):
            status = f.get("Status", "install ok installed").split()
            if f.get("Package") and f.get("Version") and status[-1:] == ["installed"]:
                yield Package(
                    "deb",
                    f["Package"],
                    f["Version"],
                    f.get("Architecture", ""),
                    "",
                    f.get("Source", ""),
                    path,
                    distro,
                )


def _apk(tree: Tree, distro: str) -> Iterator[Package]:
    for path in ("lib/apk/db/installed", "usr/lib/apk/db/installed"):
        parent = tree.lstat(path.split("/", maxsplit=1)[0])
        if parent is not None and parent.kind == SYMLINK:  # merged /usr: found at its real place
            continue
        for f in _stanzas(_text(tree, path, MAX_DATABASE)):
            if f.get("P") and f.get("V"):
                yield Package(
                    "apk", f["P"], f["V"], f.get("A", ""), f.get("L", ""), f.get("o", ""), path, distro
                )


def _rpm(tree: Tree, distro: str) -> Iterator[Package]:
    from . import rpmdb

    for path in (f"{folder}/{name}" for folder in rpmdb.FOLDERS for name in rpmdb.FILES):
        data = _read(tree, path, MAX_DATABASE * 4)
        for p in rpmdb.packages(data) if data else ():
            version = f"{p.epoch}:{p.version}" if p.epoch else p.version
            yield Package("rpm", p.name, version, p.arch, p.license, p.source, path, distro)


def _java(tree: Tree, path: str) -> Iterator[Package]:
    from . import jars

    with tree.open(path) as f:
        for name, version in jars.packages(f, path):
            yield Package("maven", name, version, path=path)


def _by_path(tree: Tree, path: str, node: Node) -> Iterator[Package]:
    parts = path.rsplit("/", 4)
    name = parts[-1]
    parent = parts[-2] if len(parts) > 1 else ""
    if (
        (name == "METADATA" and parent.endswith(".dist-info"))
        or (name == "PKG-INFO" and parent.endswith(".egg-info"))
        or (name.endswith(".egg-info") and parent in ("site-packages", "dist-packages"))
    ):
        yield from _python(tree, path)
    elif name == "package.json" and "node_modules" in parts:
        scoped = len(parts) >= 4 and parts[-4] == "node_modules" and parts[-3].startswith("@")
        if scoped or (len(parts) >= 3 and parts[-3] == "node_modules"):
            yield from _npm(tree, path)
    elif name.endswith((".jar", ".war", ".ear", ".hpi")) and node.size <= MAX_BINARY:
        yield from _java(tree, path)
    elif node.mode & 0o111 and 4096 <= node.size <= MAX_BINARY:
        yield from _go(tree, path)


def _python(tree: Tree, path: str) -> Iterator[Package]:
    headers: dict[str, str] = {}
    for line in _text(tree, path, MAX_METADATA).splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and key in ("Name", "Version", "License", "License-Expression"):
            headers.setdefault(key, value.strip())
    if headers.get("Name") and headers.get("Version"):
        yield Package(
            "pypi",
            headers["Name"],
            headers["Version"],
            "",
            headers.get("License-Expression") or headers.get("License", ""),
            "",
            path,
        )


def _npm(tree: Tree, path: str) -> Iterator[Package]:
    import json

    try:
        doc = json.loads(_read(tree, path, MAX_METADATA))
    except (ValueError, RecursionError):
        return
    if not isinstance(doc, dict):
        return
    name, version, terms = doc.get("name"), doc.get("version"), doc.get("license")
    if isinstance(name, str) and isinstance(version, str) and name and version:
        yield Package("npm", name, version, "", terms if isinstance(terms, str) else "", "", path)


def _go(tree: Tree, path: str) -> Iterator[Package]:
    with tree.open(path) as f:
        head = f.read(64)
        if len(head) < 64 or not head.startswith(b"\x7fELF"):
            return
        at = _elf_section(f, head, b".go.buildinfo")
        if at == 0:
            return
        f.seek(max(at, 0))
        info = _go_build_info(f)
    for line in info.splitlines():
        fields = line.split("\t")
        if fields[0] in ("mod", "dep") and len(fields) >= 3 and fields[2] not in ("", "(devel)"):
            yield Package("golang", fields[1], fields[2], path=path)
        elif fields[0] == "go" and len(fields) == 2:
            yield Package("golang", "stdlib", fields[1].removeprefix("go").split(" ")[0], path=path)


def _elf_section(f: BinaryIO, head: bytes, name: bytes) -> int:
    """Offset of an ELF section; 0: it has none of that name, -1: the file doesn't tell."""
    from struct import error, unpack_from

    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    try:
        table = unpack_from(order + ("Q" if wide else "I"), head, 0x28 if wide else 0x20)[0]
        size, count, strings = unpack_from(order + "HHH", head, 0x3A if wide else 0x2E)
        if not table or not count or size < 0x28 or strings >= count or table > MAX_BINARY:
            return -1
        f.seek(table)
        rows = f.read(size * count)
        place = [
            unpack_from(order + ("QQ" if wide else "II"), rows, n * size + (0x18 if wide else 0x10))
            for n in range(count)
        ]
        f.seek(min(place[strings][0], MAX_BINARY))
        names = f.read(min(place[strings][1], 1 << 20))
        for n in range(count):
            start = unpack_from(order + "I", rows, n * size)[0]
            if names[start : start + len(name) + 1] == name + b"\0":
                return min(int(place[n][0]), MAX_BINARY) or -1
    except (error, IndexError):
        return -1
    return 0


def _go_build_info(f: BinaryIO) -> str:
    """The module list a Go linker (1.18 or later) leaves in a binary, led by its Go version."""
    block = f.read(1 << 20)
    while True:
        at = block.find(_GO_MAGIC)
        if at >= 0:
            block = block[at:] + f.read(4 << 20)
            if len(block) > 32 and block[15] & 2:
                version, rest = _varstring(block[32:])
                modules, _ = _varstring(rest)
                text = modules[16:-16] if len(modules) > 32 else b""  # between two 16-byte marks
                return "go\t" + version.decode("utf-8", "replace") + "\n" + text.decode("utf-8", "replace")
            block = block[1:]
            continue
        more = f.read(1 << 20)
        if not more:
            return ""
        block = block[-len(_GO_MAGIC) :] + more


def _varstring(data: bytes) -> tuple[bytes, bytes]:
    """A uvarint-prefixed string and what follows it."""
    size = shift = 0
    for n, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return data[n + 1 : n + 1 + size], data[n + 1 + size :]
        shift += 7
    return b"", b""
