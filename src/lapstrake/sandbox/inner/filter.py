"""The seccomp allow-list, compiled once per helper by libseccomp into a BPF program.

Semantics follow Docker's default profile for a container without extra capabilities; a system
call nobody had heard of when the list was made gives ENOSYS, so that libc falls back.
"""

from __future__ import annotations

import ctypes
import os

from . import owners, stats
from .owners import NAMES, call_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ALLOWED = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 chroot
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2
fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom
getresgid getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init
inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr
_llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create
memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap
mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
_newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv
process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat
readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr
sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority
setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list
setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget
shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs
statfs64 statmount statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time
timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork
vmsplice wait4 waitid waitpid write writev arch_prctl modify_ldt riscv_hwprobe riscv_flush_icache cacheflush
breakpoint set_tls
"""

REFUSED = """
acct add_key bpf clock_settime clock_settime64 create_module delete_module fanotify_init finit_module fsconfig
fsmount fsopen fspick get_kernel_syms get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup
ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie lsm_get_self_attr lsm_list_modules
lsm_set_self_attr mbind mount mount_setattr move_mount move_pages migrate_pages nfsservctl open_by_handle_at
open_tree perf_event_open pidfd_getfd pivot_root process_madvise query_module quotactl quotactl_fd reboot
request_key set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday stime swapoff
swapon _sysctl sysfs syslog umount umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old
"""

NODE_CALLS = {"mknod": 1, "mknodat": 2}  # where the mode is; the device comes next
PLAIN_KINDS = (0, 0o100000, 0o010000, 0o140000)  # regular files, pipes, sockets
SAFE_DEVICES = tuple(os.makedev(*d) for d in ((0, 0), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)))

_ALLOW = 0x7FFF0000
_ENOSYS, _EPERM, _ASK = 0x00050000 | 38, 0x00050000 | 1, 0x7FC00000
_NE, _EQ, _MASKED_EQ = 1, 4, 7
_EAFNOSUPPORT, _AF_VSOCK = 0x00050000 | 97, 40
_CTL_OPTIMIZE = 8
_CLONE_NAMESPACES = 0x7E020000
PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
_EXTRA_ARCHES = {"x86_64": (0x40000003, 0x4000003E), "aarch64": (0x40000028,)}  # x86 and x32; arm


class _Argument(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def _library() -> ctypes.PyDLL:
    last: OSError | None = None
    for name in ("libseccomp.so.2", "libseccomp.so"):
        try:
            library = ctypes.PyDLL(name, use_errno=True)
            library.seccomp_init.restype = ctypes.c_void_p
            return library
        except OSError as error:
            last = error
    raise OSError(f"libseccomp is not installed ({last})")


def compile_filter(pretend: bool = False, limit_nodes: bool = False) -> bytes:
    """The filter as ``struct sock_filter`` records.

    ``pretend``: what ``owners`` answers is handed over to it.  ``limit_nodes``: device nodes other than
    those of ``SAFE_DEVICES`` can't be made, for where mounts can't forbid to open them.
    """
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ENOSYS)))
    if context.value is None:
        raise OSError("seccomp_init failed")
    try:
        library.seccomp_attr_set(
            context, _CTL_OPTIMIZE, 2
        )  # a tree: a third of the time to load; may be refused
        for arch in _EXTRA_ARCHES.get(os.uname().machine, ()):
            library.seccomp_arch_add(context, ctypes.c_uint32(arch))
        _add_rules(library, context, pretend, limit_nodes)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def kept_filter(directory: str, pretend: bool = False, limit_nodes: bool = False) -> bytes:
    """``compile_filter``, from a file when it was compiled before: that takes 30 ms, reading it none.

    The file is named after all that the program depends on, and is believed only when it is ours alone
    and whole.
    """
    path = f"{directory}/{_name(pretend, limit_nodes)}" if directory else ""
    program = _read_kept(path) if path else b""
    if not program:
        program = compile_filter(pretend, limit_nodes)
        if path:
            _keep(path, program)
    return program


def _name(pretend: bool, limit_nodes: bool) -> str:
    """Of the file: this code (by size and time), the machine, the library, the kind of filter."""
    parts = [os.uname().machine, os.uname().release, f"{pretend:d}{limit_nodes:d}"]
    for module in (__file__, stats.__file__, owners.__file__):
        st = os.stat(module)
        parts.append(f"{st.st_mtime_ns:x}.{st.st_size:x}")
    return "filter-" + "-".join(parts)


def _read_kept(path: str) -> bytes:
    from binascii import crc32

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        st = os.fstat(fd)
        if st.st_uid != os.geteuid() or st.st_mode & 0o077:
            return b""
        data = os.read(fd, 1 << 16)
    finally:
        os.close(fd)
    program, check = data[:-4], data[-4:]
    whole = program and len(program) % 8 == 0 and crc32(program).to_bytes(4, "little") == check
    return program if whole else b""


def _keep(path: str, program: bytes) -> None:
    from binascii import crc32

    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, program + crc32(program).to_bytes(4, "little"))
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        pass  # it is compiled again next time


def asked_calls() -> dict[tuple[int, int], str]:
    """The calls that a filter with ``pretend`` hands over, by architecture and number."""
    library = _library()
    library.seccomp_arch_native.restype = ctypes.c_uint32
    native = int(library.seccomp_arch_native())
    return call_numbers(library, (native, *_EXTRA_ARCHES.get(os.uname().machine, ())))


def _add_rules(library: ctypes.PyDLL, context: ctypes.c_void_p, pretend: bool, limit_nodes: bool) -> None:
    def rule(action: int, name: str, *conditions: _Argument) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # unknown to this libseccomp: the default, ENOSYS, applies
            return
        array = (_Argument * max(1, len(conditions)))(*conditions)
        got = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), number, len(conditions), ctypes.byref(array)
        )
        if got not in (0, -22, -34, -17, -33):  # a call that an extra architecture lacks is no failure
            raise OSError(-got, f"seccomp rule for {name}")

    asked = frozenset(NAMES.split()) if pretend else frozenset()
    for name in ALLOWED.split():
        if pretend and name in stats.NAMES:
            _ask_about_open_files(rule, name)
            continue
        if limit_nodes and name in NODE_CALLS and name not in asked:
            at = NODE_CALLS[name]
            for kind in PLAIN_KINDS:
                rule(_ALLOW, name, _Argument(at, _MASKED_EQ, 0o170000, kind))
            for device in SAFE_DEVICES:
                rule(_ALLOW, name, _Argument(at + 1, _EQ, device, 0))
            continue
        rule(_ASK if name in asked else _ALLOW, name)
    for name in REFUSED.split():
        rule(_EPERM, name)
    for value in PERSONALITIES:
        rule(_ALLOW, "personality", _Argument(0, _EQ, value, 0))
    rule(_ALLOW, "clone", _Argument(0, _MASKED_EQ, _CLONE_NAMESPACES, 0))
    for bit in range(25, 31):
        rule(_EPERM, "clone", _Argument(0, _MASKED_EQ, 1 << bit, 1 << bit))
    rule(_ALLOW, "socket", _Argument(0, _NE, _AF_VSOCK, 0))  # it reaches the hypervisor
    rule(_EAFNOSUPPORT, "socket", _Argument(0, _EQ, _AF_VSOCK, 0))


def _ask_about_open_files(rule: Callable[..., None], name: str) -> None:
    at = stats.FLAGS_AT.get(name)
    if at is None:
        rule(_ASK, name)
        return
    rule(_ASK, name, _Argument(at, _MASKED_EQ, 0x1000, 0x1000))  # AT_EMPTY_PATH
    rule(_ALLOW, name, _Argument(at, _MASKED_EQ, 0x1000, 0))


def _export(library: ctypes.PyDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        got = library.seccomp_export_bpf(context, fd)
        if got < 0:
            raise OSError(-got, "seccomp_export_bpf")
        os.lseek(fd, 0, 0)
        program = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    if not program or len(program) % 8 or len(program) // 8 > 4096:
        raise OSError("libseccomp gave no usable program")
    return program
