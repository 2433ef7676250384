"""cri-tools' critest, unchanged, against a frakti of one's own, or containerd with runc.

python -m tests.conformance.critest [--runtime frakti|containerd] [FLAG of critest ...]

critest is made by `tools/clients.sh critest`. All that it asks for is in a network and a mount namespace of its own:
bridges, rules and mounts go with them. Images are busybox, of Debian's sources, and Debian's nginx, under the names
that critest asks for, in a registry on loopback that is the mirror of each. critest.toml says what frakti is known not
to pass, each with its reason: another spec that fails or is skipped, and one that is known to and passes, make the
status 1. Of containerd it is told alone what it does. Theirs wait by the clock: what fails has a second try, and the
output says so. Flags narrow the specs down, or tell critest more: `-ginkgo.focus 'port forward'`.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hypercontainer.testing.daemon import PrivateDaemon, Value, private_daemon
from tests.conformance import sources
from tests.conformance.docker_py import Lists, Outcome, judge
from tests.conftest import KERNELS
from tests.interop.clients import CLIENTS
from tests.interop.containerd import Containerd
from tests.interop.registries import docker_registry
from tests.zig import cc

CRITEST, CORPUS = CLIENTS / "critest/critest", CLIENTS / "corpus/corpus.tar"
STATE = Path(__file__).parents[2] / ".cache/critest"
REGISTRY = STATE / "registry"
VERSION = "2"  # of what is in there
KNOWN = Path(__file__).with_name("critest.toml")
APART = "HYPER_CRITEST_NETWORK"  # in the environment: the network namespace is our own
REGISTRIES = ("registry.k8s.io", "k8s.gcr.io", "gcr.io", "docker.io")
WHOLE_S = 7200
# Programs of busybox run as those of a path: none is hidden by being in the shell, as with Debian's package.
BASE = """FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "/bin"]
RUN mkdir -p -m 1777 /tmp && mkdir -p /etc /root /var/log /www && echo welcome >/www/index.html
COPY passwd group /etc/
ENV PATH=/bin
CMD ["sh"]
"""
PASSWD = """root:x:0:0:root:/root:/bin/sh
www-data:x:82:82::/:/bin/sh
default-user:x:1000:1000::/:/bin/sh
nobody:x:65534:65534::/:/bin/false
"""
GROUP = """root:x:0:
www-data:x:82:
users:x:100:
default-user:x:1000:
group-defined-in-image:x:50000:default-user
"""
# Says as whom it runs, with a set-user-ID bit of root's.
NO_NEW_PRIVILEGES = """#include <stdio.h>
#include <unistd.h>
int main(void) { printf("Effective uid: %d\\n", geteuid()); return 0; }
"""
NGINX = """FROM corpus
COPY busybox /usr/local/bin/busybox
RUN ["/usr/local/bin/busybox", "--install", "-s", "/usr/local/bin"]
"""
HOST_NGINX = "sed -i 's/listen 80 /listen 12003 /; s/:80 /:12003 /' /etc/nginx/sites-enabled/default"
SAMPLES = "k8s-staging-cri-tools/test-image"
DOCKERFILES: Mapping[str, str] = {
    "e2e-test-images/busybox:1.29-2": "FROM base",
    "pause:3.9": 'FROM base\nCMD ["tail", "-f", "/dev/null"]',
    "library/pause:1": 'FROM base\nCMD ["tail", "-f", "/dev/null"]',  # containerd's, for its own sandboxes
    "e2e-test-images/httpd:2.4.39-4": """FROM base\nCMD ["sh", "-c", "echo httpd; exec httpd -f -p 80 -h /www"]""",
    "e2e-test-images/nonewprivs:1.3": 'FROM base\nCOPY nnp /nnp\nRUN chmod 4755 /nnp\nENTRYPOINT ["/nnp"]',
    "e2e-test-images/nginx:1.14-2": f"""{NGINX}CMD ["nginx", "-g", "daemon off;"]""",
    "k8s-staging-cri-tools/hostnet-nginx-amd64:latest": f"{NGINX}RUN {HOST_NGINX}\nCMD exec nginx -g 'daemon off;'",
    **{
        f"{SAMPLES}-{name}:latest": f"FROM base\nUSER {user}"
        for name, user in {
            "user-uid": "1002",
            "user-username": "www-data",
            "user-uid-group": "1003:users",
            "user-username-group": "www-data:100",
            "predefined-group": "1000",
        }.items()
    },
    **{f"{SAMPLES}-{name}:latest": f"FROM base\nLABEL name={name}" for name in ("latest", "1", "2", "3")},
    **{f"{SAMPLES}-tag:{tag}": f"FROM base\nLABEL tag={tag}" for tag in ("test", "all")},
    **{f"{SAMPLES}-tags:{tag}": "FROM base\nLABEL tag=same" for tag in ("1", "2", "3")},
}
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "conformance",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cri0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}
RUNC = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{folder}/certs.d"
"""


def known() -> Lists:
    return msgspec.convert(tomllib.loads(KNOWN.read_text()), Lists)


async def prepare() -> None:
    """Have the registry's folder, with the images, made where it is missing or of another version."""
    stamp = STATE / "stamp"
    if stamp.exists() and stamp.read_text() == VERSION:
        return
    print("conformance: making busybox, nginx and the images that critest asks for (some minutes)", flush=True)
    shutil.rmtree(REGISTRY, ignore_errors=True)
    context = STATE / "context"
    context.mkdir(parents=True, exist_ok=True)
    if not (context / "busybox").exists():
        await asyncio.to_thread(compile_busybox, context / "busybox")
    (STATE / "nnp.c").write_text(NO_NEW_PRIVILEGES)
    await asyncio.to_thread(cc, "-static", "-O1", "-o", context / "nnp", STATE / "nnp.c")
    (context / "passwd").write_text(PASSWD)
    (context / "group").write_text(GROUP)
    async with docker_registry(REGISTRY) as address:
        await asyncio.to_thread(publish, address, context)
    stamp.write_text(VERSION)


def compile_busybox(output: Path) -> None:
    """As its authors have it, and docker's image: with all programs, none of which is in the shell."""
    archive = sources.fetch("busybox", STATE)
    folder = STATE / "busybox"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["tar", "-xf", archive, "--strip-components=1", "-C", folder], check=True)
    quiet = subprocess.DEVNULL
    for target in ("defconfig", "busybox"):
        words = ["make", "-s", "-j2", "LDFLAGS=--static", target]
        subprocess.run(words, cwd=folder, check=True, stdout=quiet, stderr=quiet)
    shutil.copy(folder / "busybox", output)
    shutil.rmtree(folder)


def publish(registry: str, context: Path) -> None:
    """Put the images into the registry, by way of a hyperd that makes them."""
    with private_daemon(KERNELS, {"memory_mib": 256}) as daemon:
        say(daemon, "import", str(CORPUS), "corpus")
        build(daemon, context, "base", BASE)
        for name, words in DOCKERFILES.items():
            build(daemon, context, f"{registry}/{name}", words)
            say(daemon, "push", f"{registry}/{name}")


def build(daemon: PrivateDaemon, context: Path, name: str, words: str) -> None:
    (context / "Dockerfile").write_text(words + "\n")
    say(daemon, "build", "-t", name, str(context))


def say(daemon: PrivateDaemon, *words: str) -> None:
    done = daemon.ctl(*words)
    assert done.status == 0, (words, done)


@contextmanager
def frakti(folder: Path, registry: str) -> Iterator[list[str]]:
    """The flags of critest for one that runs until the block ends."""
    settings: dict[str, Value | None] = {
        "memory_mib": 256,
        "cri_socket": str(folder / "c.sock"),
        "cni_conf_dir": str(folder / "cni"),
        "cni_bin_dirs": ["/usr/lib/cni"],
        **{f'registries."{each}".mirrors': [f"http://{registry}"] for each in REGISTRIES},
    }
    (folder / "cni").mkdir()
    (folder / "cni/10-pods.conflist").write_text(json.dumps(NETWORK))
    with private_daemon(KERNELS, settings):
        yield [f"-runtime-endpoint=unix://{folder}/c.sock"]


@contextmanager
def containerd(folder: Path, registry: str) -> Iterator[list[str]]:
    for each in REGISTRIES:
        (folder / "certs.d" / each).mkdir(parents=True)
        (folder / "certs.d" / each / "hosts.toml").write_text(f'server = "http://{registry}"\n')
    made = Containerd(
        folder, folder, {}, cri=True, which="today", settings=RUNC.format(folder=folder), network=NETWORK, apart=False
    )
    try:
        yield [f"-runtime-endpoint=unix://{folder}/c.sock", "-runtime-handler=runc"]
    finally:
        made.close()


RUNTIMES = {"frakti": frakti, "containerd": containerd}


def run_once(flags: Sequence[str]) -> dict[str, Outcome]:
    """What becomes of the specs that `flags` name, with all that critest prints."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        subprocess.run([CRITEST, *flags, "-ginkgo.no-color", f"-ginkgo.junit-report={report}"], timeout=WHOLE_S)
        return outcomes(report.read_text())


def run(flags: Sequence[str], known_to_fail: Mapping[str, str]) -> dict[str, Outcome]:
    found = run_once(flags)
    again = [name for name, outcome in found.items() if outcome.status == "failed" and name not in known_to_fail]
    if again:
        print(f"conformance: a second try: {', '.join(again)}", flush=True)
        chosen = "|".join(re.escape(name.removesuffix(" [Serial]")) for name in again)  # a label, no part of the name
        found |= run_once([*[flag for flag in flags if "ginkgo.focus" not in flag], f"-ginkgo.focus={chosen}"])
    return found


def outcomes(results: str) -> dict[str, Outcome]:
    """Of Ginkgo's own report, without what was not to run; a spec that was skipped for a reason has not passed."""
    found = {}
    for case in ElementTree.fromstring(results).iter("testcase"):
        kind, _, name = case.get("name", "").partition(" ")
        words = " ".join(part.get("message") or "" for part in case if part.tag != "system-err").strip()
        if kind == "[It]" and words != "skipped":
            found[name] = Outcome("passed" if case.get("status") == "passed" else "failed", words)
    return found


async def main(runtime: str, flags: Sequence[str]) -> int:
    lists = known() if runtime == "frakti" else Lists()
    with tempfile.TemporaryDirectory(prefix="critest-") as folder:
        async with docker_registry(REGISTRY) as registry:
            found = await asyncio.to_thread(asked, runtime, Path(folder), registry, flags, lists)
    surprises = judge(found, lists, whole=not flags)
    counts = Counter(outcome.status for outcome in found.values())
    named = sum("[Conformance]" in name and outcome.status == "passed" for name, outcome in found.items())
    print(f"conformance: critest: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}", end="")
    print(f"; {named} [Conformance] passed")
    for line in surprises:
        print(f"conformance: {line}")
    return 1 if surprises and runtime == "frakti" else 0


def asked(runtime: str, folder: Path, registry: str, flags: Sequence[str], lists: Lists) -> dict[str, Outcome]:
    with RUNTIMES[runtime](folder, registry) as endpoint:
        return run([*endpoint, *flags], lists.failing())


def parsed(words: Sequence[str]) -> tuple[str, list[str]]:
    parser = argparse.ArgumentParser(prog="critest", allow_abbrev=False)
    parser.add_argument("--runtime", choices=RUNTIMES, default="frakti")
    found: tuple[Any, list[str]] = parser.parse_known_args(words)
    return found[0].runtime, found[1]


if __name__ == "__main__":
    if APART not in os.environ:
        asyncio.run(prepare())
        os.environ[APART] = "1"
        script = 'mount --make-rshared / && ip link set lo up && sysctl -qw net.ipv4.ip_forward=1 && exec "$@"'
        again = [sys.executable, "-m", "tests.conformance.critest", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *again])
    sys.exit(asyncio.run(main(*parsed(sys.argv[1:]))))
