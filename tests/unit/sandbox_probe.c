/* Tries what a confined process must not be able to do; prints "name errno" (0: it worked). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

static void say(const char *name, long got) { printf("%s %d\n", name, got < 0 ? errno : 0); }

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("euid %d\n", geteuid());
    say("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
    say("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    say("unshare-user", unshare(CLONE_NEWUSER));
    say("unshare-mount", unshare(CLONE_NEWNS));
    say("mount", mount("none", "/tmp", "tmpfs", 0, ""));
    say("fsopen", syscall(430, "tmpfs", 0));
    say("pivot_root", syscall(SYS_pivot_root, ".", "."));
    int ns = open("/proc/1/ns/mnt", O_RDONLY);
    say("setns", setns(ns, 0));
    say("bpf", syscall(SYS_bpf, 0, 0, 0));
    say("perf", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
    say("open_by_handle", syscall(SYS_open_by_handle_at, 0, 0, 0));
    say("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    say("init_module", syscall(SYS_init_module, 0, 0, ""));
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("io_uring", syscall(425, 1, 0));
    say("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
    say("swapon", syscall(SYS_swapon, "/x", 0));
    say("settimeofday", syscall(SYS_settimeofday, 0, 0));
    say("iopl", syscall(SYS_iopl, 3));
    say("quotactl", syscall(SYS_quotactl, 0, 0, 0, 0));
    say("syslog", syscall(SYS_syslog, 3, 0, 0));
    say("vsock", socket(40, SOCK_STREAM, 0));
    say("clone3", syscall(435, 0, 0));
    say("unknown", syscall(9999));
    struct termios t;
    if (tcgetattr(0, &t) == 0) say("tiocsti", ioctl(0, TIOCSTI, "x"));
    if (argc > 1) {
        say("ptrace", ptrace(PTRACE_ATTACH, atoi(argv[1]), 0, 0));
        say("kill", syscall(SYS_kill, atoi(argv[1]), 0));
    }
    if (argc > 2) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        strncpy(a.sun_path + 1, argv[2], sizeof a.sun_path - 2);
        int s = socket(AF_UNIX, SOCK_STREAM, 0);
        say("abstract", connect(s, (struct sockaddr *)&a, sizeof(sa_family_t) + 1 + strlen(argv[2])));
    }
    return 0;
}
