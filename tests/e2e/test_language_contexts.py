"""Where files come from: contexts of every kind, ignore files, the Dockerfile's place (dockerfile.md §0, §13)."""

from __future__ import annotations

import base64
import gzip
import io
import lzma
import subprocess
import tarfile

import pytest
from tests.e2e.language import Case
from tests.e2e.servers import Repository, git, git_over_http, git_server, http_files

pytestmark = pytest.mark.e2e

REPOSITORY = {
    "f": "F",
    "run.sh": "x",
    "sub/s": "S",
    "sub/Dockerfile": "FROM scratch\nCOPY . /y/\n",
    "Dockerfile": "FROM scratch\nCOPY . /x/\n",
    ".dockerignore": "f\n",
}


@pytest.fixture
def case(shared_lap, tmp_path):
    return Case(shared_lap, tmp_path)


def tar_of(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def files_of(case: Case, context: object, *flags: object, stdin: bytes = b"", cwd=None) -> list[str] | str:
    """The files a build of ``context`` gave, or its ERROR line."""
    out = case.tmp / f"out-{len(list(case.tmp.iterdir()))}"
    done = subprocess.run(
        [*case.lap.command, "build", *map(str, flags), "-o", f"type=local,dest={out}", str(context)],
        env=case.lap.env, input=stdin, capture_output=True, check=False, cwd=cwd or case.tmp,
    )  # fmt: skip
    if done.returncode:
        text = done.stderr.decode()
        assert "Traceback" not in text, text
        return next(x for x in text.splitlines() if x.startswith("ERROR: ")).removeprefix("ERROR: ")
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if not p.is_dir() or p.is_symlink())


def test_git_references_as_sources(case, tmp_path):
    with git_server(tmp_path / "git", REPOSITORY) as repo:
        url = repo.url
        found = case.tree(
            f"FROM scratch\nADD {url} /a\nADD {url}#dev /b/\nADD {url}#v1:sub /c\n"
            f"ADD {url}?tag=v2&subdir=sub /d\nADD --keep-git-dir {url}#v2 /e\nADD {url}#{repo.commit} /g\n"
            f"ADD --checksum={repo.commit[:10]} {url}#main /h\nADD --chown=5 --chmod=700 {url} /own\n"
        )
        assert found["a/f"] == (0o644, 0, 0, "F")
        assert found["a/run.sh"][0] == 0o755
        assert "a/.git/" not in found and "a/dev" not in found
        assert found["b/dev"][3] == "D"
        assert found["c/s"][3] == found["d/s"][3] == "S"
        assert "e/.git/HEAD" in found and "e/dev" in found
        assert "g/f" in found and "h/f" in found
        assert found["own/sub/s"] == (0o700, 5, 5, "S")
        for reference, message in (
            ("?foo=1", 'unexpected query "foo"'),
            ("?tag=", 'query "tag" has no value'),
            ("?tag=a&tag=b", 'query "tag" has multiple values'),
            ("?branch=a&tag=b", "branch conflicts with tag"),
            ("?ref=a#b", 'ref conflicts: "b" vs "a"'),
            ("?mtime=x", 'invalid mtime value: "x" (must be "checkout" or "commit")'),
        ):
            assert case.error(f"FROM scratch\nADD {url}{reference} /x\n") == message
        keep = case.error(f"FROM scratch\nADD --keep-git-dir {url}?keep-git-dir=0 /x\n")
        assert keep == "inconsistent keep-git-dir configuration"
        assert "does not contain ref nope" in case.error(f"FROM scratch\nADD {url}#nope /x\n")
        assert "expected checksum to match abcdef1" in case.error(
            f"FROM scratch\nADD {url}?checksum=abcdef1 /x\n"
        )


def test_git_contexts(case, tmp_path):
    with git_server(tmp_path / "git", REPOSITORY) as repo:
        everything = ["x/.dockerignore", "x/Dockerfile", "x/f", "x/run.sh", "x/sub/Dockerfile", "x/sub/s"]
        assert files_of(case, repo.url) == everything  # the ignore file does not count (§13)
        assert files_of(case, repo.url + "#dev") == sorted([*everything, "x/dev"])
        assert files_of(case, repo.url + "#:sub") == ["y/Dockerfile", "y/s"]
        assert files_of(case, repo.url + "#v1:sub") == ["y/Dockerfile", "y/s"]
        assert "y/f" in files_of(case, repo.url, "-f", "sub/Dockerfile")
        assert "x/.git/HEAD" in files_of(case, repo.url, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
        local = tmp_path / "local.Dockerfile"
        local.write_text("FROM scratch\nCOPY f /local\n")
        assert files_of(case, repo.url, "-f", local) == ["local"]
        assert files_of(case, repo.url, "-f", "-", stdin=b"FROM scratch\nCOPY f /stdin\n") == ["stdin"]
        missing = files_of(case, repo.url, "-f", "../../etc/passwd")
        assert missing.endswith("failed to read dockerfile: open passwd: no such file or directory")
        named = case.context("FROM scratch\nCOPY --from=g f /named\nCOPY --from=h s /n2\n")
        flags = ("--build-context", f"g={repo.url}", "--build-context", f"h={repo.url}#v1:sub")
        assert files_of(case, named, *flags) == ["n2", "named"]


def test_a_dockerfile_that_is_a_link_out_of_a_fetched_context(case, tmp_path):
    with git_server(tmp_path / "git", {"f": "F"}) as repo:
        work = repo.root / "work"
        (work / "Dockerfile").symlink_to("../../../../../../../../etc/passwd")
        subprocess.run(
            "git add -A && git -c user.name=t -c user.email=t@e commit -qm x && git push -q ../r.git main",
            shell=True, cwd=work, check=True,
        )  # fmt: skip
        message = files_of(case, repo.url)
        assert message.endswith("failed to read dockerfile: open Dockerfile: no such file or directory")


def test_git_over_http_with_a_token_from_a_secret(case, tmp_path):
    basic = "Basic " + base64.b64encode(b"x-access-token:tok").decode()
    repo = Repository(tmp_path / "git", REPOSITORY)
    with git_over_http(repo, basic) as url:
        host = url.split("/")[2]
        text = f"FROM scratch\nADD {url}#dev /a\n"
        token = f"--secret=id=GIT_AUTH_TOKEN.{host},env=TOKEN"
        assert case.tree(text, token, env={"TOKEN": "tok"})["a/dev"][3] == "D"
        header = "--secret=id=GIT_AUTH_HEADER,env=HEADER"
        assert case.tree(text, header, "--no-cache", env={"HEADER": basic})["a/dev"][3] == "D"
        assert "x/f" in files_of(case, url, f"--secret=id=GIT_AUTH_TOKEN,src={secret_file(tmp_path, 'tok')}")
        refused = case.error(text, "--no-cache")
        assert "Authentication failed" in refused or "could not read Username" in refused
        assert "tok" not in refused


def test_git_as_plain_files_over_http(case, tmp_path):
    repo = Repository(tmp_path / "git", REPOSITORY)
    bare = repo.root / "r.git"
    git("update-server-info", cwd=bare)
    files = {f"/r.git/{p.relative_to(bare)}": p.read_bytes() for p in bare.rglob("*") if p.is_file()}
    with http_files(files) as url:
        found = case.tree(f"FROM scratch\nADD {url}/r.git#v1:sub /c\nADD {url}/r.git#dev /d\n")
    assert found["c/s"][3] == "S"
    assert found["d/dev"][3] == "D"


def secret_file(where, text: str):
    path = where / "token"
    path.write_text(text)
    return path


PACKED = {
    "Dockerfile": "FROM scratch\nCOPY . /x/\n",
    "a": "A",
    ".dockerignore": "a\n",
    "sub/df": "FROM scratch\nCOPY a /s\n",
}
ALL = ["x/.dockerignore", "x/Dockerfile", "x/a", "x/sub/df"]
TEXT = b"FROM scratch\nCOPY <<E /h\nx\nE\n"


def test_contexts_over_http_and_on_standard_input(case):
    packed = gzip.compress(tar_of(PACKED))
    with http_files({"/c.tgz": packed, "/c.tar": tar_of(PACKED), "/df": TEXT, "/file": b"data"}) as url:
        assert files_of(case, url + "/c.tgz") == ALL
        assert files_of(case, url + "/c.tar", "-f", "sub/df") == ["s"]
        assert files_of(case, url + "/df") == ["h"]
        assert files_of(case, url + "/nope").endswith("invalid response status 404")
        assert files_of(case, case.context(None, {"l": "L"}), "-f", url + "/df") == ["h"]
        named = case.context("FROM scratch\nCOPY --from=one . /1/\nCOPY --from=two . /2/\n")
        flags = ("--build-context", f"one={url}/file", "--build-context", f"two={url}/c.tgz")
        assert files_of(case, named, *flags) == [
            "1/file",
            "2/.dockerignore",
            "2/Dockerfile",
            "2/a",
            "2/sub/df",
        ]
    assert files_of(case, "-", stdin=packed) == ALL
    assert files_of(case, "-", "-f", "sub/df", stdin=lzma.compress(tar_of(PACKED))) == ["s"]
    assert files_of(case, "-", stdin=TEXT) == ["h"]
    assert files_of(case, "-", "-f", "x", stdin=TEXT) == (
        "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"
    )
    assert files_of(case, "-", "-f", "-") == (
        "invalid argument: can't use stdin for both build context and dockerfile"
    )


def test_where_the_dockerfile_and_its_ignore_file_are(case):
    directory = case.context(
        None,
        {
            "Dockerfile": "FROM scratch\nCOPY . /x/\n",
            "a": "A",
            "l": "L",
            ".dockerignore": "a\n",
            "df2": "FROM scratch\nCOPY . /x/\n",
            "df2.dockerignore": "l\n**/df*\nlower\n",
            "lower/dockerfile": "FROM scratch\nCOPY <<E /low\nE\n",
        },
    )
    assert "x/a" not in files_of(case, directory)
    assert files_of(case, directory, "-f", directory / "df2") == ["x/.dockerignore", "x/Dockerfile", "x/a"]
    assert files_of(case, ".", "-f", "df2", cwd=directory) == ["x/.dockerignore", "x/Dockerfile", "x/a"]
    assert files_of(case, directory / "lower") == ["low"]
    assert files_of(case, directory, "-f", "nope") == (
        "failed to build: failed to solve: failed to read dockerfile: open nope: no such file or directory"
    )
    assert files_of(case, "/nonexistent") == 'unable to prepare context: path "/nonexistent" not found'
    assert files_of(case, "") == 'please specify build context (e.g. "." for the current directory)'


def test_named_contexts(case, tmp_path):
    layout = tmp_path / "layout"
    case.build(
        "FROM scratch\nCOPY <<E /in-layout\nE\n", "-o", f"type=oci,dest={layout},tar=false", "-t", "lay:1"
    )
    other = case.context(None, {"x": "X", "ignored": "I", ".dockerignore": "ignored\n"})
    one = case.context("FROM base\nCOPY --from=dir . /dir/\n")
    flags = ("--build-context", f"base=oci-layout://{layout}:1", "--build-context", f"dir={other}")
    assert files_of(case, one, *flags) == ["dir/.dockerignore", "dir/x", "in-layout"]
    override = case.context(
        "FROM alpine AS s\nRUN false\nFROM s AS t\nFROM scratch\nCOPY --from=s x /1\nCOPY --from=t x /2\n"
    )
    assert files_of(case, override, "--build-context", f"s={other}") == ["1", "2"]
    base = case.context(
        "FROM docker.io/library/alpine:latest AS s\nFROM scratch\nCOPY --from=s bin/busybox /\n"
    )
    assert files_of(case, base, "--build-context", "alpine=docker-image://busybox") == ["busybox"]
    bad = files_of(case, one, "--build-context", "base=/nonexistent")
    assert bad == "failed to get build context base: stat /nonexistent: no such file or directory"
    assert files_of(case, override, "--build-context", f"s::linux/amd64={other}") == ["1", "2"]


IGNORE_TABLE = [
    ("*\n!src\n", ["src/a"]),
    ("*.md\n!README*.md\nREADME-secret.md\n", [".x", "README.md", "n/m/k", "nm/k", "sub/o.md", "src/a"]),
    ("nm\n", [".x", "README-secret.md", "README.md", "n/m/k", "o.md", "sub/o.md", "src/a"]),
    ("/src\n**/k\n", [".x", "README-secret.md", "README.md", "o.md", "sub/o.md"]),
    ("n/*/k\n# sub\n\n  src  \n", [".x", "README-secret.md", "README.md", "nm/k", "o.md", "sub/o.md"]),
    ("**\n!sub/o.md\n", ["sub/o.md"]),
]


def test_ignore_files(case):
    files = dict.fromkeys(
        ("o.md", "README.md", "README-secret.md", "src/a", "nm/k", "n/m/k", "sub/o.md", ".x"), ""
    )
    own = {".dockerignore", "Dockerfile"}
    for text, visible in IGNORE_TABLE:
        found = files_of(case, case.context("FROM scratch\nCOPY . /\n", files | {".dockerignore": text}))
        assert [p for p in found if p not in own] == sorted(visible), text
    bad = files_of(case, case.context("FROM scratch\n", {".dockerignore": "a\n!\n"}))
    assert bad.endswith('illegal exclusion pattern: "!"')
