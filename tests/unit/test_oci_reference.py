"""Image names are read as Docker reads them (spec oci.md §10.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.errors import UsageError
from lapstrake.oci.reference import Reference, is_repository, is_tag, parse

D = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        (f"alpine@{D}", f"docker.io/library/alpine@{D}", f"alpine@{D}"),
        (f"alpine:3@{D}", f"docker.io/library/alpine:3@{D}", f"alpine:3@{D}"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("ghcr.io/team/app:1", "ghcr.io/team/app:1", "ghcr.io/team/app:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("host:5000/app", "host:5000/app:latest", "host:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("a--b/c__d.e", "docker.io/a--b/c__d.e:latest", "a--b/c__d.e:latest"),
        ("x:_.-9", "docker.io/library/x:_.-9", "x:_.-9"),
    ],
)
def test_names(text, full, familiar):
    ref = parse(text)
    assert (ref.full, ref.familiar) == (full, familiar)
    assert parse(ref.full).full == parse(ref.familiar).full == full


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("Alpine", "invalid reference format: repository name (library/Alpine) must be lowercase"),
        ("ghcr.io/Team/app:1", "invalid reference format: repository name (Team/app) must be lowercase"),
        ("a" * 64, "cannot specify 64-byte hexadecimal strings"),
        ("a/" + "b" * 255, "must not be more than 255 characters"),
        *((t, "invalid reference format") for t in (
            "a:", "a/", "/a", "a//b", "a..b", "a___b", "-a", "a-", "a.", ":1", "a:.1", "a:" + "x" * 129, "a b", "a\nb", "a@sha256:12", "a@md5:" + "a" * 32,
            f"a@{D.upper()}", "host:port/a", "ho_st.x/a", ".x/a", "x./a", "host:99999999/a", "[::1/a", "[x]:1/a", "../etc", "a/../b", "a:1:2", "é",
        )),
    ],
)  # fmt: skip
def test_bad_names(text, message):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in caught.value.message


def test_tags_and_digests():
    ref = parse("app:1")
    assert ref.identifier == "1"
    assert ref.with_digest(D).identifier == D
    assert ref.with_digest(D).full == f"docker.io/library/app:1@{D}"
    assert ref.with_tag("2").familiar == "app:2"
    assert ref.with_tag("").familiar == "app:latest"
    for bad in (lambda: ref.with_tag("a b"), lambda: ref.with_digest("x")):
        with pytest.raises(UsageError):
            bad()


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_a_usage_error(text):
    try:
        ref = parse(text)
    except UsageError:
        return
    assert isinstance(ref, Reference)
    assert is_repository(ref.repository)
    assert not ref.tag or is_tag(ref.tag)
    assert parse(ref.full) == ref or not (ref.tag or ref.digest)


@given(
    st.from_regex(
        r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*){0,3}", fullmatch=True
    )
)
def test_every_repository_of_the_grammar(path):
    assert is_repository(path) == (len(path) <= 255)
