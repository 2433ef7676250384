"""Statuses: the program's own, by signals, and those of what does not run."""

import pytest

from tests.oci.reaper import finish
from tests.oci.runtime import Output, Runtime, number

CODES = [0, 1, 2, 42, 125, 126, 127, 128, 129, 137, 255]
SIGNALS = ["KILL", "SEGV", "ABRT", "TERM", "USR1", "FPE"]


@pytest.mark.parametrize("code", CODES)
def test_run_ends_as_the_program(oci: Runtime, code: int) -> None:
    assert oci.run(oci.bundle("sh", "-c", f"exit {code}")) == (code, "", "")


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_process_that_create_made_ends_as_the_program(oci: Runtime, code: int) -> None:
    assert oci.start(oci.bundle("sh", "-c", f"exit {code}")).wait() == code


@pytest.mark.parametrize("code", [0, 1, 42, 126, 127, 255])
def test_exec_ends_as_the_program(oci: Runtime, code: int) -> None:
    assert oci.start().exec("sh", "-c", f"exit {code}") == (code, "", "")


@pytest.mark.parametrize("name", SIGNALS)
def test_an_exec_that_a_signal_ends(oci: Runtime, name: str) -> None:
    assert oci.start().exec("sh", "-c", f"kill -{name} $$").status == 128 + number(name)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_child_that_a_signal_ends(oci: Runtime, name: str) -> None:
    done = oci.run(oci.bundle("sh", "-c", f"sh -c 'kill -{name} $$'; echo $?"))
    assert done.out == f"{128 + number(name)}\n"


def test_run_of_what_is_killed(oci: Runtime) -> None:
    bundle, id = oci.bundle("sh", "-c", "echo up; read x"), oci.id()
    bundle.save()
    process = oci.spawn("run", "--bundle", bundle.folder, id)
    assert process.stdout
    assert Output(process.stdout.fileno()).line() == "up\n"
    oci.ok("kill", id, "KILL")
    assert finish(process) == 137


@pytest.mark.parametrize("program", ["nosuch", "/no/such", "/etc", "/etc/passwd"])
def test_what_is_no_program_is_refused_by_create(oci: Runtime, program: str) -> None:
    oci.refuses(oci.bundle(program))


@pytest.mark.parametrize("program", ["nosuch", "/etc/passwd"])
def test_run_of_what_is_no_program(oci: Runtime, program: str) -> None:
    done = oci.run(oci.bundle(program))
    assert (done.status, done.out) == (1, "")
    assert done.err.strip()


def test_a_program_of_another_format(oci: Runtime) -> None:
    bundle = oci.bundle("/bad")
    bundle.file("/bad", "\x7fELFnonsense", 0o755)
    container = oci.create(bundle)
    oci.call("start", container.id)
    assert container.wait() != 0


def test_an_interpreter_that_is_missing(oci: Runtime) -> None:
    bundle = oci.bundle("/script")
    bundle.file("/script", "#!/no/such\n", 0o755)
    container = oci.create(bundle)
    oci.call("start", container.id)
    assert container.wait() != 0


@pytest.mark.parametrize("words", [["nosuchverb"], ["--nosuch", "list"], ["state"], ["create"], ["list", "--nosuch"]])
def test_a_bad_command_line_is_no_success(oci: Runtime, words: list[str]) -> None:
    done = oci.call(*words)
    assert done.status != 0
    assert done.err or done.out


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["create", "--help"]])
def test_help_is_a_success(oci: Runtime, words: list[str]) -> None:
    done = oci.call(*words)
    assert done.status == 0
    assert done.out
