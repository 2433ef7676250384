"""Where runv finds hyperd, in these tests."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STATE: dict[str, Any] = {
    "oci_version": "1.0.2", "id": "c", "status": "running", "pid": 1, "bundle": "/b", "rootfs": "/b/rootfs",
    "created_ns": 10**18,
}  # fmt: skip


class Door:
    """Answers each call with `answer`, until the block ends; None: it hangs up."""

    def __init__(self, path: Path) -> None:
        self.path, self.calls = path, list[dict[str, Any]]()
        self.answer: dict[str, Any] | None = {"answer": STATE}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            caller = self._socket.accept()[0]
            with caller:
                head = caller.recv(4, socket.MSG_WAITALL)
                if not head:
                    return
                self.calls.append(json.loads(caller.recv(int.from_bytes(head, "little"), socket.MSG_WAITALL)))
                if self.answer is not None:
                    answer = json.dumps(self.answer, separators=(",", ":")).encode()
                    caller.sendall(len(answer).to_bytes(4, "little") + answer)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path / "oci.sock")
    yield made
    made.close()
