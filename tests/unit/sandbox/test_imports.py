"""What a pod is made of can be had without the daemon's stores."""

import pkgutil
import subprocess
import sys

from hypercontainer import sandbox

STRANGERS = ["sqlite3", "ssl", "aiohttp", "qemu", "grpclib", "google", "rich"]
ROOMS = {"engine", "images", "kernel", "hyperd", "hyperctl", "client", "testing"}
PROGRAM = f"""
import importlib, sys
for name in {STRANGERS}:
    sys.modules[name] = None  # to import it fails
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(name for name in sys.modules if name.startswith("hypercontainer.")))
"""


def test_an_import_loads_no_store_and_no_library_of_theirs() -> None:
    modules = [found.name for found in pkgutil.walk_packages(sandbox.__path__, f"{sandbox.__name__}.")]
    command = [sys.executable, "-I", "-c", PROGRAM, *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert loaded >= set(modules)
    assert not {name for name in loaded if name.split(".")[1] in ROOMS}
    assert not loaded & {"hypercontainer.storage.volume", "hypercontainer.model.settings"}
