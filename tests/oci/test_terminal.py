"""Terminals: who makes them, who holds the master, what their ends see."""

import fcntl
import os
import pty
import struct
import termios
from pathlib import Path

import pytest

from tests.oci.bundle import Bundle
from tests.oci.reaper import finish
from tests.oci.runtime import Console, Container, Output, Runtime


def terminal(oci: Runtime, *args: str) -> Bundle:
    bundle = oci.bundle(*args)
    bundle.process["terminal"] = True
    return bundle


def created(oci: Runtime, bundle: Bundle) -> tuple[Container, Output]:
    """A container with a terminal, and that terminal's master."""
    console = oci.console()
    container = oci.create(bundle, "--console-socket", console.path)
    return container, Output(console.master())


def started(oci: Runtime, *args: str) -> tuple[Container, Output]:
    container, master = created(oci, terminal(oci, *args))
    return container.start(), master


def resize(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_the_master_comes_with_create(oci: Runtime) -> None:
    container, master = created(oci, terminal(oci, "echo", "hello"))
    assert os.isatty(master.fd)
    assert container.state()["status"] == "created"


def test_output_comes_from_the_master(oci: Runtime) -> None:
    _, master = started(oci, "echo", "hello")
    assert master.rest() == "hello\r\n"


def test_stdio_is_the_terminal(oci: Runtime) -> None:
    _, master = started(oci, "sh", "-c", "for fd in 0 1 2; do test -t $fd && echo $fd; done; tty")
    assert master.rest() == "0\r\n1\r\n2\r\n/dev/pts/0\r\n"


def test_stderr_comes_from_the_master(oci: Runtime) -> None:
    _, master = started(oci, "sh", "-c", "echo error >&2")
    assert master.rest() == "error\r\n"


def test_the_terminal_is_the_sessions(oci: Runtime) -> None:
    _, master = started(oci, "sh", "-c", "echo through >/dev/tty")
    assert master.rest() == "through\r\n"


def test_the_console_is_the_terminal(oci: Runtime) -> None:
    _, master = started(oci, "sh", "-c", "echo through >/dev/console")
    assert master.rest() == "through\r\n"


def test_what_is_typed_is_echoed_and_read(oci: Runtime) -> None:
    _, master = started(oci, "sh", "-c", "read word; echo got $word")
    os.write(master.fd, b"hello\n")
    assert master.rest() == "hello\r\ngot hello\r\n"


def test_control_c_interrupts(oci: Runtime) -> None:
    script = "trap 'echo interrupted; exit 3' INT; echo up; sleep 1000000 & wait"  # `read` misses one just before
    container, master = started(oci, "sh", "-c", script)
    assert master.line() == "up\r\n"
    os.write(master.fd, b"\x03")
    assert master.rest().endswith("interrupted\r\n")
    assert container.wait() == 3


def test_control_d_is_the_end_of_input(oci: Runtime) -> None:
    container, master = started(oci, "cat")
    os.write(master.fd, b"\x04")
    master.rest()
    assert container.wait() == 0


def test_the_size_of_the_bundle(oci: Runtime) -> None:
    bundle = terminal(oci, "stty", "size")
    bundle.process["consoleSize"] = {"height": 33, "width": 111}
    container, master = created(oci, bundle)
    container.start()
    assert master.rest() == "33 111\r\n"


def test_a_size_set_before_start(oci: Runtime) -> None:
    container, master = created(oci, terminal(oci, "stty", "size"))
    resize(master.fd, 44, 99)
    container.start()
    assert master.rest() == "44 99\r\n"


def test_a_new_size_is_told(oci: Runtime) -> None:
    script = "trap 'stty size; exit' WINCH; echo up; sleep 1000000 & wait"
    _, master = started(oci, "sh", "-c", script)
    assert master.line() == "up\r\n"
    resize(master.fd, 20, 30)
    assert master.rest() == "20 30\r\n"


def test_raw_bytes_arrive_as_they_are(oci: Runtime) -> None:
    _, master = started(oci, "sh", "-c", "stty raw -echo; echo up; head -c 6 | od -An -tx1")
    master.until("up\n")
    os.write(master.fd, b"\x03\x04\r\n\x1a\xff")
    assert master.rest().split() == ["03", "04", "0d", "0a", "1a", "ff"]


def test_a_closed_master_hangs_up(oci: Runtime) -> None:
    script = "trap 'echo hung up >/tmp/told; exit 5' HUP; echo up; sleep 1000000 & wait"
    bundle = terminal(oci, "sh", "-c", script)
    container, master = created(oci, bundle)
    container.start()
    assert master.line() == "up\r\n"
    os.close(master.fd)
    assert container.wait() == 5
    assert (bundle.rootfs / "tmp/told").read_text() == "hung up\n"


def test_the_terminal_belongs_to_the_user(oci: Runtime) -> None:
    bundle = terminal(oci, "sh", "-c", "stat -c %u $(tty); echo written >$(tty)")
    bundle.process["user"] = {"uid": 1234, "gid": 1234}
    container, master = created(oci, bundle)
    container.start()
    assert master.rest() == "1234\r\nwritten\r\n"


def test_much_output(oci: Runtime) -> None:
    _, master = started(oci, "seq", "20000")
    assert master.rest().split() == [str(n) for n in range(1, 20001)]


def test_two_terminals_are_two(oci: Runtime) -> None:
    masters = [started(oci, "echo", word)[1] for word in ("one", "two")]
    assert [master.rest() for master in masters] == ["one\r\n", "two\r\n"]


def test_create_with_a_terminal_needs_a_console_socket(oci: Runtime) -> None:
    oci.refuses(terminal(oci))


def test_a_console_socket_needs_a_terminal(oci: Runtime) -> None:
    oci.refuses(oci.bundle(), "--console-socket", oci.console().path)


def test_a_console_socket_that_is_missing_is_refused(oci: Runtime) -> None:
    oci.refuses(terminal(oci), "--console-socket", oci.path())


def test_a_console_socket_that_nobody_listens_on_is_refused(oci: Runtime) -> None:
    console = oci.console()
    console.socket.close()
    oci.refuses(terminal(oci), "--console-socket", console.path)


def test_a_console_socket_that_is_a_file_is_refused(oci: Runtime) -> None:
    file = oci.path()
    file.touch()
    oci.refuses(terminal(oci), "--console-socket", file)


def test_run_detached_hands_the_master_over(oci: Runtime) -> None:
    bundle, console = terminal(oci, "echo", "hello"), oci.console()
    bundle.save()
    oci.ok("run", "--detach", "--bundle", bundle.folder, "--console-socket", console.path, oci.id())
    assert Output(console.master()).rest() == "hello\r\n"


def test_run_passes_on_between_its_terminal_and_the_containers(oci: Runtime) -> None:
    bundle = terminal(oci, "sh", "-c", "tty; read word; echo got $word")
    bundle.save()
    master, slave = pty.openpty()
    ours = Console(oci.path())
    ours.fds += [master]
    oci.consoles.append(ours)
    process = oci.spawn("run", "--bundle", bundle.folder, oci.id(), stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    output = Output(master)
    assert output.line() == "/dev/pts/0\r\n"
    os.write(master, b"hello\n")
    assert output.rest().endswith("got hello\r\n")
    assert finish(process) == 0


def test_exec_with_a_terminal(oci: Runtime) -> None:
    container, console, pid_file = oci.start(), oci.console(), oci.path()
    options: list[str | Path] = ["--tty", "--detach", "--pid-file", pid_file, "--console-socket", console.path]
    assert container.exec("sh", "-c", "tty; exit 3", options=options).status == 0
    master = Output(console.master())
    assert master.rest().startswith("/dev/pts/")


def test_exec_with_a_terminal_needs_a_console_socket_when_detached(oci: Runtime) -> None:
    container = oci.start()
    assert container.exec("true", options=["--tty", "--detach"]).status != 0


@pytest.mark.parametrize("verb", ["create", "run"])
def test_without_a_terminal_stdin_is_none(oci: Runtime, verb: str) -> None:
    bundle = oci.bundle("sh", "-c", "test -t 0 || echo none")
    assert (oci.run(bundle).out if verb == "run" else oci.start(bundle).out.rest()) == "none\n"


def test_who_is_at_a_terminal_that_is_hung_up_gets_a_signal(oci: Runtime) -> None:
    container, master = started(oci, "sh", "-c", "trap 'exit 5' HUP; echo up; while :; do sleep 0.05; done")
    assert master.line() == "up\r\n"
    oci.consoles[-1].hang_up()
    assert container.wait() == 5


def test_who_writes_to_a_terminal_that_is_hung_up_hears_of_it(oci: Runtime) -> None:
    bundle = terminal(oci, "sh", "-c", "trap '' HUP; echo up; while echo more; do sleep 0.05; done; exit 3")
    container, master = created(oci, bundle)
    container.start()
    assert master.line() == "up\r\n"
    oci.consoles[-1].hang_up()
    assert container.wait() == 3
