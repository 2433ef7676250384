"""Runs a real image in virtual machines, and shows what happens and how long it takes: `make demo`.

Everything is private: a hyperd, a bridge and a state folder of the demo's own, so that a real installation is not
touched, and nothing is left running. The state folder stays (.cache/demo), which makes the next run faster.
"""

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypercontainer.errors import HyperError
from hypercontainer.testing.busybox import write_archive
from hypercontainer.testing.daemon import PrivateDaemon

CHECKOUT = Path(__file__).parents[1]
STATE = CHECKOUT / ".cache/demo"
READY_S = 20.0
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
WIDTH = min(shutil.get_terminal_size((100, 24)).columns, 120)


def paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def title(text: str) -> None:
    print(f"\n{paint('1', text)}", flush=True)


class Failed(Exception):
    """A command of the demo did not do what it should."""


class Demo:
    """Commands as a user types them, against the demo's own hyperd."""

    def __init__(self, daemon: PrivateDaemon) -> None:
        self.daemon = daemon

    def run(self, line: str, *, expect: str = "", status: int = 0) -> str:
        """Print `line`, run it, print what it says and how long it took. Failed unless it says `expect`."""
        print(f"\n  {paint('1;36', '$ ' + line)}", flush=True)
        words = shlex.split(line)
        if words[0] == "hyperctl":
            words = self.daemon.argv(*words[1:])
        begin = time.monotonic()
        with subprocess.Popen(
            words, env=self.daemon.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            said = []
            for raw in process.stdout:
                said.append(raw.decode(errors="replace").rstrip())
                print(f"  {said[-1]}", flush=True)
        took = time.monotonic() - begin
        ended = "" if process.returncode == 0 else f"exit status {process.returncode}, "
        print(paint("2", f"{ended}{took:.2f} s".rjust(WIDTH)), flush=True)
        text = "\n".join(said)
        if process.returncode != status or expect not in text:
            raise Failed(f"{line}: exit status {process.returncode}, expected {status} and {expect!r}")
        return text

    def ctl(self, *words: str) -> str:
        """A question whose answer only the demo needs."""
        return self.daemon.ctl(*words).out.strip()


def free_port(wanted: int) -> int:
    """`wanted`, or one that the kernel picks if something listens there."""
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(s.getsockname()[1])
    raise Failed("there is no free port on 127.0.0.1")


def wait_for_server(port: int) -> None:
    """Until it has begun to listen: before that, connections are refused."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=READY_S):
            return
        time.sleep(0.02)
    raise Failed(f"nobody listens on 127.0.0.1:{port}")


def make_image(path: Path) -> None:
    begin = time.monotonic()
    write_archive(path, ["demo:latest"])
    size = path.stat().st_size / 1e6
    shown = path.relative_to(CHECKOUT)
    print(f"\n  {shown}: Debian's static busybox and a web page, {size:.1f} MB, as `docker save` would write it")
    print(paint("2", f"{time.monotonic() - begin:.2f} s".rjust(WIDTH)), flush=True)


def stories(demo: Demo, archive: Path) -> None:
    title("1. An image (made here: no registry is needed)")
    make_image(archive)
    demo.run(f"hyperctl load -i {archive.relative_to(CHECKOUT)}", expect="demo:latest")
    demo.run("hyperctl images", expect="demo")

    title("2. A container is a virtual machine")
    demo.run("hyperctl run --rm demo echo Hello from a virtual machine", expect="Hello from a virtual machine")
    release = demo.run("hyperctl run --rm --timings demo uname -r").splitlines()[0]
    print(f"  The kernel in there is {release}; this host runs {os.uname().release}.")
    demo.run("hyperctl run --rm demo sh -c 'exit 7'", status=7)
    demo.run("hyperctl info --format 'Isolation: {{.Isolation.Level}} ({{.Isolation.Reason}})'", expect="Isolation: ")

    title("3. A web server in a virtual machine")
    port = free_port(8080)
    demo.run(f"hyperctl run -d --name web --init -p 127.0.0.1:{port}:80 demo httpd -f -v -p 80 -h /www")
    wait_for_server(port)
    demo.run(f"curl --silent --show-error http://127.0.0.1:{port}/", expect="virtual machine")
    demo.run("hyperctl ps", expect="web")
    demo.run("hyperctl exec web ps", expect="httpd")
    demo.run("hyperctl logs web", expect="response:200")
    demo.run("hyperctl stop web", expect="web")
    demo.run("hyperctl rm web", expect="web")
    demo.run("hyperctl ps -a")


def main() -> int:
    os.chdir(CHECKOUT)
    begin = time.monotonic()
    print(paint("1", "HyperContainer: a Docker image in a virtual machine of its own"))
    daemon = PrivateDaemon(
        Path(tempfile.mkdtemp(prefix="hyper-demo-")),
        CHECKOUT / ".cache/hyper/kernels",
        {"root": str(STATE / "root")},
    )
    try:
        daemon.start()
        print(f"A hyperd of the demo's own listens on {daemon.socket}; what you have running is not touched.")
        stories(Demo(daemon), STATE / "demo.tar")
    except (Failed, HyperError) as e:
        print(f"demo: {e}\nThe last words of hyperd:\n{daemon.log()[-3000:]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        daemon.close()
    title(f"All of it took {time.monotonic() - begin:.1f} s. Nothing is left running.")
    print('The same with a daemon of your own: see README.md, "Install".')
    return 0


if __name__ == "__main__":
    sys.exit(main())
