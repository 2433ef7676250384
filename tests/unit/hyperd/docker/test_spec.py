"""What docker's clients send becomes what we run: requests as they were recorded, and what is refused by name."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.errors import HyperError, InvalidInput, NotFound
from hypercontainer.hyperd.docker import call, config, mounts, refused, spec
from hypercontainer.model.spec import (
    ContainerSpec,
    ContainerUpdate,
    Device,
    Dns,
    EndpointSpec,
    Healthcheck,
    Mount,
    PodSpec,
    PortMapping,
    RestartPolicy,
    Ulimit,
)

VECTORS = Path(__file__).parents[3] / "vectors/docker"


def read(data: bytes) -> config.ContainerConfig:
    return call.body(data, config.ContainerConfig, "application/json")


def sent(name: str) -> config.ContainerConfig:
    return read((VECTORS / f"{name}.json").read_bytes())


def asked(**fields: Any) -> config.ContainerConfig:
    """A creation with these keys of HostConfig."""
    return read(msgspec.json.encode({"Image": "busybox", "HostConfig": fields}))


def the_mounts(body: config.ContainerConfig) -> list[Mount]:
    return spec.pod(body, "")[0].containers[0].mounts


def test_the_cli_asks_for_everything() -> None:
    pod, warnings = spec.pod(sent("cli-28-all"), "web")
    [container] = pod.containers
    assert warnings == []
    assert msgspec.structs.replace(pod, containers=[]) == PodSpec(
        name="web",
        hostname="box",
        vcpus=2,
        memory_mib=64,
        ports=[
            PortMapping(container_port=53, host_port=8080, host_port_last=8090, protocol="udp"),
            PortMapping(container_port=80, host_ip="127.0.0.1"),
        ],
        dns=Dns(nameservers=["9.9.9.9"]),
        extra_hosts={"foo": "1.2.3.4"},
    )
    assert list(container.as_asked) == ["Binds", "Mounts", "Tmpfs", "SecurityOpt"]
    assert msgspec.structs.replace(container, as_asked={}) == ContainerSpec(
        image="busybox",
        name="web",
        command=["-c", "echo x"],
        entrypoint=["sh"],
        env=["A=b"],
        working_dir="/tmp",
        user="1000",
        tty=True,
        open_stdin=True,
        stdin_once=True,
        expose=["53/udp", "80/tcp", "99/tcp"],
        init=True,
        mounts=[
            Mount(type="volume", source="vol", target="/data"),
            Mount(type="bind", source="/tmp", target="/host", read_only=True, create=True),
            Mount(type="tmpfs", target="/tt", size_mib=1),
            Mount(type="volume", source="v2", target="/v2", no_copy=True),
            Mount(type="tmpfs", target="/t", size_mib=1),
        ],
        cap_add=["CAP_NET_ADMIN"],
        cap_drop=["ALL"],
        no_new_privileges=True,
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)],
        cpus=1.5,
        pids=50,
        shm_mib=16,
        stop_signal="INT",
        stop_timeout_s=3,
        restart=RestartPolicy(name="on-failure", max_retries=3),
        labels={"k": "v"},
    )


@pytest.mark.parametrize(("client", "command"), [("cli-28", None), ("cli-20", ["true"])])
def test_every_default_of_a_client_is_ours(client: str, command: list[str] | None) -> None:
    usual = ContainerSpec(image="busybox", command=command)
    assert spec.pod(sent(client), "") == (PodSpec(containers=[usual]), [])


def test_compose_sends_nulls() -> None:
    pod, warnings = spec.pod(sent("compose-2"), "p-web-1")
    assert warnings == []
    assert pod.ports == [PortMapping(container_port=80, host_port=8080)]
    [container] = pod.containers
    assert container.mounts == [Mount(type="bind", source="/srv/secret", target="/run/secrets/x", read_only=True)]
    assert container.labels["com.docker.compose.service"] == "web"
    assert container.restart == RestartPolicy()


def test_docker_py_sends_little() -> None:
    pod, _ = spec.pod(sent("docker-py"), "")
    assert pod.ports == [PortMapping(container_port=80)]
    assert pod.containers[0].mounts == [Mount(type="volume", target="/d")]


def test_keys_are_found_whatever_their_case_and_unknown_ones_passed_over() -> None:
    body = read(b'{"image":"busybox","CMD":["sh"],"Wat":{"a":[1]},"hostconfig":{"memory":6291456,"Nope":3}}')
    pod, _ = spec.pod(body, "")
    assert (pod.containers[0].command, pod.memory_mib) == (["sh"], 6)


@pytest.mark.parametrize(
    ("fields", "entrypoint", "command"),
    [
        ({"Cmd": "sh"}, None, ["sh"]),
        ({"Cmd": []}, None, None),
        ({"Entrypoint": ["a"]}, ["a"], []),
        ({"Entrypoint": [""]}, [], None),
        ({"Entrypoint": "a", "Cmd": ["b"]}, ["a"], ["b"]),
    ],
)
def test_command_lines(fields: dict[str, Any], entrypoint: list[str] | None, command: list[str] | None) -> None:
    [container] = spec.pod(read(msgspec.json.encode({"Image": "x", **fields})), "")[0].containers
    assert (container.entrypoint, container.command) == (entrypoint, command)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"IOMaximumIOps": 5}, "cannot set IOMaximumIOps"),
    ({"UTSMode": "x"}, "cannot set UTSMode to 'x'"),
    ({"CpuRealtimeRuntime": 5}, "cannot set CpuRealtimeRuntime: .*NanoCpus"),
    ({"NetworkMode": "host"}, "cannot set NetworkMode to host"),
    ({"NetworkMode": "container:x", "Links": ["a:b"]}, "container type network can't be used with links"),
    ({"Devices": [{"PathOnHost": "/dev/fuse", "CgroupPermissions": "r"}]}, "invalid permissions .r. of device"),
    (
        {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]},
        r'device driver "" with capabilities: \[\[gpu\]\]',
    ),
    ({"StorageOpt": {"x": "y"}}, "cannot set StorageOpt's 'x'"),
    ({"ExtraHosts": ["a"]}, "bad format for add-host"),
    ({"SecurityOpt": ["seccomp={}"]}, "cannot set SecurityOpt"),
    ({"RestartPolicy": {"Name": "sometimes"}}, "invalid restart policy 'sometimes'"),
    ({"NanoCpus": 1, "CpuQuota": 1}, "Conflicting options"),
    ({"PortBindings": {"80/sctp": None}}, "cannot publish port '80/sctp'"),
    ({"PortBindings": {"80-81/tcp": None}}, "invalid port specification"),
    ({"Binds": ["/a:/b:rshared"]}, "propagation does not cross"),
    ({"Binds": ["/a:/b:wat"]}, "invalid mode: wat"),
    ({"Binds": ["a:b:c:d"]}, "invalid volume specification"),
    ({"Mounts": [{"Type": "image", "Target": "/x"}]}, "cannot mount a 'image'"),
    ({"Mounts": [{"Type": "bind", "Target": "/x", "BindOptions": {"Propagation": "rshared"}}]}, "Propagation"),
    (
        {"Mounts": [{"Type": "bind", "Target": "/x", "VolumeOptions": {"Labels": {"a": "b"}}}]},
        "field VolumeOptions must",
    ),
    ({"ConsoleSize": [1]}, "invalid ConsoleSize"),
    ({"Tmpfs": {"/t": "size=x"}}, "invalid size 'x'"),
    ({"Runtime": "runc"}, "unknown or invalid runtime name: runc"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_what_cannot_be_had_is_refused_by_its_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        spec.pod(asked(**fields), "")


@pytest.mark.parametrize(
    "field", [*refused.OF_SIZES, *refused.OF_HOST, *refused.VOID_SIZES, *refused.VOID_HOST, *refused.KEPT]
)
def test_every_field_of_the_table_is_one_that_is_read(field: str) -> None:
    assert field in config.HostConfig.__struct_fields__


def test_so_is_what_stands_beside_the_host_config() -> None:
    with pytest.raises(InvalidInput, match="cannot set OnBuild"):
        spec.pod(read(b'{"Image":"x","OnBuild":["RUN x"]}'), "")


def test_a_domain_name() -> None:
    pod, _ = spec.pod(read(b'{"Image":"x","Hostname":"h","Domainname":"example.com"}'), "")
    assert (pod.hostname, pod.domainname) == ("h", "example.com")


def test_devices_that_every_guest_has() -> None:
    said = {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}
    [container] = spec.pod(asked(Devices=[said, {**said, "PathInContainer": "/f"}]), "")[0].containers
    assert container.devices == [Device(path="/dev/fuse"), Device(path="/dev/fuse", target="/f")]
    assert container.as_asked["Devices"] == [said, {**said, "PathInContainer": "/f"}]
    with pytest.raises(InvalidInput, match="cannot update Devices"):
        spec.update(call.body(msgspec.json.encode({"Devices": [said]}), config.Sizes, "application/json"))


def test_a_healthcheck_is_in_nanoseconds() -> None:
    def asks(said: dict[str, Any] | None) -> Healthcheck | None:
        return spec.pod(read(msgspec.json.encode({"Image": "x", "Healthcheck": said})), "")[0].containers[0].healthcheck

    said = {"Test": ["CMD", "x"], "Interval": 1_500_000_000, "StartPeriod": 10**9, "Retries": 2}
    assert asks(said) == Healthcheck(test=["CMD", "x"], interval_s=1.5, start_period_s=1, retries=2)
    assert asks({"Test": ["NONE"]}) == Healthcheck(test=["NONE"])
    assert asks(None) is asks({}) is None


@pytest.mark.parametrize(
    ("mode", "endpoints", "found"),
    [
        ("", {}, [EndpointSpec()]),
        ("default", {"default": {"IPAMConfig": None}}, [EndpointSpec()]),
        ("bridge", {"default": {"Aliases": ["a"]}}, [EndpointSpec(aliases=["a"])]),
        ("none", {"none": {}}, [EndpointSpec(network="none")]),
        ("p_default", {"p_default": {"Aliases": ["web"]}}, [EndpointSpec(network="p_default", aliases=["web"])]),
        (
            "a",
            {"b": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}},
            [EndpointSpec(network="a"), EndpointSpec(network="b", address="10.0.0.9")],
        ),
        ("", {"default": {"MacAddress": "02:00:00:00:00:0A"}}, [EndpointSpec(mac="02:00:00:00:00:0a")]),
        ("container:web", {}, [EndpointSpec(network="container:web")]),
        ("container:web", {"container:web": {}}, [EndpointSpec(network="container:web")]),
        (
            "container:web",
            {"container:web": {"Aliases": ["a"]}},
            [EndpointSpec(network="container:web"), EndpointSpec(network="container:web", aliases=["a"])],
        ),
    ],
)
def test_networks(mode: str, endpoints: dict[str, Any], found: list[EndpointSpec]) -> None:
    body = {"Image": "x", "HostConfig": {"NetworkMode": mode}, "NetworkingConfig": {"EndpointsConfig": endpoints}}
    assert spec.pod(read(msgspec.json.encode(body)), "")[0].networks == found


@pytest.mark.parametrize(
    ("mode", "endpoints", "found"),
    [
        ("default", {}, [EndpointSpec(links=["/a:/web/b"])]),
        ("bridge", {"bridge": {"Links": ["c:d"]}}, [EndpointSpec(links=["/a:/web/b", "c:d"])]),
        ("net", {"net": {"Links": ["c:d"]}}, [EndpointSpec(network="net", links=["c:d"])]),
        ("none", {}, [EndpointSpec(network="none")]),
    ],
)
def test_links_are_those_of_the_usual_network_or_an_endpoint_s(
    mode: str, endpoints: dict[str, Any], found: list[EndpointSpec]
) -> None:
    """Clients send those of an endpoint as the container's, too, and what an inspection told them."""
    host = {"NetworkMode": mode, "Links": ["/a:/web/b"]}
    body = {"Image": "x", "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}
    assert spec.pod(read(msgspec.json.encode(body)), "")[0].networks == found


def test_the_mac_address_of_old_is_that_of_the_first_network() -> None:
    body = {"Image": "x", "MacAddress": "02:00:00:00:00:01", "HostConfig": {"NetworkMode": "db"}}
    [endpoint] = spec.pod(read(msgspec.json.encode(body)), "")[0].networks
    assert endpoint == EndpointSpec(network="db", mac="02:00:00:00:00:01")
    body["HostConfig"] = {"NetworkMode": "container:web"}  # which the engine refuses to have changed
    [endpoint] = spec.pod(read(msgspec.json.encode(body)), "")[0].networks
    assert endpoint.mac == "02:00:00:00:00:01"


def test_what_an_endpoint_does_not_take() -> None:
    def asks(**said: Any) -> tuple[PodSpec, list[str]]:
        networks = {"EndpointsConfig": {"bridge": said}}
        return spec.pod(read(msgspec.json.encode({"Image": "x", "NetworkingConfig": networks})), "")

    with pytest.raises(InvalidInput, match="cannot set LinkLocalIPs on network bridge"):
        asks(IPAMConfig={"LinkLocalIPs": ["169.254.7.7"]})
    pod, [warning] = asks(DriverOpts={"a": "b"})
    assert pod.networks == [EndpointSpec(options={"a": "b"})] and warning.startswith("DriverOpts")


@pytest.mark.parametrize(("driver", "log"), [("", "file"), ("json-file", "file"), ("local", "file"), ("none", "none")])
def test_log_drivers(driver: str, log: str) -> None:
    made, warnings = spec.pod(asked(LogConfig={"Type": driver}), "")
    assert (made.containers[0].log, warnings) == (log, [])


def test_a_driver_of_volumes_is_looked_for_when_there_are_any() -> None:
    made, warnings = spec.pod(asked(VolumeDriver="foo", Binds=["/a:/b"]), "")
    assert (made.containers[0].as_asked["VolumeDriver"], warnings) == ("foo", [])
    with pytest.raises(NotFound, match='plugin "foo" not found'):
        spec.pod(asked(VolumeDriver="foo", Binds=["a:/b"]), "")


def test_plugins_are_not_found() -> None:
    with pytest.raises(NotFound) as found:
        spec.pod(asked(LogConfig={"Type": "syslog"}), "")
    assert found.value.what == "plugin"
    with pytest.raises(NotFound):
        mounts.check_driver("nfs")


VOID = {
    "PidMode": "host",
    "UTSMode": "host",
    "BlkioDeviceReadIOps": [{"Path": "/dev/x", "Rate": 1}],
    "CpusetCpus": "0,1",
    "DeviceCgroupRules": ["c 7:128 rwm"],
    "MemoryReservation": 5,
    "MemorySwap": -1,
    "MemorySwappiness": 0,
    "OomKillDisable": True,
}


def test_what_is_void_in_a_virtual_machine_is_a_warning_and_is_told_again() -> None:
    pod, warnings = spec.pod(asked(**VOID), "")
    assert [warning.partition(" changes nothing: ")[0] for warning in warnings] == list(VOID)
    assert pod.containers[0].as_asked == VOID


def test_namespaces_of_others_are_not_told_as_they_came() -> None:
    """The engine tells them, with ids in the place of names; the host's are the virtual machine's."""
    pod, warnings = spec.pod(asked(PidMode="container:web", IpcMode="shareable"), "")
    [container] = pod.containers
    assert (container.pid, container.ipc, container.as_asked, warnings) == ("container:web", "shareable", {}, [])
    pod, warnings = spec.pod(asked(PidMode="host", IpcMode="host"), "")
    [container] = pod.containers
    assert (container.pid, container.ipc) == ("", "") and len(warnings) == 2
    assert container.as_asked == {"PidMode": "host", "IpcMode": "host"}


def test_what_nobody_here_keeps_is_told_again_as_it_came() -> None:
    kept = {
        "Annotations": {"a": "b"},
        "Binds": ["/a:/b:z"],
        "Mounts": [{"Type": "bind", "Source": "/c", "Target": "/d"}],
        "Tmpfs": {"/t": "size=3M"},
        "SecurityOpt": ["label=disable"],
        "StorageOpt": {"size": "1G"},
        "Isolation": "default",
        "UsernsMode": "host",
    }
    pod, warnings = spec.pod(asked(**kept, Memory=6 << 20), "")
    assert (warnings, pod.containers[0].as_asked) == ([], kept)


@pytest.mark.parametrize(
    ("said", "profile"),
    [
        ("apparmor=mine", "mine"),
        ("apparmor:mine", "mine"),
        ("apparmor=unconfined", ""),
        ("apparmor=docker-default", ""),
    ],
)
def test_a_profile_of_apparmor(said: str, profile: str) -> None:
    [container] = spec.pod(asked(SecurityOpt=[said]), "")[0].containers
    assert container.apparmor == profile


def test_what_holds_inside() -> None:
    [container] = spec.pod(
        asked(CpuShares=5, OomScoreAdj=-3, GroupAdd=["10", 20, "adm"], LogConfig={"Type": "none"}), ""
    )[0].containers
    assert (container.cpu_shares, container.oom_score_adj, container.groups) == (5, -3, [10, 20, "adm"])
    assert container.log == "none"


def test_what_the_engine_takes_from_the_image_and_from_others() -> None:
    said = {"PublishAllPorts": True, "VolumesFrom": ["web:ro"]}
    log = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    pod, warnings = spec.pod(asked(**said, LogConfig=log), "")
    [container] = pod.containers
    assert (pod.publish_exposed, container.volumes_from) == (True, ["web:ro"])
    assert (container.log_max_bytes, container.log_files, warnings) == (10 << 20, 3, [])
    assert not spec.pod(asked(PublishAllPorts=True, NetworkMode="none"), "")[0].publish_exposed


def test_hosts_of_one_s_own() -> None:
    pod, _ = spec.pod(asked(ExtraHosts=["a:1.2.3.4", "b=[::1]", "c:::2", "host.docker.internal:host-gateway"]), "")
    assert pod.extra_hosts == {"a": "1.2.3.4", "b": "::1", "c": "::2", "host.docker.internal": "host-gateway"}


@pytest.mark.parametrize(
    ("config", "words"),
    [({"max-file": "0"}, "invalid value for max-file"), ({"nosuch": "x"}, "unknown log opt 'nosuch' for json-file")],
)
def test_options_of_a_log_that_make_no_sense(config: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        spec.pod(asked(LogConfig={"Type": "json-file", "Config": config}), "")


def test_options_of_a_log_by_its_driver() -> None:
    said = {"compress": "true", "mode": "non-blocking", "max-buffer-size": "4m"}
    described = {**said, "tag": "{{.Name}}", "labels": "a,b"}
    for driver, own in ("local", said), ("json-file", described), ("", described):
        pod, _ = spec.pod(asked(LogConfig={"Type": driver, "Config": {"max-file": "3", **own}}), "")
        assert (pod.containers[0].log_files, pod.containers[0].log_options) == (3, own)
    for driver, option, words in ("local", "tag", "log driver local"), ("none", "max-size", "none log driver"):
        with pytest.raises(InvalidInput, match=f"unknown log opt '{option}' for {words}"):
            spec.pod(asked(LogConfig={"Type": driver, "Config": {option: "1"}}), "")


def test_an_update_leaves_zeros_as_they_are() -> None:
    nothing = call.body(b'{"Memory":0,"PidsLimit":null,"RestartPolicy":{"Name":""}}', config.Sizes, "application/json")
    assert spec.update(nothing) == (ContainerUpdate(), [])
    body = b'{"Memory":314572800,"NanoCpus":500000000,"PidsLimit":-1,"RestartPolicy":{"Name":"always"}}'
    assert spec.update(call.body(body, config.Sizes, "application/json")) == (
        ContainerUpdate(memory_mib=300, cpus=0.5, pids=0, restart=RestartPolicy(name="always")),
        [],
    )
    wanted, [warning] = spec.update(call.body(b'{"CpusetCpus":"1"}', config.Sizes, "application/json"))
    assert wanted == ContainerUpdate(as_asked={"CpusetCpus": "1"}) and warning.startswith("CpusetCpus changes nothing")


def test_a_body_says_that_it_is_json() -> None:
    with pytest.raises(InvalidInput, match="unsupported Content-Type"):
        call.body(b"{}", config.Sizes, "text/plain")


WORDS = st.text(st.sampled_from("/:,=-abz019 \0é[]"), max_size=24)


@given(WORDS)
def test_any_words_are_read_or_refused(words: str) -> None:
    for reader in (mounts.bind, mounts.size, lambda text: mounts.tmpfs("/t", text), spec._extra_host):
        try:
            reader(words)
        except HyperError:
            pass


@given(WORDS, WORDS)
def test_so_are_any_ports(inside: str, outside: str) -> None:
    try:
        spec.ports({inside: [config.PortBinding(host_port=outside)]})
    except HyperError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Image", "HostConfig", "x"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["Image", "Cmd", "Env", "HostConfig", "Volumes", "Labels"]), JSON))
def test_so_is_any_document(document: dict[str, Any]) -> None:
    try:
        spec.pod(read(msgspec.json.encode(document)), "")
    except HyperError:
        pass
