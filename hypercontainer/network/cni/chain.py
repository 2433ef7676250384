"""The plugins of a network, one after the other: section 3 of CNI's specification."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypercontainer.errors import HyperError, reason
from hypercontainer.model.record import AttachmentRecord, ChainRecord
from hypercontainer.network.cni import result
from hypercontainer.network.cni.config import SPOKEN
from hypercontainer.network.cni.plugin import Plugins

Config = Mapping[str, Any]


def since(chain: ChainRecord, version: str) -> bool:
    """Whether its plugins are spoken to in `version` or a later one."""
    return SPOKEN.index(chain.cni_version) >= SPOKEN.index(version)


async def add(plugins: Plugins, record: AttachmentRecord, save: Callable[[], None]) -> None:
    """The result of each is in the record, and saved, before the next one is called: so whoever takes away what a
    chain has made that did not come to its end can tell its plugins of it. Without, `firewall` leaves its rules."""
    doing = f"connect pod {record.id} to CNI network {record.chain.name}"
    for plugin in record.chain.plugins:
        kind = plugin["type"]
        said = await plugins.call("ADD", kind, request(record, plugin, record.result), _env(record), doing)
        try:
            record.result, _ = result.parse(said, "its result")
        except HyperError as e:
            raise HyperError(f"cannot {doing}: CNI plugin {kind}: {reason(e)}") from e
        save()


async def delete(plugins: Plugins, record: AttachmentRecord, netns: str) -> None:
    """Take away all that `add` has made, as far as it came. `netns`: the namespace, if that is there still, or "".
    Again: nothing. The first failure ends this: those before that one are there still."""
    doing = f"disconnect pod {record.id} from CNI network {record.chain.name}"
    for plugin in reversed(record.chain.plugins):
        config = request(record, plugin, record.result if since(record.chain, "0.4.0") else None)
        await plugins.call("DEL", plugin["type"], config, {**_env(record), "CNI_NETNS": netns}, doing)


async def check(plugins: Plugins, record: AttachmentRecord) -> None:
    """HyperError when something is not as it was made. Plugins of before 0.4.0 cannot tell."""
    if record.chain.disable_check or not since(record.chain, "0.4.0"):
        return
    doing = f"check pod {record.id} in CNI network {record.chain.name}"
    for plugin in record.chain.plugins:
        await plugins.call("CHECK", plugin["type"], request(record, plugin, record.result), _env(record), doing)


async def status(plugins: Plugins, chain: ChainRecord) -> None:
    """Unavailable, or another HyperError, when no pod can be connected. Plugins of before 1.1.0 cannot tell."""
    if since(chain, "1.1.0"):
        for plugin in chain.plugins:
            await plugins.call("STATUS", plugin["type"], derived(chain, plugin), {}, f"use CNI network {chain.name}")


async def collect(plugins: Plugins, chain: ChainRecord, valid: Sequence[AttachmentRecord]) -> list[str]:
    """Have plugins forget all in the network that is not `valid`, as far as they can do that: from 1.1.0 on. Returns,
    in words, what failed; each of them is asked."""
    complaints: list[str] = []
    if chain.disable_gc or not since(chain, "1.1.0"):
        return complaints
    there = [{"containerID": record.id, "ifname": record.interface} for record in valid]
    for plugin in chain.plugins:
        config = {**derived(chain, plugin), "cni.dev/valid-attachments": there}
        try:
            await plugins.call("GC", plugin["type"], config, {}, f"clean CNI network {chain.name} up")
        except HyperError as e:
            complaints.append(str(e))
    return complaints


def derived(chain: ChainRecord, plugin: Config) -> dict[str, Any]:
    """What a plugin is told, of no attachment."""
    return {
        **{key: value for key, value in plugin.items() if key != "capabilities"},
        "cniVersion": chain.cni_version,
        "name": chain.name,
    }


def request(record: AttachmentRecord, plugin: Config, last: Config | None) -> dict[str, Any]:
    """What a plugin is told of an attachment; `last` is the result of the one before."""
    config = derived(record.chain, plugin)
    wanted = plugin.get("capabilities") or {}
    if given := {name: value for name, value in record.capabilities.items() if wanted.get(name) is True}:
        config["runtimeConfig"] = given
    if last is not None:
        config["prevResult"] = last
    return config


def _env(record: AttachmentRecord) -> dict[str, str]:
    return {
        "CNI_CONTAINERID": record.id,
        "CNI_NETNS": record.netns,
        "CNI_IFNAME": record.interface,
        "CNI_ARGS": ";".join(f"{name}={value}" for name, value in record.arguments.items()),
    }
