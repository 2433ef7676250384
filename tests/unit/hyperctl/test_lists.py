"""What the lists print, letter by letter."""
# ruff: noqa: E501

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from hypercontainer.errors import NotFound, WrongState
from hypercontainer.hyperctl import text
from hypercontainer.hyperctl.ps import ports
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Lines, Refusal

NOW = 0


@pytest.fixture(autouse=True)
def fresh_now() -> None:
    """Ages are counted from each test's begin: in a whole run, minutes may lie between import and test."""
    global NOW
    NOW = int(time.time())


def entry(**more: Any) -> dict[str, Any]:
    return {
        "Id": "a" * 64, "Names": ["/web"], "Image": "nginx:1", "ImageID": "sha256:" + "b" * 64,
        "Command": "nginx -g 'daemon off;'", "Created": NOW - 200,
        "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
        "Labels": {"k": "v"}, "State": "running", "Status": "Up 3 minutes", "Mounts": [], "Networks": {"bridge": {}},
        "Pod": {"Id": "p", "Name": "web"}, **more,
    }  # fmt: skip


def other() -> dict[str, Any]:
    return entry(Id="c" * 64, Names=["/db"], Image="pg", Command="true", Ports=[], Status="Exited (7) 2 hours ago")


def test_ps(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry(), other()]
    done = hyperctl("ps", "-a", "-f", "status=exited", "--filter", "name=web")
    assert done.out == (
        "CONTAINER ID   IMAGE        COMMAND                  CREATED         STATUS                   PORTS                  NAMES\n"
        'aaaaaaaaaaaa   nginx:1      "nginx -g \'daemon of…"   3 minutes ago   Up 3 minutes             0.0.0.0:8080->80/tcp   web\n'
        'cccccccccccc   pg           "true"                   3 minutes ago   Exited (7) 2 hours ago                          db\n'
    )
    assert (done.status, done.err) == (0, "")
    assert hyperctl.hyperd.requests[0].query == [("all", "1"), ("filter", "status=exited"), ("filter", "name=web")]


def test_ps_of_all_owners(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry(Owner=""), entry(Names=["/one"], Owner="/run/runv")]
    done = hyperctl("ps", "--all-owners", "--format", "table {{.Names}}\t{{.Owner}}")
    assert [line.split() for line in done.out.splitlines()] == [["NAMES", "OWNER"], ["web"], ["one", "/run/runv"]]
    assert hyperctl.hyperd.requests[0].query == [("all_owners", "1")]
    assert "OWNER" in hyperctl("ps", "--all-owners").out and "OWNER" not in hyperctl("ps").out


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["-q"], "aaaaaaaaaaaa\ncccccccccccc\n"),
        (["-q", "--no-trunc"], "a" * 64 + "\n" + "c" * 64 + "\n"),
        (["-n", "1", "-q"], "aaaaaaaaaaaa\n"),
        (["-l", "-q"], "aaaaaaaaaaaa\n"),
        (["--format", "{{.ID}} {{.Names}} {{.Pod}}"], "aaaaaaaaaaaa web web\ncccccccccccc db web\n"),
        (["--format", "{{.Labels}}|{{.Ports}}"], "k=v|0.0.0.0:8080->80/tcp\nk=v|\n"),
        (["--format", "table {{.Names}}\\t{{.Image}}"], "NAMES        IMAGE\nweb          nginx:1\ndb           pg\n"),
        (["--format", "{{json .Names}}"], '"web"\n"db"\n'),
        (
            ["--format", '{{.Label "k"}}|{{.Networks}}|{{.LocalVolumes}}|{{slice .ID 0 3}}'],
            "v|bridge|0|aaa\nv|bridge|0|ccc\n",
        ),
        (
            ["--format", 'table {{upper .Names}}\\t{{.LocalVolumes}}\\t{{.Label "k"}}'],
            "NAMES        LOCAL VOLUMES   k\nWEB          0               v\nDB           0               v\n",
        ),
    ],
)
def test_ps_in_other_shapes(hyperctl: Hyperctl, words: list[str], out: str) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry(), other()]
    assert hyperctl("ps", *words) == (0, out, "")


def test_ps_as_json(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry(SizeRw=4096, SizeRootFs=4_200_000)]
    assert hyperctl("ps", "--format", "{{json .}}") == hyperctl("ps", "--format", "json")
    assert [r.query for r in hyperctl.hyperd.requests] == [[("size", "1")]] * 2
    assert json.loads(hyperctl("ps", "--format", "json").out) == {
        "ID": "aaaaaaaaaaaa", "Image": "nginx:1", "Command": "\"nginx -g 'daemon of…\"", "CreatedAt": text.moment(NOW - 200),
        "RunningFor": "3 minutes ago", "Status": "Up 3 minutes", "State": "running", "Ports": "0.0.0.0:8080->80/tcp",
        "Names": "web", "Labels": "k=v", "Mounts": "", "Pod": "web", "Owner": "",
        "LocalVolumes": "0", "Networks": "bridge", "Size": "4.1kB (virtual 4.2MB)",
    }  # fmt: skip


def test_ps_with_sizes(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry(SizeRw=4096, SizeRootFs=4_200_000)]
    assert hyperctl("ps", "-s").out.splitlines()[1].endswith("   web          4.1kB (virtual 4.2MB)")
    assert hyperctl("ps", "--format", "{{.Size}}").out == "4.1kB (virtual 4.2MB)\n"
    hyperctl("ps", "--format", "{{.Names}}")
    assert [r.query for r in hyperctl.hyperd.requests] == [[("size", "1")], [("size", "1")], []]
    hyperctl.hyperd.answers["GET", "/v1/containers/web"] = {"SizeRw": 1}
    assert hyperctl("inspect", "-s", "-f", "{{.SizeRw}}", "web").out == "1\n"
    assert hyperctl.hyperd.requests[-1].query == [("size", "1")]


def test_a_slip_in_a_template_is_told(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry()]
    done = hyperctl("ps", "--format", "{{.Nope}}")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("hyperctl: template: there is no field .Nope: use one of .ID, .Image,")
    hyperctl.hyperd.answers["GET", "/v1/containers/web"] = {"State": {"Status": "running"}}
    done = hyperctl("inspect", "-f", "{{.State.Nope}}", "web")
    assert (done.status, done.out) == (1, "") and "there is no field .Nope" in done.err


def test_names_from_elsewhere_cannot_steer_the_terminal(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry(Command="\x1b]0;pwned\x07")]
    assert "\x1b" not in hyperctl("ps").out


def published(*ports: tuple[str, int, int, str]) -> list[dict[str, Any]]:
    return [{"IP": ip, "PublicPort": public, "PrivatePort": inside, "Type": kind} for ip, public, inside, kind in ports]


def test_ports_in_runs() -> None:
    found = published(
        ("0.0.0.0", 8001, 81, "tcp"), ("0.0.0.0", 8000, 80, "tcp"), ("0.0.0.0", 8002, 82, "tcp"), ("::", 8000, 80, "tcp"),
        ("0.0.0.0", 53, 53, "udp"), ("0.0.0.0", 9000, 90, "tcp"), ("", 0, 443, "tcp"),
    )  # fmt: skip
    assert ports(found) == "443/tcp, 0.0.0.0:8000-8002->80-82/tcp, 0.0.0.0:9000->90/tcp, [::]:8000->80/tcp, 0.0.0.0:53->53/udp"  # fmt: skip


def images() -> list[dict[str, Any]]:
    return [
        {
            "Id": "sha256:" + "1" * 64, "RepoTags": ["busybox:latest", "reg:5000/a/b:1"],
            "RepoDigests": ["busybox@sha256:" + "d" * 64], "Created": NOW - 90_000 * 30, "Size": 4_270_000, "Labels": {},
            "Containers": 2,
        },
        {"Id": "sha256:" + "2" * 64, "RepoTags": [], "RepoDigests": [], "Created": 0, "Size": 5, "Labels": {}, "Containers": 0},
    ]  # fmt: skip


def test_images(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/images"] = images()
    assert hyperctl("images").out == (
        "REPOSITORY     TAG          IMAGE ID       CREATED       SIZE\n"
        "busybox        latest       111111111111   4 weeks ago   4.27MB\n"
        "reg:5000/a/b   1            111111111111   4 weeks ago   4.27MB\n"
        "<none>         <none>       222222222222   N/A           5B\n"
    )
    assert hyperctl("image", "ls", "-q").out == "111111111111\n222222222222\n"
    assert hyperctl("images", "--digests", "--format", "{{.Repository}} {{.Digest}}").out.splitlines()[0] == (
        "busybox sha256:" + "d" * 64
    )
    row = json.loads(hyperctl("images", "--format", "{{json .}}").out.splitlines()[0])
    assert row["CreatedAt"] == text.moment(NOW - 90_000 * 30)
    assert {
        "Containers",
        "CreatedSince",
        "Digest",
        "ID",
        "Repository",
        "SharedSize",
        "Size",
        "Tag",
        "UniqueSize",
        "VirtualSize",
    } < {*row}
    hyperctl("images", "-f", "dangling=true", "busybox")
    assert hyperctl.hyperd.requests[-1].query == [("filter", "dangling=true"), ("filter", "reference=busybox")]


def test_history(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/images/history"] = [
        {"Id": "sha256:" + "1" * 64, "Created": NOW - 60, "CreatedBy": 'CMD ["sh"]', "Comment": "", "Size": 0, "Tags": []},
        {"Id": "<missing>", "Created": NOW - 60, "CreatedBy": "ADD " + "x" * 60, "Comment": "c", "Size": 1e6, "Tags": []},
    ]  # fmt: skip
    assert hyperctl("history", "busybox").out == (
        "IMAGE          CREATED              CREATED BY                                      SIZE         COMMENT\n"
        '111111111111   About a minute ago   CMD ["sh"]                                      0B\n'
        "<missing>      About a minute ago   ADD xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…   1MB          c\n"
    )
    assert hyperctl.hyperd.requests[0].query == [("name", "busybox")]


def test_volumes(hyperctl: Hyperctl) -> None:
    volume = {"Name": "data", "Driver": "local", "Mountpoint": "/m", "CreatedAt": "x", "Labels": {}, "Scope": "local"}
    hyperctl.hyperd.answers["GET", "/v1/volumes"] = [volume]
    assert hyperctl("volume", "ls").out == "DRIVER       VOLUME NAME\nlocal        data\n"
    assert hyperctl("volume", "ls", "-q").out == "data\n"
    assert hyperctl("volume", "ls", "--format", "{{.Mountpoint}} {{.Size}} {{.Links}}").out == "/m N/A N/A\n"
    hyperctl.hyperd.answers["POST", "/v1/volumes"] = volume
    assert hyperctl("volume", "create", "-l", "a=b", "data").out == "data\n"
    assert hyperctl.hyperd.requests[-1].body == {"name": "data", "labels": {"a": "b"}}
    hyperctl.hyperd.answers["DELETE", "/v1/volumes/data"] = None
    assert hyperctl("volume", "rm", "-f", "data", "nope") == (
        1,
        "data\n",
        "hyperctl: no such thing: /v1/volumes/nope\n",
    )
    assert hyperctl.hyperd.requests[-2].query == [("force", "1")]
    hyperctl.hyperd.answers["POST", "/v1/volumes/prune"] = {"Deleted": ["x"], "SpaceReclaimed": 1_500_000}
    assert hyperctl("volume", "prune", "-af").out == "Deleted: x\nTotal reclaimed space: 1.5MB\n"
    assert hyperctl.hyperd.requests[-1].query == [("all", "1")]


def test_pods(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/pods"] = [
        {"Id": "0123456789ab", "Name": "web", "Created": NOW - 7200, "State": "running", "Implicit": False, "Vcpus": 2,
         "MemoryMib": 512, "Labels": {}, "Containers": ["front", "back"]},
    ]  # fmt: skip
    assert hyperctl("pod", "ls", "-a").out == (
        "POD ID         NAME         STATE        VCPUS        MEMORY       CREATED       CONTAINERS\n"
        "0123456789ab   web          running      2            512MiB       2 hours ago   front,back\n"
    )


def test_pods_of_other_engines(hyperctl: Hyperctl) -> None:
    usual = {"Created": NOW, "State": "running", "Implicit": False, "Vcpus": 1, "MemoryMib": 256, "Labels": {}}
    hyperctl.hyperd.answers["GET", "/v1/pods"] = [
        {**usual, "Id": "0123456789ab", "Name": "0123456789ab", "Containers": ["one"], "Owner": "cri",
         "Kube": "default/web"},
        {**usual, "Id": "1123456789ab", "Name": "mine", "Containers": ["x"]},
    ]  # fmt: skip
    head, *rows = hyperctl("pod", "ls", "--all-owners").out.splitlines()
    assert head.split()[-1] == "OWNER" and [row.split()[-1] for row in rows] == ["cri", "x"]
    head, *rows = hyperctl("pod", "ls", "--cri").out.splitlines()
    assert head.split()[:3] == ["POD", "ID", "POD"] and [row.split()[:2] for row in rows] == [
        ["0123456789ab", "default/web"]
    ]
    assert [request.query for request in hyperctl.hyperd.requests] == [[("all_owners", "1")]] * 2
    hyperctl.hyperd.answers["DELETE", "/v1/pods/0123456789ab"] = None
    assert hyperctl("pod", "rm", "--all-owners", "0123456789ab").status == 0
    assert hyperctl.hyperd.requests[-1].query == [("all_owners", "1")]


def test_templates(hyperctl: Hyperctl) -> None:
    template = {"Kernel": "debian-6.1", "Vcpus": 1, "MemoryMib": 256, "Network": True, "Tenant": "acme",
                "Accelerator": "tcg", "CreatedAt": "2026-01-02T03:04:05Z", "Size": 60e6, "Clones": 7}  # fmt: skip
    pool = {"Vcpus": 1, "MemoryMib": 256, "Share": False, "Network": True, "Tenant": "", "Wanted": 2, "Waiting": 1, "Taken": 7,
            "Poisoned": 0, "Reason": "no memory"}  # fmt: skip
    hyperctl.hyperd.answers["GET", "/v1/factory"] = {
        "Kind": "cache",
        "Templates": [template],
        "Pools": [pool, pool | {"Share": True, "Network": False}],
        "Warnings": ["w"],
    }
    assert hyperctl("factory", "status").out == (
        "VMs are taken from those that wait, else cloned from templates\n"
        "VCPUS        MEMORY       SHARE        NETWORK      TENANT       WANTED       WAITING      TAKEN        POISONED\n"
        "1            256MiB       no           yes                       2            1            7            0\n"
        "1            256MiB       yes          no                        2            1            7            0\n"
        "missing: 1 with 1 vCPUs and 256MiB: no memory\n"
        "missing: 1 with 1 vCPUs and 256MiB, with a share, without a network: no memory\n"
        "warning: w\n"
        "KERNEL       VCPUS        MEMORY       NETWORK      TENANT       CREATED                SIZE         CLONES\n"
        "debian-6.1   1            256MiB       yes          acme         2026-01-02T03:04:05Z   60MB         7\n"
    )
    assert hyperctl("factory", "status", "--format", "{{.Vcpus}} {{.Network}}").out == "1 yes\n"
    hyperctl.hyperd.answers["GET", "/v1/factory"] = {"Kind": "direct", "Templates": [], "Pools": [], "Warnings": []}
    assert hyperctl("factory", "status").out == "VMs are booted, each of them\n"
    hyperctl.hyperd.answers["POST", "/v1/factory"] = None
    assert hyperctl("factory", "init") == (0, "", "")
    hyperctl.hyperd.answers["DELETE", "/v1/factory"] = None
    assert hyperctl("factory", "destroy") == (0, "", "")


def test_kernels(hyperctl: Hyperctl) -> None:
    kernel = {"Name": "debian-6.1", "Version": "6.1.0", "Architecture": "x86_64", "Digest": "sha256:" + "f" * 64,
              "Size": 60e6, "Current": True}  # fmt: skip
    hyperctl.hyperd.answers["GET", "/v1/kernels"] = [kernel, {**kernel, "Name": "mine", "Current": False}]
    assert hyperctl("kernel", "ls").out == (
        "CURRENT      NAME         VERSION      ARCHITECTURE   DIGEST         SIZE\n"
        "*            debian-6.1   6.1.0        x86_64         ffffffffffff   60MB\n"
        "             mine         6.1.0        x86_64         ffffffffffff   60MB\n"
    )
    progress = {"id": "", "action": "Downloading", "current": 0, "total": 60_000_000}
    hyperctl.hyperd.answers["POST", "/v1/kernels/fetch"] = Lines(progress, {"kernel": kernel})
    assert hyperctl("kernel", "fetch").out == "Downloading (60MB)\nKernel: debian-6.1 6.1.0 (current)\n"
    hyperctl("kernel", "fetch", "--arch", "arm64")
    assert hyperctl.hyperd.requests[-1].query == [("arch", "arm64")]
    step = {"id": "kernel", "action": "compiling: 250 files", "current": 0, "total": 0}
    hyperctl.hyperd.answers["POST", "/v1/kernels/build"] = Lines(step, {"kernel": {**kernel, "Current": False}})
    built = hyperctl("kernel", "build", "--name", "small", "-j", "1")
    assert built.out == "kernel: compiling: 250 files\nKernel: debian-6.1 6.1.0\n"
    assert sorted(hyperctl.hyperd.requests[-1].query) == [("jobs", "1"), ("name", "small")]
    hyperctl.hyperd.answers["POST", "/v1/kernels/use"] = None
    assert hyperctl("kernel", "use", "mine") == (0, "", "")
    assert hyperctl.hyperd.requests[-1].query == [("name", "mine")]


def test_top_and_port(hyperctl: Hyperctl) -> None:
    hyperctl.hyperd.answers["GET", "/v1/containers/web/top"] = {"Titles": ["PID", "CMD"], "Processes": [["1", "sh"]]}
    assert hyperctl("top", "web").out == "PID          CMD\n1            sh\n"
    assert hyperctl("top", "web", "-o", "pid,cmd").status == 0
    assert [request.query for request in hyperctl.hyperd.requests] == [[], [("ps_args", "-o pid,cmd")]]
    bindings = {"443/tcp": None, "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "81"}],
                "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}]}  # fmt: skip
    hyperctl.hyperd.answers["GET", "/v1/containers/web"] = {"NetworkSettings": {"Ports": bindings}}
    assert hyperctl("port", "web").out == ("53/udp -> 127.0.0.1:53\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::1]:81\n")
    assert hyperctl("port", "web", "80").out == "0.0.0.0:8080\n[::1]:81\n"
    assert hyperctl("port", "web", "443") == (1, "", "hyperctl: no such published port: 443/tcp of web\n")


def sample(read: str, cpu: int) -> dict[str, Any]:
    return {
        "id": "a" * 64, "name": "/web", "read": read, "cpu_stats": {"cpu_usage": {"total_usage": cpu}, "online_cpus": 1},
        "memory_stats": {"usage": 64 << 20, "limit": 256 << 20}, "pids_stats": {"current": 3},
        "blkio_stats": {"read_bytes": 1_200_000, "write_bytes": 0},
        "networks": {"eth0": {"rx_bytes": 1500, "tx_bytes": 20}},
    }  # fmt: skip


def test_stats(hyperctl: Hyperctl) -> None:
    samples = Lines(sample("2024-01-01T00:00:00Z", 0), sample("2024-01-01T00:00:02Z", 1_000_000_000))
    hyperctl.hyperd.answers["GET", "/v1/containers"] = [entry()]
    hyperctl.hyperd.answers["GET", f"/v1/containers/{'a' * 64}/stats"] = samples
    assert hyperctl("stats", "--no-stream").out == (
        "CONTAINER ID   NAME         CPU %        MEM USAGE / LIMIT   MEM %        NET I/O       BLOCK I/O    PIDS\n"
        "aaaaaaaaaaaa   web          50.00%       64MiB / 256MiB      25.00%       1.5kB / 20B   1.2MB / 0B   3\n"
    )


def test_stats_of_those_that_do_not_run(hyperctl: Hyperctl) -> None:
    answers = hyperctl.hyperd.answers
    zeros = "cccccccccccc   db           0.00%        0B / 0B             0.00%        0B / 0B      0B / 0B      0\n"
    answers["GET", "/v1/containers"] = lambda request: [other()] if ("all", "1") in request.query else []
    assert hyperctl("stats", "-a", "--no-stream").out.splitlines(keepends=True)[1:] == [zeros]
    assert len(hyperctl("stats", "--no-stream").out.splitlines()) == 1
    answers["GET", "/v1/containers/db"] = {"Id": "c" * 64, "Name": "/db"}
    answers["GET", "/v1/containers/db/stats"] = Refusal.of(WrongState("measure", "db", "exited"))
    assert hyperctl("stats", "--no-stream", "db").out.splitlines(keepends=True)[1:] == [zeros]
    assert hyperctl("stats", "db").out.splitlines(keepends=True)[1:] == [zeros]
    assert hyperctl("stats", "--no-stream", "nosuch").status == 1


def test_events(hyperctl: Hyperctl) -> None:
    event = {"Type": "container", "Action": "start", "Actor": {"ID": "abc", "Attributes": {"name": "web", "image": "x"}},
             "time": 1, "timeNano": 1_500_000_000}  # fmt: skip
    hyperctl.hyperd.answers["GET", "/v1/events"] = Lines(event)
    line = "1970-01-01T00:00:01.500000000Z container start abc (image=x, name=web)\n"
    assert hyperctl("events", "--since", "1", "--until", "2.5", "-f", "type=container").out == line
    assert hyperctl.hyperd.requests[0].query == [
        ("since", "1.000000000"), ("until", "2.500000000"), ("filter", "type=container"),
    ]  # fmt: skip
    assert json.loads(hyperctl("events", "--format", "json").out) == event
    assert hyperctl("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}").out == "start web\n"
    hyperctl.hyperd.answers["GET", "/v1/events"] = Lines(
        {"status": "start", "id": "abc", "from": "x", "scope": "local", **event}
    )
    docker = "{{.Status}} {{.ID}} {{.From}} {{.Scope}} {{.TimeNano}} {{.Actor.Attributes.nope}}"
    assert hyperctl("events", "--format", docker).out == "start abc x local 1500000000 <no value>\n"
    assert hyperctl("events", "--format", "{{.Nope}}").status == 1


def test_networks(hyperctl: Hyperctl) -> None:
    network = {
        "Id": "1" * 64, "Name": "db", "Driver": "bridge", "Scope": "local", "EnableIPv6": False, "Internal": True,
        "Labels": {"a": "b"}, "Created": "x",
    }  # fmt: skip
    answers = hyperctl.hyperd.answers
    answers["GET", "/v1/networks"] = [network]
    assert hyperctl("network", "ls", "-f", "name=db").out == (
        "NETWORK ID     NAME         DRIVER       SCOPE\n111111111111   db           bridge       local\n"
    )
    assert hyperctl.hyperd.requests[-1].query == [("filter", "name=db")]
    assert hyperctl("network", "ls", "-q", "--no-trunc").out == "1" * 64 + "\n"
    assert (
        hyperctl("network", "ls", "--format", "{{.Name}} {{.Internal}} {{.IPv6}} {{.Labels}}").out
        == "db true false a=b\n"
    )
    answers["POST", "/v1/networks"] = network
    assert hyperctl("network", "create", "db").out == "1" * 64 + "\n"
    assert hyperctl.hyperd.requests[-1].body == {"name": "db", "driver": "bridge"}
    words = ["--subnet", "10.1.0.0/16", "--subnet", "fd00::/64", "--gateway", "fd00::9", "--ip-range", "10.1.2.0/24"]
    words += ["--aux-address", "router=10.1.0.9"]
    hyperctl("network", "create", *words, "--internal", "--ipv6", "--label", "a=b", "-o", "x=y", "db")
    assert hyperctl.hyperd.requests[-1].body == {
        "name": "db", "driver": "bridge", "internal": True, "ipv6": True, "labels": {"a": "b"}, "options": {"x": "y"},
        "subnets": [{"subnet": "10.1.0.0/16", "ip_range": "10.1.2.0/24", "reserved": {"router": "10.1.0.9"}}, {"subnet": "fd00::/64", "gateway": "fd00::9"}],
    }  # fmt: skip
    for wrong, why in (
        (["--gateway", "10.1.0.1"], "10.1.0.1 is in no --subnet that was given"),
        (["--subnet", "10.1.0.0/8"], "10.1.0.0/8 has host bits set"),
        ([*words, "--gateway", "fd00::a"], "subnet fd00::/64 is given a gateway twice"),
        (["--scope", "swarm"], "there is no swarm"),
        (["-o", "x"], "use NAME=VALUE"),
    ):
        done = hyperctl("network", "create", *wrong, "db")
        assert done.status == 125 and why in done.err
    answers["POST", "/v1/networks/db/connect"] = answers["POST", "/v1/networks/db/disconnect"] = None
    assert hyperctl("network", "connect", "--ip", "10.1.2.3", "--alias", "s", "--link", "a:b", "db", "web").status == 0
    body = {"container": "web", "address": "10.1.2.3", "aliases": ["s"], "links": ["a:b"]}
    assert hyperctl.hyperd.requests[-1].body == body
    assert hyperctl("network", "disconnect", "-f", "db", "web").status == 0
    assert hyperctl.hyperd.requests[-1].body == {"container": "web", "force": True}
    answers["DELETE", "/v1/networks/db"] = None
    answers["DELETE", "/v1/networks/x"] = Refusal.of(NotFound("network", "x"))
    assert hyperctl("network", "rm", "db", "x") == (1, "db\n", "hyperctl: no such network: x\n")
    assert hyperctl("network", "rm", "-f", "x").status == 0
    answers["GET", "/v1/networks/db"] = network
    assert hyperctl("network", "inspect", "-f", "{{.Internal}}", "db").out == "true\n"
    answers["POST", "/v1/networks/prune"] = {"Deleted": ["db"], "SpaceReclaimed": 0}
    assert hyperctl("network", "prune", "-f", "--filter", "label=a").out == "Deleted: db\n"


def test_inspect(hyperctl: Hyperctl) -> None:
    answers = hyperctl.hyperd.answers
    answers["GET", "/v1/containers/web"] = {"Id": "é", "State": {"Status": "running"}}
    answers["GET", "/v1/images/inspect"] = lambda r: (
        {"Id": "sha256:1"} if r.query == [("name", "busybox:1")] else Refusal.of(NotFound("image", "x"))
    )
    answers["GET", "/v1/containers/busybox:1"] = Refusal(400, "invalid", "invalid name")
    answers["GET", "/v1/volumes/data"] = {"Name": "data"}
    assert hyperctl("inspect", "web").out == '[\n    {\n        "Id": "é",\n        "State": {\n            "Status": "running"\n        }\n    }\n]\n'  # fmt: skip
    assert hyperctl("inspect", "-f", "{{.State.Status}}", "web").out == "running\n"
    assert hyperctl("inspect", "-f", "{{.Id}}", "busybox:1") == (0, "sha256:1\n", "")
    assert hyperctl("inspect", "--format", "json", "data").out == '[{"Name": "data"}]\n'
    assert hyperctl("volume", "inspect", "-f", "{{.Name}}", "data").out == "data\n"
    assert hyperctl("inspect", "nope", "data") == (
        1, '[\n    {\n        "Name": "data"\n    }\n]\n', "hyperctl: no such object: nope\n",
    )  # fmt: skip
    assert hyperctl("inspect", "--type", "pod", "web") == (1, "[]\n", "hyperctl: no such pod: web\n")


@pytest.fixture
def isolated() -> Callable[[str], dict[str, str]]:
    return lambda level: {"Level": level, "Accelerator": "tcg", "Reason": "/dev/kvm does not exist"}


def test_info_version_doctor(hyperctl: Hyperctl, isolated: Callable[[str], dict[str, str]]) -> None:
    answers = hyperctl.hyperd.answers
    answers["GET", "/v1/info"] = {
        "Name": "host", "ServerVersion": "0.1.0", "Root": "/r", "Run": "/run", "Pods": 1, "Containers": 3,
        "ContainersRunning": 1, "ContainersPaused": 0, "ContainersStopped": 2, "Images": 4, "NCPU": 2, "MemTotal": 2 << 30,
        "OperatingSystem": "Debian", "KernelVersion": "6.1", "Architecture": "x86_64",
        "Hypervisor": {"Name": "QEMU", "Version": "7.2"}, "GuestKernel": "", "Isolation": isolated("emulated"),
        "Warnings": ["no disk space"],
    }  # fmt: skip
    done = hyperctl("info")
    assert "Isolation: emulated (tcg: /dev/kvm does not exist), not a security boundary\n" in done.out
    assert "Guest kernel: none: run 'hyperctl kernel fetch'\n" in done.out
    assert done.err == "hyperctl: warning: no disk space\n"
    assert hyperctl("info", "--format", "{{.Isolation.Level}} {{.MemTotal}}").out == "emulated 2147483648\n"
    answers["GET", "/v1/version"] = {"Version": "0.1.0", "ApiVersion": "1"}
    assert hyperctl("version").out == "Client:\n Version: 0.1.0\nServer:\n Version: 0.1.0\n ApiVersion: 1\n"
    assert hyperctl("version", "--format", "{{.Client.Version}}").out == "0.1.0\n"
    assert hyperctl("--version").out == "hyperctl 0.1.0\n"
    checks = [{"Name": "kvm", "Status": "failed", "Detail": "no", "Advice": "load it"},
              {"Name": "qemu", "Status": "ok", "Detail": "7.2", "Advice": ""}]  # fmt: skip
    answers["GET", "/v1/doctor"] = {"Checks": checks, "Isolation": isolated("hardware")}
    assert hyperctl("doctor") == (
        1,
        "FAILED   kvm: no\n         -> load it\nok       qemu: 7.2\n"
        "Isolation: hardware (tcg: /dev/kvm does not exist)\n",
        "hyperctl: finding out what works on this machine: that may take some seconds\n",
    )


def test_filters_of_prunes(hyperctl: Hyperctl) -> None:
    answers = hyperctl.hyperd.answers
    answers["GET", "/v1/containers"] = []
    answers["POST", "/v1/images/prune"] = answers["POST", "/v1/volumes/prune"] = {"Deleted": [], "SpaceReclaimed": 0}
    assert hyperctl("container", "prune", "-f", "--filter", "label!=k", "--filter", "until=1700000000").status == 0
    assert hyperctl.hyperd.requests[-1].query[-2:] == [("filter", "label!=k"), ("filter", "until=1700000000.000000000")]
    before = int(time.time()) - 3600
    assert hyperctl("image", "prune", "-f", "--filter", "Until = 1h").status == 0
    key, value = hyperctl.hyperd.requests[-1].query[-1]
    assert key == "filter" and before <= float(value.removeprefix("until=")) <= time.time() - 3600
    assert hyperctl("volume", "prune", "-f", "--filter", "label=a=b").status == 0
    assert hyperctl.hyperd.requests[-1].query == [("filter", "label=a=b")]
    done = hyperctl("container", "prune", "-f", "--filter", "name=x")
    assert (done.status, done.err) == (1, "hyperctl: invalid filter 'name=x': use one of label, label!, until\n")


@pytest.mark.parametrize("words", [["name"], ["=x"], ["until=soon"]])
def test_what_is_no_filter_is_a_slip_of_the_pen(hyperctl: Hyperctl, words: list[str]) -> None:
    for command in (["ps", "-f"], ["images", "-f"], ["volume", "prune", "-f", "--filter"], ["events", "-f"]):
        done = hyperctl(*command, *words)
        assert (done.status, done.out) == (125, ""), done
