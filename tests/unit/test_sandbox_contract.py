"""What every executor promises, run against each real one."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from lapstrake.errors import Cancelled, SandboxError
from lapstrake.sandbox.spec import ExitInfo, Mount, ProcessSpec, Rootfs

APPLETS = "sh ls cat id mount umount echo sleep true hostname env pwd rm ps ip touch mkdir grep stat readlink wc kill dd chown nslookup setsid mknod mkfifo test chroot".split()

EXECUTORS = ["namespaces", "crun", "runc"]

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="these tests mount overlays as root"),
    pytest.mark.skipif(not os.path.exists("/bin/busybox"), reason="needs busybox-static"),
]


class Token:
    """A cancel token."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._set = False

    def set(self) -> None:
        self._set = True
        os.write(self._writer, b"x")

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        return self._reader

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class Bench:
    """One executor, one lower directory, and a fresh upper for each run."""

    def __init__(self, executor, base: Path) -> None:
        self.executor = executor
        self.base = base
        self.lower = base / "lower"
        for name in ("bin", "etc", "tmp"):
            (self.lower / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", self.lower / "bin" / "busybox")
        for applet in APPLETS:
            (self.lower / "bin" / applet).symlink_to("busybox")
        (self.lower / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
        self.count = 0
        self.upper = base
        self.out = b""
        self.err = b""

    def spec(self, *args: str, **fields) -> ProcessSpec:
        self.count += 1
        self.upper, work = self.base / f"upper{self.count}", self.base / f"work{self.count}"
        self.upper.mkdir()
        work.mkdir()
        fields.setdefault("env", ("PATH=/bin",))
        fields.setdefault("network", "none")
        return ProcessSpec(
            rootfs=Rootfs(upper=str(self.upper), lowers=(str(self.lower),), work=str(work)),
            args=args,
            **fields,
        )

    def run(self, *args: str, **fields) -> ExitInfo:
        return self.go(self.spec(*args, **fields))

    def go(self, spec: ProcessSpec, token: Token | None = None) -> ExitInfo:
        got: dict[int, bytes] = {1: b"", 2: b""}

        def output(stream: int, data: bytes) -> None:
            got[stream] += data

        own = token or Token()
        try:
            return self.executor.run(spec, output, own)
        finally:
            self.out, self.err = got[1], got[2]
            if token is None:
                own.close()

    def sh(self, script: str, **fields) -> str:
        info = self.run("sh", "-c", script, **fields)
        assert info.status == 0, (info, self.out, self.err)
        return self.out.decode()

    def left(self) -> list[str]:
        return sorted(str(p.relative_to(self.upper)) for p in self.upper.rglob("*"))


def _make(name: str):
    if name == "namespaces":
        from lapstrake.sandbox.namespaces import NamespacesExecutor

        return NamespacesExecutor()
    if shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"{name} is not installed")
    from lapstrake.sandbox.ociruntime import OciRuntimeExecutor

    return OciRuntimeExecutor(runtime=name)


@pytest.fixture(scope="module", params=EXECUTORS)
def bench(request, tmp_path_factory):
    executor = _make(request.param)
    yield Bench(executor, tmp_path_factory.mktemp(request.param))
    executor.close()


@pytest.mark.parametrize("status", [0, 1, 3, 126, 255])
def test_exit_status(bench, status):
    assert bench.run("sh", "-c", f"exit {status}").status == status


def test_streams_are_kept_apart(bench):
    bench.sh("echo out; echo err >&2")
    assert (bench.out, bench.err) == (b"out\n", b"err\n")


def test_much_output(bench):
    bench.sh("dd if=/dev/zero bs=65536 count=64 2>/dev/null")
    assert len(bench.out) == 64 * 65536


def test_environment_is_exactly_what_was_given(bench):
    bench.run("/bin/env", env=("A=1", "B=x=y", "E="))
    assert {"A=1", "B=x=y", "E="} <= set(bench.out.decode().split("\n"))
    assert "HOME" not in bench.out.decode() or bench.executor.name != "namespaces"


def test_working_directory(bench):
    assert bench.sh("pwd", cwd="/etc") == "/etc\n"


def test_missing_working_directory_is_refused(bench):
    if bench.executor.name != "namespaces":
        pytest.skip("OCI runtimes make it")
    with pytest.raises(SandboxError, match="working directory"):
        bench.run("true", cwd="/nowhere")


def test_working_directory_outside_the_root_is_refused(bench):
    try:
        info = bench.run("sh", "-c", "cat /proc/self/cwd/../../../../etc/hostname", cwd="/proc/self/fd/9")
    except SandboxError:
        return
    assert info.status != 0


def test_user_and_groups(bench):
    assert bench.sh("id -u; id -g; id -G", uid=1000, gid=1001, groups=(7, 8)).split("\n")[:2] == [
        "1000",
        "1001",
    ]
    assert set(bench.out.decode().split("\n")[2].split()) >= {"1001", "7", "8"}


def test_not_found(bench):
    try:
        info = bench.run("no-such-command")
    except SandboxError as error:
        assert "not found" in str(error)
        return
    assert info.status == 127
    assert b"not found" in bench.err or b"No such file" in bench.err
    if bench.executor.name == "namespaces":
        assert bench.err == b'exec: "no-such-command": executable file not found in $PATH\n'


def test_not_executable(bench):
    assert bench.run("/etc/passwd").status in (126, 127, 1)


def test_bind_mount(bench):
    outside = bench.base / f"outside{bench.count}"
    outside.mkdir()
    (outside / "f").write_text("hello")
    mount = Mount(target="/mnt/a", source=str(outside))
    assert bench.sh("cat /mnt/a/f; echo new > /mnt/a/g", mounts=(mount,)) == "hello"
    assert (outside / "g").read_text() == "new\n"
    assert bench.left() == []


def test_read_only_bind_mount(bench):
    outside = bench.base / f"outside{bench.count}"
    outside.mkdir()
    mount = Mount(target="/mnt/a", source=str(outside), readonly=True)
    assert bench.run("touch", "/mnt/a/g", mounts=(mount,)).status != 0
    assert list(outside.iterdir()) == []


def test_subpath_stays_inside_its_source(bench):
    outside = bench.base / f"outside{bench.count}"
    (outside / "etc").mkdir(parents=True)
    (outside / "etc" / "marker").write_text("inside")
    (outside / "evil").symlink_to("/etc")
    mount = Mount(target="/mnt/a", source=str(outside), subpath="evil", readonly=True)
    assert bench.sh("cat /mnt/a/marker; ls /mnt/a", mounts=(mount,)) == "insidemarker\n"


def test_mount_target_symlink_stays_in_the_root(bench):
    victim = bench.base / f"victim{bench.count}"
    victim.mkdir()
    link = bench.lower / "lnk"
    link.symlink_to(str(victim))
    try:
        outside = bench.base / f"outside{bench.count}"
        outside.mkdir()
        (outside / "f").write_text("hello")
        assert bench.sh("cat /lnk/f", mounts=(Mount(target="/lnk", source=str(outside)),)) == "hello"
        assert list(victim.iterdir()) == []
        assert bench.left() == []
    finally:
        link.unlink()


def test_tmpfs(bench):
    mount = Mount(target="/scratch", kind="tmpfs", size=1 << 20, mode=0o1777)
    assert "tmpfs" in bench.sh(
        "echo x > /scratch/a; grep ' /scratch ' /proc/mounts; stat -c %a /scratch", mounts=(mount,)
    )
    assert bench.out.decode().endswith("1777\n")
    assert bench.left() == []


def test_file_mount(bench):
    mount = Mount(
        target="/run/secrets/token", kind="file", data=b"s3cret", mode=0o400, uid=5, gid=6, readonly=True
    )
    assert (
        bench.sh("cat /run/secrets/token; stat -c ' %a %u %g' /run/secrets/token", mounts=(mount,))
        == "s3cret 400 5 6\n"
    )
    assert bench.left() == []


def test_dangling_symlink_as_file_target(bench):
    link = bench.lower / "etc" / "resolv.conf"
    link.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    try:
        mount = Mount(target="/etc/resolv.conf", kind="file", data=b"nameserver 192.0.2.1\n", mode=0o644)
        assert bench.sh("cat /etc/resolv.conf", mounts=(mount,)) == "nameserver 192.0.2.1\n"
        assert bench.left() == []
    finally:
        link.unlink()


def test_overlay_mount_discards_writes(bench):
    outside = bench.base / f"outside{bench.count}"
    outside.mkdir()
    (outside / "f").write_text("old")
    mount = Mount(target="/ctx", kind="overlay", source=str(outside))
    assert (
        bench.sh("echo new > /ctx/f; rm -f /ctx/none; echo y > /ctx/g; cat /ctx/f /ctx/g", mounts=(mount,))
        == "new\ny\n"
    )
    assert (outside / "f").read_text() == "old"
    assert [p.name for p in outside.iterdir()] == ["f"]
    assert bench.left() == []


def test_mount_below_mount(bench):
    outside = bench.base / f"outside{bench.count}"
    (outside / "sub").mkdir(parents=True)
    mounts = (Mount(target="/m/sub", kind="tmpfs"), Mount(target="/m", source=str(outside)))
    bench.sh("echo x > /m/sub/inner; echo y > /m/outer", mounts=mounts)
    assert sorted(p.name for p in outside.iterdir()) == ["outer", "sub"]
    assert list((outside / "sub").iterdir()) == []


def test_stub_with_content_is_kept(bench):
    bench.sh("mkdir /mnt; echo x > /mnt/keep", mounts=(Mount(target="/elsewhere", kind="tmpfs"),))
    assert bench.left() == ["mnt", "mnt/keep"]


def test_parent_times_survive_stubs(bench):
    before = (bench.lower / "etc").stat().st_mtime_ns
    bench.sh("true", mounts=(Mount(target="/etc/hosts", kind="file", data=b"x", mode=0o644),))
    assert bench.left() == []
    bench.sh("touch /etc/mine", mounts=(Mount(target="/etc/hosts", kind="file", data=b"x", mode=0o644),))
    assert bench.left() == ["etc", "etc/mine"]
    assert (bench.upper / "etc").stat().st_mtime_ns > before


def test_whiteout_after_rm(bench):
    bench.sh("rm /etc/passwd")
    state = (bench.upper / "etc" / "passwd").lstat()
    assert state.st_rdev == 0
    assert state.st_mode & 0o170000 == 0o020000


def test_same_upper_can_be_run_on_again(bench):
    spec = bench.spec("sh", "-c", "echo x >> /log")
    for _ in range(2):
        assert bench.go(spec).status == 0
    assert (bench.upper / "log").read_text() == "x\nx\n"


def test_plain_directory_root(bench):
    root = bench.base / f"plain{bench.count}"
    shutil.copytree(bench.lower, root, symlinks=True)
    spec = ProcessSpec(
        rootfs=Rootfs(upper=str(root)),
        args=("sh", "-c", "echo x > /made"),
        env=("PATH=/bin",),
        network="none",
    )
    assert bench.go(spec).status == 0
    assert sorted(p.name for p in root.iterdir()) == ["bin", "etc", "made", "tmp"]


def test_read_only_root(bench):
    assert bench.run("touch", "/x", readonly_root=True).status != 0
    assert bench.left() == []


def test_no_network(bench):
    assert "eth0" not in bench.sh("ls /sys/class/net")


def test_host_network(bench):
    names = {name for _, name in socket.if_nameindex()}
    assert set(bench.sh("ls /sys/class/net", network="host").split()) >= names - {"bonding_masters"}


def test_hostname(bench):
    assert bench.sh("hostname", hostname="box") == "box\n"
    assert socket.gethostname() != "box"


def test_own_pids(bench):
    assert bench.sh("ps | wc -l").strip() in ("3", "4", "5")


def test_no_leaked_descriptors(bench):
    with open("/dev/null") as extra:
        os.set_inheritable(extra.fileno(), True)
        assert set(bench.sh("ls /proc/self/fd").split()) <= {"0", "1", "2", "3"}


def test_capabilities_and_seccomp(bench):
    status = dict(
        line.split(":\t", 1) for line in bench.sh("cat /proc/self/status").splitlines() if ":\t" in line
    )
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == 0xA80425FB, name
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"].strip() == "0"
    assert status["Seccomp"].strip() == "2"


def test_other_users_have_no_capabilities(bench):
    text = bench.sh("grep CapEff /proc/self/status", uid=1000, gid=1000)
    assert int(text.split()[1], 16) == 0


@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /tmp",
        "hostname other",
        "echo 1 > /proc/sys/kernel/core_uses_pid",
        "umount /proc",
        "mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg >/dev/null & sleep 0.01; kill -9 $!; echo x > /sys/kernel/mm/x",
    ],
)
def test_forbidden(bench, script):
    assert bench.run("sh", "-c", script).status != 0


def test_ulimits(bench):
    assert bench.sh("ulimit -n", ulimits=(("nofile", 77, 99),)) == "77\n"


def test_output_of_orphans_does_not_hang(bench):
    started = time.monotonic()
    bench.sh("setsid sleep 30 & echo done")
    assert time.monotonic() - started < 5


def test_cancel_kills_everything(bench):
    token = Token()
    marker = f"{7000 + os.getpid() % 1000}.5"
    threading.Timer(0.2, token.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        bench.go(bench.spec("sh", "-c", f"sleep {marker} & setsid sleep {marker} & wait"), token)
    token.close()
    assert time.monotonic() - started < 4
    assert not _running(marker)


def test_cancelled_before_the_start(bench):
    token = Token()
    token.set()
    with pytest.raises(Cancelled):
        bench.go(bench.spec("true"), token)
    token.close()


def test_term_is_heard_by_who_listens(bench):
    if bench.executor.name != "namespaces":
        pytest.skip("the runtime stands between")
    token = Token()
    threading.Timer(0.2, token.set).start()
    with pytest.raises(Cancelled):
        bench.go(bench.spec("sh", "-c", "trap 'echo bye; exit 9' TERM; while :; do sleep 0.01; done"), token)
    token.close()
    assert bench.out == b"bye\n"


def test_timeout(bench):
    started = time.monotonic()
    info = bench.go(bench.spec("sleep", "60", timeout=0.2))
    assert info.timed_out
    assert info.status == 137
    assert time.monotonic() - started < 4


def test_signal_of_a_child(bench):
    assert bench.run("sh", "-c", "sh -c 'kill -9 $$'; exit $?").status == 137


def test_concurrent_runs(bench):
    specs = [bench.spec("sleep", "0.4") for _ in range(6)]
    results: list[int] = []
    threads = [
        threading.Thread(
            target=lambda s=s: results.append(bench.executor.run(s, lambda *_: None, token).status)
        )
        for s in specs
    ]
    token = Token()
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    token.close()
    assert results == [0] * 6
    assert time.monotonic() - started < 1.6


def test_nothing_stays_mounted(bench):
    bench.sh("true")
    assert str(bench.base) not in Path("/proc/self/mountinfo").read_text()


def test_usage_is_reported(bench):
    info = bench.run("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    assert info.cpu > 0
    assert info.wall > 0
    assert info.peak_rss > 0


def _running(marker: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False
