"""What older versions left on disk -> what this one reads: a step a version. Pure: JSON in, JSON out. See ADR 20.

A list for each kind of file, from version 1 on: its first step makes version 2. Whoever changes what a kind holds, or
what a default in it means, adds a step, and never changes one. Steps know nothing of our types, which are those of the
newest version.
"""

from collections.abc import Mapping
from typing import Any

from hypercontainer.lib.document import Step, Steps


def within(key: str, step: Step) -> Step:
    """The step of a document that holds at `key` another one, with a version of its own, of which `step` is."""

    def outer(document: Mapping[str, Any]) -> Mapping[str, Any]:
        inner = document[key]
        return {**document, key: {**step(inner), "version": inner["version"] + 1}}

    return outer


def _called(names: Mapping[str, str]) -> Step:
    """The step of a document whose keys have other names from then on."""
    return lambda document: {names.get(key, key): value for key, value in document.items()}


# 2: the words of snapshots. Mounts have their path on the host too: "" until hyperd has looked.
_pod_2 = _called({"held": "frozen", "making": "provisional"})


# 3: a pod has any number of interfaces, each with its addresses and routes.
def _pod_3(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    nic = pod["nic"]
    return {**{key: value for key, value in pod.items() if key != "nic"}, "nics": [_nic_3(nic)] if nic else []}


def _nic_3(nic: Mapping[str, Any]) -> Mapping[str, Any]:
    routes = [{"dst": "default", "gateway": gateway} for gateway in (nic["gateway"], nic["gateway6"]) if gateway]
    kept = {key: nic[key] for key in ("tap", "mac", "mtu", "ports") if key in nic}
    return {
        **kept,
        "addresses": [address for address in (nic["address"], nic["address6"]) if address],
        "routes": routes,
    }


def _checkpoint_2(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    return within("pod", _pod_2)(_called({"moment": "snapshot"})(checkpoint))


POD: Steps = (_pod_2, _pod_3)  # pods/*/pod.json. Each of these is one of CHECKPOINT's too: within("pod", …)
CHECKPOINT: Steps = (_checkpoint_2, within("pod", _pod_3))  # checkpoints/*/*/checkpoint.json
IMAGES: Steps = ()  # images/index.json
VOLUME: Steps = ()  # volumes/*/volume.json
KERNEL: Steps = ()  # kernels/*/bundle.json

# events.db, from version 0 on: that of a file that SQLite has just made.
EVENTS = ("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, time_ns INTEGER, document TEXT)",)
