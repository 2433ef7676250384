"""Why a guest ended, from what is left of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.hypervisor.host.cause import cause, text

PANIC = "[    1.5] Kernel panic - not syncing: VFS: Unable to mount root fs\n[    1.5] CPU: 0\n"
DOWN = "[    9.1] reboot: Power down\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"status": "exit 0", "reason": "guest-shutdown"}, "powered off"),
        ({"status": "exit 0", "console": DOWN}, "powered off"),  # nobody was connected to hear the reason
        ({"status": "exit 0", "reason": "guest-reset"}, "the guest reset itself"),
        ({"status": "exit 0"}, "the guest reset itself"),
        (
            {"status": "exit 0", "reason": "guest-reset", "console": PANIC},
            "guest kernel panic: VFS: Unable to mount root fs",
        ),
        ({"status": "exit 0", "console": PANIC}, "guest kernel panic: VFS: Unable to mount root fs"),
        (
            {"status": "exit 0", "console": "Kernel panic - not syncing: System is deadlocked on memory\n"},
            "out of memory: guest kernel panic: System is deadlocked on memory",
        ),
        (
            {"status": "exit 0", "console": "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom\n"},
            "out of memory: guest kernel panic: Out of memory: system-wide panic_on_oom",
        ),
        # a guest that prints a panic and powers off did not panic
        ({"status": "exit 0", "reason": "guest-shutdown", "console": PANIC}, "powered off"),
        ({"status": "exit 0", "reason": "host-signal"}, "ended by the host"),
        ({"status": "signal 9"}, "killed by signal 9 (SIGKILL)"),
        ({"status": "signal 9", "console": PANIC}, "killed by signal 9 (SIGKILL)"),
        ({"status": "signal 63"}, "killed by signal 63"),
        (
            {"status": "signal 11", "log": "x: Assertion failed.\n"},
            "killed by signal 11 (SIGSEGV); qemu: x: Assertion failed.",
        ),
        (
            {"status": "signal 9", "out_of_memory": True},
            "killed by the host: the virtual machine's memory limit was reached",
        ),
        ({"status": "exit 1", "log": "a\nqemu-system-x86_64: no\n"}, "qemu: a; no"),
        ({"status": "signal 9", "log": "qemu-system-x86_64: warning: so be it\n"}, "killed by signal 9 (SIGKILL)"),
        ({"status": "exit 1"}, "the VMM is gone (exit 1)"),
        (
            {"vmm": "lkvm", "status": "exit 128", "log": "  Info: # lkvm run\n  Warning: so be it\n  Fatal: no\n"},
            "lkvm: no",
        ),
        ({"status": "exit 0", "console": "reboot: Restarting system\n"}, "the guest reset itself"),
        (
            {"status": "exit 0", "console": "reboot: Restarting system\n", "off": "reboot: Restarting system"},
            "powered off",
        ),
        ({}, "the VMM is gone"),
        (
            {"status": "signal 9", "share": "signal 11"},
            "its shared folders are gone: virtiofsd ended by signal 11 (SIGSEGV)",
        ),
        ({"status": "signal 9", "share": "exit 1"}, "its shared folders are gone: virtiofsd ended by exit 1"),
        (
            {"status": "signal 9", "share": "signal 9", "out_of_memory": True},
            "killed by the host: the virtual machine's memory limit was reached",
        ),
    ],
)
def test_the_cause_is_named(said: dict[str, object], words: str) -> None:
    known: dict[str, object] = {"status": "", "reason": "", "console": "", "log": "", "out_of_memory": False}
    assert cause(**(known | said)) == words  # type: ignore[arg-type]


@given(st.binary())
def test_a_console_cannot_drive_a_terminal(data: bytes) -> None:
    assert all(char in "\n\t" or char.isprintable() or char.isspace() or ord(char) > 0x9F for char in text(data))
    assert "\033" not in text(data)


def test_a_console_stays_readable() -> None:
    assert text("eins\r\nzwei\tüber\033[2J\n".encode()) == "eins\nzwei\tüber[2J\n"


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200), st.text(max_size=40))
def test_no_words_of_a_guest_confuse_it(console: str, log: str, reason: str, status: str) -> None:
    if not status.startswith("signal "):
        assert cause(status=status, reason=reason, console=console, log=log, out_of_memory=False)
