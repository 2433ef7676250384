"""Filters of system calls."""

from typing import Any

import pytest

from tests.oci.bundle import Bundle
from tests.oci.runtime import Runtime

EPERM, ENOSYS, EXDEV = 1, 38, 18


def filtered(bundle: Bundle, *rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> Bundle:
    bundle.linux["seccomp"] = {
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": list(rules),
        **more,
    }
    return bundle


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def test_a_refused_call_is_not_permitted(oci: Runtime) -> None:
    done = oci.run(filtered(oci.bundle("mkdir", "/new"), rule("ERRNO", "mkdir", "mkdirat")))
    assert done.status == 1
    assert "Operation not permitted" in done.err


def test_a_refused_call_did_nothing(oci: Runtime) -> None:
    bundle = filtered(oci.bundle("mkdir", "/new"), rule("ERRNO", "mkdir", "mkdirat"))
    assert oci.run(bundle).status == 1
    assert not (bundle.rootfs / "new").exists()


@pytest.mark.parametrize(("errno", "words"), [(ENOSYS, "Function not implemented"), (EXDEV, "ross-device link")])
def test_another_error(oci: Runtime, errno: int, words: str) -> None:
    done = oci.run(filtered(oci.bundle("mkdir", "/new"), rule("ERRNO", "mkdir", "mkdirat", errnoRet=errno)))
    assert words in done.err


@pytest.mark.parametrize("action", ["KILL", "KILL_PROCESS", "KILL_THREAD"])
def test_a_call_that_kills(oci: Runtime, action: str) -> None:
    bundle = filtered(oci.bundle("mkdir", "/new"), rule(action, "mkdir", "mkdirat"))
    assert oci.start(bundle).wait() == 128 + 31


def test_a_call_that_traps(oci: Runtime) -> None:
    bundle = filtered(oci.bundle("mkdir", "/new"), rule("TRAP", "mkdir", "mkdirat"))
    assert oci.start(bundle).wait() == 128 + 31


def test_a_call_that_is_logged_works(oci: Runtime) -> None:
    bundle = filtered(oci.bundle("mkdir", "/new"), rule("LOG", "mkdir", "mkdirat"))
    assert oci.run(bundle).status == 0


def test_other_calls_work(oci: Runtime) -> None:
    assert oci.run(filtered(oci.bundle("touch", "/new"), rule("ERRNO", "mkdir", "mkdirat"))).status == 0


def test_a_list_of_what_is_allowed(oci: Runtime) -> None:
    calls = [
        "access", "arch_prctl", "brk", "capget", "capset", "chdir", "clone", "clone3", "close", "dup", "dup2",
        "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2", "execve", "exit", "exit_group",
        "faccessat2", "fchdir", "fcntl", "fstat", "fstatfs", "futex", "getcwd", "getdents64", "getegid", "geteuid",
        "getgid", "getpid", "getppid", "getrandom", "gettid", "getuid", "ioctl", "keyctl", "lseek", "lstat",
        "madvise", "mmap", "mprotect", "munmap", "nanosleep", "newfstatat", "open", "openat", "pipe2", "prctl",
        "prlimit64", "read", "readlink", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_yield",
        "seccomp", "set_robust_list", "set_tid_address", "setgid", "setgroups", "setresgid", "setresuid", "setuid",
        "sigaltstack", "stat", "statfs", "tgkill", "umask", "uname", "write", "writev",
    ]  # fmt: skip
    bundle = filtered(oci.bundle("echo", "allowed"), rule("ALLOW", *calls), default="SCMP_ACT_ERRNO")
    assert oci.run(bundle).out == "allowed\n"
    bundle.process["args"] = ["mkdir", "/new"]
    assert "Operation not permitted" in oci.run(bundle).err


@pytest.mark.parametrize(
    ("op", "value", "refused"),
    [("EQ", 0o700, True), ("EQ", 0o755, False), ("NE", 0o700, False), ("LT", 0o701, True), ("GE", 0o701, False)],
)
def test_by_the_value_of_an_argument(oci: Runtime, op: str, value: int, refused: bool) -> None:
    args = [{"index": 1, "value": value, "op": f"SCMP_CMP_{op}"}]
    bundle = filtered(oci.bundle("chmod", "700", "/etc/passwd"), rule("ERRNO", "chmod", args=args))
    assert ("Operation not permitted" in oci.run(bundle).err) == refused


def test_by_some_bits_of_an_argument(oci: Runtime) -> None:
    args = [{"index": 1, "value": 0o7000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ"}]
    bundle = filtered(oci.bundle("sh", "-c", "chmod 755 /tmp && chmod 4755 /tmp"), rule("ERRNO", "chmod", args=args))
    done = oci.run(bundle)
    assert "Operation not permitted" in done.err
    assert (bundle.rootfs / "tmp").stat().st_mode & 0o7777 == 0o755


def test_an_unknown_call_is_passed_over(oci: Runtime) -> None:
    assert oci.run(filtered(oci.bundle("echo", "ran"), rule("ERRNO", "no_such_call"))).out == "ran\n"


def test_the_process_has_a_filter(oci: Runtime) -> None:
    bundle = filtered(oci.bundle("grep", "^Seccomp:", "/proc/self/status"), rule("ERRNO", "mkdir"))
    assert oci.run(bundle).out.split() == ["Seccomp:", "2"]


def test_a_process_without_one_has_none(oci: Runtime) -> None:
    assert oci.run(oci.bundle("grep", "^Seccomp:", "/proc/self/status")).out.split() == ["Seccomp:", "0"]


def test_a_filter_for_who_is_not_root(oci: Runtime) -> None:
    bundle = filtered(oci.bundle("mkdir", "/tmp/new"), rule("ERRNO", "mkdir", "mkdirat"))
    bundle.process.update(user={"uid": 1234, "gid": 1234}, noNewPrivileges=True)
    assert "Operation not permitted" in oci.run(bundle).err


def test_an_exec_has_the_filter_too(oci: Runtime) -> None:
    container = oci.start(filtered(oci.bundle(), rule("ERRNO", "mkdir", "mkdirat")))
    assert "Operation not permitted" in container.exec("mkdir", "/new").err


def test_an_unknown_action_is_refused(oci: Runtime) -> None:
    oci.refuses(filtered(oci.bundle(), rule("NOSUCH", "mkdir")))


def test_an_unknown_default_is_refused(oci: Runtime) -> None:
    oci.refuses(filtered(oci.bundle(), default="SCMP_ACT_NOSUCH"))


def test_an_unknown_architecture_is_refused(oci: Runtime) -> None:
    oci.refuses(filtered(oci.bundle(), architectures=["SCMP_ARCH_NOSUCH"]))


def test_an_unknown_operator_is_refused(oci: Runtime) -> None:
    args = [{"index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH"}]
    oci.refuses(filtered(oci.bundle(), rule("ERRNO", "mkdir", args=args)))
