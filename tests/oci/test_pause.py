"""pause and resume."""

import os

from tests.oci.reaper import finish
from tests.oci.runtime import Output, Runtime


def test_a_paused_container_does_nothing(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    os.write(container.stdin, b"while paused\n")
    assert container.state()["status"] == "paused"
    oci.ok("resume", container.id)
    assert container.out.line() == "while paused\n"


def test_all_its_processes_are_paused(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "(while :; do echo x >/dev/null; done) & echo up; read x"))
    assert container.out.line() == "up\n"
    oci.ok("pause", container.id)
    oci.ok("resume", container.id)
    container.close()
    assert container.wait() == 1  # `read` found the end


def test_one_that_was_not_started_is_paused_too(oci: Runtime) -> None:
    container = oci.create(oci.bundle("sh", "-c", "echo began"))
    oci.ok("pause", container.id)
    assert container.state()["status"] == "paused"
    oci.no("start", container.id)
    oci.no("delete", container.id)
    oci.ok("resume", container.id)
    assert container.state()["status"] == "created"
    oci.ok("start", container.id)
    assert container.out.line() == "began\n"
    assert container.wait() == 0


def test_one_that_was_not_started_is_deleted_by_force_when_it_is_paused(oci: Runtime) -> None:
    container = oci.create(oci.bundle("true"))
    oci.ok("pause", container.id)
    oci.ok("delete", "--force", container.id)


def test_a_second_pause(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    oci.call("pause", container.id)
    assert container.state()["status"] == "paused"
    oci.ok("resume", container.id)
    assert container.state()["status"] == "running"


def test_one_that_is_not_paused_is_not_resumed(oci: Runtime) -> None:
    container = oci.start()
    oci.no("resume", container.id)
    assert container.state()["status"] == "running"


def test_a_stopped_one_is_not_paused(oci: Runtime) -> None:
    container = oci.start()
    container.end()
    oci.no("pause", container.id)
    assert container.state()["status"] == "stopped"


def test_an_exec_in_a_paused_one_is_refused_or_waits(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    process = oci.spawn("exec", container.id, "echo", "ran")
    oci.ok("resume", container.id)
    assert process.stdout and process.stderr
    out, err = Output(process.stdout.fileno()).rest(), Output(process.stderr.fileno()).rest()
    if finish(process):
        assert (out, "paused" in err) == ("", True)
    else:
        assert (out, err) == ("ran\n", "")


def test_a_signal_waits_for_resume(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "trap 'echo came; exit 3' USR1; echo up; sleep 1000000 & wait"))
    assert container.out.line() == "up\n"
    oci.ok("pause", container.id)
    container.kill("USR1")
    assert container.state()["status"] == "paused"
    oci.ok("resume", container.id)
    assert container.out.line() == "came\n"
    assert container.wait() == 3


def test_a_paused_one_is_deleted_by_force(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    oci.ok("delete", "--force", container.id)
    assert container.wait() == 137


def test_a_paused_one_is_not_deleted_otherwise(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    oci.no("delete", container.id)
    assert container.state()["status"] == "paused"


def test_a_paused_one_is_in_the_list(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    assert oci.ok("list").out.splitlines()[1].split()[2] == "paused"


def test_an_exec_is_paused_too(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn("exec", container.id, "cat")
    assert process.stdin and process.stdout
    process.stdin.write(b"before\n")
    process.stdin.flush()
    output = Output(process.stdout.fileno())
    assert output.line() == "before\n"
    oci.ok("pause", container.id)
    process.stdin.write(b"while paused\n")
    process.stdin.close()
    assert process.poll() is None
    oci.ok("resume", container.id)
    assert output.rest() == "while paused\n"
    assert finish(process) == 0


def test_pids_of_a_paused_one(oci: Runtime) -> None:
    container = oci.start()
    oci.ok("pause", container.id)
    assert str(container.pid) in oci.ok("ps", "--format", "json", container.id).out
