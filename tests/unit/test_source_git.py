"""Git references: the grammar, and checkouts of real repositories."""

import os
import subprocess

import pytest

from lapstrake.errors import BuildError, ResolveError
from lapstrake.source.git import Access, GitRef, checkout, is_git, parse, redacted, resolve, with_flags

FILES = Access(allow_file=True)
R = "https://h/o/r.git"
PARSED = [
    (R, GitRef(R)),
    (R + "#main", GitRef(R, "main")),
    (R + "#main:sub/dir", GitRef(R, "main", "sub/dir")),
    (R + "#:/sub/../x", GitRef(R, "", "x")),
    (R + "#v1:../../etc", GitRef(R, "v1", "etc")),
    (R + "?ref=v1", GitRef(R, "v1")),
    (R + "?tag=v1", GitRef(R, "refs/tags/v1")),
    (R + "?branch=b&subdir=s", GitRef(R, "refs/heads/b", "s")),
    (R + "?branch=b#b", GitRef(R, "refs/heads/b")),
    (
        R + "?commit=abcdef1&keep-git-dir&submodules=0",
        GitRef(R, checksum="abcdef1", keep_git_dir=True, submodules=False),
    ),
    (R + "?mtime=commit&fetch-by-commit=true", GitRef(R, mtime="commit", fetch_by_commit=True)),
    ("git@github.com:o/r.git#x:y", GitRef("git@github.com:o/r.git", "x", "y")),
    ("user@host:path", GitRef("user@host:path")),
    ("ssh://git@h:22/o/r", GitRef("ssh://git@h:22/o/r")),
    ("git://h/r", GitRef("git://h/r")),
    ("github.com/o/r", GitRef("https://github.com/o/r")),
]


@pytest.mark.parametrize(("text", "expected"), PARSED)
def test_parse(text, expected):
    assert is_git(text)
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://h/x.tar.gz",
        "https://h/r.git/x",
        "./x",
        "dir",
        "a:b",
        "http://h/x#y.git",
        "/a@b:c",
        "ftp://h/r.git",
        "C:/x",
    ],
)
def test_no_git(text):
    assert not is_git(text)


BAD = [
    ("?ref=a#b", 'ref conflicts: "b" vs "a"'),
    ("?tag=a&branch=b", "branch conflicts with tag"),
    ("?tag=a#b", 'ref conflicts: "b" vs "refs/tags/a"'),
    ("?subdir=a#:b", 'subdir conflicts: "b" vs "a"'),
    ("?x=1", 'unexpected query "x"'),
    ("?ref=", 'query "ref" has no value'),
    ("?ref=a&ref=b", 'query "ref" has multiple values'),
    ("?mtime=now", 'invalid mtime value: "now" (must be "checkout" or "commit")'),
    ("?submodules=maybe", 'invalid submodules value: "maybe"'),
    ("?checksum=xyz", 'invalid checksum "xyz"'),
    ("#--upload-pack=touch x", "invalid git reference"),
    ("#-x", "invalid git reference"),
    ("#a b", "invalid git reference"),
    ("#a\nb", "invalid git reference"),
    ("#a..b", "invalid git reference"),
    ("#a:-b", "invalid git subdirectory"),
]


@pytest.mark.parametrize(("tail", "message"), BAD)
def test_bad(tail, message):
    with pytest.raises(BuildError) as caught:
        parse(R + tail)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c x",
        "https://-oProxyCommand=x/r.git",
        "ssh://-oProxyCommand=x/r",
        "-o@h:x",
        "git@-oX:r",
        "--upload-pack=x@h:y",
        "ssh:///r",
        "ext://x",
    ],
)
def test_hostile_remotes(text):
    with pytest.raises(BuildError):
        parse(text)


def test_flags():
    base = parse(R + "?commit=abcdef123")
    assert with_flags(base, checksum="abcdef1").checksum == "abcdef123"
    assert with_flags(base, checksum="abcdef1234").checksum == "abcdef1234"
    with pytest.raises(BuildError, match='checksum mismatch "1234567" != "abcdef123"'):
        with_flags(base, checksum="1234567")
    with pytest.raises(BuildError, match="inconsistent keep-git-dir"):
        with_flags(parse(R + "?keep-git-dir=0"), keep_git_dir=True)


def git(*args, cwd):
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "n", f"GIT_{who}_EMAIL": "e@x", f"GIT_{who}_DATE": "1500000000 +0000"}
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *args],
        cwd=cwd,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path):
    root = tmp_path / "repo"
    (root / "sub" / "dir").mkdir(parents=True)
    git("init", "-q", ".", cwd=root)
    (root / "f").write_text("one")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o700)
    (root / "sub" / "dir" / "g").write_text("g")
    (root / "out").symlink_to("../..")
    (root / "ln").symlink_to("sub")
    git("add", "-A", cwd=root)
    git("commit", "-q", "-m", "first", cwd=root)
    git("tag", "-a", "v1", "-m", "v1", cwd=root)
    (root / "f").write_text("two")
    git("commit", "-q", "-a", "-m", "second", cwd=root)
    git("branch", "dev", cwd=root)
    (root / "f").write_text("three")
    git("commit", "-q", "-a", "-m", "third", cwd=root)
    return root


def at(repo, ref=""):
    return git("rev-parse", f"{ref or 'HEAD'}^{{commit}}", cwd=repo)


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("", "three"),
        ("main", "three"),
        ("dev", "two"),
        ("v1", "one"),
        ("refs/tags/v1", "one"),
        ("refs/heads/dev", "two"),
        ("HEAD~1", None),
    ],
)
def test_resolve_and_checkout(repo, tmp_path, ref, text):
    if text is None:
        with pytest.raises(BuildError, match="invalid git reference"):
            parse(f"file://{repo}#{ref}")
        return
    found = parse(f"file://{repo}#{ref}")
    assert resolve(found, FILES) == at(repo, ref)
    target = tmp_path / "target"
    target.mkdir()
    assert checkout(found, str(target), access=FILES) == at(repo, ref)
    assert sorted(os.listdir(target)) == ["f", "ln", "out", "run.sh", "sub"]
    assert (target / "f").read_text() == text
    modes = [os.stat(target / n).st_mode & 0o777 for n in ("f", "run.sh", "sub")]
    assert modes == [0o644, 0o755, 0o755]
    assert sorted(os.listdir(tmp_path)) == ["repo", "target"]


def test_commit_keep_and_times(repo, tmp_path):
    first = at(repo, "v1")
    target = tmp_path / "target"
    target.mkdir()
    checkout(parse(f"file://{repo}?mtime=commit&keep-git-dir=1#{first}"), str(target), access=FILES)
    assert git("rev-parse", "HEAD", cwd=target) == first
    assert git("status", "--porcelain", cwd=target) == ""
    assert os.stat(target / "f").st_mtime == os.stat(target / "sub" / "dir").st_mtime == 1_500_000_000
    assert (
        str(repo)
        not in subprocess.run(
            ["grep", "-r", "file://", str(target / ".git")], capture_output=True, text=True, check=False
        ).stdout
    )


def test_subdirectories_stay_inside(repo, tmp_path):
    for name, expected in (
        ("sub", ["dir"]),
        ("ln/dir", ["g"]),
        ("out/out", None),
        ("f", None),
        ("nope", None),
    ):
        target = tmp_path / name.replace("/", "_")
        target.mkdir()
        found = parse(f"file://{repo}#main:{name}")
        if expected is None and name != "out/out":
            with pytest.raises(ResolveError, match="no such directory"):
                checkout(found, str(target), access=FILES)
            continue
        checkout(found, str(target), access=FILES)
        # A link out of the repository ends at its root.
        assert sorted(os.listdir(target)) == (expected or ["f", "ln", "out", "run.sh", "sub"])


def test_checksum_and_missing(repo):
    found = parse(f"file://{repo}#v1")
    assert resolve(with_flags(found, checksum=at(repo, "v1")[:9]), FILES) == at(repo, "v1")
    with pytest.raises(ResolveError, match="expected checksum to match 0000000"):
        resolve(with_flags(found, checksum="0000000"), FILES)
    with pytest.raises(ResolveError, match="does not contain ref nope"):
        resolve(parse(f"file://{repo}#nope"), FILES)


def test_local_transports_are_off(repo):
    with pytest.raises(ResolveError):
        resolve(parse(f"file://{repo}"))


def test_submodule_of_a_local_path_is_refused(repo, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    git("init", "-q", ".", cwd=secret)
    (secret / "canary").write_text("x")
    git("add", "-A", cwd=secret)
    git("commit", "-q", "-m", "x", cwd=secret)
    git("submodule", "add", "-q", f"file://{secret}", "m", cwd=repo)
    git("commit", "-q", "-m", "submodule", cwd=repo)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ResolveError, match="not allowed"):
        checkout(parse(f"file://{repo}"), str(target), access=FILES)
    checkout(parse(f"file://{repo}?submodules=0"), str(target), access=FILES)
    assert os.listdir(target / "m") == []


def test_hooks_and_filters_of_the_machine_do_not_run(repo, tmp_path):
    (repo / ".gitattributes").write_text("* filter=evil\n")
    git("add", "-A", cwd=repo)
    git("commit", "-q", "-m", "attributes", cwd=repo)
    target = tmp_path / "target"
    target.mkdir()
    checkout(parse(f"file://{repo}"), str(target), access=FILES)
    assert (target / "f").read_text() == "three"


def test_redaction():
    assert redacted("https://token@h/r.git") == "https://xxxxx@h/r.git"
    assert redacted("https://u:p@h/r.git") == "https://xxxxx@h/r.git"
    assert redacted("git@h:r") == "git@h:r"
    with pytest.raises(ResolveError) as caught:
        resolve(parse("http://u:secret@127.0.0.1:9/r.git"))
    assert "secret" not in caught.value.message
