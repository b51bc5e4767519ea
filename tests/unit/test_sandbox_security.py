"""docs/dev/security-boundary.md, "What each executor isolates", checked line by line on every executor."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.unit.test_sandbox_contract import Bench, Token, _make

from lapstrake.errors import SandboxError
from lapstrake.sandbox.spec import Mount, ProcessSpec, Rootfs
from lapstrake.values import replace

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="these tests mount overlays as root"),
    pytest.mark.skipif(not os.path.exists("/bin/busybox"), reason="needs busybox-static"),
]
DEFAULT_CAPS = 0xA80425FB
EPERM, ENOSYS = 1, 38
# refused everywhere with EPERM, as Docker's default profile does
REFUSED = """keyctl add_key unshare-user unshare-mount mount fsopen pivot_root setns bpf perf open_by_handle kexec init_module
userfaultfd io_uring reboot swapon settimeofday iopl quotactl syslog""".split()


class PlainBench(Bench):
    """For the chroot executor, which mounts nothing: a copy of the root for each run."""

    def spec(self, *args: str, **fields) -> ProcessSpec:
        self.count += 1
        self.upper = self.base / f"root{self.count}"
        shutil.copytree(self.lower, self.upper, symlinks=True)
        fields.setdefault("env", ("PATH=/bin",))
        fields.setdefault("network", "default")
        return ProcessSpec(rootfs=Rootfs(upper=str(self.upper)), args=args, **fields)


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    target = tmp_path_factory.mktemp("probe") / "probe"
    source = Path(__file__).with_name("sandbox_probe.c")
    subprocess.run([compiler, "-static", "-w", "-o", target, source], check=True)
    return target


@pytest.fixture(scope="module", params=["namespaces", "crun", "runc", "chroot"])
def bench(request, tmp_path_factory, probe):
    if request.param == "chroot":
        from lapstrake.sandbox.chroot import ChrootExecutor

        found: Bench = PlainBench(ChrootExecutor(), tmp_path_factory.mktemp("chroot"))
    else:
        found = Bench(_make(request.param), tmp_path_factory.mktemp(request.param))
    shutil.copy(probe, found.lower / "bin" / "probe")
    yield found
    found.executor.close()


def namespaced(bench) -> bool:
    return bench.executor.name != "chroot"


def tried(bench, *args: str, **fields) -> dict[str, int]:
    assert bench.run("/bin/probe", *args, **fields).status == 0, bench.err
    return {name: int(error) for name, error in (line.split() for line in bench.out.decode().splitlines())}


def status(bench, **fields) -> dict[str, str]:
    text = bench.sh("cat /proc/self/status", **fields)
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_system_calls(bench):
    got = tried(bench)
    assert {name: got[name] for name in REFUSED} == dict.fromkeys(REFUSED, EPERM)
    assert got["clone3"] == got["unknown"] == ENOSYS  # so that libc falls back
    assert got["vsock"] != 0


def test_capabilities(bench):
    if not namespaced(bench):
        pytest.skip("there is no /proc to read them from: see test_chroot_capabilities")
    found = status(bench)
    assert {int(found[n], 16) for n in ("CapPrm", "CapEff", "CapBnd")} == {DEFAULT_CAPS}
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"].strip() == "0" and found["Seccomp"].strip() == "2"
    assert int(status(bench, uid=1000, gid=1000)["CapEff"], 16) == 0


def test_chroot_capabilities(bench):
    if namespaced(bench):
        pytest.skip("for chroot")
    pid = bench.base / "pid"
    found: dict[str, str] = {}

    def look() -> None:
        for _ in range(200):
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if b"sleep\x001.357" in Path(f"/proc/{name}/cmdline").read_bytes():
                        lines = Path(f"/proc/{name}/status").read_text().splitlines()
                        found.update(line.split(":\t", 1) for line in lines if ":\t" in line)
                        return
                except OSError:
                    continue
            time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    bench.run("sleep", "1.357")
    thread.join()
    assert not pid.exists()
    assert {int(found[n], 16) for n in ("CapPrm", "CapEff", "CapBnd")} == {DEFAULT_CAPS}
    assert found["Seccomp"].strip() == "2"


def test_set_user_id_programs_work(bench):
    """RUN may gain what its own root file system gives it (su, sudo), as in Docker without no-new-privileges."""
    program = bench.lower / "bin" / "suid"
    shutil.copy(bench.lower / "bin" / "probe", program)
    program.chmod(0o4755)
    try:
        assert bench.run("/bin/suid", uid=1000, gid=1000).status == 0
        assert bench.out.startswith(b"euid 0\n")
        assert tried(bench, uid=1000, gid=1000)["euid"] == 1000
    finally:
        program.unlink()


def test_masked_and_read_only_paths(bench):
    if not namespaced(bench):
        assert bench.sh("ls /proc /sys 2>/dev/null || true") == ""  # there is nothing to mask
        return
    script = """for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /proc/sched_debug; do
      [ -e $f ] && [ -n "$(dd if=$f bs=1 count=1 2>/dev/null)" ] && echo readable $f; done
    for d in /proc/acpi /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do ls $d 2>/dev/null; done
    for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_seqnum; do
      [ -e $f ] && (echo x > $f) 2>/dev/null && echo writable $f; done; true"""
    assert bench.sh(script) == ""


def test_descriptors(bench):
    """Nothing of ours is inherited, whoever forgot a close-on-exec."""
    with open("/etc/passwd") as extra:
        os.set_inheritable(extra.fileno(), True)
        if namespaced(bench):
            listed = set(bench.sh("ls /proc/self/fd").split())
            assert listed <= {"0", "1", "2", "3"}  # 3: what ls itself reads
        script = "for n in 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (: <&$n) 2>/dev/null && echo open $n; done; true"
        assert bench.sh(script) == ""


@pytest.mark.parametrize("number", [3, 5, 7, 8, 9, 12])
def test_working_directory_is_never_one_of_our_descriptors(bench, number):
    """CVE-2024-21626: a working directory of /proc/self/fd/N that is a leaked directory of the host."""
    marker = bench.base.name
    try:
        info = bench.run("sh", "-c", "pwd; ls ..", cwd=f"/proc/self/fd/{number}")
    except SandboxError:
        return
    assert info.status != 0 or marker not in bench.out.decode()
    if info.status == 0:  # made as an ordinary directory, or the root itself
        assert bench.sh("cat ../../../../etc/passwd", cwd=f"/proc/self/fd/{number}").startswith(
            "root:x:0:0::/:/bin/sh"
        )


def test_the_builder_cannot_be_reached(bench):
    """No ptrace, no signal, no look at memory or environment of the builder."""
    if not namespaced(bench):
        pytest.skip("chroot: steps share the builder's pid namespace, as the statement says")
    got = tried(bench, str(os.getpid()))
    assert got["ptrace"] != 0 and got["kill"] != 0
    script = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done; true"
    os.environ["LAPSTRAKE_CANARY"] = "canary-of-the-builder"
    try:
        assert "canary-of-the-builder" not in bench.sh(script.replace("tr '\\0' '\\n' <", "cat"))
    finally:
        del os.environ["LAPSTRAKE_CANARY"]
    assert {int(p) for p in bench.sh("cd /proc; echo [0-9]*").split()} <= set(range(1, 10))


def test_abstract_sockets_of_the_host(bench):
    """Out of reach with a private network or none."""
    name = f"lapstrake-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        if namespaced(bench):
            assert tried(bench, "1", name, network="none")["abstract"] != 0
        assert tried(bench, "1", name, network="host")["abstract"] == 0  # the statement: host means host


def test_devices(bench):
    listed = set(bench.sh("ls /dev").split())
    assert {"null", "zero", "full", "random", "urandom", "tty"} <= listed
    assert listed <= {
        "null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm",
        "mqueue", "core", "console",
    }  # fmt: skip
    assert bench.run("sh", "-c", "echo x > /dev/null && test ! -s /dev/null").status == 0


def _device() -> tuple[str, int, int]:
    """One that this machine's root can open, and that no step should."""
    for name in (*(f"/dev/{n}" for n in ("vda", "sda", "nvme0n1", "fuse", "net/tun", "loop-control", "kvm", "mem", "rtc0")),):  # fmt: skip
        try:
            os.close(os.open(name, os.O_RDONLY))
        except OSError:
            continue
        state = os.stat(name)
        return (
            ("b" if state.st_mode & 0o170000 == 0o060000 else "c"),
            os.major(state.st_rdev),
            os.minor(state.st_rdev),
        )
    pytest.skip("no device to try it on")


@pytest.mark.parametrize("where", ["/tmp", "/dev", "/dev/shm", "/cache"])
def test_no_way_to_the_disks_of_the_host(bench, where):
    """A node that a step makes is refused or can't be opened, wherever it is."""
    kind, major, minor = _device()
    outside = bench.base / f"cache{bench.count}"
    outside.mkdir()
    mounts = (Mount(target="/cache", source=str(outside)),) if namespaced(bench) else ()
    script = f"mkdir -p {where}; mknod {where}/disk {kind} {major} {minor}; (: < {where}/disk) && echo opened; true"
    assert "opened" not in bench.sh(script, mounts=mounts)
    assert "opened" not in bench.sh(script.replace("mknod", "mknod -m 666"), mounts=mounts)
    assert bench.run("sh", "-c", "mkfifo /tmp/pipe && test -p /tmp/pipe").status == 0


def test_a_disk_in_the_image(bench):
    """A base image may bring the node along."""
    if bench.executor.name == "crun":
        pytest.skip("the statement says so: crun mounts the root anew, with devices")
    from lapstrake.snapshot.copying import CopyingSnapshotter

    kind, major, minor = _device()
    node = bench.lower / "tmp" / "disk"
    os.mknod(node, 0o666 | (0o060000 if kind == "b" else 0o020000), os.makedev(major, minor))
    try:
        spec = ProcessSpec(rootfs=Rootfs(""), args=("sh", "-c", "! (: < /tmp/disk)"), env=("PATH=/bin",))
        if not namespaced(bench):  # its roots are made by the copying snapshotter
            with LayerScratch(bench.base / f"scratch{bench.count}") as scratch:
                rootfs = CopyingSnapshotter().prepare([str(bench.lower)], scratch)
                assert bench.go(replace(spec, rootfs=rootfs)).status == 0
                return
        assert bench.go(replace(bench.spec(*spec.args), network="host")).status == 0
    finally:
        node.unlink()


class LayerScratch:
    """Two directories, as the store gives them to a snapshotter."""

    def __init__(self, path: Path) -> None:
        self.path, self.upper, self.work = str(path), f"{path}/upper", f"{path}/work"

    def __enter__(self):
        os.makedirs(self.upper)
        os.makedirs(self.work)
        return self

    def __exit__(self, *_exc: object) -> None:
        shutil.rmtree(self.path)


def test_ipc_and_names(bench):
    if not namespaced(bench):
        pytest.skip("chroot: one ipc and uts namespace with the host")
    mine = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid", "ipc", "uts", "cgroup")}
    seen = bench.sh("for n in mnt pid ipc uts cgroup; do readlink /proc/self/ns/$n; done").split()
    assert not set(seen) & set(mine.values())


def test_a_process_that_daemonises_dies_with_the_run(bench):
    marker = f"95.{os.getpid() % 997}{len(bench.executor.name)}"
    bench.sh(
        f"(setsid sh -c 'setsid sleep {marker} & sleep {marker}' >/dev/null 2>&1 </dev/null &); sleep 0.1"
    )
    end = time.monotonic() + 3
    while subprocess.run(["pgrep", "-f", f"^sleep {marker}"], capture_output=True, check=False).stdout:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("resources", [(("memory", "20000000"),), (("pids-limit", "8"),)])
def test_limits_hold(bench, resources):
    script = {
        "memory": "x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' x); echo survived",
        "pids-limit": "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.3 & done; wait; echo survived",
    }[resources[0][0]].replace("tr '\\0' x", "grep -c . ; dd if=/dev/zero of=/big bs=1M count=0")
    if resources[0][0] == "memory":
        script = "i=0; x=xxxxxxxxxxxxxxxx; while [ $i -lt 24 ]; do x=$x$x; i=$((i+1)); done; echo survived"
    try:
        info = bench.run("sh", "-c", script, resources=resources)
    except SandboxError as error:
        assert "limit" in str(error)  # refused, never ignored
        return
    assert info.status != 0 or b"survived" not in bench.out
    assert info.oom == (resources[0][0] == "memory")


def test_an_unknown_security_value_fails_closed(bench):
    spec = bench.spec("true", network="bridge")
    token = Token()
    with pytest.raises(Exception, match="network"):
        bench.executor.run(spec, lambda *_: None, token)
    token.close()
