"""What the launcher runs under `python3 -I -S`: launch.py PROGRAM [ARGUMENT...]. Puts our packages on the path."""

import os
import sys

# Who calls any other waits for the end, and the interpreter's tidying up takes as long as all that a short verb does.
DAEMONS = ("hyperd", "frakti")


def packages(program: str) -> list[str]:
    """The folders that installed packages are in, found from the path of the launcher in PREFIX/bin."""
    lib = f"{os.path.dirname(os.path.dirname(program))}/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    return [path for name in ("site-packages", "dist-packages") if os.path.isdir(path := f"{lib}/{name}")]


def main() -> int:
    program = sys.argv[1]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    name = os.path.basename(program)
    sys.path.extend(dict.fromkeys([here, *packages(program)]))
    sys.argv[:] = sys.argv[1:]
    if name == "hyperd":
        from hypercontainer.hyperd.main import main as run
    elif name == "frakti":
        from hypercontainer.hyperd.main import frakti as run
    elif name == "runv":
        from hypercontainer.runv.main import main as run
    elif name == "containerd-shim-hyper-v2":
        from hypercontainer.shim.main import main as run
    else:
        from hypercontainer.hyperctl.main import main as run
    status = run()
    if name not in DAEMONS:
        try:
            sys.stdout.flush()
        except OSError:
            return status  # its end tells why
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
