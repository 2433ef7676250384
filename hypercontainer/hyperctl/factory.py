"""hyperctl factory status, destroy."""

from __future__ import annotations

from hypercontainer.hyperctl import table, text
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context

COLUMNS = (
    ("KERNEL", "Kernel"),
    ("VCPUS", "Vcpus"),
    ("MEMORY", "Memory"),
    ("NETWORK", "Network"),
    ("CREATED", "CreatedAt"),
    ("SIZE", "Size"),
    ("CLONES", "Clones"),
)


def status(context: Context, args: Args) -> int:
    factory = context.client.get("/v1/factory")
    if not args.format:
        print("Guests are " + ("cloned from templates" if factory["Kind"] == "template" else "booted, each of them"))
    rows = [
        {
            "Kernel": template["Kernel"],
            "Vcpus": template["Vcpus"],
            "Memory": f"{template['MemoryMib']}MiB",
            "Network": "yes" if template["Network"] else "no",
            "Accelerator": template["Accelerator"],
            "CreatedAt": template["CreatedAt"],
            "Size": text.size(template["Size"]),
            "Clones": template["Clones"],
        }
        for template in factory["Templates"]
    ]
    return table.show(args, COLUMNS, rows) if rows or args.format else 0


def destroy(context: Context, args: Args) -> int:
    context.client.delete("/v1/factory")
    return 0


COMMANDS = {
    "factory status": Command(status, "[OPTIONS]", "hyperctl factory status", table.format_flag()),
    "factory destroy": Command(
        destroy, "", "hyperctl factory destroy", notes="VMs that run stay; the next one has its template made anew."
    ),
}
