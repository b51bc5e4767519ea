"""SBOM documents from a scan: SPDX 2.3 and CycloneDX 1.5, byte-stable (spec oci.md §9.5)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .packages import Package

SPDX = "https://spdx.dev/Document"
CYCLONEDX = "https://cyclonedx.org/bom"
TOOL = "lapstrake"
_KNOWN = frozenset(  # a table that stays readable
    [
        "0BSD",
        "AGPL-3.0-only",
        "AGPL-3.0-or-later",
        "Apache-2.0",
        "Artistic-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CC-BY-4.0",
        "EPL-2.0",
        "GPL-1.0-or-later",
        "GPL-2.0-only",
        "GPL-2.0-or-later",
        "GPL-3.0-only",
        "GPL-3.0-or-later",
        "ISC",
        "LGPL-2.0-or-later",
        "LGPL-2.1-only",
        "LGPL-2.1-or-later",
        "LGPL-3.0-only",
        "LGPL-3.0-or-later",
        "MIT",
        "MIT-0",
        "MPL-1.1",
        "MPL-2.0",
        "OpenSSL",
        "PSF-2.0",
        "Python-2.0",
        "Ruby",
        "Unlicense",
        "Vim",
        "WTFPL",
        "X11",
        "Zlib",
        "ZPL-2.1",
        "bzip2-1.0.6",
        "curl",
    ]
)


def license_expression(text: str) -> str:
    """``text`` when it is an SPDX expression of licences we know, else an empty string."""
    words = text.replace("(", " ( ").replace(")", " ) ").split()
    depth, want = 0, True
    for word in words:
        if word == "(" and want:
            depth += 1
        elif word == ")" and not want and depth:
            depth -= 1
        elif want and word in _KNOWN:
            want = False
        elif not want and word in ("AND", "OR"):
            want = True
        else:
            return ""
    return text if words and not want and not depth else ""


def _ident(package: Package) -> str:
    from hashlib import sha256

    name = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in package.name)
    return f"SPDXRef-Package-{package.kind}-{name}-{sha256(f'{package.purl} {package.path}'.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def spdx(name: str, packages: Sequence[Package], created: str, version: str = "") -> dict[str, Any]:
    """An SPDX 2.3 document; ``created`` is RFC 3339, the namespace follows from the content."""
    from ..oci import codec

    root = {
        "SPDXID": "SPDXRef-DocumentRoot",
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    listed: list[dict[str, Any]] = [root]
    relations = [
        {
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relationshipType": "DESCRIBES",
            "relatedSpdxElement": "SPDXRef-DocumentRoot",
        }
    ]
    for p in packages:
        ident = _ident(p)
        item: dict[str, Any] = {
            "SPDXID": ident,
            "name": p.name,
            "versionInfo": p.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": license_expression(p.license) or "NOASSERTION",
            "copyrightText": "NOASSERTION",
            "sourceInfo": f"found in {p.path}",
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": p.purl}
            ],
        }
        if p.license and item["licenseDeclared"] == "NOASSERTION":
            item["licenseComments"] = p.license[:1000]
        listed.append(item)
        relations.append(
            {
                "spdxElementId": "SPDXRef-DocumentRoot",
                "relationshipType": "CONTAINS",
                "relatedSpdxElement": ident,
            }
        )
    mark = codec.digest_of(codec.dumps([name, listed]))[7:]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{TOOL}-{mark}",
        "creationInfo": {
            "creators": [f"Tool: {TOOL}-{version}" if version else f"Tool: {TOOL}"],
            "created": created,
        },
        "documentDescribes": ["SPDXRef-DocumentRoot"],
        "packages": listed,
        "relationships": relations,
    }


def cyclonedx(name: str, packages: Sequence[Package], created: str, version: str = "") -> dict[str, Any]:
    """A CycloneDX 1.5 document."""
    from ..oci import codec

    components = []
    for p in packages:
        item: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"{p.purl}#{p.path}",
            "name": p.name,
            "version": p.version,
            "purl": p.purl,
        }
        if p.license:
            known = license_expression(p.license)
            item["licenses"] = [{"expression": known}] if known else [{"license": {"name": p.license[:1000]}}]
        item["properties"] = [{"name": f"{TOOL}:path", "value": p.path}]
        components.append(item)
    mark = codec.digest_of(codec.dumps([name, components]))[7:]
    serial = f"{mark[:8]}-{mark[8:12]}-5{mark[13:16]}-8{mark[17:20]}-{mark[20:32]}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {
                "components": [
                    {"type": "application", "name": TOOL, **({"version": version} if version else {})}
                ]
            },
            "component": {"type": "container", "name": name, "bom-ref": "root"},
        },
        "components": components,
        "dependencies": [{"ref": "root", "dependsOn": [c["bom-ref"] for c in components]}],
    }
