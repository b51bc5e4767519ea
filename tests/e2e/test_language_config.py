"""Config, history, scopes, lint and calls, as the specification has them (dockerfile.md §5 to §11, §15; lint.md)."""

from __future__ import annotations

import json

import pytest
from tests.e2e.language import Case, log_of
from tests.e2e.servers import git, git_server

pytestmark = pytest.mark.e2e

B = "FROM busybox\n"


@pytest.fixture
def case(shared_lap, tmp_path):
    return Case(shared_lap, tmp_path)


EVERYTHING = (
    'FROM scratch\nARG X=1\nARG Y\nARG Z=3 W="a b"\nENV A=b C="d e" F=$X\nENV old the  rest of\n'
    'LABEL a=b "c d"=e f="g\\\n h"\nLABEL old value here\nCOPY f /f\nWORKDIR /a/b\nWORKDIR c\nWORKDIR ../d\nWORKDIR /\n'
    'EXPOSE 443 80/udp 90-92/SCTP 1.2.3.4:8:9\nVOLUME /b /a\nVOLUME ["/x y", "$A"]\nUSER u:$X\nSTOPSIGNAL SIGTERM\n'
    'SHELL ["/bin/bash","-c"]\nHEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=100ms --start-interval=2s'
    ' --retries=3 CMD curl x || exit 1\nCMD echo "hi" $A\nENTRYPOINT ["a","b \\"c"]\nMAINTAINER Foo <a@b>\n'
    "ONBUILD RUN x\nONBUILD COPY a b\n"
)
HEALTH = "HEALTHCHECK {Test:[CMD-SHELL curl x || exit 1] Interval:1m30s Timeout:1.5s StartPeriod:100ms StartInterval:2s Retries:3}"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_every_instruction_that_only_writes_the_config(case):
    config = case.config(EVERYTHING, files={"f": "1"})
    assert config["author"] == "Foo <a@b>"
    assert config["config"] == {
        "ArgsEscaped": True,
        "Cmd": ["/bin/bash", "-c", 'echo "hi" $A'],
        "Entrypoint": ["a", 'b "c'],
        "Env": [PATH, "A=b", "C=d e", "F=1", "old=the  rest of"],
        "ExposedPorts": {p: {} for p in ("443/tcp", "80/udp", "9/tcp", "90/sctp", "91/sctp", "92/sctp")},
        "Healthcheck": {
            "Interval": 90 * 10**9, "Retries": 3, "StartInterval": 2 * 10**9, "StartPeriod": 10**8,
            "Test": ["CMD-SHELL", "curl x || exit 1"], "Timeout": 15 * 10**8,
        },
        "Labels": {"a": "b", "c d": "e", "f": "g h", "old": "value here"},
        "OnBuild": ["RUN x", "COPY a b"],
        "Shell": ["/bin/bash", "-c"],
        "StopSignal": "SIGTERM",
        "User": "u:1",
        "Volumes": {"/a": {}, "/b": {}, "/x y": {}, "b": {}},
        "WorkingDir": "/",
    }  # fmt: skip
    assert log_of(config) == [
        ("ARG X=1", False), ("ARG Y", False), ("ARG Z=3 W=a b", False), ("ENV A=b C=d e F=1", False),
        ("ENV old=the  rest of", False), ("LABEL a=b c d=e f=g h", False), ("LABEL old=value here", False),
        ("COPY f /f # buildkit", True), ("WORKDIR /a/b", True), ("WORKDIR /a/b/c", True), ("WORKDIR /a/b/d", True),
        ("WORKDIR /", False), ("EXPOSE [9/tcp 443/tcp 80/udp 90/sctp 91/sctp 92/sctp]", False),
        ("VOLUME [/b /a]", False), ("VOLUME [/x y b]", False), ("USER u:1", False), ("STOPSIGNAL SIGTERM", False),
        ("SHELL [/bin/bash -c]", False),
        (HEALTH, False),
        ('CMD ["/bin/bash" "-c" "echo \\"hi\\" $A"]', False), ('ENTRYPOINT ["a" "b \\"c"]', False),
        ("MAINTAINER Foo <a@b>", False),
    ]  # fmt: skip
    assert len(config["rootfs"]["diff_ids"]) == 4


def test_the_history_of_steps(case):
    config = case.config(
        B + "ARG A=1\nARG B\nRUN true\nENV A=2\nRUN [\"true\",\"x y\"]\nCOPY --chown=1:2 --chmod=644 f g* /x/\nADD --link f /y\n"
        "COPY <<EOF <<X /z/\nhi\nEOF\nfoo\nX\nRUN <<EOF\ntrue\nEOF\nCOPY --parents --exclude=q --from=busybox etc/passwd /p/\n",
        files={"f": "1", "g1": "2"},
    )  # fmt: skip
    assert [text for text, layer in log_of(config) if layer] == [
        "RUN |2 A=1 B= /bin/sh -c true # buildkit",
        "RUN |2 A=2 B= true x y # buildkit",
        "COPY --chown=1:2 --chmod=644 f g* /x/ # buildkit",
        "ADD f /y # buildkit",
        "COPY <<EOF <<X /z/ # buildkit",
        "RUN |2 A=2 B= /bin/sh -c true\n # buildkit",
        "COPY --parents etc/passwd /p/ # buildkit",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ENTRYPOINT ["x"]\n', {"Entrypoint": ["x"], "Cmd": None}),
        ('CMD ["a"]\nENTRYPOINT ["x"]\n', {"Entrypoint": ["x"], "Cmd": ["a"]}),
        ("ENTRYPOINT []\nCMD []\n", {"Entrypoint": None, "Cmd": []}),
        ("HEALTHCHECK NONE\n", {"Healthcheck": {"Test": ["NONE"]}}),
        ("ENV A=1\nENV A=2 B=$A\n", {"Env": [PATH, "A=2", "B=1"]}),
        ("ENV PATH=/x:$PATH\nENV B=1\n", {"Env": [PATH.replace("=", "=/x:"), "B=1"]}),
        ("CMD ['a', 'b']\n", {"Cmd": ["/bin/sh", "-c", "['a', 'b']"]}),
        ('VOLUME ["/a",]\n', {"Volumes": {"[/a,]": {}}}),
        ('ENV P="1 2"\nEXPOSE $P\n', {"ExposedPorts": {"1/tcp": {}, "2/tcp": {}}}),
    ],
)
def test_rules_of_single_instructions(case, text, expected):
    config = case.config(B + text)["config"]
    assert {k: config.get(k) for k in expected} == expected


def test_scopes_of_arguments(case):
    text = (
        "ARG A=global\nARG V=latest\nFROM busybox:$V AS one\nRUN echo 1 x$A\nARG A\nRUN echo 2 $A\nARG A=stage\nRUN echo 3 $A\n"
        "ENV A=env\nRUN echo 4 $A\nARG A=again\nRUN echo 5 $A\nFROM one\nRUN echo 6 $A\nARG B\nRUN echo 7 ${B-unset}\n"
        "ARG TARGETPLATFORM TARGETSTAGE\nRUN echo 8 $TARGETPLATFORM $TARGETSTAGE\n"
    )
    assert case.output(text, "--no-cache") == [
        "1 x", "2 global", "3 stage", "4 env", "5 again", "6 again", "7 unset", "8 linux/amd64 default",
    ]  # fmt: skip
    given = case.output(text, "--no-cache", "--build-arg=A=given", "--build-arg=TARGETSTAGE=mine")
    assert given[1:5] == ["2 given", "3 given", "4 env", "5 given"]
    assert given[-1] == "8 linux/amd64 mine"


def test_triggers_of_stages_and_their_errors(case):
    config = case.config(
        "FROM busybox AS a\nONBUILD ENV T=1\nONBUILD RUN echo hi > /t\nONBUILD LABEL k=v\nFROM a AS b\nCMD [\"x\"]\nFROM b\n"
    )  # fmt: skip
    assert "T=1" in config["config"]["Env"]
    assert config["config"]["Labels"] == {"k": "v"}
    assert "OnBuild" not in config["config"]
    assert [t for t, layer in log_of(config) if layer] == ["RUN /bin/sh -c echo hi > /t # buildkit"]
    done = case.build("FROM busybox AS a\nONBUILD RUNN x\nFROM a\n", check=False)
    assert ">>> FROM a\n" in done.stderr
    assert "unknown instruction: RUNN (did you mean RUN?)" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM busybox AS a\nCOPY --from=b x /\nFROM busybox AS b\n", None),
        ("FROM Base\n", 'failed to parse stage name "Base": invalid reference format: repository name (library/Base) must be lowercase'),
        ("FROM $x\n", "base name ($x) should not be blank"),
        ("FROM --platform=$TARGETPLTFORM busybox\n", "empty platform value from expression $TARGETPLTFORM (did you mean TARGETPLATFORM?)"),
        ("FROM busybox AS a\nCOPY --from=a x /\n", "circular dependency detected on stage: a"),
        ("FROM busybox AS a\nRUN --mount=from=b,target=/x true\nFROM busybox AS b\nCOPY --from=a x /\n",
         'cannot mount from stage "b" to "/x", stage needs to be defined before current command'),
        ("FROM busybox AS a\nCOPY --from=b x /\nFROM busybox AS b\nCOPY --from=a x /\n",
         'cannot copy from stage "b", it needs to be defined before current stage "a"'),
        ("# syntax=foo/bar\nFROM scratch\n", "frontend foo/bar is not supported: Lapstrake never fetches and runs a foreign frontend"),
        ("FROM busybox\nSTOPSIGNAL x\n", "invalid signal: x"),
        ("FROM busybox\nEXPOSE 80/foo\n", 'invalid port: "80/foo": invalid proto: foo'),
    ],
)  # fmt: skip
def test_errors_of_stages(case, text, message):
    if message is None:  # a stage that nobody needs may be wrong: only the syntax of all is checked
        case.build(text, "-o", "type=cacheonly")
        return
    assert case.error(text) == message


def test_targets_are_found_by_name_whatever_its_case(case):
    text = "FROM busybox AS Foo\nFROM busybox\nRUN false\n"
    case.build(text, "--target=FOO", "-o", "type=cacheonly")
    assert case.error(text, "--target=fo") == 'target stage "fo" could not be found (did you mean foo?)'
    assert case.error(text, "--target=0") == 'target stage "0" could not be found'


def test_steps_are_named_and_counted_as_buildkit_does(case):
    done = case.build(
        "FROM busybox AS a\nARG V=1\nRUN echo $V\nFROM a AS b\nWORKDIR x\nFROM scratch\nCOPY --from=b /etc/passwd /\n"
        "COPY --link --from=b /etc/group /\n", "-o", "type=cacheonly",
    )  # fmt: skip
    for name in (
        "[a 2/2] RUN echo 1", "[b 1/1] WORKDIR x", "[stage-2 1/2] COPY --from=b /etc/passwd /",
        "[stage-2 2/2] LINK COPY --link --from=b /etc/group /",
    ):  # fmt: skip
        assert f" {name}\n" in done.stderr


def test_an_index_can_be_asked_for(case):
    text = "FROM scratch\nCOPY <<E /x\nE\n"
    wrong = case.error(text, "--build-arg=BUILDKIT_MULTI_PLATFORM=maybe")
    assert wrong == "invalid boolean value for multi-platform: maybe"
    both = "--platform=linux/amd64,linux/arm64"
    conflict = case.error(text, "--build-arg=BUILDKIT_MULTI_PLATFORM=0", both)
    assert conflict == "conflicting config: returning multiple target platforms is not allowed"


def test_the_epoch(case, tmp_path):
    text = "FROM scratch\nCOPY <<E /x\nE\n"
    assert case.config("ARG SOURCE_DATE_EPOCH=1700000000\n" + text)["created"] == "2023-11-14T22:13:20Z"
    assert (
        case.config("ARG SOURCE_DATE_EPOCH=9\n" + text, "--build-arg=SOURCE_DATE_EPOCH=5")["created"]
        == "1970-01-01T00:00:05Z"
    )
    assert case.error(text, "--build-arg=SOURCE_DATE_EPOCH=bad") == "invalid SOURCE_DATE_EPOCH: bad"
    with git_server(tmp_path / "git", {"f": "F", "Dockerfile": text}) as repo:
        seconds = int(git("log", "-1", "--format=%ct", "v1", cwd=repo.root / "work"))
        one = case.config(
            f"FROM scratch AS src\nADD {repo.url} /\n{text}", "--build-arg=SOURCE_DATE_EPOCH=src"
        )
        two = case.config(text, "--build-arg=SOURCE_DATE_EPOCH=g", f"--build-context=g={repo.url}")
        exact = case.config(text, f"--build-arg=SOURCE_DATE_EPOCH={seconds}")["created"]
        assert one["created"] == two["created"] == exact


def test_files_linked_in_the_context_are_apart_in_different_layers(case):
    directory = case.context("FROM scratch\nCOPY a /x\nCOPY --chmod=600 b /y\nCOPY . /z/\n", {"a": "A"})
    (directory / "b").hardlink_to(directory / "a")
    out = case.tmp / "linked.tar"
    case.lap("build", directory, "-o", f"type=tar,dest={out}")
    import tarfile

    with tarfile.open(out) as tar:
        found = {m.name: (m.mode, m.linkname) for m in tar if not m.isdir()}
    assert found["x"] == (0o644, "")
    assert found["y"] == (0o600, "")
    assert found["z/b"] == (0o644, "z/a")


# -- lint and calls ----------------------------------------------------------------------


def test_warnings_of_a_build(case):
    done = case.build(B + "ENV a b\nCMD x\n", "-o", "type=cacheonly")
    legacy = 'LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)'
    assert f"#1 WARN: {legacy}\n" in done.stderr
    assert (
        f"\n 2 warnings found (use --debug to expand):\n - {legacy}\n - JSONArgsRecommended: " in done.stderr
    )
    skipped = case.build("FROM busybox AS u\nLABEL a=$foo\n" + B, "-o", "type=cacheonly")
    assert "UndefinedVar" not in skipped.stderr
    both = case.build(B + "ENV a b\n", "--platform=linux/amd64,linux/arm64", "-o", "type=cacheonly")
    assert both.stderr.count("WARN: Legacy") == 1
    assert (
        case.error("# check=error=true\n" + B + "ENV a b\n")
        == "lint violation found for rules: LegacyKeyValueFormat"
    )


def test_check(case):
    fine = case.build(B, "--check")
    assert fine.stdout == "Check complete, no warnings found.\n"
    bad = case.build("FROM busybox AS BuilderBase\nRUN true\nRUNN x\n", "--check", check=False)
    assert bad.returncode == 1
    rule = "-" * 20
    assert bad.stdout == (
        "Check complete, 1 warning has been found!\n\nWARNING: StageNameCasing - "
        "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\nStage name 'BuilderBase' should be lowercase\n"
        f"Dockerfile:1\n{rule}\n   1 | >>> FROM busybox AS BuilderBase\n   2 |     RUN true\n   3 |     RUNN x\n{rule}\n"
        "\nERROR: dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)\n"
        f"Dockerfile:3\n{rule}\n   1 |     FROM busybox AS BuilderBase\n   2 |     RUN true\n   3 | >>> RUNN x\n{rule}\n"
    )
    planned = case.build(B + "ENV a b\nEXPOSE foo\n", "--check", check=False)
    assert "WARNING: LegacyKeyValueFormat" in planned.stdout
    assert "ERROR: invalid containerPort: foo\n" in planned.stdout
    ignored = case.build(B + "ENV a b\n", "--call=check,ignorestatus=true")
    assert ignored.returncode == 0
    hidden = case.build(
        B + "COPY ign /\nCOPY . /\n", "--check", files={"ign": "", ".dockerignore": "ign\n"}, check=False
    )
    assert 'Attempting to Copy file "ign" that is excluded by .dockerignore' in hidden.stdout
    document = json.loads(case.build(B + "ENV a b\n", "--call=check,format=json", check=False).stdout)
    assert document["warnings"][0]["location"]["ranges"] == [{"start": {"line": 2}, "end": {"line": 2}}]
    assert document["sources"][0]["filename"] == "Dockerfile"


CALLS = (
    "# V the version\nARG V=1\nARG UNUSED=2\n# base the base image\nFROM busybox:latest AS base\n# foo does foo\nARG foo=bar\n"
    "ARG V\nRUN --mount=type=secret,id=s1,required --mount=type=ssh true\n# final end result\nFROM base AS final\n"
    "ARG baz=$foo\nRUN --mount=type=secret,id=s2 true\nFROM busybox\n"
)


def test_outline_and_targets(case):
    shown = case.build(CALLS, "--call=outline", "--target=final").stdout
    assert shown == (
        "TARGET:        final\nDESCRIPTION:   end result\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nV           1       the version\nfoo         bar     does foo\nbaz         bar\n\n"
        "SECRET   REQUIRED\ns1       true\ns2\n\nSSH       REQUIRED\ndefault\n"
    )
    targets = case.build(CALLS, "--call=targets").stdout
    assert (
        targets == "TARGET      DESCRIPTION\nbase        the base image\nfinal       end result\n(default)\n"
    )


def test_bytes_that_are_no_text(case):
    config = case.config("FROM scratch\nLABEL a='é\udcff'\n".encode("utf-8", "surrogateescape"))
    assert config["config"]["Labels"] == {"a": "é\ufffd"}
    assert config["history"][0]["created_by"] == "LABEL a=é\ufffd"
