"""Snapshots: a guest's devices and CPUs as a migration stream in a file, its memory in another.

The memory is left out of the stream (x-ignore-shared): the one who saves has it mapped shared, so its file is the
memory; those who load map the same file copy on write.
"""

import os

from hypercontainer.hypervisor.qemu.qmp import Monitor

SAVE_S = 30.0  # 0.03 s, on a machine that has time for it
LOAD_S = 60.0  # 0.02 s, likewise; many may be started at once
FD = "state"


async def save(monitor: Monitor, state: int) -> None:
    """Stop the guest for good and write its state to the file `state`."""
    await monitor.execute("stop")
    await _leave_memory_out(monitor)
    await monitor.get_fd(state, FD)
    await monitor.migrate("migrate", f"fd:{FD}", timeout_s=SAVE_S)


async def load(monitor: Monitor, state: int) -> None:
    """Let a QEMU that was started to wait for it go on from `state`; the guest runs when this returns."""
    await _leave_memory_out(monitor)
    # QEMU would tell the network where this machine is now, by the address of its NIC: the snapshot's
    await monitor.execute("migrate-set-parameters", {"announce-rounds": 0})
    own = os.open(f"/proc/self/fd/{state}", os.O_RDONLY | os.O_CLOEXEC)  # with a read position of its own
    try:
        await monitor.get_fd(own, FD)
    finally:
        os.close(own)
    await monitor.migrate("migrate-incoming", f"fd:{FD}", timeout_s=LOAD_S)
    await monitor.execute("cont")  # it was stopped when it was saved, and still is


async def _leave_memory_out(monitor: Monitor) -> None:
    wanted = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    await monitor.execute("migrate-set-capabilities", {"capabilities": wanted})
