"""crun's own tests, unchanged, against runv, or another runtime by its command line.

python -m tests.conformance.crun [--runtime PATH] [FILE[::NAME] ...]

The tests are those of crun 1.8.1, of Debian's source package. They use flags of crun's that runc has not: a script puts
what they say into runc's words. crun.toml says what runv is known to fail, each with its reason: another test that
fails, and one that is known to fail and passes, make the status 1. Of another runtime it is told alone what it does.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hypercontainer.testing.daemon import BIN, private_daemon
from tests.conformance import sources
from tests.conformance.docker_py import Lists, Outcome, judge
from tests.conftest import KERNELS
from tests.zig import cc

VERSION = "1.8.1"
STATE = Path(__file__).parents[2] / ".cache/crun"
KNOWN = Path(__file__).with_name("crun.toml")
TIMEOUT_S = 180  # of a test
PYTHON = "/usr/bin/python3"  # Debian's, which has libmount where that is installed
# crun refuses a host with both versions of control groups for its second hierarchy.
PRIVATE = 'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"'
APART = ("unshare", "--mount", "--propagation", "private")
# A shell's words, each of which is looked at once: runc reads config.json of the folder, and has a flag for systemd.
TRANSLATE = """#!/bin/sh
left=$#
while [ $left -gt 0 ]; do
  word=$1; shift; left=$((left - 1))
  case $word in
    --cgroup-manager) [ "$1" != systemd ] || set -- "$@" --systemd-cgroup; shift; left=$((left - 1)) ;;
    --config) [ "$1" = config.json ] || cp "$1" config.json || exit; shift; left=$((left - 1)) ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec {runtime} "$@"
"""


def known() -> Lists:
    return msgspec.convert(tomllib.loads(KNOWN.read_text()), Lists)


def prepare() -> Path:
    """The folder of the tests and of the program that they run, made where it is missing or of another version."""
    stamp = STATE / "stamp"
    if stamp.exists() and stamp.read_text() == VERSION:
        return STATE
    print(f"conformance: fetching the sources of crun {VERSION}", flush=True)
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(parents=True)
    archive = sources.fetch("crun", STATE)
    subprocess.run(["tar", "-xJf", archive, "--strip-components=1", "--wildcards", "*/tests"], check=True, cwd=STATE)
    (STATE / "config.h").touch()
    cc("-static", "-O1", "-w", "-I", STATE, "-o", STATE / "tests/init", STATE / "tests/init.c")
    stamp.write_text(VERSION)
    return STATE


def names(state: Path, wanted: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Each file with each name of its tests."""
    for file in sorted((state / "tests").glob("test_*.py")):
        table = file.read_text().partition("\nall_tests = {")[2].partition("}")[0]
        for name in re.findall(r'"([^"\s]+)" *:', table):
            if not wanted or file.name in wanted or f"{file.name}::{name}" in wanted:
                yield file, name


def run(state: Path, program: Path, env: Mapping[str, str], wanted: Sequence[str]) -> dict[str, Outcome]:
    """What becomes of each test, one by one: none is in another one's way."""
    found = {}
    for file, name in names(state, wanted):
        argv: list[str | Path] = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            PRIVATE,
            "sh",
            PYTHON,
            file,
        ]
        more = {"OCI_RUNTIME": str(program), "INIT": str(state / "tests/init"), "RUN_TESTS": name}
        try:
            done = subprocess.run(
                argv, cwd=state, env={**env, **more}, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            outcome = Outcome("failed", f"it did not end within {TIMEOUT_S} s")
        else:
            outcome = said(done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        found[f"{file.name}::{name}"] = outcome
        print(f"{outcome.status:8} {file.name}::{name}", flush=True)
    return found


def said(out: str, err: str) -> Outcome:
    """Of what a test prints, in TAP."""
    for line in out.splitlines():
        if line == "1..0":  # the whole file is
            return Outcome("skipped", "")
        if line.startswith("ok "):
            return Outcome("skipped" if line.endswith("#SKIP") else "passed", "")
    return Outcome("failed", " ".join(f"{out} {err}".split())[-600:])


@contextmanager
def runtime(path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """What the tests are to run, and its environment. runv has a hyperd of its own."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    script = STATE / "runtime"
    script.write_text(TRANSLATE.format(runtime=path))
    script.chmod(0o755)
    if path.name == "crun":
        yield path, env
    elif path.name == "runv":
        with private_daemon(KERNELS, {"memory_mib": 256, "pool": []}) as daemon:
            yield script, {**env, "HYPER_OCI_HOST": f"unix://{daemon.folder}/hyper-oci.sock"}
    else:
        yield script, env


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.crun")
    parser.add_argument("--runtime", type=Path, default=BIN / "runv", help="which is asked (runv)")
    parser.add_argument("tests", nargs="*", metavar="FILE[::NAME]", help="of those of crun (all)")
    given = parser.parse_args(words)
    state, lists = prepare(), known()
    with runtime(given.runtime.absolute()) as (program, env):
        found = run(state, program, env, given.tests)
    counts = Counter(outcome.status for outcome in found.values())
    print(f"conformance: crun's: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}")
    if given.runtime.name != "runv":
        return 0
    surprises = judge(found, lists, whole=not given.tests)
    for line in surprises:
        print(f"conformance: {line}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
