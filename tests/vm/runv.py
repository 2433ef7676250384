"""runv as the tests run it: one owner's containers, with a hyperd that is theirs."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypercontainer.testing.busybox import applets, find_busybox
from hypercontainer.testing.daemon import PrivateDaemon, Result

LIMIT_S = 600.0  # of one command: room costs nothing, and the machine may be busy


class Runv:
    """The command line, for one owner; `bundle(COMMAND…, key=value…)` makes what a container is made of."""

    def __init__(self, hyper: PrivateDaemon, folder: Path) -> None:
        self.hyper, self.folder = hyper, folder
        self.program = [str(hyper.bin / "runv"), "--host", f"unix://{hyper.folder}/hyper-oci.sock"]
        self.program += ["--root", str(folder / "root")]
        self.started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *words: str, stdin: bytes = b"") -> Result:
        done = subprocess.run([*self.program, *words], input=stdin, capture_output=True, timeout=LIMIT_S)
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        done = self(*words, stdin=stdin)
        assert done.status == 0, (words, done)
        return done.out

    def spawn(self, *words: str) -> subprocess.Popen[bytes]:
        """Whoever has its pipes."""
        pipe = subprocess.PIPE
        process = subprocess.Popen([*self.program, *words], stdin=pipe, stdout=pipe, stderr=pipe)
        self.started.append(process)
        return process

    def state(self, id: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self.ok("state", id))
        return found

    def bundle(self, *command: str, **changes: object) -> Path:
        bundle = self.folder / "bundle"
        root = bundle / "rootfs"
        if not root.exists():
            for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
                (root / name).mkdir(parents=True)
            (root / "bin/busybox").write_bytes(find_busybox().read_bytes())
            (root / "bin/busybox").chmod(0o755)
            for name in applets(find_busybox()):
                os.link(root / "bin/busybox", root / "bin" / name)
            self.ok("spec", "--bundle", str(bundle))
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"args": list(command), "terminal": False}
        for key, value in changes.items():
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
        config["root"]["readonly"] = False
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def close(self) -> None:
        """Nothing of it is left, and whoever was spawned has ended."""
        for id in self("list", "-q").out.split():
            self("delete", "--force", id)
        for process in self.started:
            for pipe in (process.stdin, process.stdout, process.stderr):
                with suppress(BrokenPipeError):
                    pipe.close() if pipe else None
            process.wait(LIMIT_S)


def until(true: Callable[[], bool]) -> None:
    waited = threading.Event()
    while not true():
        waited.wait(0.05)
