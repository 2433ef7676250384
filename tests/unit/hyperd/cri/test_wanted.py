"""What a kubelet says, as the engine has it: and what is refused by name."""

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from msgspec.structs import replace

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.cri import container, image, mounts, resources, sandbox, security, stats, users
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.model.api import Credentials
from hypercontainer.model.container import Below, IdMap, IdRange, Resources, Users
from hypercontainer.model.kube import (
    KubeContainer,
    KubeContainerState,
    KubeImage,
    KubeMount,
    KubePod,
    KubePodState,
    KubeSecurity,
)
from hypercontainer.model.pod_network import HostPort
from hypercontainer.model.spec import ContainerSpec, Dns, Mount, PodSpec

RANGE = {"container_id": 0, "host_id": 65536, "length": 65536}
OWN = {"userns_options": {"mode": "POD", "uids": [RANGE], "gids": [RANGE]}}
IDS = [IdRange(inside=0, outside=65536, size=65536)]
METADATA = {"name": "web", "uid": "u1", "namespace": "default", "attempt": 2}
POD = KubePod(name="web", uid="u1", namespace="default", logs="/var/log/pods/web", request="r")


def pod(handler: str = "", **config: Any) -> tuple[KubePod, PodSpec]:
    said = {"config": {"metadata": METADATA, **config}, "runtime_handler": handler}
    return sandbox.wanted(ParseDict(said, pb.RunPodSandboxRequest()))


def made(**config: Any) -> tuple[KubeContainer, ContainerSpec, Resources]:
    usual = {"metadata": {"name": "one", "attempt": 1}, "image": {"image": "sha256:1"}}
    return container.wanted(ParseDict({"config": {**usual, **config}}, pb.CreateContainerRequest()), POD)


def spec(**security: Any) -> ContainerSpec:
    return made(linux={"security_context": security})[1]


def test_a_pod() -> None:
    found, asked = pod(
        "hyper",
        hostname="web-0",
        log_directory="/var/log/pods/web",
        labels={"l": "m"},
        annotations={"a": "b"},
        dns_config={"servers": ["10.0.0.10"], "searches": ["svc"], "options": ["ndots:5"]},
        port_mappings=[
            {"container_port": 80},
            {"container_port": 53, "host_port": 5353, "protocol": "UDP", "host_ip": "127.0.0.1"},
        ],
        linux={
            "cgroup_parent": "/kubepods/x",
            "sysctls": {"net.ipv4.tcp_syncookies": "1"},
            "security_context": {"namespace_options": {"pid": "CONTAINER"}, "seccomp": {"profile_type": 0}},
            "resources": {"cpu_quota": 150000, "cpu_period": 100000, "memory_limit_in_bytes": (1 << 20) + 1},
        },
    )
    assert (found.name, found.uid, found.namespace, found.attempt) == ("web", "u1", "default", 2)
    assert (found.handler, found.logs, found.labels) == ("hyper", "/var/log/pods/web", {"l": "m"})
    assert (found.annotations, found.sysctls) == ({"a": "b"}, {"net.ipv4.tcp_syncookies": "1"})
    assert (asked.hostname, asked.share_pid, asked.vcpus, asked.memory_mib) == ("web-0", False, 2, 2)
    assert found.ports == [HostPort(5353, 53, "udp", "127.0.0.1")]
    assert asked.dns == Dns(nameservers=["10.0.0.10"], search=["svc"], options=["ndots:5"])


def test_processes_that_all_see() -> None:
    assert pod(linux={"security_context": {"namespace_options": {"pid": "POD"}}})[1].share_pid
    assert pod(linux={})[1].share_pid  # who says nothing says that
    assert not pod(linux={"security_context": {"namespace_options": {"pid": "CONTAINER"}}})[1].share_pid


def test_a_user_namespace() -> None:
    found = pod(linux={"security_context": {"namespace_options": OWN}})[0]
    assert found.users == Users(uids=IDS, gids=IDS)
    for options in ({}, {"userns_options": {"mode": "NODE"}}):
        assert pod(linux={"security_context": {"namespace_options": options}})[0].users is None
    state = KubePodState(id="a", pod=found, ready=True, created_ns=1)
    told = sandbox.status(state).linux.namespaces.options.userns_options
    assert told == ParseDict(OWN["userns_options"], pb.UserNamespace())
    state = replace(state, pod=POD)
    assert sandbox.status(state).linux.namespaces.options.userns_options == pb.UserNamespace(mode=pb.NODE)


def test_all_containers_of_a_pod_are_in_its_user_namespace() -> None:
    of_pod = pod(linux={"security_context": {"namespace_options": OWN}})[0].users
    options = [ParseDict(each, pb.NamespaceOption()) for each in (OWN, {"userns_options": {"mode": "NODE"}}, {})]
    users.check(options[0], of_pod)
    users.check(options[1], None)
    for who in (of_pod, None):
        users.check(options[2], who)
    for each, who in ((options[0], None), (options[1], of_pod)):
        with pytest.raises(InvalidInput, match="another user namespace than its pod"):
            users.check(each, who)


def mapped(**said: Any) -> dict[str, IdMap]:
    return dict(users.ids([ParseDict({"container_path": "/m", "host_path": "/h", **said}, pb.Mount())]))


def test_mapped_ids_of_a_mount() -> None:
    assert mapped() == {}
    ids = IdMap(uids=IDS, gids=IDS)
    assert mapped(uidMappings=[RANGE], gidMappings=[RANGE]) == {"/m": ids}
    [told] = mounts.told([KubeMount(target="/m", source="/h", ids=ids)])
    assert [*told.uidMappings] == [*told.gidMappings] == [ParseDict(RANGE, pb.IDMapping())]
    for said, words in (
        ({"uidMappings": [RANGE]}, "both"),
        ({"uidMappings": [RANGE], "gidMappings": [{**RANGE, "length": 0}]}, "ids of /m: there are no 0 ids"),
        ({"uidMappings": [RANGE], "gidMappings": [RANGE], "image": {"image": "i"}}, "those of an image"),
    ):
        with pytest.raises(InvalidInput, match=words):
            mapped(**said)


def test_one_request_is_told_from_another() -> None:
    assert pod()[0].request == pod()[0].request != pod(hostname="x")[0].request


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"metadata": {}}, "without a name"),
        ({"linux": {"security_context": {"namespace_options": {"network": "NODE"}}}}, "hostNetwork"),
        ({"linux": {"security_context": {"namespace_options": {"pid": "NODE"}}}}, "hostPID"),
        ({"linux": {"security_context": {"namespace_options": {"ipc": "NODE"}}}}, "hostIPC"),
        *(
            ({"linux": {"security_context": {"namespace_options": {"userns_options": options}}}}, words)
            for options, words in (
                ({"mode": "POD"}, "uids of a user namespace by 0 ranges"),
                ({"mode": "POD", "uids": [RANGE], "gids": [RANGE, RANGE]}, "gids of a user namespace by 2 ranges"),
                ({"mode": "POD", "uids": [{**RANGE, "container_id": 1}], "gids": [RANGE]}, "from 1 on: 0 has to be"),
                ({"mode": "POD", "uids": [{**RANGE, "length": 0}], "gids": [RANGE]}, "no 0 ids from 65536 on"),
                ({"mode": "POD", "uids": [RANGE], "gids": [{**RANGE, "host_id": 2**32 - 2}]}, "no 65536 ids"),
                ({"mode": "NODE", "uids": [RANGE]}, "no user namespace of its own"),
                ({"mode": "CONTAINER"}, "mode CONTAINER"),
                ({"mode": "TARGET"}, "mode TARGET"),
            )
        ),
        ({"linux": {"security_context": {"selinux_options": {"type": "t"}}}}, "SELinux"),
        ({"port_mappings": [{"container_port": 0, "host_port": 8080}]}, "port 8080 to 0"),
        ({"log_directory": "logs"}, "absolute"),
    ],
)
def test_what_no_pod_has(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        pod(**config)


def test_a_container() -> None:
    found, asked, limits = made(
        command=["sh"],
        args=["-c", "true"],
        working_dir="/w",
        envs=[{"key": "K", "value": "dsOk"}],
        mounts=[{"container_path": "/m", "host_path": "/h", "readonly": True}],
        labels={"l": "m"},
        annotations={"a": "b"},
        log_path="one/0.log",
        stdin=True,
        stdin_once=True,
        tty=True,
        stop_signal="SIGNAL_SIGQUIT",
        linux={
            "resources": {
                "cpu_period": 100000,
                "cpu_quota": 50000,
                "cpu_shares": 512,
                "memory_limit_in_bytes": 1 << 26,
                "memory_swap_limit_in_bytes": 1 << 26,
                "oom_score_adj": 999,
                "hugepage_limits": [{"page_size": "2MB", "limit": 0}],
                "unified": {"memory.oom.group": "1"},
            }
        },
    )
    assert (found.name, found.attempt, found.image, found.log) == ("one", 1, "sha256:1", "/var/log/pods/web/one/0.log")
    assert (asked.entrypoint, asked.command, asked.working_dir, asked.env) == (["sh"], ["-c", "true"], "/w", ["K=vä"])
    assert asked.mounts == [Mount(type="bind", source="/h", target="/m", read_only=True, create=True)]
    assert (asked.open_stdin, asked.stdin_once, asked.tty, asked.stop_signal) == (True, True, True, "SIGQUIT")
    assert (asked.oom_score_adj, asked.log) == (999, "none")
    assert limits == Resources(
        memory_bytes=1 << 26, cpu_quota_us=50000, cpu_shares=512, unified={"memory.oom.group": "1"}
    )
    assert resources.wanted(resources.told(limits).linux) == limits


def test_what_is_not_said_is_as_the_image_says() -> None:
    found, asked, limits = made()
    assert (asked.entrypoint, asked.command, asked.working_dir, asked.user) == (None, None, None, None)
    assert (asked.stop_signal, found.log, limits) == (None, "", Resources())


def test_the_image_is_told_as_its_pod_names_it() -> None:
    said = {"image": "sha256:1", "user_specified_image": "example.com/web:1"}
    found, asked, _ = made(image=said)
    assert (found.image, asked.image) == ("example.com/web:1", "sha256:1")


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("", {"uid": pb.Int64Value(value=0)}),
        ("1000:100", {"uid": pb.Int64Value(value=1000)}),
        ("web", {"username": "web"}),
        ("9" * 20, {"username": "9" * 20}),
        ("\u0661", {"username": "\u0661"}),
        ("x" * 9999, {"username": "x" * 256}),
    ],
)
def test_users_of_images_are_told_within_bounds(said: str, fields: dict[str, Any]) -> None:
    """One image that cannot be told would be no list of images."""
    assert image.user(said) == fields


def test_what_an_update_does_not_say_stays() -> None:
    there = Resources(memory_bytes=1 << 26, cpu_quota_us=50000, cpu_shares=512, unified={"memory.oom.group": "1"})
    assert resources.changed(pb.LinuxContainerResources(), there) == there
    said = pb.LinuxContainerResources(cpu_shares=2, memory_limit_in_bytes=-1)
    assert resources.changed(said, there) == replace(there, cpu_shares=2, memory_bytes=0)


@pytest.mark.parametrize("said", [-1, 5, 1 << 80])
def test_what_a_guest_counts_is_told_within_bounds(said: int) -> None:
    assert stats.number(said).value == min(max(0, said), (1 << 63) - 1)


def test_its_security() -> None:
    asked = spec(
        run_as_user={"value": 1000},
        run_as_group={"value": 2000},
        supplemental_groups=[3000],
        capabilities={"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["ALL"]},
        no_new_privs=True,
        readonly_rootfs=True,
        masked_paths=["/proc/kcore"],
        readonly_paths=["/proc/sys"],
        seccomp={"profile_type": "RuntimeDefault"},
        namespace_options={"pid": "TARGET", "target_id": "abc"},
    )
    assert (asked.user, asked.groups, asked.cap_add, asked.cap_drop) == ("1000:2000", [3000], ["NET_ADMIN"], ["ALL"])
    assert (asked.no_new_privileges, asked.read_only, asked.seccomp, asked.pid) == (
        True, True, "default", "container:abc",
    )  # fmt: skip
    assert (asked.masked_paths, asked.readonly_paths) == (["/proc/kcore"], ["/proc/sys"])
    assert spec().seccomp == spec(seccomp={"profile_type": "Unconfined"}).seccomp == "unconfined"
    assert spec(seccomp_profile_path="runtime/default").seccomp == "default"
    assert spec(privileged=True, masked_paths=["/proc/kcore"]).masked_paths == []
    assert spec(run_as_username="nobody").user == "nobody"


@pytest.mark.parametrize(
    ("said", "profile"),
    [
        ({}, ""),
        ({"apparmor": {"profile_type": "Localhost", "localhost_ref": "mine"}}, "mine"),
        ({"apparmor": {"profile_type": "Localhost", "localhost_ref": "localhost/mine"}}, "mine"),
        ({"apparmor": {"profile_type": "RuntimeDefault"}}, ""),
        ({"apparmor": {"profile_type": "Unconfined"}, "apparmor_profile": "localhost/before"}, ""),
        ({"apparmor": {"profile_type": "Localhost", "localhost_ref": "mine"}, "privileged": True}, "mine"),
        ({"apparmor_profile": "localhost/mine"}, "mine"),
        ({"apparmor_profile": "runtime/default"}, ""),
        ({"apparmor_profile": "unconfined"}, ""),
    ],
)
def test_a_profile_of_apparmor(said: dict[str, Any], profile: str) -> None:
    assert spec(**said).apparmor == profile


def test_ambient_capabilities_are_granted_and_kept() -> None:
    said = {"capabilities": {"add_ambient_capabilities": ["CHOWN"], "drop_capabilities": ["ALL"]}}
    assert spec(**said).cap_add == ["CHOWN"]
    found = security.further(ParseDict(said, pb.LinuxContainerSecurityContext()))
    assert found == KubeSecurity(ambient=["CAP_CHOWN"])


def test_images_are_mounted() -> None:
    said = {"container_path": "/m", "image": {"image": "x"}, "image_sub_path": "usr", "readonly": True}
    asked = ParseDict({"mounts": [said]}, pb.ContainerConfig()).mounts
    assert mounts.wanted(asked) == [] and mounts.images(asked) == [KubeImage(image="x", target="/m", subpath="usr")]
    found = KubeMount(target="/m", source="", read_only=True, image="x", image_id="sha256:1", subpath="usr")
    [told] = mounts.told([found])
    assert told.image.image_ref == "sha256:1"
    told.image.ClearField("image_ref")
    assert told == asked[0]
    for more, words in (({"host_path": "/h"}, "mount image 'x'"), ({"readonly": False}, "can only be read")):
        wrong = ParseDict({"mounts": [{**said, **more}]}, pb.ContainerConfig()).mounts
        with pytest.raises(InvalidInput, match=words):
            mounts.images(wrong)


def test_what_is_read_only_is_so_with_all_below() -> None:
    said = {"container_path": "/m", "host_path": "/h", "readonly": True, "recursive_read_only": True}
    assert made(mounts=[said])[1].mounts == [Mount(type="bind", source="/h", target="/m", read_only=True, create=True)]


@pytest.mark.parametrize(
    ("said", "below"),
    [
        ({}, {}),
        ({"readonly": True, "recursive_read_only": True}, {}),
        ({"readonly": True}, {"/m": "own"}),
        ({"readonly": True, "propagation": "PROPAGATION_HOST_TO_CONTAINER"}, {"/m": "followed"}),
        ({"propagation": "PROPAGATION_HOST_TO_CONTAINER"}, {"/m": "followed"}),
    ],
)
def test_what_is_with_that_which_is_mounted_below(said: dict[str, Any], below: dict[str, Below]) -> None:
    whole = {"container_path": "/m", "host_path": "/h", **said}
    [asked] = ParseDict({"mounts": [whole]}, pb.ContainerConfig()).mounts
    assert mounts.below([asked]) == below
    read_only = bool(said.get("readonly"))
    found = KubeMount(target="/m", source="/h", read_only=read_only, below=below.get("/m", "same"))
    assert mounts.told([found]) == [asked]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"metadata": {}}, "without a name"),
        ({"image": {}}, "without an image"),
        ({"CDI_devices": [{"name": "vendor.com/gpu=0"}]}, "vendor.com/gpu=0"),
        ({"log_path": "../../etc/passwd"}, "leads out"),
        ({"envs": [{"key": "K", "value": "/w=="}]}, "UTF-8"),
        ({"mounts": [{"container_path": "/m", "propagation": "PROPAGATION_BIDIRECTIONAL"}]}, "Bidirectional at /m"),
        ({"mounts": [{"container_path": "/m", "recursive_read_only": True}]}, "not read-only"),
        (
            {
                "mounts": [
                    {
                        "container_path": "/m",
                        "readonly": True,
                        "recursive_read_only": True,
                        "propagation": "PROPAGATION_HOST_TO_CONTAINER",
                    }
                ]
            },
            "have its propagation be None",
        ),
        ({"linux": {"resources": {"cpuset_cpus": "0"}}}, "pin"),
        ({"linux": {"resources": {"hugepage_limits": [{"page_size": "2MB", "limit": 1}]}}}, "huge pages of 2MB"),
        *(
            ({"linux": {"security_context": context}}, words)
            for context, words in (
                ({"run_as_group": {"value": 1}}, "without a runAsUser"),
                ({"seccomp_profile_path": "somewhere/p"}, "somewhere/p"),
                ({"apparmor": {"profile_type": "Localhost"}}, "AppArmor profile 'localhost/'"),
                ({"apparmor_profile": "localhost/"}, "AppArmor profile 'localhost/'"),
                ({"apparmor_profile": "elsewhere/a"}, "AppArmor profile 'elsewhere/a'"),
                ({"namespace_options": {"network": "NODE"}}, "hostNetwork"),
                ({"selinux_options": {"level": "s0"}}, "SELinux"),
            )
        ),
    ],
)
def test_what_no_container_has(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        made(**config)


def test_what_is_listed() -> None:
    state = KubePodState(id="abc", pod=POD, ready=True, created_ns=7, addresses=["10.0.0.2", "fd00::2"])
    told = sandbox.status(state)
    assert (told.id, told.state, told.created_at, told.network.ip) == ("abc", pb.SANDBOX_READY, 7, "10.0.0.2")
    assert [each.ip for each in told.network.additional_ips] == ["fd00::2"]
    for said, is_it in (
        ({}, True),
        ({"id": "ab"}, True),
        ({"id": "b"}, False),
        ({"state": {"state": "SANDBOX_READY"}}, True),
        ({"state": {"state": "SANDBOX_NOTREADY"}}, False),
        ({"label_selector": {"no": "such"}}, False),
    ):
        assert sandbox.matches(state, ParseDict(said, pb.PodSandboxFilter())) == is_it, said
    found = KubeContainerState(
        id="c1",
        pod="abc",
        container=KubeContainer(name="one", image="i", labels={"l": "m"}, request="r"),
        image_id="sha256:1",
        state="exited",
        created_ns=1,
        exit_code=137,
        reason="OOMKilled",
    )
    status = container.status(found, "example.com/app@sha256:1")
    assert (status.state, status.exit_code, status.reason) == (pb.CONTAINER_EXITED, 137, "OOMKilled")
    assert status.image_ref == "example.com/app@sha256:1"
    for said, is_it in (
        ({}, True),
        ({"pod_sandbox_id": "abc"}, True),
        ({"pod_sandbox_id": "x"}, False),
        ({"state": {"state": "CONTAINER_EXITED"}}, True),
        ({"state": {"state": "CONTAINER_CREATED"}}, False),
        ({"label_selector": {"l": "m"}}, True),
    ):
        assert container.matches(found, ParseDict(said, pb.ContainerFilter())) == is_it, said


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("busybox:latest", "docker.io/library/busybox:latest"),
        ("me/web:1", "docker.io/me/web:1"),
        ("localhost/web:1", "localhost/web:1"),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("host:5000/a@sha256:1", "host:5000/a@sha256:1"),
        ("busybox@sha256:1", "docker.io/library/busybox@sha256:1"),
    ],
)
def test_full_names(short: str, name: str) -> None:
    assert image.full(short) == name


def test_credentials() -> None:
    assert image.given(pb.AuthConfig(), "web") is None
    both = Credentials(username="me", password="it")
    assert image.given(pb.AuthConfig(username="me", password="it", server_address="docker.io"), "web") == both
    assert image.given(pb.AuthConfig(auth="bWU6aXQ=", server_address="https://index.docker.io/v1/"), "web") == both
    assert image.given(pb.AuthConfig(identity_token="t"), "web") == Credentials(identity_token="t")
    for wrong, words in (
        (pb.AuthConfig(registry_token="t"), "registry token"),
        (pb.AuthConfig(auth="?"), "base64"),
        (pb.AuthConfig(username="me", server_address="elsewhere.com"), "credentials for elsewhere.com"),
    ):
        with pytest.raises(InvalidInput, match=words):
            image.given(wrong, "web")
