"""The build checks: each rule with a failing and a passing file, options, outputs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lapstrake.dockerfile import outline as out
from lapstrake.dockerfile.ignore import IgnoreRules
from lapstrake.dockerfile.lint import RULES, LintWarning, check, failure, options_of, parse_options, rule_url
from lapstrake.dockerfile.lint_stages import Facts, check_stages
from lapstrake.dockerfile.parser import parse
from lapstrake.errors import DockerfileError, Span
from lapstrake.oci.platform import Platform

BASE: dict[str, Any] = {"os": "linux", "architecture": "amd64", "config": {"Env": ["PATH=/bin", "LANG=C"]}}
AMD64 = Platform("linux", "amd64")


def lint(text: str, **facts: Any) -> list[LintWarning]:
    df = parse(text.encode(), "Dockerfile")
    facts.setdefault("base_config", lambda index: BASE)
    facts.setdefault("platform", AMD64)
    return check(df, build_args=facts.get("build_args")) + check_stages(df, Facts(**facts))


def found(text: str, **facts: Any) -> list[tuple[str, str, int]]:
    return [(w.rule, w.message, w.span.first if w.span else 0) for w in lint(text, **facts)]


UNSAFE = "to prevent unintended behavior related to OS signals"
IN_FROM = "in FROM is redundant as this is the default behavior"

BAD = [
    ("FROM a AS BuilderBase", "StageNameCasing", "Stage name 'BuilderBase' should be lowercase", 1),
    ("FROM a as b", "FromAsCasing", "'as' and 'FROM' keywords' casing do not match", 1),
    ("from a AS b", "FromAsCasing", "'AS' and 'from' keywords' casing do not match", 1),
    ("FROM a\nRUN x \\\n\n y", "NoEmptyContinuation", "Empty continuation line", 4),
    ("FROM a\nRUN x\nrun y", "ConsistentInstructionCasing", "Command 'run' should match the case of the command majority (uppercase)", 3),
    ("from a\nrun x\nRun y", "ConsistentInstructionCasing", "Command 'Run' should match the case of the command majority (lowercase)", 3),
    ("FROM a\nrun y", "ConsistentInstructionCasing", "Command 'run' should match the case of the command majority (uppercase)", 2),
    ("FROM a AS b\nFROM a AS b", "DuplicateStageName", 'Duplicate stage name "b", stage names should be unique', 2),
    ("FROM a AS scratch", "ReservedStageName", 'Stage name should not use the same name as reserved stage "scratch"', 1),
    ("FROM a AS context", "ReservedStageName", 'Stage name should not use the same name as reserved stage "context"', 1),
    ("FROM a\nCMD x", "JSONArgsRecommended", f"JSON arguments recommended for CMD {UNSAFE}", 2),
    ("from a\nentrypoint x", "JSONArgsRecommended", f"JSON arguments recommended for entrypoint {UNSAFE}", 2),
    ("FROM a\nMAINTAINER x", "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label", 2),
    ("ARG VERSION=1\nFROM a:${VERSIO:-1}", "UndefinedArgInFrom", "FROM argument 'VERSIO' is not declared (did you mean VERSION?)", 2),
    ("FROM --platform=$BUILDPLATFOM a", "UndefinedArgInFrom", "FROM argument 'BUILDPLATFOM' is not declared (did you mean BUILDPLATFORM?)", 1),
    ("FROM a\nWORKDIR x", "WorkdirRelativePath", 'Relative workdir "x" can have unexpected results if the base image changes', 2),
    ("FROM a\nENV FOO=1\nENV X=$FO", "UndefinedVar", "Usage of undefined variable '$FO' (did you mean $FOO?)", 3),
    ("FROM a\nLABEL a=${nothing:-d}", "UndefinedVar", "Usage of undefined variable '$nothing'", 2),
    ("FROM a\nCOPY <<EOF /x\n$nothing\nEOF", "UndefinedVar", "Usage of undefined variable '$nothing'", 2),
    ("FROM a\nRUN --mount=type=cache,target=/$nothing x", "UndefinedVar", "Usage of undefined variable '$nothing'", 2),
    ("ARG G=1\nFROM a\nUSER $G", "UndefinedVar", "Usage of undefined variable '$G'", 3),
    ("FROM a\nARG B=$A A=1", "UndefinedVar", "Usage of undefined variable '$A'", 2),
    ('FROM a\nCMD ["a"]\nCMD ["b"]', "MultipleInstructionsDisallowed", "Multiple CMD instructions should not be used in the same stage because only the last one will be used", 2),
    ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD x", "MultipleInstructionsDisallowed", "Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used", 2),
    ("FROM a\nENV x y", "LegacyKeyValueFormat", '"ENV key=value" should be used instead of legacy "ENV key value" format', 2),
    ("FROM a\nLABEL x y", "LegacyKeyValueFormat", '"LABEL key=value" should be used instead of legacy "LABEL key value" format', 2),
    ("FROM --platform=linux/arm64 a AS b-arm64", "InvalidBaseImagePlatform", 'Base image a was pulled with platform "linux/amd64", expected "linux/arm64" for current build', 1),
    ("FROM --platform=${TARGETPLATFORM} a", "RedundantTargetPlatform", f"Setting platform to predefined ${{TARGETPLATFORM}} {IN_FROM}", 1),
    ("FROM a\nENV API_KEY=x", "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ENV "API_KEY")', 2),
    ("FROM a\nARG GITHUB_TOKEN", "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN")', 2),
    ("FROM a\nARG secret_MESSAGE", "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ARG "secret_MESSAGE")', 2),
    ("ARG TAG\nFROM busybox:${TAG}", "InvalidDefaultArgInFrom", "Default value for ARG busybox:${TAG} results in empty or invalid base image name", 2),
    ("FROM --platform=linux/amd64 a", "FromPlatformFlagConstDisallowed", 'FROM --platform flag should not use constant value "linux/amd64"', 1),
    ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing", "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase", 2),
    ("FROM a\nEXPOSE 80:80", "ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'", 2),
    ("FROM a\nEXPOSE 127.0.0.1:80:80", "ExposeInvalidFormat", "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'", 2),
    ("# check=experimental=InvalidDefinitionDescription\n# no name\nFROM a AS b", "InvalidDefinitionDescription", "Comment for FROM should follow the format: `# b <description>`", 3),
    ("# check=experimental=all;skip=all\n# no\nARG A=1\nFROM a", "InvalidDefinitionDescription", "Comment for ARG should follow the format: `# A <description>`", 3),
    ("# check=experimental=all\n# no\nARG A=1 B=2\nFROM a", "InvalidDefinitionDescription", "Comment for ARG should follow the format: `# <arg_key> <description>`", 3),
]  # fmt: skip

GOOD = [
    "FROM a AS builder-base\nRUN x",
    "from a as b\nrun x",
    "FROM a\nRUN x \\\n# comment\n y",
    "arg x=1\nFROM a\nRUN x",
    'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x',
    'FROM a AS b\nSHELL ["x"]\nFROM b\nENTRYPOINT x',
    "FROM a\nHEALTHCHECK CMD x\nRUN y",
    "ARG V\nFROM a:${V:-1}",
    "ARG TAG=1\nFROM --platform=$BUILDPLATFORM busybox:${TAG:-latest}",
    "FROM a AS b\nWORKDIR /x\nWORKDIR y\nFROM b\nWORKDIR z",
    "FROM a\nENV A=$LANG\nENV B=$A\nARG C\nENV D=$C E='$F' G=\\$H",
    "FROM a\nRUN echo $undefined",
    "FROM a\nARG BUILDPLATFORM\nENV A=$BUILDPLATFORM B=$BUILDKIT_SBOM_SCAN_STAGE",
    'FROM a AS b\nCMD ["x"]\nFROM b\nCMD ["y"]',
    "FROM a\nENV KEYBOARD=1 AUTHOR=x PUBLIC_KEY=y TOKEN_FILE=z KEY_VERSION=1",
    "ARG GITHUB_TOKEN\nFROM a",
    "FROM --platform=linux/amd64 a AS build-amd64",
    "FROM a\nEXPOSE 80 443/udp 8000-8010/tcp",
    "# no name\nFROM a AS b",
    "# check=experimental=all\n# b is good\nFROM a AS b\n# A too\nARG A=1 B=2",
    "FROM scratch\nCOPY . /\nWORKDIR /w",
    "FROM scratch\nENV P=$PATH:/x",
]


@pytest.mark.parametrize(
    ("text", "rule", "message", "line"), BAD, ids=[f"{b[1]}-{i}" for i, b in enumerate(BAD)]
)
def test_bad(text: str, rule: str, message: str, line: int) -> None:
    assert (rule, message, line) in found(text)
    assert {r for r, _, _ in found(text)} <= {rule, *_BYCATCH.get(rule, ())}


_BYCATCH = {
    "ConsistentInstructionCasing": ("FromAsCasing",),
    "InvalidBaseImagePlatform": (),
    "UndefinedArgInFrom": ("InvalidDefaultArgInFrom",),
    "JSONArgsRecommended": (),
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert found(text) == []


def test_every_rule_is_described() -> None:
    assert len(RULES) == 22
    assert {b[1] for b in BAD} | {"CopyIgnoredFile"} == set(RULES)
    assert rule_url("JSONArgsRecommended").endswith("/json-args-recommended/")
    assert rule_url("FromAsCasing").endswith("/from-as-casing/")
    assert rule_url("InvalidBaseImagePlatform") == ""


@pytest.mark.parametrize(
    ("ignore", "text", "message"),
    [
        ("src", "COPY ./src/a /x", 'Attempting to Copy file "src/a" that is excluded by .dockerignore'),
        ("src", "ADD src /x", 'Attempting to Add file "src" that is excluded by .dockerignore'),
        ("*", "COPY . /x", 'Attempting to Copy file "." that is excluded by .dockerignore'),
        ("*.md", "COPY . /x", ""),
        ("src\n!src/a", "COPY src /x", ""),
        ("*", "COPY --from=b c /x", ""),
        ("*", "ADD https://x/y /x", ""),
    ],
)
def test_copy_ignored(ignore: str, text: str, message: str) -> None:
    got = found(f"FROM a\n{text}", ignore=IgnoreRules.parse(ignore.encode()))
    assert got == ([("CopyIgnoredFile", message, 2)] if message else [])


def test_unknown_base_gives_no_guesses() -> None:
    assert found("FROM a\nENV A=$WHO_KNOWS\nCMD x", base_config=lambda i: None) == []


def test_base_shell_and_triggers() -> None:
    base = {**BASE, "config": {"Env": ["A=1"], "Shell": ["/bin/bash"], "OnBuild": ["ENV X=$NOPE"]}}
    assert found("RUN".join(["FROM a\n", " x\nCMD x"]), base_config=lambda i: base) == [
        ("UndefinedVar", "Usage of undefined variable '$NOPE'", 1)
    ]


def test_onbuild_of_a_stage_runs_in_its_child() -> None:
    got = found("FROM a AS b\nONBUILD WORKDIR x\nFROM b")
    assert got == [
        (
            "WorkdirRelativePath",
            'Relative workdir "x" can have unexpected results if the base image changes',
            3,
        )
    ]


def test_only_reachable_stages_report() -> None:
    text = "FROM a AS b\nENV A=$NOPE\nFROM a"
    assert found(text, stages={1}) == []
    assert [r for r, _, _ in found(text, stages={0, 1})] == ["UndefinedVar"]


# -- options -----------------------------------------------------------------


def test_skip_and_inline() -> None:
    assert found("# check=skip=all\nFROM a as B\nMAINTAINER x") == []
    assert [
        r for r, _, _ in found("# check=skip=FromAsCasing,MaintainerDeprecated\nFROM a as B\nMAINTAINER x")
    ] == ["StageNameCasing"]
    text = "FROM a\n# check=skip=SecretsUsedInArgOrEnv\nENV A_KEY=1\nENV B_KEY=1"
    assert [line for _, _, line in found(text)] == [4]
    assert found("# note\n# check=skip=StageNameCasing;error=true\nFROM a AS B") == []
    assert len(found("# note\n# check=nonsense\nFROM a AS B")) == 1


def test_build_arg_replaces_the_directive() -> None:
    df = parse(b"# check=skip=all\nFROM a AS B", "F")
    args = {"BUILDKIT_DOCKERFILE_CHECK": "error=true;skip=X, Y"}
    options = options_of(df, args)
    assert options.error and options.skip == {"X", "Y"}
    warnings = check(df, build_args=args)
    error = failure(options, [*warnings, *warnings])
    assert error is not None and error.message == "lint violation found for rules: StageNameCasing"
    assert failure(options, []) is None and failure(options_of(df), warnings) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", 'invalid check option "foo"'),
        ("foo=1", 'invalid check option "foo=1"'),
        ("error=x", 'failed to parse check option "error=x": strconv.ParseBool: parsing "x": invalid syntax'),
    ],
)
def test_wrong_options(text: str, message: str) -> None:
    with pytest.raises(ValueError) as v:
        parse_options(text)
    assert str(v.value) == message
    with pytest.raises(DockerfileError) as e:
        check(parse(f"# syntax=x\n# check={text}\nFROM a".encode(), "F"))
    assert e.value.message == f"failed to parse check options: {message}" and e.value.span == Span(
        "F", 2, 2, f"# syntax=x\n# check={text}\nFROM a"
    )
    with pytest.raises(DockerfileError) as e:
        check(parse(b"FROM a", "F"), build_args={"BUILDKIT_DOCKERFILE_CHECK": text})
    assert e.value.message == f"failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: {message}"


# -- outputs -----------------------------------------------------------------

TEXT = "FROM alpine AS BuilderBase\nRUN true\n"


def test_check_text() -> None:
    assert out.check_text([]) == "Check complete, no warnings found.\n"
    rule = "-" * 20
    expected = f"""Check complete, 1 warning has been found!

WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'BuilderBase' should be lowercase
Dockerfile:1
{rule}
   1 | >>> FROM alpine AS BuilderBase
   2 |     RUN true
{rule}
"""
    (warning,) = lint(TEXT)
    assert out.check_text([warning]) == expected
    assert warning.short == "StageNameCasing: Stage name 'BuilderBase' should be lowercase (line 1)"
    two = out.check_text(lint("FROM a\nCMD x\nMAINTAINER y"))
    assert two.startswith("Check complete, 2 warnings have been found!\n") and two.index(
        "JSONArgs"
    ) < two.index("Maintainer")
    failed = out.check_text([warning], DockerfileError("bad", span=Span("Dockerfile", 2, 2, TEXT)))
    assert failed.endswith(
        f"\nERROR: bad\nDockerfile:2\n{rule}\n   1 |     FROM alpine AS BuilderBase\n   2 | >>> RUN true\n{rule}\n"
    )


def test_check_json() -> None:
    document = json.loads(out.check_json(lint(TEXT), "Dockerfile", TEXT, DockerfileError("bad")))
    assert document["warnings"] == [
        {
            "ruleName": "StageNameCasing", "description": "Stage names should be lowercase", "url": rule_url("StageNameCasing"),
            "detail": "Stage name 'BuilderBase' should be lowercase", "location": {"ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
        }
    ]  # fmt: skip
    assert base64.b64decode(document["sources"][0]["data"]).decode() == TEXT
    assert document["buildError"] == {"message": "bad"}


OUTLINE = """# VERSION of go
ARG VERSION=1.22
ARG UNUSED=1
# build compiles
FROM golang:$VERSION AS build
# DEBUG says more
ARG DEBUG=0
RUN --mount=type=secret,id=token,required --mount=type=ssh make
FROM x AS other
ARG OTHER
# release is small
FROM scratch AS release
COPY --from=build /a /a
"""


def test_outline() -> None:
    df = parse(OUTLINE.encode(), "Dockerfile")
    got = out.outline(df, df.stages[2], {0, 2}, {"DEBUG": "1"})
    assert [(a.name, a.value, a.description) for a in got.args] == [
        ("VERSION", "1.22", "of go"),
        ("DEBUG", "1", "says more"),
    ]
    assert out.outline_text(got) == (
        "TARGET:        release\nDESCRIPTION:   is small\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nVERSION     1.22    of go\nDEBUG       1       says more\n\n"
        "SECRET   REQUIRED\ntoken    true\n\nSSH       REQUIRED\ndefault\n"
    )
    document = json.loads(out.outline_json(got, df.source))
    assert (
        document["name"] == "release"
        and document["secrets"] == [{"name": "token", "required": True}]
        and document["ssh"] == [{"name": "default"}]
    )
    assert document["args"][0]["location"]["ranges"][0]["start"]["line"] == 2


def test_targets() -> None:
    df = parse(OUTLINE.encode(), "Dockerfile")
    got = out.targets(df)
    assert (
        out.targets_text(got)
        == "TARGET              DESCRIPTION\nbuild               compiles\nother\nrelease (default)   is small\n"
    )
    document = json.loads(out.targets_json(got, df.source))
    assert document["targets"][0] == {
        "name": "build",
        "description": "compiles",
        "base": "golang:$VERSION",
        "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]},
    }
    assert [t.get("default", False) for t in document["targets"]] == [False, False, True]
    assert out.targets_text(out.targets(parse(b"FROM a", "F"))) == "TARGET      DESCRIPTION\n(default)\n"
