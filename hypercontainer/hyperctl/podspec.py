"""The pod file (JSON or YAML), as Hyper's users know it, to the PodSpec of model/spec.py."""

from __future__ import annotations

import base64
import os

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperctl.fields import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

RESTART = {"never": "no", "onFailure": "on-failure", "always": "always"}
MAX_FILE = 1 << 20


def read(path: str) -> Document:
    """The PodSpec in file `path` ("-": stdin). InvalidInput tells the path of what is wrong in it."""
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as f:
            data = f.read(MAX_FILE + 1)
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}") from e
    if len(data) > MAX_FILE:
        raise InvalidInput(f"cannot read {path}: it is larger than {MAX_FILE} bytes")
    try:
        return pod(parse(data), folder=os.path.dirname(os.path.abspath(path)))
    except InvalidInput as e:
        raise InvalidInput(f"{path}: {e}") from e


def parse(data: bytes) -> Any:
    """JSON, or YAML."""
    import json

    try:
        return json.loads(data)
    except ValueError:
        pass
    import yaml

    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise InvalidInput(f"is neither JSON nor YAML: {e}") from e


def pod(value: Any, *, folder: str) -> Document:
    """`folder` is what file:// paths that are not absolute begin from."""
    f = Fields(value, "")
    name = f.take("id", str, "") or f.take("name", str, "")
    f.take("name", str)
    resource = Fields(f.take("resource", dict, {}), "resource")
    document: Document = {
        "name": name,
        "hostname": f.take("hostname", str, ""),
        "tenant": f.take("tenant", str, ""),
        "factory": f.take("factory", str, ""),
        "locks": f.take("locks", str, ""),
        "vcpus": resource.take("vcpu", int, 0),
        "memory_mib": resource.take("memory", int, 0),
        "labels": f.pairs("labels"),
        "dns": {
            "nameservers": f.texts("dns"),
            "search": f.texts("dnsSearch"),
            "options": f.texts("dnsOptions"),
        },
    }
    resource.end()
    defaults = {
        "tty": f.take("tty", bool, False),
        "restart": restart(f),
        "platform": f.take("platform", str, ""),  # one for all: a pod is one machine
    }
    volumes = named(f.each("volumes"), lambda v: volume(v, name))
    files = named(f.each("files"), lambda v: content(v, folder))
    containers = f.each("containers")
    ports = [mapping for p in f.each("portmappings") for mapping in portmapping(p)]
    document["networks"] = networks(f)
    f.refuse("type", "a pod is a VM with containers, and nothing else")
    f.refuse("log", "output is kept by hyperd: see log_max_mib and log_files in its configuration")
    f.refuse("interfaces", "hyperd makes them: say in which networks the pod is with networks")
    f.refuse("services", "there is no load balancing inside a pod")
    f.refuse("portmappingWhiteLists", "published ports are open to everybody who reaches the host")
    f.end()
    document["containers"] = [container(c, defaults, volumes, files, ports) for c in containers]
    document["ports"] = ports
    return _compact(document)


def networks(f: Fields) -> list[Document]:
    """The networks that the pod is in, each by its name, or with what the pod wants of it."""
    found = []
    for i, item in enumerate(f.take("networks", list, [])):
        own = Fields({"name": item} if isinstance(item, str) else item, f"{f.at('networks')}[{i}]")
        found.append(
            _compact(
                {
                    "network": own.take("name", str, required=True),
                    "address": own.take("ip", str, ""),
                    "address6": own.take("ip6", str, ""),
                    "mac": own.take("mac", str, ""),
                    "aliases": own.texts("aliases"),
                }
            )
        )
        own.end()
    return found


def named(items: list[Fields], make: Any) -> dict[str, Any]:
    """By name; two of one name are refused."""
    found: dict[str, Any] = {}
    for item in items:
        name = item.take("name", str, required=True)
        if name in found:
            raise InvalidInput(f"{item.at('name')}: {name!r} is there twice")
        item.name = name
        found[name] = make(item)
        item.end()
    return found


def volume(f: Fields, pod_name: str) -> Document:
    """A host's folder, or a volume of the pod."""
    source, kind = f.take("source", str, ""), f.take("format", str, "vfs")
    if kind != "vfs":
        raise InvalidInput(f"{f.at('format')}: {kind!r} is not supported: only vfs, a folder of the host")
    for key in ("fstype", "cache", "option"):
        f.refuse(key, "a volume is a folder, not a disk")
    if not source:
        return {"type": "volume", "source": f"{pod_name}-{f.name}" if pod_name else f.name}
    if not source.startswith("/"):
        raise InvalidInput(f"{f.at('source')}: {source!r} is not an absolute path")
    return {"type": "bind", "source": source}


def content(f: Fields, folder: str) -> str:
    """What is in a file, as base64."""
    encoding, uri, text = f.take("encoding", str, "raw"), f.take("uri", str, ""), f.take("content", str, "")
    if encoding not in ("raw", "base64"):
        raise InvalidInput(f"{f.at('encoding')}: {encoding!r} is not raw or base64")
    data = text.encode()
    if uri:
        if text or not uri.startswith("file://"):
            raise InvalidInput(f"{f.at('uri')}: only file:// is supported, and not together with content")
        try:
            with open(os.path.join(folder, uri.removeprefix("file://")), "rb") as source:
                data = source.read(MAX_FILE + 1)
        except OSError as e:
            raise InvalidInput(f"{f.at('uri')}: cannot read {uri}: {e.strerror}") from e
    if encoding == "base64":
        try:
            data = base64.b64decode(data, validate=True)
        except ValueError as e:
            raise InvalidInput(f"{f.at('content')}: is not base64") from e
    if len(data) > MAX_FILE:
        raise InvalidInput(f"{f.where}: is larger than {MAX_FILE} bytes")
    return base64.b64encode(data).decode()


def container(
    f: Fields, defaults: Document, volumes: dict[str, Document], files: dict[str, str], ports: list[Document]
) -> Document:
    """A ContainerSpec; its ports are added to the pod's."""
    document: Document = {
        "image": f.take("image", str, required=True),
        "platform": defaults["platform"],
        "name": f.take("name", str, "") or f.take("id", str, ""),
        "command": f.texts("command") or None,
        "entrypoint": f.texts("entrypoint") or None,
        "working_dir": f.take("workdir", str),
        "tty": f.take("tty", bool, defaults["tty"]),
        "open_stdin": False,
        "env": environment(f),
        "user": user(f),
        "read_only": f.take("readOnly", bool, False),
        "sysctls": f.pairs("sysctl"),
        "labels": f.pairs("labels"),
        "stop_signal": f.take("StopSignal", str),
        "ulimits": [ulimit(u) for u in f.each("ulimits")],
        "mounts": [mount(v, volumes) for v in f.each("volumes")],
        "files": [file(v, files) for v in f.each("files")],
        "restart": restart(f) or defaults["restart"],
    }
    f.take("id", str)
    for p in f.each("ports"):
        p.refuse("servicePort", "there is no load balancing inside a pod")
        ports += portmapping(p)
    f.refuse("logPath", "output is kept by hyperd: see 'hyperctl logs'")
    f.refuse("cache", "the image is a disk of its own")
    f.end()
    return _compact(document)


def environment(f: Fields) -> list[str]:
    found: dict[str, str] = {}
    for item in f.each("envs"):
        name, value = item.take("env", str, required=True), item.take("value", str, "")
        if name in found or not name or "=" in name:
            raise InvalidInput(f"{item.at('env')}: {name!r} is there twice, or is no name")
        found[name] = value
        item.end()
    return [f"{name}={value}" for name, value in found.items()]


def user(f: Fields) -> str | None:
    value = f.take("user", dict)
    if value is None:
        return None
    u = Fields(value, f.at("user"))
    name, group = u.take("name", str, "0"), u.take("group", str, "")
    u.refuse("additionalGroups", "give them to the user in the image")
    u.end()
    return f"{name}:{group}" if group else str(name)


def restart(f: Fields) -> Document | None:
    name = f.take("restartPolicy", str)
    if name is None:
        return None
    if name not in RESTART:
        raise InvalidInput(f"{f.at('restartPolicy')}: {name!r} is not one of {', '.join(RESTART)}")
    return {"name": RESTART[name]}


def ulimit(f: Fields) -> Document:
    soft = f.take("Soft", int, required=True)
    document = {"name": f.take("Name", str, required=True), "soft": soft, "hard": f.take("Hard", int, soft)}
    f.end()
    return document


def mount(f: Fields, volumes: dict[str, Document]) -> Document:
    name, detail = f.take("volume", str, ""), f.take("detail", dict)
    if detail is not None:
        inner = Fields(detail, f.at("detail"))
        inner.name = inner.take("name", str, name)
        source = volume(inner, "")
        inner.end()
    elif name in volumes:
        source = volumes[name]
    else:
        raise InvalidInput(f"{f.at('volume')}: there is no volume {name!r} in the pod's volumes")
    document = {**source, "target": f.take("path", str, required=True), "read_only": f.take("readOnly", bool, False)}
    f.end()
    return _compact(document)


def file(f: Fields, files: dict[str, str]) -> Document:
    name, detail = f.take("filename", str, ""), f.take("detail", dict)
    if detail is not None:
        raise InvalidInput(f"{f.at('detail')}: is not supported: put it into the pod's files, and name it")
    if name not in files:
        raise InvalidInput(f"{f.at('filename')}: there is no file {name!r} in the pod's files")
    perm = f.take("perm", str, "0755")
    if len(perm) != 4 or perm[0] != "0" or perm.strip("01234567"):
        raise InvalidInput(f"{f.at('perm')}: {perm!r} is not 0 and three octal digits in quotes, such as '0644'")
    document = {
        "path": f.take("path", str, required=True),
        "content": files[name],
        "mode": int(perm, 8),
        "uid": _number(f, "user"),
        "gid": _number(f, "group"),
    }
    f.end()
    return _compact(document)


def _number(f: Fields, key: str) -> int:
    text = f.take(key, str, "0")
    if not text.isdecimal() or len(text) > 10:
        raise InvalidInput(f"{f.at(key)}: {text!r} is not a number: files are owned by uid and gid")
    return int(text)


def portmapping(f: Fields) -> list[Document]:
    """Ranges go one to one."""
    inside, outside = _span(f, "containerPort"), _span(f, "hostPort", missing=(0, 0))
    protocol = f.take("protocol", str, "tcp").lower()
    f.end()
    if protocol not in ("tcp", "udp"):
        raise InvalidInput(f"{f.at('protocol')}: {protocol!r} is not tcp or udp")
    length = inside[1] - inside[0]
    if outside[0] and outside[1] - outside[0] != length:
        raise InvalidInput(f"{f.at('hostPort')}: the two ranges differ in length")
    return [
        _compact(
            {
                "container_port": inside[0] + i,
                "host_port": outside[0] + i if outside[0] else 0,
                "protocol": "udp" if protocol == "udp" else "",
            }
        )
        for i in range(length + 1)
    ]


def _span(f: Fields, key: str, missing: tuple[int, int] | None = None) -> tuple[int, int]:
    from hypercontainer.hyperctl import ports

    value = f.take(key, object, required=missing is None)
    if value is None or value == 0:
        if missing is None:
            raise InvalidInput(f"{f.at(key)}: 0 is not a port")
        return missing
    try:
        return ports.span(str(value))
    except ValueError as e:
        raise InvalidInput(f"{f.at(key)}: {e}") from e


def _compact(document: Document) -> Document:
    """Without what is as it would be anyway."""
    kept = {}
    for key, value in document.items():
        if isinstance(value, dict) and key == "dns":
            value = {k: v for k, v in value.items() if v}
        if value or (key == "mode" and value is not None):
            kept[key] = value
    return kept
