"""QEMU's monitor: a small face over qemu.qmp that bounds every call and speaks our errors."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from hypercontainer.errors import GuestError, GuestSilent, HyperError, reason
from hypercontainer.lib.limit import Waited, limit, never

log = logging.getLogger(__name__)
RETRY_S = 1.0  # while there is no room for what a guest writes

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)  # what it logs as errors it also raises


class Refused(GuestError):
    """QEMU did not do what it was told; `reason` is its class of errors: "DeviceNotFound", mostly "GenericError"."""

    def __init__(self, command: str, error: ExecuteError) -> None:
        super().__init__(f"QEMU refused {command}: {error}")
        self.reason = str(error.error.error.class_)


class Monitor:
    """One connection. QEMU serves one client at a time and takes the next when the last is gone."""

    def __init__(self, waited: Waited = never) -> None:
        """Use `connect`."""
        self.waited = waited  # what QEMU has waited for a processor; no time-out counts it
        self._client = QMPClient("hyper")
        # Taken note of one by one: the library would keep every event forever, and a guest can cause them.
        self._client.events.event_filter = self._note
        self._sending_fd = asyncio.Lock()
        self._deletions: dict[str, asyncio.Event] = {}
        self._migration: asyncio.Future[str] | None = None
        self._going_on: asyncio.Task[None] | None = None
        self._lacked_room = False  # when we looked last
        self.stopped = False  # by us: it is not to go on by itself
        self.shutdown_reason = ""  # of the SHUTDOWN event, once it has come

    @staticmethod
    async def connect(socket: Path, *, timeout_s: float, waited: Waited = never) -> "Monitor":
        """Raises GuestSilent if QEMU did not greet us within `timeout_s` seconds, GuestError if it hung up.

        What QEMU has `waited` for a processor counts for no time-out, here and later."""
        monitor = Monitor(waited)
        try:
            async with limit(timeout_s, waited):
                await monitor._client.connect(str(socket))
        except TimeoutError as e:
            raise GuestSilent(f"QEMU's monitor did not answer within {timeout_s:g} s") from e
        except (QMPError, OSError, EOFError) as e:
            raise GuestError(f"cannot reach QEMU's monitor: {reason(e)}") from e
        return monitor

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float = 10.0
    ) -> object:
        """Run `command`. Refused, or another GuestError; after GuestSilent it may or may not have happened."""
        try:
            async with limit(timeout_s, self.waited):
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as e:
            raise GuestSilent(f"QEMU did not answer {command} within {timeout_s:g} s") from e
        except ExecuteError as e:
            raise Refused(command, e) from e
        except (QMPError, OSError, EOFError) as e:
            raise GuestError(f"cannot tell QEMU to {command}: its monitor is gone") from e

    async def add_fd(self, fd: int, fdset: int) -> None:
        """Give QEMU a duplicate of `fd` as /dev/fdset/`fdset`."""
        await self._hand_over(fd, "add-fd", {"fdset-id": fdset})

    async def get_fd(self, fd: int, name: str) -> None:
        """Give QEMU a duplicate of `fd` that a migration knows as "fd:`name`"."""
        await self._hand_over(fd, "getfd", {"fdname": name})

    async def _hand_over(self, fd: int, command: str, arguments: Mapping[str, object]) -> None:
        async with self._sending_fd:  # it travels with the next command
            try:
                self._client.send_fd_scm(fd)
            except (QMPError, OSError) as e:
                raise GuestError("cannot hand QEMU a file: its monitor is gone") from e
            await self.execute(command, arguments)

    async def migrate(self, command: str, uri: str, *, timeout_s: float) -> None:
        """Run `command` ("migrate", "migrate-incoming") and wait for the migration's end; the capability `events` is
        set. GuestError if it failed or QEMU ended over it."""
        self._migration = ended = asyncio.get_running_loop().create_future()
        gone = asyncio.create_task(self.ended(timeout_s=timeout_s))
        try:
            await self.execute(command, {"uri": uri})
            await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._migration = None
            gone.cancel()
        if not ended.done() and not self.connected:
            raise GuestError(f"cannot {command}: QEMU has ended")
        if not ended.done():
            raise GuestSilent(f"QEMU did not {command} within {timeout_s:g} s")
        if ended.result() != "completed":
            raise GuestError(f"cannot {command}: QEMU says that it has {ended.result()}")

    async def delete_device(self, device: str, *, timeout_s: float = 10.0) -> None:
        """Unplug `device`, a name or QEMU's path, and wait until QEMU has let go of it."""
        deleted = self._deletions[device] = asyncio.Event()
        try:
            await self.execute("device_del", {"id": device})
            async with limit(timeout_s, self.waited):
                await deleted.wait()
        except TimeoutError as e:
            raise GuestSilent(f"the guest did not let go of {device} within {timeout_s:g} s") from e
        finally:
            del self._deletions[device]

    @property
    def connected(self) -> bool:
        return self._client.runstate is Runstate.RUNNING

    async def ended(self, *, timeout_s: float) -> None:
        """Wait until QEMU has closed the connection and its last words have been noted."""
        try:
            async with limit(timeout_s, self.waited):
                while self.connected:
                    await self._client.runstate_changed()
        except TimeoutError:
            return
        await self.close()  # takes what the library's tasks ended with: else asyncio logs it, in nobody's name

    def go_on(self) -> None:
        """QEMU stops a machine when this host's disk has no room for a block of its disks. Have it go on as soon as
        there is some: its guest does not notice. One that was not stopped so: nothing happens."""
        if self._going_on is None or self._going_on.done():
            self._going_on = asyncio.get_running_loop().create_task(self._go_on(), name="go on")

    async def _go_on(self) -> None:
        try:
            while await self._stopped_by_disk():
                self._lacked_room = True
                if not self.stopped:
                    await self.execute("cont")
                await asyncio.sleep(RETRY_S)
        except HyperError as e:
            if self.connected:
                log.error("a virtual machine that a full disk had stopped does not go on: %s", e)
        finally:
            self._lacked_room = False

    async def lacks_room(self) -> bool:
        """QEMU has stopped the machine for want of room, or did so before the last try to have it go on."""
        return self._lacked_room or await self._stopped_by_disk()

    async def _stopped_by_disk(self) -> bool:
        status = await self.execute("query-status")
        return isinstance(status, dict) and status.get("status") == "io-error"

    async def close(self) -> None:
        if self._going_on:
            self._going_on.cancel()
        try:
            await self._client.disconnect()
        except Exception:  # noqa: S110  whatever broke on what QEMU said: of no interest any more
            pass

    def _note(self, event: Message) -> bool:
        """Called with each event; False: it need not be kept."""
        data = event.get("data")
        if isinstance(data, dict):
            if event["event"] == "SHUTDOWN":
                self.shutdown_reason = str(data.get("reason", ""))
            elif event["event"] == "MIGRATION" and (ended := self._migration) and not ended.done():
                if data.get("status") in ("completed", "failed", "cancelled"):
                    ended.set_result(str(data["status"]))
            elif event["event"] == "BLOCK_IO_ERROR" and data.get("action") == "stop":
                self.go_on()
            elif event["event"] == "DEVICE_DELETED":
                for name in (data.get("device"), data.get("path")):
                    if waiting := self._deletions.get(str(name)):
                        waiting.set()
        return False
