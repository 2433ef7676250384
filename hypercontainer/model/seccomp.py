"""The system calls that a container may make: docker's default policy, compiled here to what the kernel runs.

An allow-list: what is not on it fails with EPERM, what is newer than it with ENOSYS. Some calls come with a capability,
some are allowed with certain arguments only. The guest's agent loads the filter as it comes; it has no compiler.
"""

import errno
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from hypercontainer.model.arch import ARCHES, Arch
from hypercontainer.model.syscalls import numbers

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# Every container needs or may have these.
ALLOWED = """
_llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown
chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown
fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv
futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority
getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid
gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc
kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt
mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6
pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall rmdir rseq
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signal signalfd signalfd4 sigaction sigpending sigprocmask sigreturn sigsuspend socketcall socketpair
splice stat stat64 statfs statfs64 statmount statx swapcontext symlink symlinkat sync sync_file_range sync_file_range2
syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid
waitpid write writev
"""

# A capability brings these.
GRANTED = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
        lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
        setdomainname sethostname setns syslog umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}

NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
AF_VSOCK = 40  # leads to the host, past every network rule (i386 has socketcall too, which no filter can look into)
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, uname26, either with ADDR_NO_RANDOMIZE; "tell me"


class Instruction(NamedTuple):
    """struct sock_filter"""

    code: int
    jt: int
    jf: int
    k: int


Code = list[Instruction]

LOAD, JUMP, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; of arguments each has eight bytes
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
X32 = 0x40000000  # the bit that turns an x86_64 number into one of the x32 ABI


def _return(value: int) -> Code:
    return [Instruction(RETURN, 0, 0, value)]


YES = _return(ALLOW)
NO = _return(ERRNO | errno.EPERM)
UNKNOWN = _return(ERRNO | errno.ENOSYS)


def compile(capabilities: Iterable[str], arch: str) -> bytes:
    """The filter for a container with `capabilities` in a guest of `arch`: an array of struct sock_filter."""
    return _compiled(frozenset(capabilities), arch)


@lru_cache(maxsize=64)
def _compiled(capabilities: frozenset[str], arch: str) -> bytes:
    code, of = [Instruction(LOAD, 0, 0, ARCH)], ARCHES[arch]
    for abi, audit in of.abis.items():
        body = [Instruction(LOAD, 0, 0, NUMBER), *_search(_ranges(_policy(capabilities, of, abi), abi))]
        code += [Instruction(JUMP_EQUAL, 1, 0, audit), Instruction(JUMP, 0, 0, len(body)), *body]
    code += NO  # programs of some other ABI
    assert len(code) <= MAX_INSTRUCTIONS  # noqa: S101  it is a tenth of that
    return b"".join(struct.pack(">HBBI" if of.big_endian else "<HBBI", *instruction) for instruction in code)


def _policy(capabilities: frozenset[str], arch: Arch, abi: str) -> dict[int, Code]:
    """Number -> what is done, for the calls that are not plainly refused."""

    def argument(n: int) -> Code:
        """Its low half: the kernel takes an int, so what a caller puts above it is not looked at there either."""
        return [Instruction(LOAD, 0, 0, ARGUMENTS + 8 * n + (4 if arch.big_endian else 0))]

    policy = {
        "clone": [*argument(arch.clone_flags), *_unless_any_bit(NEW_NAMESPACES)],
        "clone3": UNKNOWN,  # its flags lie in memory, out of a filter's sight: C libraries then call clone
        "personality": [*argument(0), *_only(PERSONALITIES)],
        "socket": [*argument(0), *_all_but(AF_VSOCK)],
    }
    policy |= dict.fromkeys(ALLOWED.split(), YES)
    for capability in capabilities:
        policy |= dict.fromkeys(GRANTED.get(capability, "").split(), YES)
    known = numbers(abi)
    return {known[name]: code for name, code in policy.items() if name in known}


def _unless_any_bit(mask: int) -> Code:
    return [Instruction(JUMP_ANY_BIT, 0, 1, mask), *NO, *YES]


def _all_but(value: int) -> Code:
    return [Instruction(JUMP_EQUAL, 0, 1, value), *NO, *YES]


def _only(values: Sequence[int]) -> Code:
    checks = [Instruction(JUMP_EQUAL, len(values) - n, 0, value) for n, value in enumerate(values)]
    return [*checks, *NO, *YES]


Range = tuple[int, Code]  # from this number on, until the next range begins


def _ranges(policy: dict[int, Code], abi: str) -> list[Range]:
    """Neighbours that fare alike, as one: from 0 to the end, sorted."""
    last = max(numbers(abi).values())
    ranges: list[Range] = []
    for number in range(last + 1):
        code = policy.get(number, NO)
        if not ranges or ranges[-1][1] is not code:
            ranges.append((number, code))
    return [*ranges, (last + 1, UNKNOWN), (X32, NO)]


def _search(ranges: Sequence[Range]) -> Code:
    """A balanced tree of comparisons that ends in the code of the range that holds the number."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    start = ranges[middle][0]
    if len(below) <= 0xFF:
        return [Instruction(JUMP_GREATER_EQUAL, len(below), 0, start), *below, *above]
    # Conditional jumps reach 255 instructions, others any.
    far = Instruction(JUMP, 0, 0, len(below))
    return [Instruction(JUMP_GREATER_EQUAL, 0, 1, start), far, *below, *above]
