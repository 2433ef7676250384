"""The first process: what it is given, who it is, what it may."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.oci.runtime import Runtime

STATUS = "/proc/self/status"
CHOWN, KILL, SYS_ADMIN = 0, 5, 21  # capabilities, by number


def status(oci: Runtime, key: str, **process: Any) -> str:
    """A line of /proc/self/status of a process like this."""
    bundle = oci.bundle("sed", "-n", rf"s/^{key}:[ \t]*//p", STATUS)
    bundle.process.update(process)
    done = oci.run(bundle)
    assert (done.status, done.err) == (0, "")
    return done.out.strip()


def capabilities(*names: str, **sets: list[str]) -> dict[str, list[str]]:
    return {**{kind: [f"CAP_{name}" for name in names] for kind in ("bounding", "effective", "permitted")}, **sets}


@pytest.mark.parametrize(
    "args",
    [
        ["plain"],
        ["two words", "three  spaces"],
        ["", "after nothing"],
        ["ünï¢öde", "日本"],
        ["-n", "--", "$HOME", "a\nb"],
    ],
    ids=["plain", "spaces", "empty", "unicode", "special"],
)
def test_arguments_arrive_as_they_are(oci: Runtime, args: list[str]) -> None:
    done = oci.run(oci.bundle("printf", "<%s>", *args))
    assert done == (0, "".join(f"<{arg}>" for arg in args), "")


def test_a_thousand_arguments(oci: Runtime) -> None:
    done = oci.run(oci.bundle("sh", "-c", 'echo $#; shift 999; echo "$1"', "sh", *map(str, range(1000))))
    assert done.out == "1000\n999\n"


def test_an_argument_of_100_kilobytes(oci: Runtime) -> None:
    assert oci.run(oci.bundle("sh", "-c", "echo ${#1}", "sh", "x" * 100_000)).out == "100000\n"


def test_the_environment_is_what_the_bundle_says_and_nothing_else(oci: Runtime) -> None:
    bundle = oci.bundle("/bin/env")
    bundle.process["env"] = ["A=1", "B=two words", "EMPTY=", "E=a=b"]
    assert sorted(oci.run(bundle).out.splitlines()) == ["A=1", "B=two words", "E=a=b", "EMPTY=", "HOME=/root"]


def test_a_home_that_the_bundle_names_stays(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo $HOME")
    bundle.process["env"].append("HOME=/elsewhere")
    assert oci.run(bundle).out == "/elsewhere\n"


def test_home_is_that_of_the_user_in_the_rootfs(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo $HOME")
    bundle.process["user"] = {"uid": 33, "gid": 33}
    assert oci.run(bundle).out == "/www\n"


def test_a_line_break_in_the_environment(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", 'printf %s "$A"')
    bundle.process["env"].append("A=one\ntwo")
    assert oci.run(bundle).out == "one\ntwo"


def test_the_program_is_found_by_the_path_of_the_bundle(oci: Runtime) -> None:
    bundle = oci.bundle("mine")
    bundle.file("/opt/mine", "#!/bin/sh\necho mine\n", 0o755)
    bundle.process["env"] = ["PATH=/nowhere:/opt:/bin"]
    assert oci.run(bundle).out == "mine\n"


def test_the_first_folder_of_the_path_wins(oci: Runtime) -> None:
    bundle = oci.bundle("mine")
    for folder in ("first", "second"):
        bundle.file(f"/{folder}/mine", f"#!/bin/sh\necho {folder}\n", 0o755)
    bundle.process["env"] = ["PATH=/first:/second:/bin"]
    assert oci.run(bundle).out == "first\n"


def test_a_script_with_an_interpreter(oci: Runtime) -> None:
    bundle = oci.bundle("/script", "a")
    bundle.file("/script", '#!/bin/sh -e\necho "$0 $1"\n', 0o755)
    assert oci.run(bundle).out == "/script a\n"


def test_the_working_folder(oci: Runtime) -> None:
    bundle = oci.bundle("pwd")
    bundle.process["cwd"] = "/var/log"
    assert oci.run(bundle).out == "/var/log\n"


def test_a_working_folder_that_is_a_mount(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "pwd; touch here; ls /data")
    bundle.mount("/data", "tmpfs", type="tmpfs")
    bundle.process["cwd"] = "/data"
    assert oci.run(bundle).out == "/data\nhere\n"


def test_a_working_folder_that_is_missing_is_made(oci: Runtime) -> None:
    bundle = oci.bundle("pwd")
    bundle.process["cwd"] = "/new/folder"
    assert oci.run(bundle).out == "/new/folder\n"


def test_a_relative_working_folder_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["cwd"] = "var"
    oci.refuses(bundle)


def test_a_program_named_relatively_is_of_the_working_folder(oci: Runtime) -> None:
    bundle = oci.bundle("./mine")
    bundle.file("/opt/mine", "#!/bin/sh\necho mine\n", 0o755)
    bundle.process["cwd"] = "/opt"
    assert oci.run(bundle).out == "mine\n"


def test_the_user_and_the_group(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "id -u; id -g; id -G")
    bundle.process["user"] = {"uid": 1234, "gid": 4321}
    assert oci.run(bundle).out == "1234\n4321\n4321\n"


def test_a_user_owns_what_it_makes(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "touch /tmp/mine; stat -c %u:%g /tmp/mine")
    bundle.process["user"] = {"uid": 1234, "gid": 4321}
    assert oci.run(bundle).out == "1234:4321\n"
    made = bundle.rootfs / "tmp/mine"
    assert (made.stat().st_uid, made.stat().st_gid) == (1234, 4321)


def test_a_user_may_not_what_is_roots(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/secret")
    bundle.file("/secret", "secret", 0o600)
    bundle.process["user"] = {"uid": 1234, "gid": 4321}
    done = oci.run(bundle)
    assert (done.status, done.out) == (1, "")
    assert "Permission denied" in done.err


def test_more_groups(oci: Runtime) -> None:
    bundle = oci.bundle("id", "-G")
    bundle.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [50, 60]}
    assert sorted(oci.run(bundle).out.split()) == ["50", "60", "8"]


def test_root_has_no_groups_of_the_caller(oci: Runtime) -> None:
    assert status(oci, "Groups") in ("", "0")


def test_a_group_lets_in(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/shared")
    file = bundle.file("/shared", "for us", 0o640)
    os.chown(file, 0, 50)
    bundle.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [50]}
    assert oci.run(bundle).out == "for us"


@pytest.mark.parametrize("mask", [0o22, 0o77, 0])
def test_the_umask(oci: Runtime, mask: int) -> None:
    bundle = oci.bundle("sh", "-c", "umask; touch /made; stat -c %a /made")
    bundle.process["user"]["umask"] = mask
    assert oci.run(bundle).out == f"{mask:04o}\n{0o666 & ~mask:o}\n"


@pytest.mark.parametrize(
    ("kind", "option"),
    [("NOFILE", "n"), ("CORE", "c"), ("STACK", "s"), ("FSIZE", "f"), ("CPU", "t"), ("MEMLOCK", "l")],
)
def test_a_lower_limit(oci: Runtime, kind: str, option: str) -> None:
    unit = {"c": 512, "s": 1024, "f": 512, "l": 1024}.get(option, 1)
    bundle = oci.bundle("sh", "-c", f"ulimit -S{option}; ulimit -H{option}")
    bundle.process["rlimits"] = [{"type": f"RLIMIT_{kind}", "soft": 24 * unit, "hard": 48 * unit}]
    assert oci.run(bundle).out == "24\n48\n"


def test_limits_that_nobody_set_are_the_callers(oci: Runtime) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert oci.run(oci.bundle("sh", "-c", "ulimit -Sn")).out == f"{soft}\n"


def test_a_raised_limit(oci: Runtime) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    bundle = oci.bundle("sh", "-c", "ulimit -Hn")
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": hard + 1}]
    assert oci.run(bundle).out == f"{hard + 1}\n"


def test_an_unknown_limit_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
    oci.refuses(bundle)


def test_a_limit_given_twice_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": n, "hard": n} for n in (10, 20)]
    oci.refuses(bundle)


@pytest.mark.parametrize("kind", ["Bnd", "Eff", "Prm"])
def test_capabilities_of_root(oci: Runtime, kind: str) -> None:
    found = int(status(oci, f"Cap{kind}", capabilities=capabilities("CHOWN", "KILL")), 16)
    assert found == 1 << CHOWN | 1 << KILL


def test_inheritable_capabilities(oci: Runtime) -> None:
    given = capabilities("CHOWN", "KILL", inheritable=["CAP_KILL"])
    assert int(status(oci, "CapInh", capabilities=given), 16) == 1 << KILL


def test_ambient_capabilities_outlive_another_user(oci: Runtime) -> None:
    given = capabilities("KILL", inheritable=["CAP_KILL"], ambient=["CAP_KILL"])
    found = status(oci, "CapEff", capabilities=given, user={"uid": 1234, "gid": 1234})
    assert int(found, 16) == 1 << KILL


def test_an_ambient_capability_that_is_not_inheritable_is_passed_over(oci: Runtime) -> None:
    """`runc spec` of runc 1.1 writes some: no kernel grants them."""
    given = capabilities("KILL", ambient=["CAP_KILL"])
    assert int(status(oci, "CapAmb", capabilities=given), 16) == 0


def test_another_user_has_no_effective_capabilities(oci: Runtime) -> None:
    found = status(oci, "CapEff", capabilities=capabilities("KILL"), user={"uid": 1234, "gid": 1234})
    assert int(found, 16) == 0


def test_no_capabilities(oci: Runtime) -> None:
    bundle = oci.bundle("grep", "^Cap", STATUS)
    bundle.process["capabilities"] = {}
    lines = oci.run(bundle).out.splitlines()
    assert [int(line.split()[1], 16) for line in lines] == [0] * 5


def test_without_the_capability_the_call_fails(oci: Runtime) -> None:
    bundle = oci.bundle("chown", "1:1", "/etc/passwd")
    bundle.process["capabilities"] = capabilities("KILL")
    done = oci.run(bundle)
    assert done.status == 1
    assert "Operation not permitted" in done.err


def test_a_capability_in_the_bounding_set_only(oci: Runtime) -> None:
    given = {"bounding": ["CAP_SYS_ADMIN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}
    assert int(status(oci, "CapBnd", capabilities=given), 16) == 1 << SYS_ADMIN | 1 << KILL


@pytest.mark.parametrize(("wanted", "value"), [(True, "1"), (False, "0")], ids=["set", "unset"])
def test_no_new_privileges(oci: Runtime, wanted: bool, value: str) -> None:
    assert status(oci, "NoNewPrivs", noNewPrivileges=wanted) == value


def test_no_new_privileges_takes_setuid_away(oci: Runtime) -> None:
    bundle = oci.bundle("/setuid/ping", "-c", "1", "127.0.0.1")
    (bundle.rootfs / "setuid").mkdir()
    Path(shutil.copy(bundle.rootfs / "bin/busybox", bundle.rootfs / "setuid/ping")).chmod(0o4755)
    bundle.process.update(user={"uid": 1234, "gid": 1234}, capabilities=capabilities("NET_RAW"))
    assert oci.run(bundle).status == 0
    bundle.process["noNewPrivileges"] = True
    assert "ermi" in oci.run(bundle).err  # not permitted, permission denied


def test_the_oom_score(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/proc/self/oom_score_adj")
    bundle.process["oomScoreAdj"] = 321
    assert oci.run(bundle).out == "321\n"


def test_a_negative_oom_score(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/proc/self/oom_score_adj")
    bundle.process["oomScoreAdj"] = -321
    assert oci.run(bundle).out == "-321\n"


def test_an_oom_score_of_0_is_set(oci: Runtime) -> None:
    bundle = oci.bundle("cat", "/proc/self/oom_score_adj")
    bundle.process["oomScoreAdj"] = 0
    assert oci.run(bundle).out == "0\n"


def test_io_priority(oci: Runtime) -> None:
    bundle = oci.bundle("ionice", "-p", "1")
    bundle.config["ociVersion"] = "1.1.0"
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
    assert oci.run(bundle).out.startswith("idle")


def test_scheduler(oci: Runtime) -> None:
    bundle = oci.bundle("cut", "-d", " ", "-f", "19,41", "/proc/self/stat")
    bundle.config["ociVersion"] = "1.1.0"
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    assert oci.run(bundle).out == "7 3\n"


def test_personality(oci: Runtime) -> None:
    bundle = oci.bundle("uname", "-m")
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert oci.run(bundle).out == "i686\n"


def test_no_descriptors_but_stdio(oci: Runtime) -> None:
    assert oci.run(oci.bundle("ls", "/proc/self/fd")).out.split() == ["0", "1", "2", "3"]  # 3 is that folder


def test_the_program_is_pid_1(oci: Runtime) -> None:
    assert oci.run(oci.bundle("sh", "-c", "echo $$")).out == "1\n"


def test_the_program_leads_a_session(oci: Runtime) -> None:
    assert oci.run(oci.bundle("cut", "-d", " ", "-f", "6", "/proc/self/stat")).out == "1\n"


def test_the_hosts_signal_mask_is_not_inherited(oci: Runtime) -> None:
    assert int(status(oci, "SigBlk"), 16) == 0


def test_a_process_without_arguments_is_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.process["args"] = []
    oci.refuses(bundle)
