"""``build``: the messages of cli.md §2, word for word, and what flags mean."""

from __future__ import annotations

import io

import pytest

from lapstrake.cli.build import to_request
from lapstrake.cli.buildahflags import edits
from lapstrake.cli.buildflags import build_command
from lapstrake.cli.flags import parse
from lapstrake.errors import BuildError, UsageError
from lapstrake.export.options import attributes, image_options
from lapstrake.plan.request import ImageEdits


def request(argv, env=None, stdin=b""):
    return to_request(parse(build_command(), argv), env or {}, stdin=io.BytesIO(stdin))


@pytest.fixture(autouse=True)
def _directory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "dir").mkdir()
    monkeypatch.chdir(tmp_path)


NETWORK = (
    'network mode "bridge" not supported by buildkit - you can define a custom network for your builder using the '
    "network driver-opt in buildx create"
)
MESSAGES = [
    # context and Dockerfile (§2.1)
    ("", 'please specify build context (e.g. "." for the current directory)'),
    ("nowhere", 'unable to prepare context: path "nowhere" not found'),
    ("-f - -", "invalid argument: can't use stdin for both build context and dockerfile"),
    ("-f x -", "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"),
    # outputs (§2.3)
    ("-o dest=x .", "type is required for output"),
    ("-o type=local .", "dest is required for local exporter"),
    ("-o type=local,dest=- .", "dest cannot be stdout for local exporter"),
    ("-o type=local,dest=file .", "destination directory file is a file"),
    ("-o type=tar,dest=dir .", "destination file dir is a directory"),
    ("-o type=oci,dest=dir .", "destination file dir is a directory"),
    ("-o type=docker,dest=dir .", "destination file dir is a directory"),
    ("-o - -o type=oci,dest=- .", "multiple outputs configured to write to stdout"),
    ("-o type=oci -o type=tar .", "multiple outputs configured to write to stdout"),
    ("--push .", "tag is needed when pushing to registry"),
    ("-o type=registry .", "tag is needed when pushing to registry"),
    ("-o type=image,push=true .", "tag is needed when pushing to registry"),
    ("--iidfile i -o out .", "local and tar exporters are incompatible with image ID file"),
    ("--iidfile i -o - .", "local and tar exporters are incompatible with image ID file"),
    # flags (§2.2)
    ("-t UP .", 'invalid tag "UP"'),
    ("-t a:b:c .", 'invalid tag "a:b:c"'),
    ("--network bridge .", NETWORK),
    ("--add-host db .", "invalid host db"),
    ("--add-host db=x .", "invalid host db=x"),
    ("-q --progress plain .", "progress=plain and quiet cannot be used together"),
    ("-q --progress tty .", "progress=tty and quiet cannot be used together"),
    ("--ulimit nofile .", "invalid ulimit argument: nofile"),
    # caches (§2.4)
    ("--cache-from src=x .", 'type required for "src=x"'),
    ("--cache-to dest=x .", 'type required for "dest=x"'),
    # secrets, ssh, contexts (§2.5)
    ("--secret src=x .", "secret missing ID"),
    ("--secret id=x,type=vault .", 'unsupported secret type "vault"'),
    ("--secret id=x,path=y .", "unexpected key 'path' in 'path=y'"),
    ("--ssh default .", "invalid empty ssh agent socket"),
    ("--ssh a=k --ssh a=l .", 'duplicate agent ID "a"'),
    # annotations (§2.6)
    ("--annotation x .", 'invalid annotation "x", expected key=value'),
    ("--annotation layer:a=b .", 'unknown annotation type "layer"'),
    ("--annotation index[:a=b .", 'invalid annotation type "index[", expected type and optional platform in square brackets'),
    # attestations (§2.7)
    ("--attest type=vex .", 'unknown attestation type "vex"'),
    ("--attest mode=max .", "attestation type not specified"),
    # calls (§2.8)
    ("--call check,color=no .", "invalid print field: color"),
    ("--call lint-all .", "invalid print value: lint-all"),
    # policies
    ("--policy filename=a.rego .", "policy a.rego is not supported"),
    ("--policy strict=true,filename=a.rego .", "policy a.rego is not supported"),
    ("--policy file=a .", "invalid policy \"file=a\": unexpected key 'file'"),
    ("--source-policy-file nowhere .", "failed to read source policy nowhere: No such file or directory"),
    # how flags are written
    ("--no-cache=maybe .", 'invalid argument "maybe" for "--no-cache" flag: strconv.ParseBool: parsing "maybe": invalid syntax'),
    ("--frobnicate .", "unknown flag: --frobnicate"),
    ("-Z .", "unknown shorthand flag: 'Z' in -Z"),
    (". --tag", "flag needs an argument: --tag"),
    (". -t", "flag needs an argument: 't' in -t"),
    (". .", "'lapstrake build' requires 1 argument"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), MESSAGES, ids=[m[0] or "nothing" for m in MESSAGES])
def test_messages(line, message):
    with pytest.raises(UsageError) as found:
        request(line.split())
    assert found.value.message.startswith(message)
    assert found.value.exit_code == 2


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ("compression=zstd,oci-mediatypes=false", 'exporter option "compression=zstd" conflicts with "oci-mediatypes=false"'),
        ("compression=estargz,oci-mediatypes=false", 'exporter option "compression=estargz" conflicts with "oci-mediatypes=false"'),
        ("oci-artifact=true,oci-mediatypes=false", 'exporter option "oci-artifact=true" conflicts with "oci-mediatypes=false"'),
        ("annotation.a=b,oci-mediatypes=false", 'cannot export annotations with "oci-mediatypes=false"'),
        ("push=maybe", "non-bool value specified for push"),
        ("name=r.example/a:1,push=true,push-by-digest=true", "can't push tagged ref r.example/a:1 by digest"),
    ],
)  # fmt: skip
def test_messages_of_image_attributes(attrs, message):
    spec = request(["-o", f"type=image,{attrs}", "-t", "x", "."]).outputs[0]
    with pytest.raises(BuildError) as found:
        image_options("image", attributes(spec), ())
    assert found.value.message == message


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        ("--squash", "--squash is ignored"),
        ("--security-opt seccomp=x", "--security-opt is ignored"),
        ("--isolation hyperv", "--isolation=hyperv is ignored"),
        ("--add-host h:host-gateway", "host-gateway: steps reach the host with --network=host only"),
        ("--add-host h:host-gateway --network host", ""),
        ("--compress --rm=false --force-rm", ""),
    ],
)
def test_hidden_flags_are_taken_and_three_of_them_warn(flags, warned):
    warnings = request([*flags.split(), "."]).warnings
    assert (warnings[0] if warnings else "").startswith(warned)
    assert len(warnings) == bool(warned)


def test_policies_that_are_only_switched_off_are_fine():
    assert request(["--policy", "filename=a.rego,disabled=true", "--policy", "reset=true", "."]).policy == ()


def test_changes_of_the_image_by_buildahs_flags():
    args = "--from b --env A=1 --env B --env C --unsetenv D --unsetlabel l --inherit-labels=false .".split()
    assert edits(parse(build_command(), args), {"B": "2"}) == ImageEdits(
        "b", (("A", "1"), ("B", "2")), ("D",), ("l",), inherit_labels=False
    )
    assert edits(parse(build_command(), ["."]), {}) is None
