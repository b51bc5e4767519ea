"""The sandbox's parts: network, limits, emulation, user namespace, choice, chroot, stubs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lapstrake.errors import SandboxError, UsageError
from lapstrake.sandbox import cgroup, doctor, emulation, payload, select, stubs, userns
from lapstrake.sandbox.network import Network, find_pasta
from lapstrake.sandbox.spec import Mount, ProcessSpec, Rootfs

root_only = pytest.mark.skipif(os.getuid() != 0, reason="mounts overlays as root")
SRC = str(Path(select.__file__).parents[2])


class Never:
    """A cancel token that is never set."""

    def __init__(self) -> None:
        self.fds = os.pipe()

    def is_set(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.fds[0]


def _chosen(isolation: str, **fields):
    return select.choose(select.Wanted(isolation=isolation, **fields))[0]


@pytest.fixture
def tree(tmp_path):
    if not os.path.exists("/bin/busybox"):
        pytest.skip("needs busybox-static")
    (tmp_path / "low" / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "low" / "bin")
    for name in ("sh", "cat", "id", "ls", "dd", "ip", "stat", "chown", "touch"):
        (tmp_path / "low" / "bin" / name).symlink_to("busybox")
    (tmp_path / "up").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path


def _run(executor, tree, *args, plain=False, **fields):
    rootfs = (
        Rootfs(upper=str(tree / "low"))
        if plain
        else Rootfs(upper=str(tree / "up"), lowers=(str(tree / "low"),), work=str(tree / "work"))
    )
    out: list[bytes] = []
    token = Never()
    try:
        info = executor.run(
            ProcessSpec(rootfs=rootfs, args=args, env=("PATH=/bin",), **fields),
            lambda _stream, data: out.append(data),
            token,
        )
    finally:
        for fd in token.fds:
            os.close(fd)
    return info, b"".join(out).decode()


# --- checks of a spec


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ()},
        {"args": ("x", "a\0b")},
        {"network": "bridge"},
        {"cwd": "relative"},
        {"mounts": (Mount(target="/"),)},
        {"mounts": (Mount(target="/a/../../b"),)},
        {"mounts": (Mount(target="/a", kind="magic"),)},
    ],
)
def test_bad_specs(fields):
    with pytest.raises(UsageError):
        payload.check(ProcessSpec(**{"rootfs": Rootfs(upper="/x"), "args": ("true",), **fields}))


# --- emulation


@pytest.mark.parametrize(
    ("arch", "native"),
    [("", True), (emulation.host_arch(), True), ("s390x", emulation.host_arch() == "s390x")],
)
def test_native(arch, native):
    assert emulation.is_native(arch) is native


def test_unknown_architecture():
    with pytest.raises(SandboxError) as caught:
        emulation.ensure("vax")
    assert caught.value.hint


def test_register_line_fits_the_kernel():
    for arch in ("arm64", "s390x", "386"):
        line = emulation.register_line(arch)
        assert len(line) < 1900
        assert line.count(b":") == 7
    assert b"\\x02\\x01\\x01" in emulation.register_line("arm64")


@root_only
def test_arm64_runs_under_qemu(tree):
    found = os.environ.get("LAPSTRAKE_TEST_BUSYBOX_ARM64", "/tmp/lapsb/busybox-arm64")
    if not os.path.exists(found):
        pytest.skip("no arm64 busybox (LAPSTRAKE_TEST_BUSYBOX_ARM64)")
    if not emulation.find_emulator("arm64") or emulation.kernel_version() < (6, 7):
        pytest.skip("needs qemu-aarch64-static and Linux 6.7")
    shutil.copy(found, tree / "low" / "bin" / "busybox-arm")
    executor = _chosen("namespaces")
    try:
        info, out = _run(executor, tree, "/bin/busybox-arm", "uname", "-m", arch="arm64", network="none")
        assert (info.status, out) == (0, "aarch64\n")
        got = _run(executor, tree, "/bin/busybox-arm", "chown", "5:6", "/bin", arch="arm64", network="none")
        assert got[0].status == 0, got
        assert (tree / "up" / "bin").stat().st_uid == 5
    finally:
        executor.close()
    assert not any("lapstrake" in name for name in os.listdir("/proc/sys/fs/binfmt_misc"))


# --- limits


def test_limits_as_files():
    given = (
        ("memory", "1000"),
        ("memory-swap", "3000"),
        ("cpu-shares", "1024"),
        ("cpu-quota", "5000"),
        ("cpuset-cpus", "0-1"),
    )
    assert cgroup.files_v2(given) == {
        "memory.max": "1000",
        "memory.swap.max": "2000",
        "cpu.weight": "39",
        "cpu.max": "5000 100000",
        "cpuset.cpus": "0-1",
    }
    assert list(cgroup.files_v1(given)) == ["memory", "cpu", "cpuset"]


@pytest.mark.parametrize("resources", [(("colour", "red"),), (("memory", "lots"),)])
def test_bad_limits(resources):
    with pytest.raises(UsageError):
        cgroup.Group(resources)


def test_limits_that_cannot_be_applied_are_an_error(tree):
    executor = _chosen("namespaces") if os.getuid() == 0 else pytest.skip("root")
    try:
        with pytest.raises(SandboxError, match="resource limits"):
            _run(executor, tree, "true", resources=(("cpuset-cpus", "4000"),), network="none")
    finally:
        executor.close()


@root_only
def test_out_of_memory_is_noticed(tree):
    executor = _chosen("namespaces")
    try:
        try:
            info, _ = _run(
                executor,
                tree,
                "sh",
                "-c",
                "dd if=/dev/zero of=/dev/shm/x bs=1M count=60",
                resources=(("memory", "20000000"),),
                network="none",
            )
        except SandboxError as error:
            pytest.skip(str(error))
    finally:
        executor.close()
    assert info.oom
    assert info.status != 0
    assert not any(
        name.startswith(f"run-{os.getpid()}-") for _, names, _ in os.walk("/sys/fs/cgroup") for name in names
    )


def test_a_delegated_group_is_emptied_before_it_is_divided(tmp_path, monkeypatch):
    """cgroup v2 of an ordinary user, as systemd-run -p Delegate=yes leaves it (files stand in for the kernel's)."""
    own = tmp_path / "user.slice" / "run-1.scope"
    (own / "lapstrake-builder").mkdir(parents=True)
    for name in ("cgroup.controllers", "user.slice/run-1.scope/cgroup.subtree_control", "user.slice/run-1.scope/lapstrake-builder/cgroup.procs"):  # fmt: skip
        (tmp_path / name).write_text("")
    (own / "cgroup.procs").write_text("17\n")
    mine = tmp_path / "mine"
    mine.write_text("0::/user.slice/run-1.scope\n")
    monkeypatch.setattr(cgroup, "_MOUNT", str(tmp_path))
    monkeypatch.setattr(cgroup, "_MINE", str(mine))
    monkeypatch.setattr(cgroup.os, "access", lambda path, _mode: path != str(tmp_path))
    group = cgroup.Group((("memory", "1000"),))
    assert group._below() == (str(own), [str(own)])
    assert (own / "lapstrake-builder" / "cgroup.procs").read_text() == "17"
    mine.write_text("0::/user.slice/run-1.scope/lapstrake-builder\n")
    assert group._below()[0] == str(own)


# --- network


@root_only
@pytest.mark.skipif(not find_pasta(), reason="needs pasta")
def test_private_network(tree, tmp_path):
    executor = _chosen("namespaces", root_dir=str(tmp_path))
    try:
        names = set(os.listdir("/sys/class/net"))
        info, out = _run(executor, tree, "ls", "/sys/class/net")
        assert info.status == 0
        if executor.notes:
            pytest.skip(executor.notes[0])
        assert "lo" in out
        assert set(out.split()) != names or len(names) <= 2
    finally:
        executor.close()


@root_only
@pytest.mark.parametrize("script", ["exit 1", "exec sleep 100"])
def test_broken_pasta_is_noted_and_remembered(tree, tmp_path, script, monkeypatch):
    from lapstrake.sandbox import network
    from lapstrake.sandbox.namespaces import NamespacesExecutor

    monkeypatch.setattr(network, "_PATIENCE", 0.2)
    pasta = tmp_path / "pasta"
    pasta.write_text(f"#!/bin/sh\n{script}\n")
    pasta.chmod(0o755)
    for expected in ("pasta", "before"):
        executor = NamespacesExecutor(network=Network(str(pasta), str(tmp_path / "probe")))
        try:
            assert _run(executor, tree, "sh", "-c", "exit 0")[0].status == 0
            assert expected in executor.notes[0]
        finally:
            executor.close()


def test_without_pasta():
    assert "not installed" in Network("").ready(None)


# --- chroot


@root_only
def test_chroot(tree):
    executor = _chosen("chroot")
    try:
        mounts = (Mount(target="/etc/hosts", kind="file", data=b"127.0.0.1 localhost\n", mode=0o644),)
        info, out = _run(
            executor,
            tree,
            "sh",
            "-c",
            "cat /etc/hosts; ls /; id -u; exit 4",
            plain=True,
            mounts=mounts,
            uid=12,
            gid=13,
        )
        assert info.status == 4
        assert out == "127.0.0.1 localhost\nbin\ndev\netc\n12\n"
        assert not (tree / "low" / "etc").exists()
        for fields in (
            {"network": "none"},
            {"readonly_root": True},
            {"mounts": (Mount(target="/a", source="/tmp"),)},
            {"insecure": True},
        ):
            with pytest.raises(SandboxError):
                _run(executor, tree, "true", plain=True, **fields)
        with pytest.raises(SandboxError, match="plain directory"):
            _run(executor, tree, "true")
    finally:
        executor.close()


@root_only
def test_min_isolation_fails_closed():
    with pytest.raises(SandboxError, match="weaker"):
        _chosen("chroot", minimum="namespaces")


def test_unknown_isolation():
    with pytest.raises(UsageError):
        _chosen("vm")


def test_doctor_has_a_fix_for_each_problem():
    checks = doctor.doctor()
    assert {"kernel", "namespaces", "overlayfs", "seccomp"} <= {check.name for check in checks}
    assert all(check.ok or check.fix for check in checks)


# --- OCI configuration


def test_oci_config_is_plain_json():
    from lapstrake.sandbox.ociruntime import oci_config

    spec = ProcessSpec(
        rootfs=Rootfs(upper="/u"),
        args=("a",),
        mounts=(Mount(target="/m/n"), Mount(target="/m", readonly=True)),
        network="none",
        ulimits=(("nofile", 1, 2),),
    )
    config = json.loads(json.dumps(oci_config(spec)))
    assert [m["source"] for m in config["mounts"][-2:]] == ["mounts/1", "mounts/0"]
    assert "ro" in config["mounts"][-2]["options"]
    assert {"type": "network"} in config["linux"]["namespaces"]
    assert config["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]
    assert "CAP_SYS_ADMIN" not in config["process"]["capabilities"]["bounding"]


# --- stubs


def test_stubs_go_only_while_empty(tmp_path):
    for name in ("a/b", "full"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "full" / "x").touch()
    (tmp_path / "written").write_text("x")
    (tmp_path / "empty").touch()
    victim = tmp_path / "victim"
    victim.touch()
    (tmp_path / "link").symlink_to("victim")
    names = [
        ("a", True),
        ("a/b", True),
        ("full", True),
        ("written", False),
        ("empty", False),
        ("link", False),
        ("link/x", True),
        ("../gone", True),
    ]
    stubs.remove(str(tmp_path), [(name, directory, 0, 0) for name, directory in names])
    assert sorted(os.listdir(tmp_path)) == ["full", "link", "victim", "written"]


# --- rootless


def test_id_maps():
    mapping = userns.plan(1000, 1001, [(100000, 65536), (300000, 10)], [(200000, 65536)])
    assert not mapping.single
    assert mapping.uids == ((0, 1000, 1), (1, 100000, 65536), (65537, 300000, 10))
    assert mapping.gids == ((0, 1001, 1), (1, 200000, 65536))
    assert userns.plan(5, 6, [], [(1, 1)]) == userns.Mapping(
        single=True, uids=((0, 5, 1),), gids=((0, 6, 1),)
    )


def test_subordinate_ranges(tmp_path):
    file = tmp_path / "subuid"
    file.write_text("root:1:2\n4242:100000:65536\nbroken\n4242:x:1\n")
    assert userns.ranges(str(file), 4242) == [(100000, 65536)]
    assert userns.ranges(str(tmp_path / "none"), 4242) == []


_ROOTLESS = """
import os, sys
sys.path.insert(0, {src!r})
from lapstrake.sandbox import userns
userns.enter(force_single={single})
from lapstrake.ids import ids
single = not ids().chown
from lapstrake.sandbox.namespaces import NamespacesExecutor
from lapstrake.sandbox.spec import ProcessSpec, Rootfs, Mount
class Never:
    pipe = os.pipe()
    def is_set(self): return False
    def fileno(self): return self.pipe[0]
base = {base!r}
executor = NamespacesExecutor(pretend=single)
def run(script, **fields):
    spec = ProcessSpec(rootfs=Rootfs(upper=base + "/up", lowers=(base + "/low",), work=base + "/work", userxattr=True), args=("sh", "-c", script), env=("PATH=/bin",), **fields)
    return executor.run(spec, lambda n, d: os.write(1, d), Never()).status
secret = Mount(target="/run/secret", kind="file", data=b"s", mode=0o400, uid=7, gid=7)
print(single, run("id -u; touch /f && chown 5:6 /f && stat -c %u /f; cat /run/secret; echo; rm /bin/ls; [ -e /bin/ls ] || echo no ls", network="none", mounts=(secret,)), flush=True)
print(run("ip link", network="host") == 0, sorted(os.listdir(base + "/up")), flush=True)
executor.close()
os._exit(7)
"""


def _rootless(tree, *, single: bool, uid: int) -> list[str]:
    for path in (tree, *tree.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    code = _ROOTLESS.format(src=SRC, base=str(tree), single=single)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        user=uid,
        group=uid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 7, done.stderr + done.stdout
    return done.stdout.splitlines()


@pytest.fixture
def public_tree(tree):
    """The tree where every user reaches it: pytest closes its own directories to others."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="lapstrake-test-") as where:
        os.chmod(where, 0o755)
        yield Path(shutil.copytree(tree, Path(where) / "t", symlinks=True))


@root_only
def test_rootless_with_a_single_id(public_tree):
    lines = _rootless(public_tree, single=True, uid=54321)
    assert lines[:4] == ["0", "0", "s", "no ls"]
    assert lines[4] == "True 0"
    assert lines[-1] == "True ['bin', 'f']"


@root_only
def test_rootless_with_subordinate_ids(public_tree):
    tree = public_tree
    uid = next((int(p) for p in _subordinate_users() if userns.subids_available(p)), 0)
    if not uid:
        pytest.skip("no user has subordinate ids here")
    lines = _rootless(tree, single=False, uid=uid)
    assert lines[:4] == ["0", "5", "s", "no ls"]
    assert lines[4] == "False 0"
    for name in ("f",):
        assert (tree / "up" / name).stat().st_uid not in (0, uid)


def _subordinate_users() -> list[int]:
    import pwd

    try:
        names = {line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines()}
    except OSError:
        return []
    return [entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in names and entry.pw_uid]


def test_a_compiled_filter_is_kept_and_only_believed_when_whole(tmp_path, monkeypatch):
    from lapstrake.sandbox.inner import filter as seccomp

    made = []
    compiled = seccomp.compile_filter()
    monkeypatch.setattr(seccomp, "compile_filter", lambda *kind: made.append(kind) or compiled)
    keep = str(tmp_path / "keep")
    assert seccomp.kept_filter(keep) == seccomp.kept_filter(keep) == compiled
    assert seccomp.kept_filter(keep, True) == compiled and seccomp.kept_filter("") == compiled
    assert made == [(False, False), (True, False), (False, False)]
    (path,) = [p for p in (tmp_path / "keep").iterdir() if p.name.split("-")[-4] == "00"]
    whole = path.read_bytes()
    for damage in (whole[:-8], whole[:40] + b"\0" + whole[41:], b""):
        path.write_bytes(damage)
        made.clear()
        assert seccomp.kept_filter(keep) == compiled and len(made) == 1
    path.chmod(0o666)
    made.clear()
    assert seccomp.kept_filter(keep) == compiled and len(made) == 1
