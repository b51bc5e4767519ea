"""From what is known of one image to its statements; ``export.attachment`` stores them."""

from __future__ import annotations

from ..errors import ExportError
from ..oci import codec
from ..values import Value
from .provenance import BuildFacts, Mode, provenance
from .statement import MAX_STATEMENT, image_subjects, statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..oci.platform import Platform
    from ..tree import Tree
    from .statement import Subject


class Attested(Value):
    """One statement: its predicate type, its bytes, and the file name a file output gives it."""

    predicate_type: str
    raw: bytes
    filename: str
    inline_only: bool = False


class Sbom(Value):
    """How an SBOM was asked for.  ``created``: RFC 3339."""

    format: str = "spdx"
    created: str = "1970-01-01T00:00:00Z"
    version: str = ""
    filename: str = ""


def provenance_statement(
    facts: BuildFacts,
    mode: Mode,
    subjects: Sequence[Subject],
    filename: str = "provenance.json",
    inline_only: bool = False,
) -> Attested:
    """Provenance about ``subjects``."""
    kind, predicate = provenance(facts, mode)
    return Attested(kind, statement(kind, predicate, subjects), filename, inline_only)


def sbom_statement(tree: Tree, options: Sbom, subjects: Sequence[Subject], name: str = "sbom") -> Attested:
    """The packages of ``tree``, about ``subjects``."""
    from . import sbom
    from .packages import scan

    packages = scan(tree)
    if options.format == "cyclonedx":
        doc = sbom.cyclonedx(name, packages, options.created, options.version)
        return Attested(
            sbom.CYCLONEDX, statement(sbom.CYCLONEDX, doc, subjects), options.filename or "sbom.cdx.json"
        )
    doc = sbom.spdx(name, packages, options.created, options.version)
    return Attested(sbom.SPDX, statement(sbom.SPDX, doc, subjects), options.filename or "sbom.spdx.json")


def scanned_statement(
    document: bytes,
    subjects: Sequence[Subject],
    filename: str = "sbom.spdx.json",
    layer_of: Callable[[str], str] | None = None,
) -> Attested:
    """An SPDX document a scanner image wrote, as a statement.  ``layer_of``: the layer a file came with;
    files without a comment get it as theirs."""
    if len(document) > MAX_STATEMENT:
        raise ExportError(
            f"{filename} is too big for an attestation: {len(document)} bytes, at most {MAX_STATEMENT}"
        )
    from .sbom import SPDX

    doc = codec.loads(document, filename, MAX_STATEMENT)
    if "predicateType" in doc:  # scanners write a statement without subjects; a bare document is fine too
        kind, inner = doc["predicateType"], doc.get("predicate")
        if kind != SPDX or not isinstance(inner, dict):
            raise ExportError(f"{filename}: the scanner wrote a statement of type {kind!r}, not {SPDX}")
        doc = inner
    if layer_of is not None:
        _supplement(doc, layer_of)
    return Attested(SPDX, statement(SPDX, doc, subjects), filename)


def _supplement(doc: dict[str, Any], layer_of: Callable[[str], str]) -> None:
    from ..version import VERSION

    files = doc.get("files")
    for item in files if isinstance(files, list) else ():
        if not isinstance(item, dict) or item.get("comment"):
            continue
        layer = layer_of(str(item.get("fileName") or "").lstrip("./"))
        if layer:
            item["comment"] = f"layerID: {layer}"
    info = doc.get("creationInfo")
    if isinstance(info, dict) and isinstance(info.get("creators"), list):
        info["creators"].append(f"Tool: lapstrake-{VERSION}")


def attest_image(
    names: Sequence[str],
    platform: Platform,
    digest: str,
    *,
    facts: BuildFacts | None = None,
    mode: Mode | None = None,
    tree: Tree | None = None,
    sbom: Sbom | None = None,
) -> tuple[Attested, ...]:
    """Everything asked for about one image manifest: SBOM first, then provenance."""
    subjects = image_subjects(names, platform, digest)
    out = []
    if sbom is not None and tree is not None:
        out.append(sbom_statement(tree, sbom, subjects, names[0] if names else "sbom"))
    if facts is not None:
        out.append(provenance_statement(facts, mode or Mode(), subjects))
    return tuple(out)
