"""What the containers of a walk have of this host's network: nothing is missing, and nothing is left."""

import http.client
import re

from hypercontainer.testing.daemon import PrivateDaemon
from tests.vm import conftest

PORTS = 10  # of this host, for one walk


def ports(hyper: PrivateDaemon) -> str:
    """Where the port 80 of a container is published: at one of those that no other daemon of the tests uses."""
    first = 20_000 + int(str(hyper.settings["uid_base"])) // 10_000 % 1000 * PORTS
    return f"{first}-{first + PORTS - 1}:80"


def serve(name: str) -> str:
    """A shell's words that have the port 80 say `name`, in the background."""
    return f"mkdir -p /dev/shm/www; echo {name} >/dev/shm/www/index.html; httpd -p 80 -h /dev/shm/www; "


def complaint(
    hyper: PrivateDaemon, pods: dict[str, str], published: dict[str, bool], ending: dict[str, str] | None = None
) -> str:
    """What is wrong, or "". `pods` has the id of the pod of every container that has a machine, `published` those
    whose port is, and whether it answers now; `ending` the pods whose machine may still be there, and need not."""
    taken = set()
    for name in pods:
        port = hyper.ctl("port", name).out.rpartition(":")[2].strip()
        if bool(port) != (name in published):
            return f"{name} is published at {port!r}"
        if port and published[name] and (got := page(int(port))) != f"{name}\n":
            return f"at the port {port} of {name} is {got!r}"
        taken |= {port} if port else set()
    taps = {f"hy{pod}" for pod in pods.values()}
    rules = "\n".join(conftest.rules(hyper))
    may = {f"hy{pod}" for pod in (ending or {}).values()}
    found = set(re.findall(r"tcp \. (\d+) : [\d.]+ \. 80", rules)), set(re.findall(r'"(hy\w+)" : jump', rules)) - may
    chains = set(re.findall(r"chain (hy\w+)", rules)) - may
    if (found != (taken, taps) and not (may and found[0] > taken and found[1] == taps)) or chains != taps:
        return f"there are rules for {found} and chains {chains}, and should be for {taken, taps}"
    return ""


def page(port: int) -> str:
    """What is served there, or why nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as e:
        return repr(e)
    finally:
        connection.close()
