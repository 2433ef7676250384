"""The guest's fuzz targets find nothing in their corpora and in a second of new inputs."""

import re
import subprocess
from pathlib import Path

GUEST = Path(__file__).parents[3] / "guest"


def test_what_reads_foreign_bytes_in_the_guest(tmp_path: Path) -> None:
    command = ["make", "-s", "-C", str(GUEST), "fuzz", "SECONDS=1", f"B={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"/fuzz-(\w+): (\d+) inputs, \d+ of the corpus", done.stdout))
    assert counts.keys() == {"frames", "archive"}
    assert all(int(count) > 20 for count in counts.values())
