# ruff: noqa: E501
import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperctl import podspec
from hypercontainer.model.spec import PodSpec
from tests.unit.hyperctl.conftest import Hyperctl
from tests.unit.hyperctl.fake import Lines, Refusal, Request

FULL = """
id: web
hostname: front.example
tenant: acme
factory: direct
locks: host
restartPolicy: onFailure
tty: false
labels: {tier: front}
resource: {vcpu: 2, memory: 512}
dns: [1.1.1.1]
dnsSearch: [example.org]
dnsOptions: ["ndots:2"]
networks: [front, {name: back, ip: 10.1.2.3, aliases: [store]}]
files:
  - {name: conf, content: "hello\\n"}
  - {name: binary, encoding: base64, content: AAEC}
  - {name: local, uri: "file://local.txt"}
volumes:
  - {name: data}
  - {name: host, source: /srv, format: vfs}
portmappings:
  - {containerPort: 80, hostPort: 8080}
  - {containerPort: 1000-1001, hostPort: 2000-2001, protocol: UDP}
containers:
  - name: front
    image: nginx:1
    command: [nginx, -g, "daemon off;"]
    entrypoint: [/entry]
    workdir: /srv
    tty: true
    readOnly: true
    restartPolicy: always
    envs: [{env: A, value: "1"}, {env: EMPTY}]
    user: {name: www, group: www-data}
    volumes:
      - {path: /data, volume: data}
      - {path: /host, volume: host, readOnly: true}
      - {path: /own, detail: {name: own, source: /own}}
    files:
      - {path: /etc/conf, filename: conf, perm: "0600", user: "33", group: "34"}
      - {path: /etc/binary, filename: binary}
      - {path: /etc/local, filename: local, perm: "0000"}
    ports: [{containerPort: 443}]
    ulimits: [{Name: nofile, Soft: 10, Hard: 20}]
    sysctl: {net.core.somaxconn: "99"}
    labels: {a: b}
    StopSignal: INT
  - {image: busybox}
"""
EXPECTED = {
    "name": "web",
    "hostname": "front.example",
    "tenant": "acme",
    "factory": "direct",
    "locks": "host",
    "vcpus": 2,
    "memory_mib": 512,
    "labels": {"tier": "front"},
    "networks": [{"network": "front"}, {"network": "back", "address": "10.1.2.3", "aliases": ["store"]}],
    "dns": {"nameservers": ["1.1.1.1"], "search": ["example.org"], "options": ["ndots:2"]},
    "ports": [
        {"container_port": 80, "host_port": 8080},
        {"container_port": 1000, "host_port": 2000, "protocol": "udp"},
        {"container_port": 1001, "host_port": 2001, "protocol": "udp"},
        {"container_port": 443},
    ],
    "containers": [
        {
            "image": "nginx:1",
            "name": "front",
            "command": ["nginx", "-g", "daemon off;"],
            "entrypoint": ["/entry"],
            "working_dir": "/srv",
            "tty": True,
            "env": ["A=1", "EMPTY="],
            "user": "www:www-data",
            "read_only": True,
            "sysctls": {"net.core.somaxconn": "99"},
            "labels": {"a": "b"},
            "stop_signal": "INT",
            "ulimits": [{"name": "nofile", "soft": 10, "hard": 20}],
            "mounts": [
                {"type": "volume", "source": "web-data", "target": "/data"},
                {"type": "bind", "source": "/srv", "target": "/host", "read_only": True},
                {"type": "bind", "source": "/own", "target": "/own"},
            ],
            "files": [
                {"path": "/etc/conf", "content": "aGVsbG8K", "mode": 0o600, "uid": 33, "gid": 34},
                {"path": "/etc/binary", "content": "AAEC", "mode": 0o755},
                {"path": "/etc/local", "content": base64.b64encode(b"from a file").decode(), "mode": 0},
            ],
            "restart": {"name": "always"},
        },
        {"image": "busybox", "restart": {"name": "on-failure"}},
    ],
}


@pytest.fixture
def pod_file(tmp_path: Path) -> Path:
    (tmp_path / "local.txt").write_text("from a file")
    path = tmp_path / "pod.yaml"
    path.write_text(FULL)
    return path


def test_everything_that_hypers_users_write(pod_file: Path) -> None:
    document = podspec.read(str(pod_file))
    assert document == EXPECTED
    msgspec.convert(document, PodSpec)


def test_json_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "pod.json"
    path.write_text(json.dumps({"id": "p", "containers": [{"image": "x", "command": ["a"]}]}))
    assert podspec.read(str(path)) == {"name": "p", "containers": [{"image": "x", "command": ["a"]}]}


def test_a_pod_is_for_one_platform(hyperctl: Hyperctl, tmp_path: Path) -> None:
    """Of it are all its images, those too that are pulled for it."""
    path = tmp_path / "pod.json"
    path.write_text(json.dumps({"id": "p", "platform": "linux/arm64", "containers": [{"image": "x"}]}))
    assert podspec.read(str(path))["containers"] == [{"image": "x", "platform": "linux/arm64"}]
    hyperd = hyperctl.hyperd
    hyperd.answers["POST", "/v1/pods"] = Refusal.of(NotFound("image", "x"))
    hyperd.answers["GET", "/v1/images/inspect"] = Refusal.of(NotFound("image", "x"))
    hyperd.answers["POST", "/v1/images/pull"] = Lines({"images": []})
    hyperctl("pod", "create", "-f", path)
    asked, pulled = hyperd.requests[1:3]
    assert asked.query == [("name", "x"), ("platform", "linux/arm64")]
    assert pulled.body == {"name": "x", "platform": "linux/arm64"}


def test_an_empty_pod_may_be_filled_later() -> None:
    assert podspec.pod({"id": "p"}, folder="/") == {"name": "p"}


def container(**more: Any) -> dict[str, Any]:
    return {"containers": [{"image": "x", **more}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "the document: expected a mapping, not a list"),
        ({"hostnam": "x"}, "hostnam: is not known (did you mean hostname?)"),
        ({"resource": {"cpu": 1}}, "resource.cpu: is not known"),
        ({"resource": {"vcpu": "2"}}, "resource.vcpu: expected a whole number, not '2'"),
        ({"resource": {"vcpu": True}}, "resource.vcpu: expected a whole number, not True"),
        ({"containers": {}}, "containers: expected a list, not a mapping"),
        ({"containers": [{}]}, "containers[0].image: is missing"),
        (container(command="a b"), "containers[0].command: expected a list, not 'a b'"),
        (container(command=["sleep", 5]), "containers[0].command[1]: expected a text, not 5: quote it"),
        (container(restartPolicy="no"), "containers[0].restartPolicy: 'no' is not one of never, onFailure, always"),
        (container(envs=[{"env": "A"}, {"env": "A"}]), "containers[0].envs[1].env: 'A' is there twice"),
        (container(volumes=[{"path": "/d", "volume": "no"}]), "containers[0].volumes[0].volume: there is no volume 'no'"),
        (container(volumes=[{"volume": "v"}]) | {"volumes": [{"name": "v"}]}, "containers[0].volumes[0].path: is missing"),
        (container(files=[{"path": "/f", "filename": "no"}]), "containers[0].files[0].filename: there is no file 'no'"),
        (container(files=[{"path": "/f", "filename": "f", "perm": 420}]) | {"files": [{"name": "f"}]},
         "containers[0].files[0].perm: expected a text, not 420"),
        (container(files=[{"path": "/f", "filename": "f", "perm": "644"}]) | {"files": [{"name": "f"}]},
         "containers[0].files[0].perm: '644' is not 0 and three octal digits"),
        (container(files=[{"path": "/f", "filename": "f", "user": "me"}]) | {"files": [{"name": "f"}]},
         "containers[0].files[0].user: 'me' is not a number"),
        (container(user={"name": "a", "additionalGroups": ["b"]}),
         "containers[0].user.additionalGroups: is not supported"),
        (container(ports=[{"containerPort": 1, "servicePort": 2}]), "containers[0].ports[0].servicePort: is not supported"),
        (container(logPath="/x"), "containers[0].logPath: is not supported"),
        (container(labels={"a": 1}), "containers[0].labels.a: expected a text, not 1: quote it"),
        ({"volumes": [{"name": "a"}, {"name": "a"}]}, "volumes[1].name: 'a' is there twice"),
        ({"volumes": [{"name": "a", "source": "rel"}]}, "volumes[0].source: 'rel' is not an absolute path"),
        ({"volumes": [{"name": "a", "format": "rbd"}]}, "volumes[0].format: 'rbd' is not supported"),
        ({"volumes": [{"name": "a", "option": {"user": "x"}}]}, "volumes[0].option: is not supported"),
        ({"files": [{"name": "a", "encoding": "base64", "content": "%"}]}, "files[0].content: is not base64"),
        ({"files": [{"name": "a", "uri": "http://x"}]}, "files[0].uri: only file:// is supported"),
        ({"files": [{"name": "a", "uri": "file:///does/not/exist"}]}, "files[0].uri: cannot read file:///does/not/exist"),
        ({"portmappings": [{"hostPort": 1}]}, "portmappings[0].containerPort: is missing"),
        ({"portmappings": [{"containerPort": 0}]}, "portmappings[0].containerPort: 0 is not a port"),
        ({"portmappings": [{"containerPort": "1-2", "hostPort": 5}]}, "portmappings[0].hostPort: the two ranges differ"),
        ({"portmappings": [{"containerPort": 1, "protocol": "sctp"}]}, "portmappings[0].protocol: 'sctp' is not tcp"),
        ({"interfaces": [{"bridge": "br0"}]}, "interfaces: is not supported"),
        ({"services": [{"serviceIP": "1.2.3.4"}]}, "services: is not supported"),
        ({"log": {"type": "syslog"}}, "log: is not supported"),
        ({"type": "service-discovery"}, "type: is not supported"),
        ({"portmappingWhiteLists": {"internalNetworks": ["10.0.0.0/8"]}}, "portmappingWhiteLists: is not supported"),
    ],
)  # fmt: skip
def test_nothing_is_swallowed(document: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        podspec.pod(document, folder="/")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["{", "a: [", "\x00", "!!python/object/apply:os.system [id]"])
def test_what_is_neither_json_nor_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"pod\.yaml: is neither JSON nor YAML"):
        podspec.read(str(path))


def test_pods_live(hyperctl: Hyperctl, pod_file: Path) -> None:
    hyperd = hyperctl.hyperd
    hyperd.answers["POST", "/v1/pods"] = {"Id": "0123", "Warnings": ["slow"]}
    for path in ("/v1/pods/0123", "/v1/pods/web", "/v1/pods/b"):
        for verb in ("start", "stop", "pause", "unpause"):
            hyperd.answers["POST", f"{path}/{verb}"] = None
        hyperd.answers["DELETE", path] = None
    assert hyperctl("pod", "create", "-f", pod_file) == (0, "0123\n", "hyperctl: warning: slow\n")
    assert hyperd.requests[0].body == EXPECTED
    assert hyperctl("pod", "run", pod_file).out == "0123\n"
    assert [r.path for r in hyperd.requests[1:]] == ["/v1/pods", "/v1/pods/0123/start"]
    assert hyperctl("pod", "create", "-f", "-", stdin=b'{"id": "p"}').status == 0
    assert hyperd.requests[-1].body == {"name": "p"}
    for verb in ("start", "stop", "pause", "unpause"):
        assert hyperctl("pod", verb, "web", "b") == (0, "web\nb\n", "")
    assert hyperctl("pod", "stop", "-t", "3", "web").status == 0
    assert hyperd.requests[-1].query == [("timeout", "3")]
    assert hyperctl("pod", "rm", "-f", pod_file) == (0, "web\n", "")
    assert (hyperd.requests[-1].path, hyperd.requests[-1].query) == ("/v1/pods/web", [("force", "1")])
    assert hyperctl("pod", "create").status == 1
    assert hyperctl("pod", "create", "-f", "/nope").err == "hyperctl: cannot read /nope: No such file or directory\n"


def test_images_that_are_missing_are_pulled(hyperctl: Hyperctl, pod_file: Path) -> None:
    hyperd = hyperctl.hyperd
    there = {"busybox"}

    def create(_: Request) -> object:
        return {"Id": "0123", "Warnings": []} if len(there) == 2 else Refusal.of(NotFound("image", "nginx:1"))

    def inspect(request: Request) -> object:
        name = dict(request.query)["name"]
        return {"Id": "x"} if name in there else Refusal.of(NotFound("image", name))

    def pull(request: Request) -> object:
        there.add(request.body["name"])
        return Lines({"images": []})

    hyperd.answers["POST", "/v1/pods"] = create
    hyperd.answers["GET", "/v1/images/inspect"] = inspect
    hyperd.answers["POST", "/v1/images/pull"] = pull
    done = hyperctl("pod", "create", "-f", pod_file)
    assert done == (0, "0123\n", "hyperctl: Unable to find image 'nginx:1' locally\n")
    there.remove("nginx:1")
    hyperd.answers["POST", "/v1/images/pull"] = Lines({"error": {"message": "denied", "kind": "permission"}})
    assert hyperctl("pod", "create", "-f", pod_file).status == 1
