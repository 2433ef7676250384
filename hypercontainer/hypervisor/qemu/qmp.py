"""QEMU's monitor: a small face over qemu.qmp that bounds every call and speaks our errors."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from hypercontainer.errors import GuestError, GuestSilent

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)  # what it logs as errors it also raises


class Monitor:
    """One connection. QEMU serves one client at a time and takes the next when the last is gone."""

    def __init__(self) -> None:
        self._client = QMPClient("hyper")
        # Taken note of one by one: the library would keep every event forever, and a guest can cause them.
        self._client.events.event_filter = self._note
        self._sending_fd = asyncio.Lock()
        self._deletions: dict[str, asyncio.Event] = {}
        self.shutdown_reason = ""  # of the SHUTDOWN event, once it has come

    @staticmethod
    async def connect(socket: Path, *, timeout_s: float) -> "Monitor":
        """Raises GuestSilent if QEMU did not greet us within `timeout_s` seconds, GuestError if it hung up."""
        monitor = Monitor()
        try:
            async with asyncio.timeout(timeout_s):
                await monitor._client.connect(str(socket))
        except TimeoutError as e:
            raise GuestSilent(f"QEMU's monitor did not answer within {timeout_s:g} s") from e
        except (QMPError, OSError, EOFError) as e:
            raise GuestError(f"cannot reach QEMU's monitor: {e}") from e
        return monitor

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float = 10.0
    ) -> object:
        """Run `command`. GuestError carries QEMU's refusal; after GuestSilent it may or may not have happened."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as e:
            raise GuestSilent(f"QEMU did not answer {command} within {timeout_s:g} s") from e
        except ExecuteError as e:
            raise GuestError(f"QEMU refused {command}: {e}") from e
        except (QMPError, OSError, EOFError) as e:
            raise GuestError(f"cannot tell QEMU to {command}: its monitor is gone") from e

    async def add_fd(self, fd: int, fdset: int) -> None:
        """Give QEMU a duplicate of `fd` as /dev/fdset/`fdset`."""
        async with self._sending_fd:  # it travels with the next command
            try:
                self._client.send_fd_scm(fd)
            except (QMPError, OSError) as e:
                raise GuestError("cannot hand QEMU a file: its monitor is gone") from e
            await self.execute("add-fd", {"fdset-id": fdset})

    async def delete_device(self, device: str, *, timeout_s: float = 10.0) -> None:
        """Unplug `device` and wait until QEMU has let go of it."""
        deleted = self._deletions[device] = asyncio.Event()
        try:
            await self.execute("device_del", {"id": device})
            async with asyncio.timeout(timeout_s):
                await deleted.wait()
        except TimeoutError as e:
            raise GuestSilent(f"the guest did not let go of {device} within {timeout_s:g} s") from e
        finally:
            del self._deletions[device]

    async def ended(self, *, timeout_s: float) -> None:
        """Wait until QEMU has closed the connection and its last words have been noted."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._client.runstate is Runstate.RUNNING:
                    await self._client.runstate_changed()
        except TimeoutError:
            pass

    async def close(self) -> None:
        try:
            await self._client.disconnect()
        except (QMPError, OSError, EOFError):
            pass  # how it ended is of no interest any more

    def _note(self, event: Message) -> bool:
        """Called with each event; False: it need not be kept."""
        data = event.get("data")
        if isinstance(data, dict):
            if event["event"] == "SHUTDOWN":
                self.shutdown_reason = str(data.get("reason", ""))
            elif event["event"] == "DEVICE_DELETED" and (waiting := self._deletions.get(str(data.get("device", "")))):
                waiting.set()
        return False
