"""Go's textual forms, mounts, devices, suggestions and excerpts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.dockerfile.excerpt import render
from lapstrake.dockerfile.numbers import (
    format_duration,
    parse_bool,
    parse_chmod,
    parse_duration,
    parse_ports,
    parse_signal,
    parse_size,
    quote,
    quote_list,
)
from lapstrake.dockerfile.runflags import DeviceFlag, MountFlag, parse_device, parse_mount, split_csv
from lapstrake.dockerfile.suggest import hint, nearest
from lapstrake.errors import DockerfileError, Span

S = 10**9


@pytest.mark.parametrize(
    ("text", "ns", "shown"),
    [
        ("1.5h30m", 7200 * S, "2h0m0s"), ("300ms", 3 * S // 10, "300ms"), ("1us", 1000, "1µs"), ("1m30s", 90 * S, "1m30s"), ("0", 0, "0s"),
        ("-1.5s", -15 * S // 10, "-1.5s"), ("1h", 3600 * S, "1h0m0s"), ("1ns", 1, "1ns"), (".5s", S // 2, "500ms"), ("1.s", S, "1s"), ("1500us", 1500000, "1.5ms"),
    ],
)  # fmt: skip
def test_durations(text: str, ns: int, shown: str) -> None:
    assert parse_duration(text) == ns
    assert format_duration(ns) == shown


@given(st.integers(-(2**60), 2**60))
def test_durations_round_trip(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'), ("x", 'time: invalid duration "x"'), ("5", 'time: missing unit in duration "5"'),
        ("5y", 'time: unknown unit "y" in duration "5y"'), (".s", 'time: invalid duration ".s"'), ("9999999h", 'time: invalid duration "9999999h"'),
    ],
)  # fmt: skip
def test_bad_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError) as e:
        parse_duration(text)
    assert str(e.value) == message


def test_booleans() -> None:
    assert all(parse_bool(t) for t in "1 t T TRUE true True".split())
    assert not any(parse_bool(t) for t in "0 f F FALSE false False".split())
    with pytest.raises(ValueError, match=r'^strconv.ParseBool: parsing "yes": invalid syntax$'):
        parse_bool("yes")


def test_quote() -> None:
    assert quote('a"b\\c\n\x00é\u200b\U000e0001\udcff') == '"a\\"b\\\\c\\n\\x00é\\u200b\\U000e0001\\xff"'
    assert quote_list(["/bin/sh", "-c", "a b"]) == '["/bin/sh" "-c" "a b"]'


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        (["80"], ["80/tcp"]), (["443/UDP", "80"], ["443/udp", "80/tcp"]), (["8000-8002/sctp"], ["8000/sctp", "8001/sctp", "8002/sctp"]),
        (["127.0.0.1:8080:80"], ["80/tcp"]), (["8080:80"], ["80/tcp"]), (["[::1]:1:2"], ["2/tcp"]), (["80", "80/tcp"], ["80/tcp"]), (["80/"], ["80/tcp"]),
        (["8000-9000:80"], ["80/tcp"]),
    ],
)  # fmt: skip
def test_ports(words: list[str], ports: list[str]) -> None:
    assert parse_ports(words) == ports


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("/tcp", 'invalid port: "/tcp": no port specified'), ("80/foo", 'invalid port: "80/foo": invalid proto: foo'), ("x", "invalid containerPort: x"),
        ("90000", "invalid containerPort: 90000"), ("9-8", "invalid containerPort: 9-8"), ("x:80", "invalid hostPort: x"), ("a:1:2", "invalid IP address: a"),
        ("1-3:5-6", "invalid ranges specified for container and host Ports: 5-6 and 1-3"),
    ],
)  # fmt: skip
def test_bad_ports(word: str, message: str) -> None:
    with pytest.raises(DockerfileError) as e:
        parse_ports([word])
    assert e.value.message == message


def test_signals() -> None:
    assert [parse_signal(t) for t in ("SIGKILL", "term", "9", "SIGRTMIN+3", "RTMAX-1", "SigIot")] == [
        9,
        15,
        9,
        37,
        63,
        6,
    ]
    for bad in ("0", "FOO", "", "SIG", "-9", "RTMIN+99"):
        with pytest.raises(DockerfileError, match="^invalid signal: "):
            parse_signal(bad)


def test_sizes() -> None:
    assert [parse_size(t) for t in ("10", "1k", "1.5m", "2GB", "1 GiB", ".5k")] == [
        10,
        1024,
        3 << 19,
        2 << 30,
        1 << 30,
        512,
    ]
    for bad in ("", "k", "-1", "1x", "1.x", "1kbb"):
        with pytest.raises(ValueError, match="invalid size"):
            parse_size(bad)


@pytest.mark.parametrize(
    ("text", "mode", "is_dir", "expected"),
    [
        ("0755", 0o600, False, 0o755), ("4755", 0, False, 0o4755), ("u=rwX,go=rX", 0o640, False, 0o644), ("u=rwX,go=rX", 0o700, True, 0o755),
        ("+x", 0o644, False, 0o755), ("g=u", 0o640, False, 0o660), ("a-w", 0o666, False, 0o444), ("u+s", 0o755, False, 0o4755), ("+t", 0o777, True, 0o1777),
        ("go-rwx,u+x", 0o666, False, 0o700), ("u=r+w", 0, False, 0o600), ("o=", 0o777, False, 0o770), ("u+X", 0o611, False, 0o711),
    ],
)  # fmt: skip
def test_chmod(text: str, mode: int, is_dir: bool, expected: int) -> None:
    assert oct(parse_chmod(text).apply(mode, is_dir)) == oct(expected)


@pytest.mark.parametrize("text", ["", "8", "10000", "rwx", "u", "u=q", "x+", "0o7", "u=r,", "-1"])
def test_bad_chmod(text: str) -> None:
    with pytest.raises(DockerfileError) as e:
        parse_chmod(text)
    assert (
        e.value.message
        == f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
    )


# -- §8.1 --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        ("target=/a", MountFlag(target="/a")),
        ("", MountFlag()),
        (
            "type=cache,dst=/a,id=x,sharing=LOCKED,mode=0700,uid=1,gid=2,from=b,src=c",
            MountFlag("cache", "/a", "c", "b", None, "x", "locked", 0, 0o700, 1, 2),
        ),
        ("type=tmpfs,destination=/t,size=64m", MountFlag("tmpfs", "/t", size=64 << 20)),
        ("type=secret,src=tok,required", MountFlag("secret", id="tok", required=True)),
        ("type=secret,target=/run/key", MountFlag("secret", "/run/key", id="key")),
        ("type=secret,id=a,env=A,required=false", MountFlag("secret", id="a", env="A")),
        ("type=ssh", MountFlag("ssh")),
        ("ro=false,target=/a", MountFlag(target="/a", readonly=False)),
        ("rw,target=/a", MountFlag(target="/a", readonly=False)),
        ("TYPE=BIND,Target=$X", MountFlag(target="/x")),
        ('type=bind,"target=/a,b"', MountFlag(target="/a,b")),
    ],
)
def test_mounts(value: str, flag: MountFlag) -> None:
    assert parse_mount(value, lambda s: s.replace("$X", "/x")) == flag


def test_mount_default_access() -> None:
    assert (
        MountFlag().is_readonly
        and not MountFlag("cache").is_readonly
        and not MountFlag("bind", readonly=False).is_readonly
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("type=cach", 'unsupported mount type "cach" (did you mean cache?)'),
        ("type=foo", 'unsupported mount type "foo"'),
        ("targt=/a", "unexpected key 'targt' in 'targt=/a' (did you mean target?)"),
        ("required,type=secret", "unexpected key 'required' for mount type 'bind'"),
        ("size=1,type=tmpfs", "unexpected key 'size' for mount type 'bind'"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=a", "invalid value a for uid"),
        ("type=cache,gid=-1", "invalid value -1 for gid"),
        ("type=cache,sharing=x", 'unsupported sharing value "x"'),
        ("sharing=locked", "invalid cache sharing set for bind mount"),
        ("mode=1", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=secret,from=a", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,src=a,id=b", "both source and id can't be set"),
        ("type=ssh,src=a", "ssh does not support source"),
        ("from=$X", "'from' doesn't support variable expansion, define alias stage instead"),
        ('a"b=c', 'failed to parse csv mounts: parse error on line 1, column 2: bare " in non-quoted-field'),
        (
            '"a',
            'failed to parse csv mounts: parse error on line 1, column 3: extraneous or missing " in quoted-field',
        ),
    ],
)
def test_bad_mounts(value: str, message: str) -> None:
    with pytest.raises(DockerfileError) as e:
        parse_mount(value, lambda s: s)
    assert e.value.message == message


def test_early_check_spares_variables() -> None:
    flag = parse_mount("type=cache,target=$T,mode=$M,uid=$U,sharing=$S", None)
    assert (flag.target, flag.type) == ("$T", "cache")
    with pytest.raises(DockerfileError):
        parse_mount("type=cache,mode=x", None)


def test_csv() -> None:
    assert split_csv('a,"b ""c"", d",,e') == ["a", 'b "c", d', "", "e"]
    assert split_csv('a,""') == ["a", ""]
    with pytest.raises(ValueError, match="extraneous"):
        split_csv('"a"b')


def test_devices() -> None:
    assert parse_device("vendor.com/gpu=0,required") == DeviceFlag("vendor.com/gpu=0", True)
    assert parse_device("name=a/b,required=false") == DeviceFlag("a/b")
    for bad, message in (
        ("a,b", "device name already set to a"),
        ("a,required=x", "invalid value for required: x"),
    ):
        with pytest.raises(DockerfileError) as e:
            parse_device(bad)
        assert e.value.message == message


# -- suggestions and excerpts ------------------------------------------------


def test_suggestions() -> None:
    assert nearest("fro", ["from", "form"]) == "from"
    assert nearest("from", ["from", "form"]) == ""
    assert nearest("xxxx", ["from"]) == ""
    assert nearest("cpy", ["COPY"], case_sensitive=False) == "copy"
    assert hint("FO", ["FOO"], prefix="$") == " (did you mean $FOO?)"


def test_excerpt() -> None:
    text = "FROM alpine\n\nRUNN echo hi\n\nCMD x\nCMD y\n"
    rule = "-" * 20
    assert (
        render(Span("Dockerfile", 3, 3, text))
        == f"Dockerfile:3\n{rule}\n   1 |     FROM alpine\n   2 |\n   3 | >>> RUNN echo hi\n   4 |\n   5 |     CMD x\n{rule}\n"
    )
    assert (
        render(Span("D", 5, 6, text)) == f"D:5\n{rule}\n   4 |\n   5 | >>> CMD x\n   6 | >>> CMD y\n{rule}\n"
    )
    assert render(Span("D", 1, 1, "")) == ""
    assert render(Span("D", 9, 12, "a\udcff"))
