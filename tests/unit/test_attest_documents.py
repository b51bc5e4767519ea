"""Provenance, SBOM and statements: what they say, and what they must not say."""

from __future__ import annotations

import json
import struct

import pytest

from lapstrake.attest.attach import Sbom, attest_image, scanned_statement
from lapstrake.attest.packages import os_release, scan
from lapstrake.attest.provenance import BuildFacts, Details, Material, Mode, mode_of, provenance, redact
from lapstrake.attest.sbom import cyclonedx, license_expression, spdx
from lapstrake.attest.statement import file_subjects, image_subjects, image_uri
from lapstrake.errors import BuildError, UsageError
from lapstrake.oci.platform import Platform
from lapstrake.testing.images import MemoryTree
from lapstrake.tree import FILE, Node
from lapstrake.values import replace

AMD64 = Platform("linux", "amd64")
CANARY = "s3cr3t-canary"
FACTS = BuildFacts(
    AMD64, AMD64,
    Material(f"https://bob:{CANARY}@git.example/app.git#refs/heads/main", (("sha1", "a" * 40),)),
    args=(("build-arg:TOKEN", CANARY), ("label:x", CANARY), ("target", "prod"), ("platform", "linux/amd64"), ("attest:sbom", ""), ("context", f"https://u:{CANARY}@h/x.tar")),
    locals=("dockerfile",),
    materials=(Material("pkg:docker/b@1", (("sha256", "b" * 64),)), Material("pkg:docker/a@1"), Material("pkg:docker/a@1"), Material("context", local=True), Material(f"https://h/f?token={CANARY}&v=1")),
    started=1700000000.25, finished=1700000001.0, invocation_id="id1",
    details=Details(secrets=((f"id-{CANARY}", True),), ssh=(("default", False),), steps=({"id": "step0"},), sources=(("Dockerfile", b"FROM x", "Dockerfile"),), vcs=(("source", f"https://u:{CANARY}@h/r"), ("revision", "abc"))),
)  # fmt: skip


@pytest.mark.parametrize("version", ["v1", "v0.2"])
def test_min_holds_no_values_and_no_secret_names(version):
    _, predicate = provenance(FACTS, Mode(max=False, version=version))
    assert CANARY not in json.dumps(predicate)


def test_v1_shape():
    kind, p = provenance(FACTS, Mode(max=False, builder_id="https://ci/1", reproducible=True))
    assert kind == "https://slsa.dev/provenance/v1"
    definition, run = p["buildDefinition"], p["runDetails"]
    assert definition["externalParameters"]["configSource"] == {
        "uri": "https://git.example/app.git#refs/heads/main",
        "digest": {"sha1": "a" * 40},
        "path": "Dockerfile",
    }
    assert definition["externalParameters"]["request"] == {
        "frontend": "dockerfile.v0",
        "args": {"target": "prod", "context": "https://h/x.tar"},
        "locals": [{"name": "dockerfile"}],
    }
    assert [m["uri"] for m in definition["resolvedDependencies"]] == [
        "https://h/f?v=1",
        "pkg:docker/a@1",
        "pkg:docker/b@1",
    ]
    assert definition["internalParameters"] == {"builderPlatform": "linux/amd64"}
    assert run["builder"] == {"id": "https://ci/1"}
    meta = run["metadata"]
    assert (meta["startedOn"], meta["finishedOn"]) == (
        "2023-11-14T22:13:20.250000000Z",
        "2023-11-14T22:13:21.000000000Z",
    )
    assert meta["buildkit_completeness"] == {"request": False, "resolvedDependencies": False}
    assert meta["buildkit_reproducible"] is True
    assert meta["buildkit_metadata"] == {"vcs": {"source": "https://h/r", "revision": "abc"}}


def test_max_shows_requests_but_no_urls_credentials():
    _, p = provenance(FACTS, Mode())
    request = p["buildDefinition"]["externalParameters"]["request"]
    assert request["args"]["build-arg:TOKEN"] == CANARY
    assert request["secrets"] == [{"id": f"id-{CANARY}", "optional": True}]
    assert request["ssh"] == [{"id": "default"}]
    assert "platform" not in request["args"]
    assert "attest:sbom" not in request["args"]
    assert p["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"] == [{"id": "step0"}]
    assert p["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"][0]["data"] == "RlJPTSB4"
    assert p["runDetails"]["metadata"]["buildkit_completeness"]["request"] is True
    clean = replace(FACTS, locals=(), materials=())
    assert (
        provenance(clean, Mode())[1]["runDetails"]["metadata"]["buildkit_completeness"][
            "resolvedDependencies"
        ]
        is True
    )


def test_v02_shape():
    kind, p = provenance(FACTS, Mode(version="v0.2"))
    assert kind == "https://slsa.dev/provenance/v0.2"
    assert p["invocation"]["configSource"]["entryPoint"] == "Dockerfile"
    assert p["metadata"]["completeness"] == {"parameters": True, "environment": True, "materials": False}
    assert p["metadata"]["https://mobyproject.org/buildkit@v1#hermetic"] is False
    assert p["buildConfig"]["llbDefinition"]


@pytest.mark.parametrize(("uri", "want"), [
    ("https://u:p@h/x", "https://h/x"), ("https://h:1/x@y", "https://h:1/x@y"), ("https://tok@h", "https://h"),
    ("ssh://git@h/r", "ssh://git@h/r"), ("git@h:r", "git@h:r"), ("https://h/f?X-Amz-Signature=1&a=b#c", "https://h/f?a=b#c"), ("https://u@h?token=1", "https://h"),
])  # fmt: skip
def test_redact(uri, want):
    assert redact(uri) == want


def test_modes():
    assert mode_of({}) == Mode()
    assert mode_of({"mode": "min", "version": "v0.2", "builder-id": "x", "reproducible": "true"}) == Mode(
        False, "v0.2", "x", True
    )
    for bad in ({"mode": "x"}, {"version": "v9"}):
        with pytest.raises(UsageError):
            mode_of(bad)


@pytest.mark.parametrize(("name", "want"), [
    ("alpine", "pkg:docker/alpine@latest?platform=linux%2Famd64"), ("ghcr.io/a/b:1", "pkg:docker/ghcr.io/a/b@1?platform=linux%2Famd64"),
    ("localhost:5000/x:2", "pkg:docker/localhost:5000/x@2?platform=linux%2Famd64"),
    ("alpine@sha256:" + "0" * 64, "pkg:docker/alpine?digest=sha256:" + "0" * 64 + "&platform=linux%2Famd64"),
])  # fmt: skip
def test_image_uris(name, want):
    assert image_uri(name, AMD64) == want


def test_subjects():
    assert image_subjects([], AMD64, "sha256:x") == [("_", "sha256:x")]
    found = list(file_subjects(MemoryTree({"b/c": b"", "a": b"1", "l": "a"})))
    assert [n for n, _ in found] == ["a", "b/c"]
    assert found[1][1] == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def go_binary() -> bytes:
    mark = bytes(range(16))
    modules = mark + b"path\tx\nmod\texample.com/x\t(devel)\t\ndep\tgolang.org/x/sys\tv0.1.0\th1:abc\n" + mark

    def string(data: bytes) -> bytes:
        out, n = b"", len(data)
        while n >= 0x80:
            out += bytes([n & 0x7F | 0x80])
            n >>= 7
        return out + bytes([n]) + data

    info = b"\xff Go buildinf:" + bytes([8, 2]) + b"\0" * 16 + string(b"go1.22.3") + string(modules)
    return b"\x7fELF" + b"\0" * ((1 << 20) - 8) + info + b"\0" * 100  # the magic crosses a block border


def rootfs() -> MemoryTree:
    exe = go_binary()
    return MemoryTree({
        "usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\n', "etc/os-release": "../usr/lib/os-release",
        "var/lib/dpkg/status": b"Package: bash\nStatus: install ok installed\nVersion: 5.2-1+b1\nArchitecture: amd64\nDescription: x\n more: y\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        "var/lib/dpkg/status.d/tz": b"Package: tzdata\nVersion: 1\n", "lib/apk/db/installed": b"P:musl\nV:1.2-r0\nA:x86_64\nL:MIT\n\n",
        "app/venv/lib/python3.11/site-packages/Foo_Bar-1.dist-info/METADATA": b"Name: Foo_Bar\nVersion: 1\nLicense: BSD\n\nName: no\n",
        "app/node_modules/@s/p/package.json": b'{"name":"@s/p","version":"2.0.0","license":"MIT"}', "app/node_modules/q/package.json": b'{"name":"q","version":"1.0.0"}',
        "app/node_modules/q/test/package.json": b'{"name":"inner","version":"1"}', "app/node_modules/bad/package.json": b"[" * 100000,
        "bin/tool": (Node(FILE, 0o755, size=len(exe)), exe),
    })  # fmt: skip


def test_scan_finds_packages():
    assert os_release(rootfs()) == "debian-12"
    assert [p.purl for p in scan(rootfs())] == [
        "pkg:apk/debian/musl@1.2-r0?arch=x86_64&distro=debian-12",
        "pkg:deb/debian/bash@5.2-1%2Bb1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/tzdata@1?distro=debian-12",
        "pkg:golang/golang.org/x/sys@v0.1.0",
        "pkg:golang/stdlib@1.22.3",
        "pkg:npm/%40s/p@2.0.0",
        "pkg:npm/q@1.0.0",
        "pkg:pypi/foo-bar@1",
    ]


def test_truncated_go_info_is_no_trouble():
    exe = go_binary()
    for cut in range((1 << 20) - 10, (1 << 20) + 120, 7):
        tree = MemoryTree({"x": (Node(FILE, 0o755, size=cut), exe[:cut])})
        assert isinstance(scan(tree), list)
    assert struct.calcsize("Q") == 8


def test_documents_are_stable_and_whole():
    packages = scan(rootfs())
    doc = spdx("app", packages, "2026-01-01T00:00:00Z", "1")
    assert doc == spdx("app", scan(rootfs()), "2026-01-01T00:00:00Z", "1")
    assert doc["spdxVersion"] == "SPDX-2.3"
    ids = [p["SPDXID"] for p in doc["packages"]]
    assert len(set(ids)) == len(ids) == len(packages) + 1
    assert {r["relatedSpdxElement"] for r in doc["relationships"]} == set(ids)
    by = {p["name"]: p for p in doc["packages"]}
    assert by["musl"]["licenseDeclared"] == "MIT"
    assert (by["Foo_Bar"]["licenseDeclared"], by["Foo_Bar"]["licenseComments"]) == ("NOASSERTION", "BSD")
    bom = cyclonedx("app", packages, "2026-01-01T00:00:00Z")
    assert bom["bomFormat"] == "CycloneDX"
    assert len({c["bom-ref"] for c in bom["components"]}) == len(packages)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("MIT", True),
        ("MIT AND (Apache-2.0 OR ISC)", True),
        ("BSD", False),
        ("MIT AND", False),
        ("(MIT", False),
        ("", False),
        ("MIT MIT", False),
    ],
)
def test_license_expressions(text, good):
    assert license_expression(text) == (text if good else "")


def test_attest_image():
    found = attest_image(
        ["app:1"], AMD64, "sha256:" + "1" * 64, facts=FACTS, mode=Mode(max=False), tree=rootfs(), sbom=Sbom()
    )
    assert [a.filename for a in found] == ["sbom.spdx.json", "provenance.json"]
    doc = json.loads(found[1].raw)
    assert doc["_type"] == "https://in-toto.io/Statement/v1"
    assert doc["subject"] == [
        {"name": "pkg:docker/app@1?platform=linux%2Famd64", "digest": {"sha256": "1" * 64}}
    ]
    with pytest.raises(BuildError):
        scanned_statement(b"nonsense", [])


def test_hostile_elf_headers_are_no_trouble():
    import random

    rng = random.Random(1)
    for _ in range(300):
        data = (
            b"\x7fELF"
            + bytes([rng.choice((1, 2)), rng.choice((1, 2))])
            + rng.randbytes(rng.choice((58, 3000, 6000)))
        )
        assert scan(MemoryTree({"x": (Node(FILE, 0o755, size=5000), data)})) == []


def test_a_real_go_program_is_found_by_its_section():
    import shutil

    program = shutil.which("umoci") or shutil.which("skopeo")
    if program is None:
        pytest.skip("no Go program installed")
    with open(program, "rb") as f:
        data = f.read()
    found = scan(MemoryTree({"bin/x": (Node(FILE, 0o755, size=len(data)), data)}))
    assert "stdlib" in [p.name for p in found]


def test_even_max_shows_no_password_of_a_proxy():
    facts = replace(FACTS, args=(("build-arg:HTTPS_PROXY", f"http://bob:{CANARY}@proxy.example:3128"),))
    _, p = provenance(facts, Mode())
    args = p["buildDefinition"]["externalParameters"]["request"]["args"]
    assert args == {"build-arg:HTTPS_PROXY": "http://proxy.example:3128"}
