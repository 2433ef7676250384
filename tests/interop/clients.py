"""Where the clients are that `make interop` brings, and images of them."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypercontainer.testing import busybox
from hypercontainer.testing.daemon import PrivateDaemon
from tests.conftest import CHECKOUT

CLIENTS = CHECKOUT / ".cache/clients"


@contextmanager
def image_of(hyper: PrivateDaemon, folder: Path, *programs: Path, word: str = "ENTRYPOINT") -> Iterator[str]:
    """An image of busybox and these programs of this host, with their libraries, which runs the first; its name.
    `word`: how that is said, "CMD" if others are run instead.

    After it nothing runs any more, and the image is gone.
    """
    name, archive = programs[0].name, folder / f"{programs[0].name}.tar"
    with tarfile.open(archive, "w") as tar:
        with tarfile.open(fileobj=io.BytesIO(busybox.layer(busybox.find_busybox(), {}))) as base:
            for member in base:
                tar.addfile(member, base.extractfile(member) if member.isreg() else None)
        for program in programs:
            tar.add(program, f"usr/bin/{program.name}")
        for library in {library for program in programs for library in libraries(program)}:
            tar.add(os.path.realpath(library), library.lstrip("/"))
    done = hyper.ctl("import", "-c", f'{word} ["{name}"]', str(archive), f"{name}:1")
    assert done.status == 0, done
    archive.unlink()
    yield f"{name}:1"
    hyper.clear()
    assert hyper.ctl("rmi", f"{name}:1").status == 0


def libraries(program: Path) -> list[str]:
    """That it is linked with; none, if it is whole in itself."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=60).stdout
    return [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
