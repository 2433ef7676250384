"""containerd-shim-hyper-v2 [FLAGS] start|delete, as containerd calls it, in a bundle."""

from __future__ import annotations

import _socket
import os
import sys
from _blake2 import blake2s  # hashlib would load OpenSSL

from hypercontainer.lib import fastjson
from hypercontainer.shim import bootstrap, call

DOOR = "/run/hyper-oci.sock"
SOCKETS = "/run/containerd/s"  # where containerd's own shims listen, too
SERVICE = "hyper.shim.v1.Shim"  # hyperd/shim/door.py
PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_bin", "hyper-shim")
VALUES = ("namespace", "id", "address", "publish-binary", "bundle", "socket")
SWITCHES = ("debug", "v", "info")
ANSWER_S = 60.0


class UsageError(Exception):
    """The words make no sense."""


def main() -> int:
    """0, or 1 with a line on stderr, which containerd shows."""
    try:
        flags, verb = _parse(sys.argv[1:])
        if "v" in flags:
            from hypercontainer import __version__

            print(f"containerd-shim-hyper-v2 {__version__}")
        elif "info" in flags:
            from hypercontainer.shim import info

            os.write(1, info.info())
        elif verb == "start":
            os.write(1, _start(flags))
        elif verb == "delete":
            os.write(1, _delete(flags))
        else:
            raise UsageError(f"there is no verb {verb!r}: containerd uses start and delete")
    except (UsageError, OSError) as e:
        print(f"containerd-shim-hyper-v2: {e}", file=sys.stderr)
        return 1
    return 0


def _parse(words: list[str]) -> tuple[dict[str, str], str]:
    """Go's flags: -name value, -name=value; and the verb."""
    flags: dict[str, str] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        name, equals, value = left.pop(0).lstrip("-").partition("=")
        if name in SWITCHES:
            flags[name] = value
        elif name in VALUES and (equals or left):
            flags[name] = value if equals else left.pop(0)
        else:
            raise UsageError(f"unknown flag, or one without its value: -{name}")
    return flags, left[0] if left else ""


def _door() -> str:
    return f"{os.environ.get('HYPER_OCI_HOST', DOOR).removeprefix('unix://')}.shims"


def _greeting(flags: dict[str, str], method: str, bundle: str) -> bytes:
    """A call of hyperd's that says who we are."""
    for name in ("namespace", "id", "address"):
        if not flags.get(name):
            raise UsageError(f"-{name} is missing: containerd says it")
    who = {
        "address": flags["address"],
        "events": os.environ.get("TTRPC_ADDRESS") or f"{flags['address']}.ttrpc",
        "namespace": flags["namespace"],
        "id": flags["id"],
        "bundle": bundle,
    }
    return call.request(SERVICE, method, fastjson.dumps(who).encode())


def _socket_of(flags: dict[str, str], id: str, folder: str) -> str:
    """Where the shim of that container listens."""
    name = f"{flags['address']}/{flags['namespace']}/{id}"
    return f"{folder}/{blake2s(name.encode()).hexdigest()}"


def _sandbox(bundle: str) -> str:
    """The container whose shim serves all of a pod; "": the bundle is that, or of no pod."""
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            annotations = fastjson.loads(file.read()).get("annotations")
        if not annotations:
            return ""
        from hypercontainer.lib import kubernetes  # which imports what the others need not wait for

        return kubernetes.sandbox(annotations)
    except (OSError, ValueError, AttributeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no JSON object"
        raise UsageError(f"cannot read config.json: {why}") from e


def _start(flags: dict[str, str]) -> bytes:
    """What containerd is to know of the shim of the bundle that we are in: where it listens."""
    bundle = os.getcwd()
    greeting = _greeting(flags, "Serve", bundle)
    asked = bootstrap.asked(bootstrap.read(0), flags["id"], flags["namespace"])
    folder = bootstrap.sockets(asked or {}) or SOCKETS
    address = _started(flags, bundle, folder, greeting)
    return address.encode() if asked is None else bootstrap.answer(address)


def _started(flags: dict[str, str], bundle: str, folder: str, greeting: bytes) -> str:
    sandbox = _sandbox(bundle)
    path = _socket_of(flags, sandbox or flags["id"], folder)
    if _listens(path):  # it is there already
        return _written(bundle, path)
    if sandbox:
        raise OSError(f"the shim of {sandbox}, which serves all of its pod, is gone: remove the pod, and make it anew")
    _remove(path)
    os.makedirs(folder, mode=0o711, exist_ok=True)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # bind makes the file with this mode
        sock.bind(path)
        sock.listen()
        _spawn(path, sock.fileno(), greeting)
    finally:
        sock.close()
    return _written(bundle, path)


def _listens(path: str) -> bool:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        return False
    finally:
        sock.close()
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _written(bundle: str, path: str) -> str:
    """Its address, which a containerd that is started later finds in the bundle."""
    address = f"unix://{path}"
    temporary = os.path.join(bundle, ".address")
    with open(temporary, "w") as file:
        file.write(address)
    os.replace(temporary, os.path.join(bundle, "address"))
    return address


def _folder_of(bundle: str) -> str:
    """Where its shim listened."""
    try:
        with open(os.path.join(bundle, "address")) as file:
            return os.path.dirname(file.read().removeprefix("unix://"))
    except OSError:
        return SOCKETS


def _spawn(path: str, listening: int, greeting: bytes) -> None:
    ours, theirs = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        high = os.dup2(listening, 100)  # its place may be one that is taken below
        os.posix_spawn(
            PROGRAM,
            [PROGRAM, _door(), path],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ours, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
                (os.POSIX_SPAWN_DUP2, high, 3),
                (os.POSIX_SPAWN_CLOSE, high),
            ],
            setsid=True,
        )
        os.write(theirs, greeting)  # a pipe holds it
    finally:
        os.close(ours)
        os.close(theirs)
        os.close(null)


def _delete(flags: dict[str, str]) -> bytes:
    """What hyperd has to say of the container, a DeleteResponse. Its machine is gone with that, and the socket, which a
    shim that was killed has left."""
    bundle = flags.get("bundle") or os.getcwd()
    greeting = _greeting(flags, "Delete", bundle)
    _remove(_socket_of(flags, flags["id"], _folder_of(bundle)))
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(ANSWER_S)
        try:
            sock.connect(_door())
        except OSError as e:
            raise OSError(f"hyperd does not listen on {_door()}: {e.strerror}") from e
        sock.sendall(greeting)
        return call.answer(_exactly(sock, call.length(_exactly(sock, call.HEADER_BYTES))))
    finally:
        sock.close()


def _exactly(sock: _socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise OSError("hyperd has gone before its answer")
        data += piece
    return data
