"""hyperctl factory status, init, destroy."""

from __future__ import annotations

from hypercontainer.hyperctl import table, text
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hypercontainer.hyperctl.context import Context

COLUMNS = (
    ("KERNEL", "Kernel"),
    ("VCPUS", "Vcpus"),
    ("MEMORY", "Memory"),
    ("NETWORK", "Network"),
    ("TENANT", "Tenant"),
    ("CREATED", "CreatedAt"),
    ("SIZE", "Size"),
    ("CLONES", "Clones"),
)


POOL_COLUMNS = (
    ("VCPUS", "Vcpus"),
    ("MEMORY", "Memory"),
    ("SHARE", "Share"),
    ("NETWORK", "Network"),
    ("TENANT", "Tenant"),
    ("WANTED", "Wanted"),
    ("WAITING", "Waiting"),
    ("TAKEN", "Taken"),
    ("POISONED", "Poisoned"),
)
KINDS = {
    "cache": "VMs are taken from those that wait, else cloned from templates",
    "template": "VMs are cloned from templates",
    "direct": "VMs are booted, each of them",
}


ARCHITECTURE = ("ARCHITECTURE", "Architecture")


def _columns(usual: Sequence[tuple[str, str]], rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """With that of the architecture, where there are several."""
    several = len({row.get("Architecture") for row in rows}) > 1
    return [*usual[:1], *([ARCHITECTURE] if several else []), *usual[1:]]


def status(context: Context, args: Args) -> int:
    factory = context.client.get("/v1/factory")
    if not args.format:
        print(KINDS[factory["Kind"]])
        if pools := factory["Pools"]:
            table.show(args, _columns(POOL_COLUMNS, pools), [_row(pool) for pool in pools])
            for pool in pools:
                if pool["Reason"]:
                    missing = pool["Wanted"] - pool["Waiting"]
                    size = f"{pool['Vcpus']} vCPUs and {pool['MemoryMib']}MiB"
                    share = ", with a share" if pool["Share"] else ""
                    network = "" if pool["Network"] else ", without a network"
                    print(f"missing: {missing} with {size}{share}{network}: {pool['Reason']}")
        for warning in factory["Warnings"]:
            print(f"warning: {warning}")
    rows = [
        {
            "Kernel": template["Kernel"],
            "Architecture": template.get("Architecture", ""),
            "Vcpus": template["Vcpus"],
            "Memory": f"{template['MemoryMib']}MiB",
            "Network": "yes" if template["Network"] else "no",
            "Tenant": template["Tenant"],
            "Accelerator": template["Accelerator"],
            "CreatedAt": template["CreatedAt"],
            "Size": text.size(template["Size"]),
            "Clones": template["Clones"],
        }
        for template in factory["Templates"]
    ]
    return table.show(args, _columns(COLUMNS, factory["Templates"]), rows) if rows or args.format else 0


def _row(pool: dict[str, Any]) -> dict[str, object]:
    return {
        **pool,
        "Memory": f"{pool['MemoryMib']}MiB",
        "Share": "yes" if pool["Share"] else "no",
        "Network": "yes" if pool["Network"] else "no",
    }


def init(context: Context, args: Args) -> int:
    context.client.post("/v1/factory")
    return 0


def destroy(context: Context, args: Args) -> int:
    context.client.delete("/v1/factory")
    return 0


COMMANDS = {
    "factory status": Command(status, "[OPTIONS]", "hyperctl factory status", table.format_flag()),
    "factory init": Command(init, "", "hyperctl factory init", notes="hyperd does so itself when it starts."),
    "factory destroy": Command(
        destroy,
        "",
        "hyperctl factory destroy",
        notes="Containers run on; the next one has its template made anew. No VM waits until `factory init`.",
    ),
}
