"""exec: another process in a container that is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oci.bundle import PATH
from tests.oci.reaper import finish, wait
from tests.oci.runtime import Container, Output, Runtime, third


def by_document(oci: Runtime, container: Container, *args: str, **process: Any) -> tuple[int, str, str]:
    """exec of a process that a file describes."""
    file = oci.path("process")
    document = {"user": {"uid": 0, "gid": 0}, "args": list(args), "env": [f"PATH={PATH}"], "cwd": "/", **process}
    file.write_text(json.dumps(document))
    return oci.call("exec", "--process", file, container.id)


def test_its_output_and_status(oci: Runtime) -> None:
    assert oci.start().exec("sh", "-c", "echo out; echo err >&2; exit 9") == (9, "out\n", "err\n")


def test_its_input(oci: Runtime) -> None:
    assert oci.start().exec("cat", stdin=b"hello") == (0, "hello", "")


def test_arguments_arrive_as_they_are(oci: Runtime) -> None:
    assert oci.start().exec("printf", "<%s>", "a b", "", "$HOME", "ü").out == "<a b><><$HOME><ü>"


def test_options_of_the_program_are_its_own(oci: Runtime) -> None:
    assert oci.start().exec("sh", "-c", "echo $0 $@", "-t", "--user", "--").out == "-t --user --\n"


def test_the_environment_is_the_containers(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["env"].append("A=of the bundle")
    assert oci.start(bundle).exec("sh", "-c", "echo $A").out == "of the bundle\n"


def test_more_environment(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["env"].append("A=of the bundle")
    done = oci.start(bundle).exec("/bin/sh", "-c", "echo $A $B", options=["--env", "B=two words", "--env", "C=3"])
    assert done.out == "of the bundle two words\n"


def test_environment_that_is_said_again(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["env"].append("A=of the bundle")
    assert oci.start(bundle).exec("/bin/sh", "-c", "echo $A", options=["--env", "A=anew"]).out == "anew\n"


def test_the_working_folder_is_the_bundles(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["cwd"] = "/var/log"
    assert oci.start(bundle).exec("pwd").out == "/var/log\n"


def test_another_working_folder(oci: Runtime) -> None:
    assert oci.start().exec("pwd", options=["--cwd", "/var"]).out == "/var\n"


def test_a_working_folder_that_is_missing_is_refused(oci: Runtime) -> None:
    assert oci.start().exec("pwd", options=["--cwd", "/no/such"]).status != 0


@pytest.mark.parametrize(("user", "uid", "gid"), [("12:34", "12", "34"), ("12", "12", "0")])
def test_another_user(oci: Runtime, user: str, uid: str, gid: str) -> None:
    assert oci.start().exec("sh", "-c", "id -u; id -g", options=["--user", user]).out == f"{uid}\n{gid}\n"


def test_the_user_is_the_bundles(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["user"] = {"uid": 12, "gid": 34, "additionalGids": [50]}
    assert oci.start(bundle).exec("sh", "-c", "id -u; id -g").out == "12\n34\n"


def test_more_groups(oci: Runtime) -> None:
    done = oci.start().exec("id", "-G", options=["--additional-gids", "50", "--additional-gids", "60"])
    assert {"50", "60"} <= set(done.out.split())


def test_no_new_privileges(oci: Runtime) -> None:
    done = oci.start().exec("grep", "NoNewPrivs", "/proc/self/status", options=["--no-new-privs"])
    assert done.out.split()[1] == "1"


def test_another_capability(oci: Runtime) -> None:
    container = oci.start()
    before, after = (
        int(container.exec("grep", "CapBnd", "/proc/self/status", options=options).out.split()[1], 16)
        for options in ([], ["--cap", "CAP_NET_ADMIN"])
    )
    assert after == before | 1 << 12


def test_capabilities_are_the_bundles(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["capabilities"] = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    found = oci.start(bundle).exec("grep", "-E", "Cap(Bnd|Eff|Prm)", "/proc/self/status").out.split()[1::2]
    assert [int(one, 16) for one in found] == [1 << 5] * 3


def test_a_descriptor_that_is_to_be_kept(oci: Runtime) -> None:
    container = oci.start()
    with third(b"through 3") as fd:
        done = oci.call("exec", "--preserve-fds", "1", container.id, "sh", "-c", "cat <&3", fds=[fd])
    assert done == (0, "through 3", "")


@pytest.mark.parametrize("kind", ["pid", "net", "ipc", "uts", "mnt"])
def test_it_is_in_the_containers_namespace(oci: Runtime, kind: str) -> None:
    container = oci.start()
    first, own = (container.exec("readlink", f"/proc/{who}/ns/{kind}").out for who in ("1", "self"))
    assert first == own != ""


def test_it_sees_the_first_process(oci: Runtime) -> None:
    assert oci.start().exec("cat", "/proc/1/comm").out == "cat\n"


def test_it_sees_what_the_program_made(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "echo made >/dev/shm/file; echo up; read x"))
    assert container.out.line() == "up\n"
    assert container.exec("cat", "/dev/shm/file").out == "made\n"


def test_the_program_sees_what_it_made(oci: Runtime) -> None:
    container = oci.start(oci.bundle("sh", "-c", "read x; cat /dev/shm/file"))
    assert container.exec("sh", "-c", "echo made >/dev/shm/file").status == 0
    container.close()
    assert container.out.rest() == "made\n"


def test_it_is_not_to_be_waited_for_when_detached(oci: Runtime) -> None:
    container, pid_file = oci.start(), oci.path()
    assert container.exec("sleep", "1000000", options=["--detach", "--pid-file", pid_file]).status == 0
    assert "sleep" in container.exec("ps").out


def test_the_pid_of_a_detached_one_is_a_child_of_the_caller(oci: Runtime) -> None:
    container, pid_file = oci.start(), oci.path()
    options: list[str | Path] = ["--detach", "--pid-file", pid_file]
    assert container.exec("sh", "-c", "exit 9", options=options).status == 0
    assert wait(int(pid_file.read_text())) == 9


def test_the_pid_of_one_that_is_waited_for(oci: Runtime) -> None:
    container, pid_file = oci.start(), oci.path()
    assert container.exec("true", options=["--pid-file", pid_file]).status == 0
    assert pid_file.read_text().isdigit()


def test_a_document(oci: Runtime) -> None:
    script, env = "echo $A; pwd; id -u; exit 3", [f"PATH={PATH}", "A=1"]
    done = by_document(oci, oci.start(), "sh", "-c", script, env=env, cwd="/var")
    assert done == (3, "1\n/var\n0\n", "")


def test_a_document_with_a_user(oci: Runtime) -> None:
    user = {"uid": 12, "gid": 34, "additionalGids": [50]}
    status, out, _ = by_document(oci, oci.start(), "sh", "-c", "id -u; id -g; id -G", user=user)
    uid, gid, *groups = out.split()
    assert (status, uid, gid, set(groups)) == (0, "12", "34", {"34", "50"})


def test_a_document_with_a_umask(oci: Runtime) -> None:
    assert by_document(oci, oci.start(), "sh", "-c", "umask", user={"uid": 0, "gid": 0, "umask": 0o27})[1] == "0027\n"


def test_a_document_with_capabilities(oci: Runtime) -> None:
    sets = {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")}
    done = by_document(oci, oci.start(), "grep", "CapEff", "/proc/self/status", capabilities=sets)
    assert int(done[1].split()[1], 16) == 1 << 5


def test_a_document_with_an_oom_score(oci: Runtime) -> None:
    assert by_document(oci, oci.start(), "cat", "/proc/self/oom_score_adj", oomScoreAdj=300)[1] == "300\n"


def test_a_document_without_new_privileges(oci: Runtime) -> None:
    done = by_document(oci, oci.start(), "grep", "NoNewPrivs", "/proc/self/status", noNewPrivileges=True)
    assert done[1].split()[1] == "1"


def test_a_document_with_a_terminal(oci: Runtime) -> None:
    container, console, file = oci.start(), oci.console(), oci.path()
    document = {
        "user": {"uid": 0, "gid": 0},
        "args": ["tty"],
        "env": [f"PATH={PATH}"],
        "cwd": "/",
        "terminal": True,
    }
    file.write_text(json.dumps(document))
    oci.ok("exec", "--detach", "--process", file, "--console-socket", console.path, container.id)
    assert Output(console.master()).rest().startswith("/dev/pts/")


def test_a_document_that_is_missing_is_refused(oci: Runtime) -> None:
    container = oci.start()
    assert oci.call("exec", "--process", oci.path(), container.id).status != 0


def test_a_document_that_is_no_json_is_refused(oci: Runtime) -> None:
    container, file = oci.start(), oci.path()
    file.write_text("{")
    assert oci.call("exec", "--process", file, container.id).status != 0


def test_a_document_without_arguments_is_refused(oci: Runtime) -> None:
    assert by_document(oci, oci.start())[0] != 0


def test_nothing_to_run_is_refused(oci: Runtime) -> None:
    assert oci.start().exec().status != 0


@pytest.mark.parametrize("program", ["nosuch", "/no/such", "/etc/passwd", "/etc"])
def test_a_program_that_is_none(oci: Runtime, program: str) -> None:
    container = oci.start()
    done = container.exec(program)
    assert done.status in (1, 126, 127, 255)
    assert done.err.strip()
    assert container.state()["status"] == "running"


def test_a_stopped_container_is_refused(oci: Runtime) -> None:
    container = oci.start(oci.bundle("true"))
    container.wait()
    done = container.exec("echo", "ran")
    assert (done.status != 0, done.out) == (True, "")
    assert "not running" in done.err or "stopped" in done.err


def test_a_created_container_takes_one(oci: Runtime) -> None:
    assert oci.create(oci.bundle()).exec("echo", "ran").out == "ran\n"


def test_it_outlives_no_container(oci: Runtime) -> None:
    container = oci.start()
    process = oci.spawn("exec", container.id, "sh", "-c", "echo up; exec sleep 1000000")
    assert process.stdout
    assert Output(process.stdout.fileno()).line() == "up\n"
    container.kill()
    assert finish(process) == 137


def test_the_container_outlives_it(oci: Runtime) -> None:
    container = oci.start()
    assert container.exec("false").status == 1
    assert container.state()["status"] == "running"


def test_its_children_are_not_waited_for(oci: Runtime) -> None:
    container = oci.start()
    assert container.exec("sh", "-c", "sleep 1000000 >/dev/null 2>&1 </dev/null & echo ended").out == "ended\n"


def test_twenty_one_after_another(oci: Runtime) -> None:
    container = oci.start()
    assert [container.exec("echo", str(n)).out for n in range(20)] == [f"{n}\n" for n in range(20)]


def test_its_limits_are_the_bundles(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 33 * 512, "hard": 44 * 512}]
    assert oci.start(bundle).exec("sh", "-c", "ulimit -Sc; ulimit -Hc").out == "33\n44\n"


def test_no_descriptors_but_stdio(oci: Runtime) -> None:
    assert oci.start().exec("ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]  # 3 is that folder


def test_before_the_start(oci: Runtime) -> None:
    container = oci.create(oci.bundle("cat", "/dev/shm/said"))
    done = container.exec("sh", "-c", "echo of an exec >/dev/shm/said; echo $$ | grep -v ^1$ >/dev/null; hostname")
    assert done == (0, "box\n", "")
    assert container.state()["status"] == "created"
    assert container.start().out.rest() == "of an exec\n"


def test_before_the_start_it_sees_what_comes_later(oci: Runtime) -> None:
    bundle = oci.bundle()
    container = oci.create(bundle)
    for word in ("once", "again"):
        (bundle.rootfs / "etc/said").write_text(word)
        assert container.exec("cat", "/etc/said").out == word


@pytest.mark.parametrize("verb", [("delete", "--force"), ("kill",)])
def test_one_from_before_the_start_ends_with_its_container(oci: Runtime, verb: tuple[str, ...]) -> None:
    container = oci.create(oci.bundle())
    pid_file = oci.path("pid")
    oci.ok("exec", "--detach", "--pid-file", pid_file, container.id, "sleep", "1000")
    oci.ok(*verb, container.id, *(["KILL"] if verb == ("kill",) else []))
    assert wait(int(pid_file.read_text())) == 128 + 9


def test_one_from_before_the_start_runs_on_over_it(oci: Runtime) -> None:
    script = "until [ -e /dev/shm/go ]; do sleep 0.01; done; read x; echo gone on"  # its end would be the exec's
    container = oci.create(oci.bundle("sh", "-c", script))
    process = oci.spawn("exec", container.id, "sh", "-c", "read word; echo $word >/dev/shm/go; echo told")
    container.start()
    out, _ = process.communicate(b"now\n", 60)
    assert out == b"told\n" and process.returncode == 0
    container.close()
    assert container.out.rest() == "gone on\n"


def test_hooks_of_the_start_wait_for_it(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/dev/shm/hook")
    bundle.hook("startContainer", "echo hook >>/dev/shm/hook")
    container = oci.create(bundle)
    assert container.exec("cat", "/dev/shm/hook").status != 0
    assert container.start().out.rest() == "hook\n"
