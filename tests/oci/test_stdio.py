"""stdin, stdout, stderr as pipes, and descriptors beside them."""

import hashlib
import os
import random

import pytest

from tests.oci.runtime import LIMIT_S, Output, Runtime, third

BIG = random.Random(1).randbytes(10_000_000)


def test_stdout_and_stderr_are_apart(oci: Runtime) -> None:
    assert oci.run(oci.bundle("sh", "-c", "echo out; echo err >&2")) == (0, "out\n", "err\n")


def test_stdin_arrives(oci: Runtime) -> None:
    assert oci.run(oci.bundle("cat"), stdin=b"hello") == (0, "hello", "")


def test_an_empty_stdin_ends_at_once(oci: Runtime) -> None:
    assert oci.run(oci.bundle("wc", "-c"), stdin=b"").out == "0\n"


def test_10_megabytes_in(oci: Runtime) -> None:
    assert oci.run(oci.bundle("sha256sum"), stdin=BIG).out.split()[0] == hashlib.sha256(BIG).hexdigest()


def test_10_megabytes_both_ways(oci: Runtime) -> None:
    bundle = oci.bundle("cat")
    bundle.save()
    out, err = oci.spawn("run", "--bundle", bundle.folder, oci.id()).communicate(BIG, LIMIT_S)
    assert (out == BIG, err) == (True, b"")


def test_10_megabytes_on_stderr(oci: Runtime) -> None:
    done = oci.run(oci.bundle("sh", "-c", "head -c 10000000 /dev/zero | tr '\\0' x >&2"))
    assert (done.out, done.err == "x" * 10_000_000) == ("", True)


def test_input_to_a_program_that_reads_late(oci: Runtime) -> None:
    container = oci.create(oci.bundle("cat"))
    os.write(container.stdin, b"before start\n")
    container.close()
    assert container.start().out.rest() == "before start\n"


def test_output_is_seen_while_the_program_runs(oci: Runtime) -> None:
    container = oci.start()
    for word in ("one", "two"):
        os.write(container.stdin, f"{word}\n".encode())
        assert container.out.line() == f"{word}\n"


def test_output_that_nobody_reads_yet_waits(oci: Runtime) -> None:
    container = oci.start(oci.bundle("seq", "300000"))
    assert container.state()["status"] == "running"
    assert len(container.out.rest().split()) == 300_000
    assert container.wait() == 0


def test_output_is_whole_after_the_end(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "seq 5000; exit 4"))
    assert container.wait() == 4
    assert container.out.rest().split()[-1] == "5000"


def test_output_ends_when_the_last_process_does(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "exec 2>&-; echo first; exec >&-; read x"))
    assert container.out.rest() == "first\n"
    assert container.state()["status"] == "running"


def test_the_end_of_stdin_while_it_runs(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "cat; echo ended"))
    os.write(container.stdin, b"some\n")
    assert container.out.line() == "some\n"
    container.close()
    assert container.out.rest() == "ended\n"


def test_a_reader_that_has_gone_is_a_broken_pipe(oci: Runtime) -> None:
    container = oci.create(oci.bundle("sh", "-c", "yes; exit $?"))
    os.close(container.out.fd)
    container.out.fd = -1
    assert container.start().wait() == 128 + 13


def test_a_reader_of_errors_that_has_gone_is_a_broken_pipe_there_alone(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "yes >&2; echo $?; exit 4")
    bundle.save()
    process = oci.spawn("run", "--bundle", bundle.folder, oci.id())
    assert process.stdin and process.stdout and process.stderr
    assert process.stderr.readline() == b"y\n"
    process.stderr.close()
    assert process.stdout.read() == b"141\n"
    process.stdin.close()
    assert process.wait(LIMIT_S) == 4


def test_a_process_of_exec_meets_a_broken_pipe(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn("exec", container.id, "yes")
    assert process.stdin and process.stdout
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(LIMIT_S) == 128 + 13


def test_the_runtime_does_not_hold_the_output_open(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    assert container.out.rest() == ""  # though the container is still there


def test_errors_of_a_container_are_not_the_runtimes(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "echo err >&2; exit 1"))
    container.wait()
    assert container.errors.read_text() == "err\n"


def test_run_reads_no_more_than_the_program_does(oci: Runtime) -> None:
    bundle = oci.bundle("head", "-n", "1")
    assert oci.run(bundle, stdin=b"first\nsecond\n") == (0, "first\n", "")


def test_bytes_that_are_no_text(oci: Runtime) -> None:
    bundle = oci.bundle("cat")
    bundle.save()
    every = bytes(range(256))
    out, _ = oci.spawn("run", "--bundle", bundle.folder, oci.id()).communicate(every, LIMIT_S)
    assert out == every


@pytest.mark.parametrize("verb", ["create", "run"])
def test_descriptors_that_are_to_be_kept(oci: Runtime, verb: str) -> None:
    bundle = oci.bundle("sh", "-c", "cat <&3")
    bundle.save()
    with third(b"through 3") as fd:
        if verb == "create":
            assert oci.create(bundle, "--preserve-fds", "1", fds=[fd]).start().out.rest() == "through 3"
        else:
            done = oci.call("run", "--preserve-fds", "1", "--bundle", bundle.folder, oci.id(), fds=[fd])
            assert done == (0, "through 3", "")


def test_descriptors_of_the_caller_are_not_the_containers(oci: Runtime) -> None:
    read, write = os.pipe()
    bundle = oci.bundle("sh", "-c", f"test -e /proc/1/fd/{write} || echo closed")
    bundle.save()
    done = oci.call("run", "--bundle", bundle.folder, oci.id(), fds=[write])
    os.close(read)
    os.close(write)
    assert done.out == "closed\n"


def test_exec_passes_10_megabytes_both_ways(oci: Runtime) -> None:
    container = oci.start()
    out, err = oci.spawn("exec", container.id, "cat").communicate(BIG, LIMIT_S)
    assert (out == BIG, err) == (True, b"")


def test_execs_output_is_seen_while_it_runs(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn("exec", container.id, "sh", "-c", "echo up; read x; echo down")
    assert process.stdout and process.stdin
    output = Output(process.stdout.fileno())
    assert output.line() == "up\n"
    process.stdin.close()
    assert output.rest() == "down\n"
