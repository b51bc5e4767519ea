"""Attestations of real builds: where they are stored, who reads them back, and what they must not hold."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
from tests.e2e.images import raw

pytestmark = pytest.mark.e2e

DOCKERFILE = """\
FROM debian AS build
ARG TOKEN
RUN --mount=type=secret,id=s echo "$TOKEN" | sha256sum > /x; cat /run/secrets/s | sha256sum >> /x
FROM busybox
LABEL note=none
COPY --from=build /x /x
COPY a /a
"""
PREDICATE = "in-toto.io/predicate-type"


def blob(layout, digest: str) -> bytes:
    return (layout / "blobs/sha256" / digest[7:]).read_bytes()


def statements(layout, manifest: dict) -> dict[str, dict]:
    out = {}
    for layer in manifest["layers"]:
        statement = json.loads(blob(layout, layer["digest"]))
        assert statement["predicateType"] == layer["annotations"][PREDICATE]
        out.setdefault(statement["predicateType"], statement)
    return out


@pytest.fixture
def canaries():
    return {name: uuid.uuid4().hex for name in ("secret", "arg", "label", "env")}


def forms(canary: str) -> list[bytes]:
    plain = canary.encode()
    return [plain, base64.b64encode(plain).rstrip(b"=")[:-1], canary.encode("utf-16-le")]


def everything(folder) -> bytes:
    """Every byte of a layout's documents."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return b"\n".join(p.read_bytes() for p in files)


def attested(lap, context, tmp_path, canaries, *flags, outputs, tag="localhost/attested:1", **kw):
    directory = context({"Dockerfile": DOCKERFILE, "a": "a"})
    (tmp_path / "secret").write_text(canaries["secret"])
    return lap(
        "build", "--progress=plain", directory, "-t", tag, f"--build-arg=TOKEN={canaries['arg']}",
        f"--label=l={canaries['label']}", f"--secret=id=s,src={tmp_path / 'secret'}", *flags, *[f"--output={o}" for o in outputs],
        env={"UNRELATED": canaries["env"]}, **kw,
    )  # fmt: skip


@pytest.mark.parametrize("version", ["v1", "v0.2"])
def test_min_provenance_and_sbom_hold_no_values(shared_lap, context, tmp_path, canaries, version):
    layout = tmp_path / "layout"
    attested(
        shared_lap, context, tmp_path, canaries, f"--provenance=mode=min,version={version}", "--sbom=true",
        f"--metadata-file={tmp_path / 'metadata'}", outputs=[f"type=oci,tar=false,dest={layout}"],
    )  # fmt: skip
    index = json.loads(
        blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    )
    image, attestation = index["manifests"]
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    assert attestation["platform"] == {"architecture": "unknown", "os": "unknown"}
    found = statements(layout, json.loads(blob(layout, attestation["digest"])))
    assert set(found) == {"https://spdx.dev/Document", f"https://slsa.dev/provenance/{version}"}
    for statement in found.values():
        assert statement["subject"][0]["digest"] == {"sha256": image["digest"][7:]}
        assert statement["subject"][0]["name"].startswith("pkg:docker/localhost/attested@1?platform=linux%2F")
    told = json.dumps(found).encode() + (tmp_path / "metadata").read_bytes()
    for canary in canaries.values():
        for form in forms(canary):
            assert form not in told
    for form in forms(canaries["secret"]) + forms(canaries["env"]):
        assert form not in everything(layout)
    from lapstrake.export.validate import validate

    assert validate(str(layout)) == []


def test_max_provenance_tells_how_but_no_secret(shared_lap, context, tmp_path, canaries):
    layout = tmp_path / "layout"
    attested(
        shared_lap,
        context,
        tmp_path,
        canaries,
        "--provenance=true",
        outputs=[f"type=oci,tar=false,dest={layout},oci-artifact=false"],
    )
    index = json.loads(
        blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    )
    manifest = json.loads(blob(layout, index["manifests"][1]["digest"]))
    assert (
        manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
        and "subject" not in manifest
    )
    predicate = statements(layout, manifest)["https://slsa.dev/provenance/v1"]["predicate"]
    definition, metadata = predicate["buildDefinition"], predicate["runDetails"]["metadata"]
    request = definition["externalParameters"]["request"]
    assert request["args"]["build-arg:TOKEN"] == canaries["arg"] and request["secrets"] == [
        {"id": "s", "optional": True}
    ]
    ids = {s["id"] for s in definition["internalParameters"]["buildConfig"]["llbDefinition"]}
    assert len(ids) == 6 and set(metadata["buildkit_metadata"]["source"]["locations"]) <= ids
    assert {k.partition(":")[0] for k in metadata["buildkit_metadata"]["layers"]} <= ids
    assert [m["uri"].partition("?")[0] for m in definition["resolvedDependencies"]] == [
        "pkg:docker/busybox@latest",
        "pkg:docker/debian@latest",
    ]
    for form in forms(canaries["secret"]) + forms(canaries["env"]):
        assert form not in everything(layout)


def test_files_beside_local_and_tar_outputs(shared_lap, context, tmp_path, canaries):
    out = tmp_path / "files"
    attested(
        shared_lap, context, tmp_path, canaries, "--provenance=mode=min", "--sbom=true", "--build-arg=BUILDKIT_SBOM_SCAN_STAGE=build",
        "--build-arg=BUILDKIT_SBOM_SCAN_CONTEXT=true", outputs=[f"type=local,dest={out},attestation-prefix=att-"],
    )  # fmt: skip
    names = {
        "att-provenance.json",
        "att-sbom.spdx.json",
        "att-sbom-build.spdx.json",
        "att-sbom-context.spdx.json",
    }
    assert names <= {p.name for p in out.iterdir()}
    assert {(out / n).stat().st_mode & 0o777 for n in names} == {0o600}
    statement = json.loads((out / "att-provenance.json").read_text())
    assert {"a", "x"} <= {s["name"] for s in statement["subject"]}
    packages = json.loads((out / "att-sbom-build.spdx.json").read_text())["predicate"]["packages"]
    assert any(p["name"] == "dpkg" for p in packages)
    attested(
        shared_lap, context, tmp_path, canaries, "--provenance=inline-only=true", outputs=[tmp_path / "none"]
    )
    assert not (tmp_path / "none" / "provenance.json").exists()


def test_nothing_is_attached_unless_asked_for(shared_lap, context, tmp_path, canaries):
    layout = tmp_path / "layout"
    attested(shared_lap, context, tmp_path, canaries, outputs=[f"type=oci,tar=false,dest={layout}"])
    assert "layers" in raw(f"oci:{layout}")
    refused = attested(
        shared_lap, context, tmp_path, canaries, "--provenance=true", outputs=[f"type=oci,dest={tmp_path}/x,oci-mediatypes=false"], check=False
    )  # fmt: skip
    assert 'cannot export attestations with "oci-mediatypes=false"' in refused.stderr
    refused = attested(
        shared_lap,
        context,
        tmp_path,
        canaries,
        "--sbom=true",
        outputs=[f"type=docker,dest={tmp_path}/x"],
        check=False,
    )
    assert "docker exporter does not support exporting manifest lists" in refused.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("how", ["index", "referrers"])
def test_registries_and_imagetools_give_them_back(
    shared_lap, context, tmp_path, canaries, registry_address, how
):
    name = f"{registry_address}/attested-{uuid.uuid4().hex[:8]}:1"
    attested(
        shared_lap, context, tmp_path, canaries, "--provenance=mode=min", "--sbom=true", tag=name,
        outputs=[f"type=image,push=true,attestations={how}"],
    )  # fmt: skip
    top = raw(f"docker://{name}")
    if how == "referrers":
        assert "layers" in top  # a plain manifest stays one
    else:
        assert len(top["manifests"]) == 2
    shown = json.loads(shared_lap("imagetools", "inspect", name, "--format={{json .Provenance}}").stdout)
    assert "pkg:docker/busybox@latest" in json.dumps(shown)
    shown = json.loads(shared_lap("imagetools", "inspect", name, "--format={{json .SBOM}}").stdout)
    assert "SPDX-2.3" in json.dumps(shown)


def test_a_scanner_image(shared_lap, context, tmp_path, canaries):
    script = """\
#!/bin/sh
set -e
! touch $BUILDKIT_SCAN_SOURCE/x 2>/dev/null
for d in $BUILDKIT_SCAN_SOURCE $BUILDKIT_SCAN_SOURCE_EXTRAS/*; do
  [ -d $d ] || continue
  n=$(basename $d)
  printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":' > $BUILDKIT_SCAN_DESTINATION/$n.spdx.json
  printf '{"spdxVersion":"SPDX-2.3","name":"%s","files":[{"fileName":"a"},{"fileName":"/x","comment":"mine"}],"comment":"%s %s"}}' $n $BUILDKIT_SCAN_DEPTH "$(ls $d | tr '\\n' ' ')" >> $BUILDKIT_SCAN_DESTINATION/$n.spdx.json
done
"""
    scanner = context(
        {
            "Dockerfile": 'FROM busybox\nCOPY --chmod=755 scan /scan\nENTRYPOINT ["/scan"]\nCMD ["x"]\n',
            "scan": script,
        },
        "scanner",
    )
    shared_lap("build", scanner, "-t", "scanner:1")
    out = tmp_path / "files"
    attested(
        shared_lap, context, tmp_path, canaries, "--sbom=generator=scanner:1,depth=7", "--build-arg=BUILDKIT_SBOM_SCAN_STAGE=true",
        outputs=[f"type=local,dest={out}"],
    )  # fmt: skip
    found = json.loads((out / "sbom.spdx.json").read_text())
    assert (
        found["predicate"]["comment"].startswith("7 a bin")
        and found["predicateType"] == "https://spdx.dev/Document"
    )
    layout = tmp_path / "layout"
    attested(
        shared_lap,
        context,
        tmp_path,
        canaries,
        "--sbom=generator=scanner:1",
        outputs=[f"type=oci,tar=false,dest={layout}"],
    )
    index = json.loads(
        blob(layout, json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    )
    image, attestation = (json.loads(blob(layout, d["digest"])) for d in index["manifests"])
    files = statements(layout, attestation)["https://spdx.dev/Document"]["predicate"]["files"]
    assert files == [
        {"fileName": "a", "comment": f"layerID: {image['layers'][-1]['digest']}"},
        {"fileName": "/x", "comment": "mine"},
    ]
    assert "boot" in json.loads((out / "sbom-build.spdx.json").read_text())["predicate"]["comment"]
    bare = context({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "a"}, "bare")
    shared_lap("build", bare, "-t", "bare:1")
    refused = attested(
        shared_lap, context, tmp_path, canaries, "--sbom=generator=bare:1", outputs=[out], check=False
    )
    assert "scanner bare:1 does not have cmd" in refused.stderr
