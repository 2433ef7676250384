"""Record tests/vectors/statuses.jsonl again, from Debian's dockerd: `.venv/bin/python -m tools.statuses`.

A new step is a line of the table with no more than its command: {"do": "rm -f nosuch"}."""

import tempfile
from pathlib import Path

from hypercontainer.testing.busybox import write_archive
from tests import statuses
from tests.interop.dockerd import dockerd


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dockerd() as docker:
        archive = Path(folder) / "busybox.tar"
        write_archive(archive)
        docker.ctl("load", "-i", str(archive))
        statuses.write(docker.version(), list(statuses.walk(docker.ctl, Path(folder), statuses.read()[1])))


if __name__ == "__main__":
    main()
