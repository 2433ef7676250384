"""What is no bundle, no id or no document: a clear error, status 1, and nothing left."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oci.runtime import Runtime


def refuses_text(oci: Runtime, text: str) -> str:
    """Why a bundle with this for its config.json is refused."""
    bundle, id = oci.bundle(), oci.id()
    (bundle.folder / "config.json").write_text(text)
    why = oci.no("create", "--bundle", bundle.folder, id)
    oci.no("state", id)
    return why


def test_a_bundle_without_config(oci: Runtime) -> None:
    assert "config.json" in oci.no("create", "--bundle", oci.bundle().folder, oci.id())


def test_a_bundle_that_is_missing(oci: Runtime) -> None:
    assert "o such file" in oci.no("create", "--bundle", oci.path(), oci.id())


def test_a_bundle_that_is_a_file(oci: Runtime) -> None:
    file = oci.path()
    file.touch()
    oci.no("create", "--bundle", file, oci.id())


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '"text"', "{}", "\0", "{'a': 1}"])
def test_a_config_that_is_none(oci: Runtime, text: str) -> None:
    refuses_text(oci, text)


def test_a_config_that_is_a_folder(oci: Runtime) -> None:
    bundle = oci.bundle()
    (bundle.folder / "config.json").mkdir()
    oci.no("create", "--bundle", bundle.folder, oci.id())


def test_a_config_that_is_cut_off(oci: Runtime) -> None:
    text = json.dumps(oci.bundle().config)
    refuses_text(oci, text[: len(text) // 2])


@pytest.mark.parametrize("version", ["", "0.1.0", "2.0.0", "one", "1", "1.0.0.0"])
def test_a_version_that_is_not_known(oci: Runtime, version: str) -> None:
    bundle = oci.bundle()
    bundle.config["ociVersion"] = version
    oci.refuses(bundle)


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2", "1.0.2-dev", "1.1.0", "1.2.0"])
def test_a_version_that_is_known(oci: Runtime, version: str) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.config["ociVersion"] = version
    assert oci.run(bundle).out == "ran\n"


@pytest.mark.parametrize("key", ["ociVersion", "process", "root", "linux"])
def test_a_key_that_is_missing(oci: Runtime, key: str) -> None:
    bundle = oci.bundle()
    del bundle.config[key]
    oci.refuses(bundle)


@pytest.mark.parametrize("key", ["args", "cwd"])
def test_a_key_of_the_process_that_is_missing(oci: Runtime, key: str) -> None:
    bundle = oci.bundle()
    del bundle.process[key]
    oci.refuses(bundle)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("ociVersion", 1),
        ("hostname", 1),
        ("process", []),
        ("process.args", "sh"),
        ("process.args", [1]),
        ("process.env", {"A": "1"}),
        ("process.cwd", 1),
        ("process.user", "root"),
        ("process.user.uid", "0"),
        ("process.user.uid", -1),
        ("process.user.additionalGids", "50"),
        ("process.terminal", "yes"),
        ("process.rlimits", {}),
        ("process.capabilities", "all"),
        ("process.oomScoreAdj", "high"),
        ("root", "rootfs"),
        ("root.path", 1),
        ("root.readonly", "yes"),
        ("mounts", {}),
        ("process.consoleSize", []),
        ("mounts", ["/proc"]),
        ("mounts", [{"destination": 1}]),
        ("mounts", [{"destination": "/mnt", "source": 1, "type": "bind", "options": ["bind"]}]),
        ("mounts", [{"destination": "/mnt", "source": "/", "type": "bind", "options": "bind"}]),
        ("hooks", []),
        ("hooks.prestart", {"path": "/bin/true"}),
        ("hooks.prestart", ["/bin/true"]),
        ("hooks.prestart", [{"path": 1}]),
        ("hooks.prestart", [{"path": "/bin/true", "args": "true"}]),
        ("hooks.prestart", [{"path": "/bin/true", "env": {"A": "1"}}]),
        ("hooks.prestart", [{"path": "/bin/true", "timeout": "soon"}]),
        ("hooks.poststop", ["/bin/true"]),
        ("linux", []),
        ("linux.cgroupsPath", 1),
        ("linux.namespaces", {}),
        ("linux.namespaces", ["pid"]),
        ("linux.namespaces", [{"type": 1}]),
        ("linux.namespaces", [{"type": "network", "path": 1}]),
        ("linux.resources", []),
        ("linux.maskedPaths", "/proc"),
        ("linux.sysctl", []),
        ("linux.seccomp", "default"),
        ("annotations", []),
    ],
    ids=lambda part: part if isinstance(part, str) else json.dumps(part),
)
def test_a_value_of_the_wrong_type(oci: Runtime, place: str, value: Any) -> None:
    bundle = oci.bundle()
    *above, key = place.split(".")
    where = bundle.config
    for name in above:
        where = where.setdefault(name, {})
    where[key] = value
    assert "Traceback" not in oci.refuses(bundle)


def test_what_is_wrong_is_said_before_a_hook_runs(oci: Runtime) -> None:
    bundle, ran = oci.bundle(), oci.path()
    bundle.hook("prestart", f"touch {ran}")
    bundle.process["user"]["uid"] = "0"
    oci.refuses(bundle)
    bundle.process["user"]["uid"] = 0
    bundle.save()
    oci.no("create", "--bundle", bundle.folder, "../up")
    assert not ran.exists()


@pytest.mark.parametrize("hook", [{}, {"args": ["true"]}, {"path": ""}, {"path": "/bin/true", "timeout": -1}])
def test_a_hook_that_is_none(oci: Runtime, hook: dict[str, Any]) -> None:
    bundle = oci.bundle()
    bundle.config["hooks"] = {"prestart": [hook]}
    assert "Traceback" not in oci.refuses(bundle)


def test_a_key_that_nobody_knows_is_passed_over(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.config["org.example.unknown"] = {"a": 1}
    bundle.process["unknown"] = True
    assert oci.run(bundle).out == "ran\n"


def test_a_rootfs_that_is_missing(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.config["root"]["path"] = "no-such-folder"
    oci.refuses(bundle)


def test_a_rootfs_that_is_a_file(oci: Runtime) -> None:
    bundle = oci.bundle()
    (bundle.folder / "file").touch()
    bundle.config["root"]["path"] = "file"
    oci.refuses(bundle)


def test_a_rootfs_that_is_empty(oci: Runtime) -> None:
    bundle = oci.bundle()
    (bundle.folder / "empty").mkdir()
    bundle.config["root"]["path"] = "empty"
    oci.refuses(bundle)


@pytest.mark.parametrize("id", ["../up", "a/b", "/absolute", "..", ".", "", "a b", "a\nb", "ü", "a;b", "$(id)"])
def test_an_id_that_is_none(oci: Runtime, id: str, tmp_path: Path) -> None:
    bundle = oci.bundle("true")
    bundle.save()
    oci.ids.append(id)
    oci.no("create", "--bundle", bundle.folder, id)


@pytest.mark.parametrize("verb", ["state", "delete", "start", "kill"])
@pytest.mark.parametrize("id", ["../up", "/absolute", ""])
def test_a_verb_on_an_id_that_is_none(oci: Runtime, verb: str, id: str) -> None:
    oci.no(verb, id)


@pytest.mark.parametrize("id", ["a", "A-1", "with_underline", "with.dots", "a+b", "0" * 64, "x" * 128])
def test_an_id_that_is_one(oci: Runtime, id: str) -> None:
    oci.ids.append(id)
    container = oci.create(oci.bundle("echo", "ran"), id=id)
    assert container.state()["id"] == id
    assert container.start().out.rest() == "ran\n"


def test_a_pid_file_in_a_folder_that_is_missing(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.save()
    id = oci.id()
    oci.no("create", "--bundle", bundle.folder, "--pid-file", oci.path() / "pid", id)
    oci.no("state", id)


def test_a_root_that_cannot_be_made(oci: Runtime) -> None:
    file = oci.path()
    file.touch()
    oci.root = file / "root"
    bundle = oci.bundle()
    bundle.save()
    assert oci.call("create", "--bundle", bundle.folder, "c1").status != 0
    oci.root = oci.folder / "root"


def test_two_ids_are_refused(oci: Runtime) -> None:
    bundle = oci.bundle()
    bundle.save()
    assert oci.call("create", "--bundle", bundle.folder, oci.id(), oci.id()).status != 0


def test_errors_go_to_the_log_too(oci: Runtime) -> None:
    log = oci.path("log")
    done = oci.call("--log", log, "--log-format", "json", "state", "nobody")
    assert done.status == 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["level"] == "error" and "does not exist" in line["msg"] for line in lines)


def test_errors_in_the_log_have_a_time(oci: Runtime) -> None:
    log = oci.path("log")
    oci.call("--log", log, "--log-format", "json", "state", "nobody")
    assert all({"level", "msg", "time"} <= set(json.loads(line)) for line in log.read_text().splitlines())


def test_an_unknown_capability_is_passed_over(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "ran")
    bundle.process["capabilities"]["bounding"] = ["CAP_NOSUCH"]
    bundle.process["capabilities"]["effective"] = bundle.process["capabilities"]["permitted"] = []
    assert oci.run(bundle).out.endswith("ran\n")


def test_a_terminal_for_run_that_has_none(oci: Runtime) -> None:
    bundle = oci.bundle("tty")
    bundle.process["terminal"] = True
    bundle.save()
    assert oci.call("run", "--detach", "--bundle", bundle.folder, oci.id()).status != 0
