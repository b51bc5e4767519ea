"""RUN: its environment, mounts of every type, users, networks, heredocs (dockerfile.md §4, §8)."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from tests.conftest import need
from tests.e2e.language import Case

pytestmark = pytest.mark.e2e

B = "FROM busybox\n"


@pytest.fixture
def case(shared_lap, tmp_path):
    return Case(shared_lap, tmp_path)


def test_heredocs(case):
    text = (
        'SHELL ["/bin/sh","-ec"]\n'
        "RUN <<EOF\necho lone\necho second\nEOF\n"
        "RUN <<EOF\n#!/bin/cat\nnot for the shell\nEOF\n"
        "RUN <<EOF sh\necho piped $0\nEOF\n"
        "RUN 3<<X cat <&3\nthree\nX\n"
        "RUN cat <<A >/x && cat <<-B >/y && cat /x /y\na $HOME\nA\n\tb\n\tB\n"
        'RUN <<"Q"\necho "$HOME"\nQ\n'
        "RUN cat /x \\\n  # a comment\n\n  && echo end\n"
    )
    assert case.output(B + text, "--no-cache") == [
        "lone", "second", "#!/bin/cat", "not for the shell", "piped /bin/sh", "three", "a /root", "b", "/root",
        "a /root", "end",
    ]  # fmt: skip


def test_the_environment_of_a_step(case):
    out = case.output(
        B + "ARG A=1\nARG B\nENV C=3\nWORKDIR /w\nRUN echo $A-${B-unset}-$C-$http_proxy-$HTTP_PROXY; pwd; hostname; cat /etc/hosts\n"
        "RUN --network=none ip a | grep -c eth0 || :\nRUN ulimit -n; umask; ls -l /proc/self/fd/0 | grep -o '/dev/null'\n",
        "--build-arg=http_proxy=p", "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=zz", "--add-host=foo:1.2.3.4",
        "--ulimit=nofile=100:200", "--no-cache",
    )  # fmt: skip
    assert out == [
        "1-unset-3-p-p", "/w", "zz", "127.0.0.1\tlocalhost zz", "::1\tlocalhost ip6-localhost ip6-loopback", "1.2.3.4\tfoo",
        "0", "100", "0022", "/dev/null",
    ]  # fmt: skip


def test_users(case):
    text = (
        "FROM debian\nRUN useradd -m -G audio,video bob && useradd -u 1500 -g 100 al\n"
        "USER bob\nRUN id; echo $HOME\nUSER bob:video\nRUN id\nUSER 1500\nRUN id; echo $HOME\n"
        "USER 4242\nRUN id\nUSER 4242:33\nRUN id\nUSER bob\nWORKDIR /new/dir\nRUN stat -c %U /new /new/dir\n"
    )
    assert case.output(text, "--no-cache") == [
        "uid=1000(bob) gid=1000(bob) groups=1000(bob),29(audio),44(video)", "/home/bob",
        "uid=1000(bob) gid=44(video) groups=44(video)",
        "uid=1500(al) gid=100(users) groups=100(users)", "/home/al",
        "uid=4242 gid=0(root) groups=0(root)", "uid=4242 gid=33(www-data) groups=33(www-data)", "bob", "bob",
    ]  # fmt: skip
    assert (
        case.error(B + "USER nope\nRUN id\n")
        == "unable to find user nope: no matching entries in passwd file"
    )


def test_bind_mounts(case):
    text = (
        "FROM busybox AS s\nRUN mkdir -p /x/y && echo 1 >/x/y/z && ln -s /x/y /abs\nRUN echo 2 >/x/y/w\n"
        "FROM busybox\nWORKDIR /w\n"
        "RUN --mount=type=bind ls; touch n 2>/dev/null || echo read-only\n"
        "RUN --mount=source=d,target=rel,rw touch /w/rel/n && ls /w/rel\n"
        "RUN --mount=source=d/g,target=/a/b cat /a/b; echo\n"
        "RUN --mount=from=s,source=/x/y,target=/m ls /m\n"
        "RUN --mount=from=s,source=abs,target=/m ls /m\n"
        "RUN --mount=from=s,source=x,target=/m,rw rm /m/y/z && touch /m/q && ls /m/y\n"
        "RUN --mount=from=s,source=x/y/z,target=/m cat /m\n"
        "RUN --mount=from=s,target=/m cat /m/x/y/z\n"
        "RUN --mount=from=busybox,source=etc,target=/m ls /m/passwd\n"
        "RUN ls -d /m /a /w/rel 2>&1 | grep -c 'No such'\n"
    )
    assert case.output(text, "--no-cache", files={"f": "F", "d/g": "G"}) == [
        "Dockerfile", "d", "f", "read-only", "g", "n", "G", "w", "z", "w", "z", "w", "1", "1", "/m/passwd", "3",
    ]  # fmt: skip
    missing = 'failed to compute cache key: failed to calculate checksum of ref context: "/nope": not found'
    assert case.error(B + "RUN --mount=source=nope,target=/m true\n") == missing
    assert case.error(B + "RUN --mount=type=bind true\n") == 'invalid mount target "/"'


def test_tmpfs_and_mount_points(case):
    found = case.tree(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/q/w/e,size=1m dd if=/dev/zero of=/q/w/e/f bs=1k count=2000 2>/dev/null"
        " && exit 1 || df /q/w/e | grep -q 1024\n"
        "RUN --mount=type=tmpfs,target=/p/w touch /p/keep\nRUN mkdir /had\nRUN --mount=type=tmpfs,target=/had/sub touch /had/sub/x\n"
        "RUN --mount=type=secret,id=x --mount=type=ssh true\n"
    )
    assert not [p for p in found if p.startswith(("q/", "had/s", "run/", "p/w"))][1:]
    assert "p/keep" in found and "had/" in found
    assert "etc/hosts" not in found and "etc/resolv.conf" not in found


def test_a_step_leaves_nothing_of_its_mount_points_in_its_layer(case):
    text = (
        "FROM busybox\nRUN true\nRUN touch /x\n"
        "RUN --mount=type=tmpfs,target=/a/b --mount=type=secret,id=s,target=/etc/s --mount=target=/etc/deep/er rm /x\n"
        "RUN touch /etc/y\n"
    )
    layers = case.layers(text, "--no-cache", "--secret=id=s,env=PATH")
    assert layers == [[], ["x"], [".wh.x"], ["etc", "etc/y"]]


def test_secrets(case):
    show = "tr a-zA-Z A-Za-z"  # what a step prints as it is given is hidden from displays
    text = (
        f"RUN --mount=type=secret,id=s stat -c %a:%u /run/secrets/s; {show} < /run/secrets/s; echo\n"
        "RUN --mount=type=secret,id=s,target=/a/b,mode=0444,uid=3,gid=4 stat -c %a:%u:%g /a/b\n"
        f"RUN --mount=type=secret,id=s,env=SEC echo $SEC | {show}; ls /run/secrets 2>/dev/null || echo no file\n"
        f"RUN --mount=type=secret,id=e,env=E2,target=/e echo $E2 | {show}; {show} < /e; echo\n"
        f"RUN --mount=type=secret,target=/x/s {show} < /x/s; echo\n"
        f"RUN --mount=type=secret,src=s {show} < /run/secrets/s; echo\n"
        "RUN --mount=type=secret,id=absent ls /run/secrets 2>/dev/null || echo none\n"
        "RUN --mount=type=secret,id=s cat /run/secrets/s; echo\n"
    )
    flags = ("--secret", "id=e,env=MINE", "--no-cache", "--secret")
    secret = case.tmp / "secret"
    secret.write_text("S3CRET")
    out = case.output(B + text, *flags, f"id=s,src={secret}", env={"MINE": "mine"})
    assert out == [
        "400:0", "s3cret", "444:3:4", "s3cret", "no file", "MINE", "MINE", "s3cret", "s3cret", "none", "***",
    ]  # fmt: skip
    assert case.error(B + "RUN --mount=type=secret,id=zz,required true\n") == "secret zz: not found"


def test_a_secret_stays_out_of_the_store(case):
    value = f"v{time.time_ns()}"
    text = 'RUN --mount=type=secret,id=s,env=SEC --mount=type=secret,id=s test -n "$SEC" && test -s /run/secrets/s\n'
    case.output(B + text, "--secret", "id=s,env=MINE", env={"MINE": value})
    found = subprocess.run(
        ["grep", "-rl", value, str(case.lap.root)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_cache_mounts(case):
    text = (
        "RUN --mount=type=cache,target=/c stat -c %a:%u /c; echo x >>/c/y\n"
        "RUN --mount=type=cache,target=/c2,id=/c cat /c2/y\n"
        "RUN --mount=type=cache,target=/c3,uid=5,gid=6,mode=0700 stat -c %a:%u:%g /c3\n"
        "RUN --mount=type=cache,target=/c4,from=busybox,source=etc ls /c4/passwd\n"
        "RUN --mount=type=cache,target=/c,ro touch /c/q 2>/dev/null || echo read-only\n"
        "RUN ls /c /c2 2>&1 | grep -c 'No such'\n"
    )
    flags = ("--no-cache", f"--build-arg=BUILDKIT_CACHE_MOUNT_NS={time.time_ns()}")
    assert case.output(B + text, *flags) == [
        "755:0", "x", "700:5:6", "/c4/passwd", "read-only", "2",
    ]  # fmt: skip
    again = "RUN --mount=type=cache,target=/c wc -l < /c/y\n"
    assert case.output(B + again, *flags) == ["1"]


AGENT = r"""FROM debian
USER 500
RUN --mount=type=ssh,uid=500,mode=0600 <<EOF
perl -MIO::Socket::UNIX -e 'for $t (11, 19) { $s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die "$!";
  syswrite $s, pack("NC", 1, $t); sysread $s, $d, 5; ($n, $k) = unpack("NC", $d); print "$t $k\n"; }'
echo $SSH_AUTH_SOCK
EOF
RUN --mount=type=ssh,id=other,target=/x/sock stat -c %a:%u /x/sock; echo $SSH_AUTH_SOCK
ENV SSH_AUTH_SOCK=/mine
RUN --mount=type=ssh echo $SSH_AUTH_SOCK
"""


def test_ssh_agents(case, tmp_path):
    need("ssh-agent", "ssh-add", "ssh-keygen")
    key, socket = tmp_path / "key", tmp_path / "agent"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, stdin=subprocess.DEVNULL
    )
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.02)
        env = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", key], check=True, env=env)
        out = case.output(AGENT, "--no-cache", "--ssh", f"default={socket}", "--ssh", f"other={key}")
    finally:
        agent.terminate()
        agent.wait()
    # keys are listed (12), removing them is refused (5)
    assert out == ["11 12", "19 5", "/run/buildkit/ssh_agent.0", "600:0", "/x/sock", "/mine"]
    required = case.error(B + "RUN --mount=type=ssh,required,id=zz true\n")
    assert required == 'no SSH key "zz" forwarded from the client'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN exit 3", 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3'),
        ("RUN --network=host true", "network.host is not allowed"),
        ("RUN --security=insecure true", "security.insecure is not allowed"),
        ("RUN --device=a.b/c=d,required true", "device a.b/c=d is not allowed"),
    ],
)
def test_steps_that_fail(case, text, message):
    assert case.error(B + text + "\n") == message


def test_an_insecure_step_has_all_that_the_builder_has(case):
    out = case.output(
        B + "RUN --security=insecure grep -c 'Seccomp:.0' /proc/self/status; mount -t tmpfs none /mnt && echo mounted\n",
        "--allow=security.insecure", "--no-cache",
    )  # fmt: skip
    assert out == ["1", "mounted"]


def test_secrets_are_looked_for_before_anything_is_built(case):
    text = B + "RUN true\n"
    missing = case.error(text, "--secret=id=a,src=/nonexistent")
    assert (
        missing
        == "failed to build: failed to stat /nonexistent: stat /nonexistent: no such file or directory"
    )
    big = case.tmp / "big"
    big.write_bytes(b"x" * 600_000)
    assert case.error(text, f"--secret=id=a,src={big}") == "failed to build: secret a too big. max size 500kB"
