"""What the lists tell of a container that really runs."""

import json
import time

import pytest

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm.conftest import ok

pytestmark = pytest.mark.vm


def test_a_life_in_lists(hyper: PrivateDaemon) -> None:
    began = f"{time.time():.6f}"
    ok(hyper, "run", "-d", "--name", "web", "-l", "k=v", "busybox", "sleep", "1000")
    for filter in ("name=^web$", "network=bridge", "ancestor=busybox", "health=none", "label=k=v"):
        assert ok(hyper, "ps", "--format", "{{.Names}}", "-f", filter) == "web", filter
    assert ok(hyper, "ps", "-q", "-f", "network=none") == ""
    address = ok(hyper, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web")
    assert address == ok(hyper, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web") != ""

    assert [line.split() for line in ok(hyper, "top", "web", "-o", "pid,comm").splitlines()] == [
        ["PID", "COMMAND"], ["1", "sleep"],
    ]  # fmt: skip
    titles, process = (line.split(None, 10) for line in ok(hyper, "top", "web", "aux").splitlines())
    assert titles[:4] == ["USER", "PID", "%CPU", "%MEM"]
    assert (process[0], process[1], process[10]) == ("root", "1", "sleep 1000") and int(process[5]) > 0

    before = int(ok(hyper, "inspect", "-s", "-f", "{{.SizeRw}}", "web"))
    ok(hyper, "exec", "web", "sh", "-c", "head -c 4000000 /dev/urandom >/new; sync")
    assert int(ok(hyper, "inspect", "-s", "-f", "{{.SizeRw}}", "web")) >= before + 4_000_000
    row = json.loads(ok(hyper, "ps", "--format", "{{json .}}"))
    assert (row["Networks"], row["LocalVolumes"]) == ("bridge", "0") and "(virtual " in row["Size"]

    ok(hyper, "stop", "-t", "0", "web")
    assert ok(hyper, "stats", "-a", "--no-stream", "--format", "{{.Name}} {{.PIDs}}") == "web 0"
    words = ("events", "--since", began, "--until", f"{time.time():.6f}", "-f", "container=web", "--format")
    told = ok(hyper, *words, "{{.Status}} {{.From}} {{.Type}}").splitlines()
    assert {line.rpartition(" busybox ")[2] for line in told} == {"container"}  # no pod's, though it has the same name
    actions = [line.partition(" ")[0] for line in told]
    assert actions[:2] == ["create", "start"] and actions.index("kill") < actions.index("die") < actions.index("stop")
