"""kaniko's flags as build's."""

from __future__ import annotations

import pytest

from lapstrake.cli.flags import parse
from lapstrake.cli.kaniko import _spec, translate
from lapstrake.errors import UsageError


def words(*argv: str) -> list[str]:
    return list(translate(parse(_spec(), argv)).words)


def registry(*argv: str) -> dict:
    return translate(parse(_spec(), [*argv, "--no-push"])).registry


BASE = ["--progress=plain"]


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        (
            ["--context", "dir:///ctx", "-d", "r.example/a:1"],
            [*BASE, "--output=type=registry,name=r.example/a:1", "--file=/ctx/Dockerfile", "/ctx"],
        ),
        (
            ["-c", "/ctx", "-d", "r/a:1", "-d", "r/b:1", "-f", "/x/D", "--context-sub-path", "sub"],
            [*BASE, '--output=type=registry,"name=r/a:1,r/b:1"', "--file=/x/D", "/ctx/sub"],
        ),
        (
            ["-c", "/c", "--no-push", "--tar-path", "i.tar", "-d", "a:1", "--single-snapshot"],
            [*BASE, "--output=type=docker,dest=i.tar,name=a:1,layers=squash-above-base", "--file=/c/Dockerfile", "/c"],
        ),
        (
            ["-c", "/c", "--no-push", "--oci-layout-path", "lay"],
            [*BASE, "--output=type=oci,tar=false,dest=lay", "--file=/c/Dockerfile", "/c"],
        ),
        (["-c", "/c", "--no-push"], [*BASE, "--output=type=cacheonly", "--file=/c/Dockerfile", "/c"]),
        (
            ["-c", "/c", "-d", "r.example/a:1", "--cache", "--build-arg", "A=1", "--label", "l=v", "--target", "t",
             "--custom-platform", "linux/arm64", "--reproducible", "-v", "error"],
            ["--build-arg=A=1", "--label=l=v", "--target=t", "--platform=linux/arm64", "--source-date-epoch=0",
             "--rewrite-timestamp", "--progress=quiet", "--output=type=registry,name=r.example/a:1",
             "--cache-from=type=registry,ref=r.example/a/cache", "--cache-to=type=registry,ref=r.example/a/cache,mode=max",
             "--file=/c/Dockerfile", "/c"],
        ),
        (
            ["-c", "git://github.com/a/b.git#refs/heads/main", "--context-sub-path", "d", "--no-push"],
            [*BASE, "--output=type=cacheonly", "https://github.com/a/b.git#main:d"],
        ),
        (
            ["-c", "https://h/a/b", "--git", "branch=dev,single-branch", "--no-push"],
            [*BASE, "--output=type=cacheonly", "https://h/a/b.git#dev"],
        ),
        (["-c", "tar://stdin", "--no-push"], [*BASE, "--output=type=cacheonly", "-"]),
    ],
)  # fmt: skip
def test_translated(argv, want):
    assert words(*argv) == want


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        (["--insecure", "-d", "r.example:5000/a"], {"r.example:5000": {"http": True}}),
        (["--skip-tls-verify-registry", "r"], {"r": {"insecure": True}}),
        (["--registry-mirror", "m.example"], {"docker.io": {"mirrors": ["m.example"]}}),
        (["--registry-map", "index.docker.io=a;gcr.io=b"], {"docker.io": {"mirrors": ["a"]}, "gcr.io": {"mirrors": ["b"]}}),
        (["--registry-certificate", "h=/ca"], {"h": {"ca": ["/ca"]}}),
        (["--registry-client-cert", "h=/c,/k"], {"h": {"keypair": [{"cert": "/c", "key": "/k"}]}}),
    ],
)  # fmt: skip
def test_registries(argv, want):
    assert registry("-c", "/c", *argv) == want


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-c", "/c"], "you must provide --destination"),
        (["-c", "s3://b/x", "--no-push"], "object stores"),
        (["-c", "/c", "--no-push", "--cache"], "--cache-repo"),
        (["-c", "/c", "--no-push", "--registry-map", "x"], "HOST=MIRROR"),
    ],
)
def test_refused(argv, message):
    with pytest.raises(UsageError, match=message):
        words(*argv)


def test_what_has_no_effect_is_named():
    done = translate(parse(_spec(), ["-c", "/c", "--no-push", "--snapshot-mode=redo", "--use-new-run"]))
    assert done.ignored == ("--snapshot-mode", "--use-new-run")
