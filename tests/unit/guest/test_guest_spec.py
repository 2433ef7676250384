"""What OCI's specification has beside the usual: clocks, hooks, rules of devices, how mounts of the root spread."""

import errno
import json
from typing import Any

import pytest

from tests.unit.guest.conftest import Guest
from tests.unit.guest.test_guest_container import USUAL
from tests.unit.guest.wire_client import Refused

YEAR_NS = 365 * 86400 * 10**9
RULE = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}


def made(guest: Guest, **args: Any) -> None:
    guest.container(all_mounts=USUAL, **args)


def hook(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], **more}


def test_clocks_are_ahead_for_all_processes_and_after_a_new_start(guest: Guest) -> None:
    made(guest, time_offsets={"monotonic_ns": YEAR_NS, "boottime_ns": YEAR_NS - 1})
    for _ in range(2):
        guest.first()
        _, out, _ = guest.sh("cat /proc/self/timens_offsets; cut -d . -f 1 /proc/uptime")
        monotonic, boottime, (uptime,) = (line.split() for line in out.splitlines())
        assert (monotonic, boottime) == (
            ["monotonic", "31536000", "0"],
            ["boottime", "31535999", "999999999"],
        )
        assert int(uptime) >= 31535999
        guest.host.call("process.signal", process="first", signal=9)
        guest.host.exit_of("first")
        guest.host.events.clear()
        guest.host.call("process.forget", process="first")


def test_clocks_that_are_not_said_are_the_guests(guest: Guest) -> None:
    made(guest)
    guest.first()
    assert [line.split()[1:] for line in guest.sh("cat /proc/self/timens_offsets")[1].splitlines()] == [["0", "0"]] * 2


def test_hooks_run_in_their_order_before_the_process_and_read_the_state(guest: Guest) -> None:
    made(guest)
    hooks = [hook("cat >/tmp/state; id -u >/tmp/order"), hook("cat >/tmp/again; hostname >>/tmp/order; exit 0")]
    guest.first("sh", "-c", "echo program >>/tmp/order; exec sleep 1000", hooks=hooks, state='{"id":"x"}', user="1000")
    _, out, _ = guest.sh("until grep -q program /tmp/order; do :; done; cat /tmp/order; cmp /tmp/state /tmp/again")
    assert out.split()[0] == "1000" and out.split()[-1] == "program" and len(out.split()) == 3
    assert json.loads(guest.sh("cat /tmp/state")[1]) == {"id": "x", "pid": 1}


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (hook("echo sorry; exit 3"), "#1: /bin/sh ended with status 3: sorry"),
        ({"path": "/no/such"}, "#1: /no/such ended with status 127: No such file or directory"),
        (hook("exec sleep 1000", timeout_s=1), "#1: /bin/sh did not end within 1 s"),
    ],
)
def test_a_hook_that_fails_refuses_the_start(guest: Guest, failing: dict[str, Any], why: str) -> None:
    made(guest)
    hooks = [hook("true"), failing, hook("touch /tmp/ran")]
    with pytest.raises(Refused, match=why):
        guest.first("touch", "/tmp/ran", hooks=hooks, state="{}")
    guest.host.events.clear()
    guest.first()
    assert guest.sh("test -e /tmp/ran")[0] == 1


def test_hooks_are_of_a_first_process_and_have_a_state(guest: Guest) -> None:
    made(guest)
    with pytest.raises(Refused, match="there is no state"):
        guest.first(hooks=[hook("true")])
    guest.first()
    with pytest.raises(Refused, match="before a first process"):
        guest.start("more", "true", hooks=[hook("true")], state="{}")


@pytest.mark.parametrize(
    ("rules", "readable", "writable", "both"),
    [
        ([], False, False, False),
        ([RULE], True, False, False),
        ([RULE, {**RULE, "access": "w"}], True, True, True),
        ([{"allow": True, "type": "a", "access": "rwm"}, {**RULE, "allow": False, "access": "w"}], True, False, False),
        ([{**RULE, "allow": False}, {"allow": True, "type": "c", "major": 1, "access": "rw"}], True, True, True),
        ([{**RULE, "type": "b"}, {**RULE, "minor": 12}], False, False, False),
    ],
)
def test_the_last_rule_about_a_device_holds(
    guest: Guest, rules: list[dict[str, Any]], readable: bool, writable: bool, both: bool
) -> None:
    device = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}
    made(guest, devices=[device], device_rules=rules)
    guest.first()
    script = (
        "(: </dev/mine) && echo r; (: >/dev/mine) && echo w; (: <>/dev/mine) && echo b; cat /dev/null && echo usual"
    )
    sets = {key: ["CAP_SYSLOG"] for key in ("bounding", "effective", "permitted")}
    _, out, _ = guest.sh(script, capability_sets=sets)
    assert out.split() == ["r"] * readable + ["w"] * writable + ["b"] * both + ["usual"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"device_rules": [{**RULE, "type": "p"}]},
        {"device_rules": [{**RULE, "access": "x"}]},
        {"device_rules": [{**RULE, "major": 4096}]},
        {"propagation": "sideways"},
        {"time_offsets": {"realtime_ns": 1}},
    ],
)
def test_what_makes_no_sense_is_refused(guest: Guest, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        made(guest, **wrong)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize(("word", "tag"), [("rshared", "shared:"), ("unbindable", "unbindable"), ("private", "- ")])
def test_the_root_spreads_its_mounts_as_it_is_said(guest: Guest, word: str, tag: str) -> None:
    made(guest, propagation=word)
    guest.first()
    line = guest.sh("grep ' / / ' /proc/self/mountinfo || head -n 1 /proc/self/mountinfo")[1]
    assert f" {tag}" in line


IDS = [{"inside": 0, "outside": 100000, "size": 1000}]
USERS = {"uids": IDS, "gids": IDS}


def test_a_user_namespace_maps_ids_for_all_processes(guest: Guest) -> None:
    made(guest, users=USERS)
    (guest.lower / "tmp/secret").write_text("secret")
    (guest.lower / "tmp/secret").chmod(0o600)
    guest.first("sh", "-c", "id -u >/tmp/first; exec sleep 1000")
    script = "until [ -s /tmp/first ]; do :; done; cat /tmp/first; stat -c '%u %g' /tmp/first; cat /proc/self/uid_map"
    out = guest.sh(script, capabilities=["CAP_DAC_OVERRIDE", "CAP_CHOWN"])[1].split()
    assert out == ["0", "0", "0", "0", "100000", "1000"]
    assert guest.sh("readlink /proc/self/ns/user; readlink /proc/1/ns/user")[1].split()[0] != ""
    status, _, err = guest.sh("cat /tmp/secret", capabilities=["CAP_DAC_OVERRIDE"])
    assert status and "ermission denied" in err
    status, out_, _ = guest.sh("id -u; id -g; echo x >/dev/null", user="5:7")
    assert (status, out_.split()) == (0, ["5", "7"])


def test_a_user_namespace_of_a_pod(guest: Guest) -> None:
    """Files of the image, and what is made for a container, are its root's."""
    guest.host.call("pod.setup", hostname="pod", users=USERS)
    guest.host.call("pod.setup", users=USERS)  # again: no change
    tmpfs = {"type": "tmpfs", "target": "/made/here"}
    for name in ("c1", "c2"):
        guest.container(name, all_mounts=[*USUAL, tmpfs])
    guest.first(cwd="/made/too")
    places = "/ /bin/busybox /made /made/here /made/too /dev/null /etc/hosts /new"
    script = f"touch /new; chown 5:7 /bin/notexec; stat -c %u:%g {places} /bin/notexec /home/user"
    out = guest.sh(script, capabilities=["CAP_CHOWN"])[1].split()
    assert out == ["0:0"] * len(places.split()) + ["5:7", "65534:65534"]
    assert guest.sh("cat /proc/self/uid_map")[1].split() == ["0", "100000", "1000"]
    root = (guest.folder / "upper-c1").stat(), (guest.folder / "upper-c1/data/new").stat()
    assert [each.st_uid for each in root] == [0, 100000]
    other = {**USERS, "uids": [{**IDS[0], "outside": 200000}]}
    with pytest.raises(Refused) as refused:
        guest.host.call("pod.setup", users=other)
    assert refused.value.errno == errno.EBUSY
    with pytest.raises(Refused, match="of an image's disk"):
        guest.host.call("container.create", **{**guest.created("c3"), "rootfs": {"lower": {"path": str(guest.lower)}}})


def test_a_user_who_is_nobody_outside_is_refused(guest: Guest) -> None:
    made(guest, users=USERS)
    with pytest.raises(Refused) as refused:
        guest.first(user="1000")
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("ids", [[], [{**IDS[0], "size": 0}], [IDS[0], IDS[0]]])
def test_ids_that_cannot_be_mapped_are_refused(guest: Guest, ids: list[dict[str, int]]) -> None:
    with pytest.raises(Refused):
        made(guest, users={"uids": IDS, "gids": ids})
    made(guest)
