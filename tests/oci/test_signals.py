"""kill: which signals come to whom."""

import pytest

from tests.oci.bundle import Bundle
from tests.oci.reaper import finish
from tests.oci.runtime import Container, Output, Runtime, number


def trapping(oci: Runtime, *names: str) -> Bundle:
    """Says which signal came, and ends with 42."""
    traps = "; ".join(f"trap 'echo {name}; exit 42' {name}" for name in names)
    return oci.bundle("sh", "-c", f"{traps}; echo up; sleep 1000000 & wait")


def up(oci: Runtime, *names: str) -> Container:
    container = oci.start(trapping(oci, *names))
    assert container.out.line() == "up\n"
    return container


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "ALRM", "CONT"])
def test_a_signal_arrives(oci: Runtime, name: str) -> None:
    container = up(oci, name)
    container.kill(name)
    assert container.out.line() == f"{name}\n"
    assert container.wait() == 42


@pytest.mark.parametrize("spelled", ["TERM", "SIGTERM", "15"])
def test_how_a_signal_is_spelled(oci: Runtime, spelled: str) -> None:
    container = up(oci, "TERM")
    container.kill(spelled)
    assert container.out.line() == "TERM\n"


def test_a_signal_in_small_letters(oci: Runtime) -> None:
    container = up(oci, "TERM")
    container.kill("sigterm")
    assert container.out.line() == "TERM\n"


def test_a_real_time_signal(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "trap 'echo came; exit 42' 40; echo up; sleep 1000000 & wait"))
    assert container.out.line() == "up\n"
    container.kill("40")
    assert container.out.line() == "came\n"


def test_the_signal_is_term_when_none_is_named(oci: Runtime) -> None:
    container = up(oci, "TERM")
    oci.ok("kill", container.id)
    assert container.out.line() == "TERM\n"


def test_kill_needs_no_handler(oci: Runtime) -> None:
    container = oci.start()
    container.kill("KILL")
    assert container.wait() == 128 + number("KILL")


def test_a_signal_without_handler_does_nothing_to_the_first_process(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "echo up; read x; echo alive"))
    assert container.out.line() == "up\n"
    container.kill("TERM")
    container.close()
    assert container.out.rest() == "alive\n"


def test_a_created_container_is_killed(oci: Runtime) -> None:
    container = oci.create(oci.bundle())
    container.kill("KILL")
    assert container.wait() == 137
    assert container.state()["status"] == "stopped"


def test_a_stopped_container_is_refused(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    assert "not running" in oci.no("kill", container.id, "TERM")


@pytest.mark.parametrize("name", ["NOSUCH", "SIGNOSUCH", "-1", "1000"])
def test_an_unknown_signal_is_refused(oci: Runtime, name: str) -> None:
    container = oci.start()
    assert oci.call("kill", container.id, name).status != 0
    assert container.state()["status"] == "running"


def test_only_the_first_process_is_meant(oci: Runtime) -> None:
    child = "(trap 'echo child' USR1; sleep 1000000 & wait)"
    script = f"{child} & trap 'echo first; exit 42' USR1; echo up; sleep 1000000 & wait"
    container = oci.start(oci.bundle("sh", "-c", script))
    assert container.out.line() == "up\n"
    container.kill("USR1")
    assert container.out.rest() == "first\n"


def test_all_processes_are_meant_by_all(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "sleep 1000000 & echo up; wait $!; echo $?; exec cat"))
    assert container.out.line() == "up\n"
    oci.ok("kill", "--all", container.id, "TERM")
    assert container.out.line() == f"{128 + number('TERM')}\n"
    assert container.state()["status"] == "running"


def test_all_are_killed(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "sleep 1000000 & echo up; exec cat"))
    assert container.out.line() == "up\n"
    oci.ok("kill", "--all", container.id, "KILL")
    assert container.wait() == 137
    assert container.out.rest() == ""


def test_an_exec_is_meant_by_all(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn(
        "exec", container.id, "sh", "-c", "trap 'echo came; exit 42' USR1; echo up; sleep 1000000 & wait"
    )
    assert process.stdout
    output = Output(process.stdout.fileno())
    assert output.line() == "up\n"
    oci.call("kill", "--all", container.id, "USR1")
    assert output.line() == "came\n"


def test_a_stopped_process_goes_on(oci: Runtime) -> None:
    container = oci.start()
    container.kill("STOP")
    assert container.state()["status"] == "running"
    container.kill("CONT")
    container.close()
    assert container.wait() == 0


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_run_passes_signals_on(oci: Runtime, name: str) -> None:
    bundle = trapping(oci, name)
    bundle.save()
    process = oci.spawn("run", "--bundle", bundle.folder, oci.id())
    assert process.stdout
    output = Output(process.stdout.fileno())
    assert output.line() == "up\n"
    process.send_signal(number(name))
    assert output.line() == f"{name}\n"
    assert finish(process) == 42


@pytest.mark.parametrize("name", ["TERM", "USR1"])
def test_exec_passes_signals_on(oci: Runtime, name: str) -> None:
    container = oci.start()
    script = f"trap 'echo {name}; exit 42' {name}; echo up; sleep 1000000 >/dev/null 2>&1 & wait"
    process = oci.spawn("exec", container.id, "sh", "-c", script)
    assert process.stdout
    output = Output(process.stdout.fileno())
    assert output.line() == "up\n"
    process.send_signal(number(name))
    assert output.line() == f"{name}\n"
    assert finish(process) == 42


def test_children_end_with_the_first_process(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "sleep 1000000 & echo up; read x"))
    assert container.out.line() == "up\n"
    container.kill("KILL")
    assert container.out.rest() == ""  # nobody has it open
