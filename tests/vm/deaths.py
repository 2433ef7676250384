"""Deaths in the middle of runv's verbs: of hyperd, of the stand-in, of QEMU, of virtiofsd, and of runv itself.

    python -m tests.vm.deaths [--seed N] [--seconds S] [--verb VERB] [--victim VICTIM]

Each round makes a container, begins a verb, and kills one of them with SIGKILL at a moment within the time that the
verb was seen to take. The next hyperd takes up; who has not lost machine or stand-in answers; `runv delete --force`
works; and nothing of the container is left. The seed is printed first: the same one takes the same rounds.
"""

import argparse
import itertools
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon, stand_ins
from tests.conftest import ACCELERATOR, KERNELS
from tests.vm import conftest
from tests.vm.runv import Runv
from tests.vm.test_pool import full

VERBS = ("create", "start", "run", "exec", "kill", "delete", "pause", "resume", "update", "state", "list")
VICTIMS = ("hyperd", "stand-in", "qemu", "virtiofsd", "runv")
SETTINGS: dict[str, Value] = {
    "accelerator": ACCELERATOR,
    "memory_mib": 256,
    "factory": "cache",
    "pool": [{"share": True}],
}
LIMIT_S = 300.0  # of what is to become true
ID = "one"


class Wrong(Exception):
    """What must be true is not."""


class Deaths:
    def __init__(self, seed: int, hyper: PrivateDaemon, runv: Runv) -> None:
        self.random, self.hyper, self.runv = random.Random(seed), hyper, runv
        self.rounds = 0
        self._told = 0  # bytes of hyperd's log that have been read
        self._group = f"/deaths-{hyper.folder.name}"
        self._bundle = str(runv.bundle("sleep", "1000", linux={"cgroupsPath": self._group}))
        self.lives()  # the first one takes longer than others
        self._takes = {verb: self._measured(verb) for verb in VERBS}
        full(hyper)
        self._known, self._open = self._things(), self.descriptors()

    def round(self, verb: str, victim: str) -> None:
        self.rounds += 1
        self._prepare(verb)
        delay_s = self.random.uniform(0, self._takes[verb])
        process = self._begin(verb)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
        there = self._kill(victim, process)
        status = process.wait(LIMIT_S)
        assert process.stderr
        with process.stderr as file:
            file.seek(0)
            said = file.read().decode(errors="replace")
        words = f"{verb}, {victim} after {delay_s:.3f} s"
        print(
            f"{self.rounds:4} {words}{'' if there else ' (was not there)'} -> {status} {said.strip()[:150]}", flush=True
        )
        try:
            if "Traceback" in said or (victim == "hyperd" and status == 1 and "hyperd " not in said):
                raise Wrong(f"it does not say why: {said}")
            self._check(verb, victim if there else "runv")
            self._nothing_left()
        except BaseException as e:
            raise Wrong(f"{words}: {e}\n{self.hyper.log()[-3000:]}") from e

    def lives(self) -> None:
        """One that nobody kills: it is made, begins and is removed."""
        self._prepare("delete")
        self._delete()

    # what is done

    def _measured(self, verb: str) -> float:
        """How long a verb takes, in seconds, that nobody is killed in."""
        if verb in ("create", "run"):
            full(self.hyper)
        self._prepare(verb)
        since = time.monotonic()
        process = self._begin(verb)
        process.wait(LIMIT_S)
        took_s = time.monotonic() - since
        if process.stderr:
            process.stderr.close()
        self._delete()
        return took_s

    def _prepare(self, verb: str) -> None:
        if verb in ("create", "run"):
            return
        self._done("create", "--bundle", self._bundle, ID)
        if verb != "start":
            self._done("start", ID)
        if verb == "resume":
            self._done("pause", ID)

    def _begin(self, verb: str) -> "subprocess.Popen[bytes]":
        words = {
            "create": ["create", "--bundle", self._bundle, ID],
            "run": ["run", "--detach", "--bundle", self._bundle, ID],
            "exec": ["exec", ID, "true"],
            "kill": ["kill", ID, "KILL"],
            "delete": ["delete", "--force", ID],
            "update": ["update", "--pids-limit", "50", ID],
            "list": ["list"],
        }
        null = subprocess.DEVNULL
        with tempfile.TemporaryFile() as said:  # a pipe would be the stand-in's, too
            argv = [*self.runv.program, *words.get(verb, [verb, ID])]
            process = subprocess.Popen(argv, stdin=null, stdout=null, stderr=said)
            process.stderr = os.fdopen(os.dup(said.fileno()), "rb")
        return process

    def _done(self, *words: str) -> None:
        argv, null = [*self.runv.program, *words], subprocess.DEVNULL
        with tempfile.TemporaryFile() as said:
            status = subprocess.run(argv, stdin=null, stdout=null, stderr=said, timeout=LIMIT_S).returncode
            said.seek(0)
            if status:
                raise Wrong(f"{' '.join(words)}: status {status}: {said.read().decode(errors='replace')}")

    def _delete(self) -> None:
        self._done("delete", "--force", ID)
        if found := self._status():
            raise Wrong(f"it was deleted, and is {found}")

    def _kill(self, victim: str, process: "subprocess.Popen[bytes]") -> bool:
        """Whether it was there."""
        if victim == "hyperd":
            self.hyper.signal(signal.SIGKILL)
            self.hyper.start()
            return True
        if victim == "runv":
            process.kill()
            return True
        # the container's is started first
        found = stand_ins(self.hyper.folder)[:1] if victim == "stand-in" else self._programs(victim)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    def _programs(self, program: str) -> list[int]:
        """Pids of the container's machine; where it has none, of those that wait: one is about to be taken."""
        folders = [path for path in (self.hyper.folder / "run/pods").glob("*") if "template" not in path.name]
        ours = [path for path in folders if not path.name.startswith("waiting-")]
        return [
            qemu_run(path).processes(program)[-1].pid for path in ours or folders if qemu_run(path).processes(program)
        ]

    # what must be true

    def _check(self, verb: str, victim: str) -> None:
        """Whoever has not lost its machine, or its stand-in, is there and answers."""
        status = self._status()
        if victim in ("hyperd", "runv"):
            lives = {"exec", "pause", "resume", "update", "state", "list"}
            if verb in lives and status not in ("running", "paused"):
                raise Wrong(f"it is {status or 'gone'}, and should run")
            ends = verb in ("kill", "delete")  # these may go on without a caller
            if (status in ("running", "paused") and not ends) or (status, verb) == ("created", "start"):
                self._until(lambda: self._goes_on(verb), "it does not go on")
        elif status and verb not in ("create", "run", "start"):  # which may have come after that death
            self._until(lambda: self._status() in ("stopped", ""), "it does not end")
        self._delete()

    def _goes_on(self, verb: str) -> bool:
        """Whether it answers. What somebody asked for who was killed then is done at any moment, or never."""
        status = self._status()
        if status == "paused" or (status, verb) == ("created", "start"):
            self.runv("resume" if status == "paused" else "start", ID)
        return self.runv("exec", ID, "true").status == 0

    def _status(self) -> str:
        done = self.runv("state", ID)
        if done.status:
            if done.err != "container does not exist\n":
                raise Wrong(f"state: {done}")
            return ""
        return str(json.loads(done.out)["status"])

    def _until(self, true: Callable[[], bool], words: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not true():
            if time.monotonic() > deadline:
                raise Wrong(words)
            conftest.time_passes()

    def _nothing_left(self) -> None:
        left = conftest.left_behind(self.hyper, lambda: sorted(self._things() - self._known))
        if left:
            raise Wrong("left behind: " + "; ".join(left))
        log = self.hyper.log()[self._told :]
        self._told += len(log)
        if "Traceback" in log:
            raise Wrong("hyperd has failed")

    def end(self) -> None:
        """Nothing is left; descriptors: not more than before the first round, once all that is to wait does."""
        self._nothing_left()
        full(self.hyper)
        self._until(lambda: len(self.descriptors()) <= len(self._open), f"{self.descriptors()}, and was {self._open}")

    def descriptors(self) -> list[str]:
        """What hyperd has open."""
        assert self.hyper.process
        found = []
        for path in Path(f"/proc/{self.hyper.process.pid}/fd").iterdir():
            with suppress(OSError):
                found.append(os.readlink(path))
        return sorted(found)

    def _things(self) -> set[str]:
        hyper = self.hyper
        groups = [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"*{self._group}")]
        things = {
            *groups,
            *conftest.mounts([hyper.folder]),
            *conftest.idle_cgroups(conftest.cgroup_homes(hyper)),
            *conftest.taps(int(str(hyper.settings["uid_base"]))),
            *conftest.rules(hyper),
            *conftest.bridges(hyper),
            *conftest.pods(hyper),
        }
        return {each for each in things if "/run/shares/waiting-" not in each}  # those of guests that wait


@contextmanager
def deaths(seed: int) -> Iterator[Deaths]:
    """With a hyperd that has guests with a share wait."""
    print(f"seed {seed}", flush=True)
    with private_daemon(KERNELS, SETTINGS) as hyper, tempfile.TemporaryDirectory() as folder:
        full(hyper)
        yield Deaths(seed, hyper, Runv(hyper, Path(folder)))


def main() -> int:
    p = argparse.ArgumentParser(prog="deaths", description=__doc__)
    p.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    p.add_argument("--seconds", type=float, default=600.0)
    p.add_argument("--verb", choices=VERBS, action="append")
    p.add_argument("--victim", choices=VICTIMS, action="append")
    arguments = p.parse_args()
    try:
        with deaths(arguments.seed) as run:
            until = time.monotonic() + arguments.seconds
            pairs = list(itertools.product(arguments.verb or VERBS, arguments.victim or VICTIMS))
            while time.monotonic() < until:
                for verb, victim in run.random.sample(pairs, len(pairs)):
                    if time.monotonic() < until:
                        run.round(verb, victim)
            run.end()
    except Wrong as e:
        print(f"deaths: {e}", file=sys.stderr)
        return 1
    print(f"{run.rounds} rounds, nothing wrong, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
