"""What config.json says, and what the engine is asked for."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import HyperError, InvalidInput
from hypercontainer.hyperd.oci import bundle, document, limits
from hypercontainer.model.bundle import Bind
from hypercontainer.model.container import (
    Capabilities,
    IdMap,
    IdRange,
    Mount,
    Resources,
    Scheduling,
    TimeOffsets,
    Users,
)
from hypercontainer.runv.spec import SPEC
from hypercontainer.sandbox import size

ONE, NO = ({"containerID": 0, "hostID": 1000, "size": size} for size in (100, 0))
BOTH = {"uidMappings": [ONE], "gidMappings": [ONE]}
NETWORK = [{"type": "network"}]
OWN = SPEC["linux"]["namespaces"]


def config(**changes: Any) -> document.Config:
    """That of `runv spec`, changed: a dict goes into what is there."""
    found = {
        key: {**SPEC[key], **value} if isinstance(value, dict) and key in SPEC else value
        for key, value in changes.items()
    }
    return document.config(msgspec.json.encode({**SPEC, **found}))


def test_ids_of_a_bind_are_its_own_or_the_user_namespaces() -> None:
    usual = {"destination": "/m", "source": "/x", "type": "bind", "options": ["idmap", "ro"]}
    own = {**usual, "destination": "/n", "options": ["ridmap"], "uidMappings": [ONE], "gidMappings": [ONE]}
    ids = [{"containerID": 0, "hostID": 9, "size": 5}]
    linux = {"namespaces": [*OWN, {"type": "user"}], "uidMappings": ids, "gidMappings": ids}
    found, binds = bundle.config(config(mounts=[usual, own], linux=linux), "/b")
    outer, inner = ([IdRange(inside=0, outside=outside, size=size)] for outside, size in ((9, 5), (1000, 100)))
    assert [bind.ids for bind in binds] == [
        IdMap(uids=outer, gids=outer),
        IdMap(uids=inner, gids=inner, recursive=True),
    ]
    assert [mount.options for mount in found.mounts] == [["ro"], []]


def test_what_spec_writes_is_understood() -> None:
    found, binds = bundle.config(config(), "/b")
    assert found.process.args == ["sh"] and found.process.user == "0:0" and found.process.terminal
    caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    assert found.process.capabilities == Capabilities(bounding=caps, effective=caps, permitted=caps)
    assert found.process.no_new_privileges and found.read_only and found.hostname == "runv" and not binds
    kinds = [mount.type for mount in found.mounts]
    assert kinds == ["proc", "dev", "devpts", "tmpfs", "mqueue", "sysfs", "cgroup"]
    assert "/proc/kcore" in found.masked_paths and "/proc/sys" in found.readonly_paths


def test_a_profile_of_apparmor_is_named_but_for_those_that_engines_give_anybody() -> None:
    for said, meant in (("mine", "mine"), ("cri-containerd.apparmor.d", ""), ("unconfined", ""), ("", "")):
        found = config(process={"apparmorProfile": said})
        assert found.process and bundle.process(found.process).apparmor == meant


def test_ambient_is_what_a_kernel_grants() -> None:
    """Of the rest `runc spec` of runc 1.1 writes some, which runc and crun pass over."""
    names = ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"]
    sets = {"permitted": names[:2], "inheritable": names[1:], "ambient": names}
    found, _ = bundle.config(config(process={"capabilities": sets}), "/b")
    assert found.process.capabilities.ambient == ["CAP_CHOWN"]


def test_binds_are_mounts_and_sources() -> None:
    mounts = [
        {"destination": "/a", "type": "bind", "source": "/host/a", "options": ["rbind", "rprivate", "ro"]},
        {"destination": "/b", "source": "here", "options": ["bind"]},
    ]
    found, binds = bundle.config(config(mounts=mounts), "/bundle")
    assert found.mounts == [
        Mount(type="bind", destination="/a", options=["rprivate", "ro"]),
        Mount(type="bind", destination="/b", options=[]),
    ]
    assert binds == [
        Bind(target="/a", source="/host/a", read_only=True),
        Bind(target="/b", source="/bundle/here", read_only=False),
    ]


def test_limits_hold_inside_and_size_the_machine() -> None:
    resources = {"memory": {"limit": 100 << 20}, "cpu": {"quota": 250_000, "period": 100_000}, "pids": {"limit": 9}}
    found, _ = bundle.config(config(linux={"resources": resources}), "/b")
    assert found.resources == Resources(memory_bytes=100 << 20, cpu_quota_us=250_000, pids=9)
    assert size.fitting(found.resources) == (3, 100)
    none = {"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}
    found, _ = bundle.config(config(linux={"resources": none}), "/b")
    assert found.resources == Resources() and size.fitting(found.resources) == (0, 0)


def test_words_of_scheduling_are_the_kernels_numbers() -> None:
    process = {
        "scheduler": {"policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    }
    found, _ = bundle.config(config(process=process, linux={"personality": {"domain": "LINUX32"}}), "/b")
    assert found.process.scheduling == Scheduling(policy=3, nice=7, flags=1, io_priority=3 << 13, personality=8)


def test_an_update_changes_what_it_names() -> None:
    before = Resources(memory_bytes=64 << 20, pids=9, cpu_shares=512, unified={"memory.low": "1"})
    said = document.Resources(memory=document.Memory(limit=-1), cpu=document.Cpu(quota=50_000, cpus="0-1"))
    assert limits.update(said).of(before) == Resources(
        pids=9, cpu_shares=512, cpu_quota_us=50_000, unified={"memory.low": "1", "cpuset.cpus": "0-1"}
    )
    assert limits.update(document.Resources()).of(before) == before


def test_limits_of_pages_and_of_weight_are_files_of_version_2() -> None:
    said = {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}], "blockIO": {"weight": 1000}}
    found, _ = bundle.config(config(linux={"resources": said}), "/b")
    assert found.resources.unified == {"hugetlb.2MB.max": "0", "io.weight": "10000"}


def test_a_user_namespace_has_its_tmpfs_mounts() -> None:
    ids = [{"containerID": 0, "hostID": 100_000, "size": 10}]
    spaces = [*SPEC["linux"]["namespaces"], {"type": "user"}]
    mounts = [
        {"destination": "/run", "type": "tmpfs", "options": ["mode=755", "uid=3"]},
        {"destination": "/dev/pts", "type": "devpts", "options": ["gid=5"]},
    ]
    linux = {"namespaces": spaces, "uidMappings": ids, "gidMappings": ids}
    found, _ = bundle.config(config(linux=linux, mounts=mounts), "/b")
    ranges = [IdRange(inside=0, outside=100_000, size=10)]
    assert found.users == Users(uids=ranges, gids=ranges)
    assert [mount.options for mount in found.mounts] == [["mode=755", "uid=100003", "gid=100000"], ["gid=100005"]]


def test_a_time_namespace_has_clocks_of_its_own() -> None:
    time = [*SPEC["linux"]["namespaces"], {"type": "time"}]
    offsets = {"boottime": {"secs": -2, "nanosecs": 5}}
    found, _ = bundle.config(config(linux={"namespaces": time, "timeOffsets": offsets}), "/b")
    assert found.time_offsets == TimeOffsets(boottime_ns=-1_999_999_995)
    found, _ = bundle.config(config(linux={"namespaces": time}), "/b")
    assert found.time_offsets == TimeOffsets()
    assert bundle.config(config(), "/b")[0].time_offsets is None


DENIED, MAKING = {"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "access": "m"}
FUSE = {"type": "c", "major": 10, "minor": 229}


@pytest.mark.parametrize(
    ("said", "devices", "rules"),
    [
        ([], [], None),
        ([DENIED, MAKING, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}], [], None),
        ([DENIED, {"allow": True, **FUSE, "access": "rwm"}], [FUSE], None),
        ([DENIED], [FUSE], []),
        ([], [FUSE], []),
        ([{"allow": True}, DENIED, {"allow": True, **FUSE, "access": "r"}], [], [(True, "c", 10, 229, "r")]),
        ([DENIED, {"allow": True}], [], [(True, "a", -1, -1, "rwm")]),
        ([DENIED, {"allow": True, "type": "c", "major": 10}], [], [(True, "c", 10, -1, "rwm")]),
    ],
)
def test_rules_of_devices_that_matter(said: list[Any], devices: list[Any], rules: list[Any] | None) -> None:
    listed = [{"path": "/dev/x", **each} for each in devices]
    found, _ = bundle.config(config(linux={"resources": {"devices": said}, "devices": listed}), "/b")
    rows = (
        None
        if found.device_rules is None
        else [(r.allow, r.type, r.major, r.minor, r.access) for r in found.device_rules]
    )
    assert rows == rules


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("ociVersion", {"ociVersion": "2.0.0"}),
        ("process is missing", {"process": None}),
        ("root is missing", {"root": None}),
        ("linux is missing", {"linux": None}),
        ("process.args is empty", {"process": {"args": []}}),
        ("process.cwd", {"process": {"cwd": ""}}),
        ("scheduler.policy 'FIFO'", {"process": {"scheduler": {"policy": "FIFO"}}}),
        ("ioPriority.class", {"process": {"ioPriority": {"class": "IDLE"}}}),
        ("ioPriority.priority 8", {"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}}),
        ("personality.domain", {"linux": {"personality": {"domain": "SUNOS"}}}),
        ("'NOSUCH': there is none", {"process": {"rlimits": [{"type": "NOSUCH", "soft": 1, "hard": 1}]}}),
        ("it is there twice", {"linux": {"namespaces": NETWORK * 2}}),
        ("inside /proc", {"mounts": [{"destination": "/proc/../proc/sys", "source": "/x", "options": ["bind"]}]}),
        ("Expected `int`.*process.user.uid", {"process": {"user": {"uid": "0"}}}),
        ("network namespace", {"linux": {"namespaces": []}}),
        ("a mount namespace of this host", {"linux": {"namespaces": [*NETWORK, {"type": "mount", "path": "/x"}]}}),
        ("no pid namespace, which is the host's", {"linux": {"namespaces": NETWORK}}),
        ("no uts namespace", {"linux": {"namespaces": [*NETWORK, {"type": "pid"}, {"type": "ipc"}]}}),
        ("uidMappings: they are of a user", {"linux": {"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}}),
        ("uidMappings: a user namespace has", {"linux": {"namespaces": [*OWN, {"type": "user"}]}}),
        ("/m with idmap: it has no", {"mounts": [{"destination": "/m", "source": "/x", "options": ["bind", "idmap"]}]}),
        ("/m: it has uidMappings or", {"mounts": [{"destination": "/m", "type": "bind", "uidMappings": [ONE]}]}),
        ("ids of /m, a tmpfs", {"mounts": [{"destination": "/m", "type": "tmpfs", **BOTH}]}),
        ("no 0 ids", {"mounts": [{"destination": "/m", "type": "bind", "uidMappings": [NO], "gidMappings": [ONE]}]}),
        ("a 'nfs' at /n", {"mounts": [{"destination": "/n", "type": "nfs"}]}),
        ("hooks.prestart.*timeout", {"hooks": {"prestart": [{"path": "/x", "timeout": -1}]}}),
        ("hooks.createContainer #0 'x'", {"hooks": {"createContainer": [{"path": "x"}]}}),
        ("hooks.startContainer #0 'x'", {"hooks": {"startContainer": [{"path": "x"}]}}),
        ("hooks.startContainer.*timeout", {"hooks": {"startContainer": [{"path": "/x", "timeout": 0}]}}),
        ("timeOffsets: they are of a time", {"linux": {"timeOffsets": {"boottime": {"secs": 1}}}}),
        (r"AppArmor profile 'mi\\nne'", {"process": {"apparmorProfile": "mi\nne"}}),
        ("selinuxLabel", {"process": {"selinuxLabel": "system_u:system_r:container_t:s0"}}),
        ("linux.mountLabel", {"linux": {"mountLabel": "system_u:object_r:container_file_t:s0"}}),
        ("devices: access 'x'", {"linux": {"resources": {"devices": [{"allow": True, "access": "x"}]}}}),
        ("devices: type 'p'", {"linux": {"resources": {"devices": [{"allow": True, "type": "p"}]}}}),
        ("hugepageLimits", {"linux": {"resources": {"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}}}),
        ("blockIO.weight 1:", {"linux": {"resources": {"blockIO": {"weight": 1}}}}),
        ("throttleReadBpsDevice", {"linux": {"resources": {"blockIO": {"throttleReadBpsDevice": [{"major": 8}]}}}}),
        ("disableOOMKiller", {"linux": {"resources": {"memory": {"disableOOMKiller": True}}}}),
        ("resources.network", {"linux": {"resources": {"network": {"classID": 1}}}}),
        ("of type 'p'", {"linux": {"devices": [{"path": "/p", "type": "p"}]}}),
        ("no comparison", {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "NO"}]}]}}}),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_refused_by_its_name(why: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=why):
        bundle.config(config(**changes), "/b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = st.sampled_from([*SPEC, "hooks", "domainname", "annotations"])


@given(st.dictionaries(KEYS, JSON))
def test_whatever_is_in_it_is_understood_or_refused(changes: dict[str, Any]) -> None:
    try:
        bundle.config(document.config(msgspec.json.encode({**SPEC, **changes})), "/b")
    except HyperError:
        pass


def test_a_limit_that_is_none_is_none_in_the_guest() -> None:
    found = document.Process(
        args=["x"], cwd="/", rlimits=[document.Rlimit(type="RLIMIT_MEMLOCK", soft=5, hard=2**64 - 1)]
    )
    [limit] = bundle.process(found).rlimits
    assert (limit.soft, limit.hard) == (5, -1)
