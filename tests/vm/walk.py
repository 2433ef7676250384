"""A walk of random verbs and deaths, against a model of what must be true.

    python -m tests.vm.walk [--seed N] [--cycles N] [--seconds S]

hyperd's root is a small ext4. Each step is a verb, or a death, a full disk or the end of memory in the middle of one.
What the answers, the states, the statuses and the logs must be is in `Life`, what of the network in `network`; at the
end all is removed, and nothing may be left. The seed is printed first: the same one takes the same steps.
"""

import argparse
import json
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hypercontainer.hypervisor.host.rundir import RunDir
from hypercontainer.hypervisor.qemu.rundir import qemu_run
from hypercontainer.lib import proc
from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon, Result, Value
from tests.conftest import ACCELERATOR, KERNELS
from tests.vm import conftest, network, streams
from tests.vm.disk import fill, small_disk

MOST = 4  # containers at once
FULL_WORDS = ("No space left on device", "takes no more")
AGAIN_S = 120.0  # from the end of a VMM to the next start: emulated, beside others
COUNT = 3000  # lines of one that ends by itself
SETTLED_S = 120.0  # from a verb's end to what it has of the network, of one that starts again by itself


class Wrong(Exception):
    """The model and the machine do not agree."""


@dataclass
class Life:
    """One container, and what must be true of it. `states`: any of them, after something died in the middle."""

    name: str
    states: set[str]
    always: bool = False
    volume: str = ""
    published: bool = False
    copied: bool = False
    torn: bool = False  # its machine was killed: a status of 255, and a last line that was cut
    runs: int = 1


class Walk:
    def __init__(self, seed: int, hyper: PrivateDaemon, disk: Path) -> None:
        self.random, self.hyper, self.disk = random.Random(seed), hyper, disk
        self.lives: dict[str, Life] = {}
        self.full = False
        self.made = self.steps = 0
        self.told = 0  # bytes of hyperd's log that have been read
        self.kept: dict[tuple[str, str], str] = {}  # (volume, file) -> what is in it
        self.known = self._things()

    # answers

    def say(self, *words: object) -> None:
        print(f"{self.steps:4}", *words, flush=True)

    def ctl(self, *words: str, stdin: bytes = b"") -> Result:
        done = self.hyper.ctl(*words, stdin=stdin, timeout_s=240)
        self.say(" ".join(words)[:100], "->", done.status, done.err.strip()[:160])
        if "internal error" in done.err or "Traceback" in done.err:
            raise Wrong(f"{words}: {done.err}")
        return done

    def done(self, *words: str, stdin: bytes = b"") -> bool:
        """Whether it was done; it may be refused for want of room, and for nothing else."""
        answer = self.ctl(*words, stdin=stdin)
        if answer.status == 0:
            return True
        if self.full and any(word in answer.err for word in FULL_WORDS):
            return False
        raise Wrong(f"{words}: status {answer.status}: {answer.err}")

    def knows(self, life: Life) -> bool:
        """Whether there is such a container; its name may begin the id of something else."""
        return self.hyper.ctl("inspect", "--type", "container", life.name).status == 0

    # steps

    def step(self) -> None:
        self.steps += 1
        if self.full and self.random.random() < 0.3:
            self.disk_empties()
        if len(self.lives) < 2 and self.random.random() < 0.6:
            self.run()
        acts = [self.run, self.run, self.finite, self.exec, self.copy, self.keep, self.logs, self.stop, self.start,
                self.tell, self.pause, self.fork, self.checkpoint, self.suspend, self.remove, self.remove, self.hog,
                self.hyperd_dies, self.hyperd_dies_meanwhile, self.vmm_dies, self.share_dies,
                self.keeper_dies, self.host_memory_ends, self.disk_fills]  # fmt: skip
        self.random.choice(acts)()
        if self.steps % 3 == 0:
            self.check()

    def _pick(self, *states: str, tied: bool | None = None) -> Life | None:
        fit = [x for x in self.lives.values() if x.states <= set(states) and tied in (None, bool(x.volume))]
        return self.random.choice(fit) if fit else None

    def run(self) -> None:
        if len(self.lives) >= MOST:
            return self.remove()
        self.made += 1
        life = Life(f"w{self.made}", {"running"})
        words = ["run", "-d", "--name", life.name]
        if self.random.random() < 0.3:
            life.always = True
            words += ["--restart", "always"]
        if self.random.random() < 0.3:
            life.volume = f"v{self.random.randrange(3)}"
            words += ["-v", f"{life.volume}:/data"]
        if self.random.random() < 0.3:
            life.published = True
            words += ["-p", network.ports(self.hyper)]
        serve = network.serve(life.name) if life.published else ""
        if self.done(*words, "busybox", "sh", "-c", serve + streams.endless()):
            self.lives[life.name] = life
        elif self.knows(life) and not self.done("rm", "-f", life.name):
            raise Wrong(f"{life.name} was refused, and cannot be removed")  # docker keeps one that did not start, too
        return None

    def finite(self) -> None:
        """One that ends by itself: its status and every byte, whatever dies meanwhile."""
        self.made += 1
        name = f"f{self.made}"
        if self.full or not self.done("run", "-d", "--name", name, "busybox", "sh", "-c", streams.finite(COUNT)):
            self.hyper.ctl("rm", "-f", name)
            return
        if self.random.random() < 0.5:
            self.hyperd_dies()
        waited, logged = self.ctl("wait", name), self.hyper.ctl("logs", name).out.encode()
        if waited.out != "5\n" or logged != streams.whole(COUNT):
            raise Wrong(f"{name} ended with {waited}, and {len(logged)} bytes of {len(streams.whole(COUNT))}")
        self.ctl("rm", "-f", name)

    def exec(self) -> None:
        if life := self._pick("running"):
            self._answers(life)

    def copy(self) -> None:
        life = None if self.full else self._pick("running")
        if life is None or not self.done("cp", __file__, f"{life.name}:/dev/shm/walk"):
            return
        if self.ctl("exec", life.name, "cat", "/dev/shm/walk").out != Path(__file__).read_text():
            raise Wrong(f"what was copied into {life.name} is not what was sent")
        back = self.hyper.folder / "back"
        if (
            not self.done("cp", f"{life.name}:/dev/shm/walk", str(back))
            or back.read_text() != Path(__file__).read_text()
        ):
            raise Wrong(f"what was copied out of {life.name} is not what is there")
        back.unlink()

    def keep(self) -> None:
        """What one writes into a volume is there for all that have it, whatever died since."""
        life = None if self.full else self._pick("running", tied=True)
        if life is None:
            return
        for (volume, file), token in self.kept.items():
            if volume == life.volume and self.ctl("exec", life.name, "cat", f"/data/{file}").out != f"{token}\n":
                raise Wrong(f"{life.name} does not find {token} in {file} of {volume}")
        file, token = f"f{self.random.randrange(4)}", str(self.random.randrange(1 << 30))
        if self.done("exec", life.name, "sh", "-c", f"echo {token} >/data/{file}"):
            self.kept[life.volume, file] = token

    def hog(self) -> None:
        """More memory than there is: it is killed, and nobody else."""
        if self.full or len(self.lives) >= MOST:
            return
        status = self.ctl("run", "--rm", "-m", "128m", "busybox", "tail", "/dev/zero").status
        if status != 137:
            raise Wrong(f"a hog ended with {status}")

    def logs(self) -> None:
        if life := self._pick("running", "exited", "paused", "suspended"):
            self._check_log(life)

    def _check_log(self, life: Life) -> None:
        log = self.hyper.ctl("logs", life.name).out.encode()
        runs = 1 << 30 if life.always else life.runs
        if wrong := streams.complaint(log, runs, copied=life.copied, torn=life.torn):
            raise Wrong(f"the log of {life.name} ({len(log)} bytes): {wrong}")

    def stop(self) -> None:
        if (life := self._pick("running")) and self.done("stop", "-t", "0", life.name):
            life.states = {"exited"}

    def start(self) -> None:
        if (life := self._pick("exited")) and self.done("start", life.name):
            life.states = {"running"}
            life.runs += 1

    def tell(self) -> None:
        """It ends by itself when it is told to: 7."""
        life = self._pick("running")
        if life is None or life.always or self.full or not self.done("exec", life.name, "touch", "/dev/shm/stop"):
            return
        if self.ctl("wait", life.name).out != "7\n":
            raise Wrong(f"{life.name} ended otherwise than with 7")
        self._check_log(life)
        self.done("rm", life.name)
        del self.lives[life.name]

    def pause(self) -> None:
        if (life := self._pick("running")) and self.done("pause", life.name):
            life.states = {"paused"}
        elif (life := self._pick("paused")) and self.done("unpause", life.name):
            life.states = {"running"}

    def suspend(self) -> None:
        if (life := self._pick("suspended")) and self.done("resume", life.name):
            life.states = {"running"}
        elif (life := self._pick("running", tied=False)) and self.done("suspend", life.name):
            life.states = {"suspended"}

    def fork(self) -> None:
        life = self._pick("running", tied=False)
        if life and len(self.lives) < MOST:
            self.made += 1
            name = f"w{self.made}"
            if self.done("fork", "--name", name, life.name):
                self.lives[name] = Life(name, {"running"}, always=life.always, copied=True)

    def checkpoint(self) -> None:
        life = self._pick("running", tied=False)
        if life and len(self.lives) < MOST:
            self.made += 1
            name = f"w{self.made}"
            if self.done("checkpoint", "create", "--leave-running", life.name, name):
                if self.done("restore", "--name", name, life.name, name):
                    self.lives[name] = Life(name, {"running"}, always=life.always, copied=True)
                self.done("checkpoint", "rm", life.name, name)

    def remove(self) -> None:
        if self.lives:
            name = self.random.choice(sorted(self.lives))
            if self.ctl("rm", "-f", name).status != 0:  # on a full disk too
                raise Wrong(f"{name} cannot be removed")
            del self.lives[name]

    # deaths

    def hyperd_dies(self) -> None:
        self.say("hyperd dies")
        self._hyperd_dies()

    def _hyperd_dies(self) -> None:
        self.hyper.signal(signal.SIGKILL)
        self.hyper.start()
        for life in self.lives.values():
            if life.always and life.states == {"exited"}:  # it was stopped: the next hyperd starts it, as docker's does
                life.states = {"running", "restarting"}

    def hyperd_dies_meanwhile(self) -> None:
        """In the middle of a verb, which then has been done or not."""
        life = self._pick("running", "exited")
        if life is None:
            return
        verb = self.random.choice([("stop", "-t", "0"), ("start",), ("restart", "-t", "0"), ("rm", "-f")])
        self.say(*verb, life.name, "and hyperd dies")
        began = subprocess.Popen(self.hyper.argv(*verb, life.name), env=self.hyper.env, stderr=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            began.wait(self.random.random())
        except subprocess.TimeoutExpired:
            pass
        self._hyperd_dies()
        began.wait(60)
        if not self.knows(life):
            if verb[0] != "rm":
                raise Wrong(f"{life.name} is gone after {verb}")
            del self.lives[life.name]
            return
        state = str(self._inspected(life.name)["Status"])
        if state not in ("running", "exited", "created", "restarting"):
            raise Wrong(f"{life.name} is {state} after {verb}")
        life.runs += 2
        life.torn = True  # its machine was killed, perhaps
        life.states = {"running", "restarting"} if life.always and state == "restarting" else {state}

    def _inspected(self, name: str) -> dict[str, object]:
        state: dict[str, object] = json.loads(self.hyper.ctl("inspect", name).out)[0]["State"]
        return state

    def _run_dir(self, life: Life) -> RunDir:
        return qemu_run(Path(str(self.hyper.settings["run"])) / "pods" / self._pod(life.name))

    def _end(self, program: str, life: Life) -> bool:
        """Kill a program of its machine; whether there was one."""
        found = self._run_dir(life).processes(program)
        for process in found[-1:] if self.random.random() < 0.7 else found:  # the keeper too
            proc.kill(process.pid, process.start_time)
        return bool(found)

    def _pod(self, name: str) -> str:
        return next(str(pod["Id"]) for pod in json.loads(self.hyper.ctl("pod", "inspect", name).out))

    def vmm_dies(self) -> None:
        if life := self._pick("running", "paused"):
            self._lose(life, "qemu")

    def share_dies(self) -> None:
        if life := self._pick("running", tied=True):
            self._lose(life, "virtiofsd")

    def keeper_dies(self) -> None:
        """Alone: its program runs on, and ends as any other one later."""
        if life := self._pick("running", "paused"):
            program = "virtiofsd" if life.volume and self.random.random() < 0.5 else "qemu"
            keeper = self._run_dir(life).processes(program)[0]
            self.say("the keeper of", program, "of", life.name, "dies")
            proc.kill(keeper.pid, keeper.start_time)
            if life.states == {"running"}:
                self._answers(life)

    def host_memory_ends(self) -> None:
        """What its machine may have is used up: the kernel ends that, and nobody else."""
        life = None if self.full else self._pick("running")
        known = self._run_dir(life).load() if life else None
        for folder in known.cgroups if known else []:
            used, bound = Path(folder, "memory.usage_in_bytes"), Path(folder, "memory.limit_in_bytes")
            if not used.exists():
                used, bound = Path(folder, "memory.current"), Path(folder, "memory.max")
            if life and used.exists():
                before = self._inspected(life.name)["StartedAt"]
                given = bound.read_text()
                _set(bound, str(int(used.read_text()) + (1 << 20)))
                self.say("no more memory for", life.name)
                much = ("dd", "if=/dev/zero", "of=/dev/shm/much", "bs=64k", "count=512")
                if self.ctl("exec", life.name, *much).status:
                    self._lost(life, before)
                else:  # the kernel found some that it could take back
                    _set(bound, given)

    def _lose(self, life: Life, program: str) -> None:
        if life.always and self.full:
            return  # it would wait for room
        before = self._inspected(life.name)["StartedAt"]
        if self._end(program, life):
            self.say(program, "of", life.name, "dies")
            self._lost(life, before)

    def _lost(self, life: Life, before: object) -> None:
        """It ends with 255, or is started again by itself."""
        life.torn = True
        if life.always:
            for _ in range(int(AGAIN_S / 0.05)):
                state = self._inspected(life.name)
                if state["StartedAt"] != before and state["Status"] == "running":
                    life.states, life.runs = {"running"}, life.runs + 1
                    return
                conftest.time_passes()
            raise Wrong(f"{life.name} was not started again within {AGAIN_S:g} s")
        if self.ctl("wait", life.name).out not in ("255\n", ""):
            raise Wrong(f"{life.name} ended otherwise than with its machine")
        life.states = {"exited"}

    def disk_fills(self) -> None:
        """While no guest has anything to write: QEMU stops one that the disk of this host refuses a block."""
        for life in self.lives.values():
            if life.states == {"running"} and self.ctl("exec", life.name, "sync").status:
                return
        self.say("the disk fills")
        fill(self.disk)
        self.full = True

    def disk_empties(self) -> None:
        self.say("the disk empties")
        (self.disk / "ballast").unlink(missing_ok=True)
        self.full = False

    # checks

    def check(self) -> None:
        listed = self.hyper.ctl("ps", "-a", "--format", "{{.Names}} {{.State}}")
        found = dict(row.split() for row in listed.out.splitlines())
        if set(found) != set(self.lives):
            raise Wrong(f"there are {sorted(found)}, and should be {sorted(self.lives)}")
        for name, state in found.items():
            life = self.lives[name]
            if state not in life.states | ({"restarting"} if life.always and "running" in life.states else set()):
                raise Wrong(f"{name} is {state}, and should be {sorted(life.states)}")
            if state != "restarting":
                life.states = {state}
            if not self.full:
                self._check_log(life)
        self._check_network()
        if "Traceback" in self.hyper.log()[self.told :]:
            raise Wrong(f"hyperd's log:\n{self.hyper.log()[self.told :][-4000:]}")
        self.told = len(self.hyper.log())

    def _answers(self, life: Life) -> None:
        token = str(self.random.randrange(1 << 30))
        if self.ctl("exec", life.name, "echo", token).out != f"{token}\n":
            raise Wrong(f"exec in {life.name} did not say {token}")

    def _check_network(self) -> None:
        """Each published port leads to its container, and there is a rule for what runs, and for nothing else."""
        if any(life.always for life in self.lives.values()) and self.full:
            return  # it may wait for room
        wrong = ""
        for _ in range(int(SETTLED_S / 0.05)):
            if not (wrong := self._network_complaint()):
                break
            conftest.time_passes()
        if wrong:
            raise Wrong(wrong)

    def _network_complaint(self) -> str:
        on = [life for life in self.lives.values() if life.states <= {"running", "paused"}]
        answering = {life.name: life.states == {"running"} for life in on if life.published}
        # A machine stays until its disk takes the record of its container's end.
        ended = [life for life in self.lives.values() if self.full and life.states == {"exited"}]
        pods, ending = ({life.name: self._pod(life.name) for life in lives} for lives in (on, ended))
        return network.complaint(self.hyper, pods, answering, ending)

    def end(self) -> None:
        self.disk_empties()
        for name in sorted(self.lives):
            self.remove_named(name)
        if left := self._left():
            raise Wrong("left behind: " + "; ".join(left))

    def _things(self) -> set[str]:
        """What a pod of this hyperd, and nobody else's, has on the host."""
        hyper = self.hyper
        uids = int(str(hyper.settings["uid_base"]))
        return {
            *conftest.mounts([hyper.folder]),
            *conftest.idle_cgroups(conftest.cgroup_homes(hyper)),
            *conftest.taps(uids),
            *conftest.rules(hyper),
            *conftest.pods(hyper),
        }

    def _left(self) -> list[str]:
        return conftest.left_behind(self.hyper, lambda: sorted(self._things() - self.known))

    def remove_named(self, name: str) -> None:
        self._check_log(self.lives[name])
        self.done("rm", "-f", name)
        del self.lives[name]


def _set(limit: Path, value: str) -> None:
    with open(limit, "r+") as f:  # a kernel's file: never to be made, or cut
        f.write(value)


def walk(seed: int, cycles: int, seconds: float, *, factory: str = "template") -> int:
    """Take up to `cycles` steps within `seconds`; returns how many. Wrong says where it and the model part."""
    print(f"seed {seed}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="hyper-") as name,
        tempfile.TemporaryDirectory(prefix="hyper-") as other,
        small_disk(Path(other), 768) as disk,
    ):
        folder = Path(name)
        settings: dict[str, Value] = {
            "root": str(disk / "root"),
            "factory": factory,
            "scratch_mib": 64,
            "accelerator": ACCELERATOR,
        }
        hyper = PrivateDaemon(folder, KERNELS, settings)
        try:
            hyper.start()
            busybox.write_archive(folder / "busybox.tar")
            assert hyper.ctl("load", "-i", str(folder / "busybox.tar")).status == 0
            walker = Walk(seed, hyper, disk)
            until = time.monotonic() + seconds
            try:
                while walker.steps < cycles and time.monotonic() < until:
                    walker.step()
                walker.end()
            except BaseException:
                print(hyper.log()[-6000:], f"\nseed {seed}, step {walker.steps}", file=sys.stderr)
                raise
        finally:
            (disk / "ballast").unlink(missing_ok=True)
            hyper.close()
    return walker.steps


def main() -> int:
    p = argparse.ArgumentParser(prog="walk", description=__doc__)
    p.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    p.add_argument("--cycles", type=int, default=500)
    p.add_argument("--seconds", type=float, default=1800.0)
    arguments = p.parse_args()
    try:
        steps = walk(arguments.seed, arguments.cycles, arguments.seconds)
    except Wrong as e:
        print(f"walk: {e}", file=sys.stderr)
        return 1
    print(f"{steps} steps, nothing wrong, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
