"""Options of a mount that are too long for the kernel."""

import os

from hypercontainer.hyperd.shim.bundle import MAX_OPTIONS, compact

ROOT = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
REST = [f"workdir={ROOT}/999/work", f"upperdir={ROOT}/999/fs"]


def test_few_layers_are_as_they_are() -> None:
    options = [*REST, f"lowerdir={ROOT}/1/fs:{ROOT}/2/fs"]
    assert compact(options) == ("", ",".join(options))


def test_many_layers_are_named_from_where_all_are() -> None:
    paths = [f"{ROOT}/{n}/fs" for n in range(300)]
    folder, options = compact([*REST, "lowerdir=" + ":".join(paths), "index=off"])
    assert folder == ROOT and len(options) <= MAX_OPTIONS
    [*rest, lower, index] = options.split(",")
    assert (rest, index) == (REST, "index=off")
    assert [os.path.join(folder, path) for path in lower.removeprefix("lowerdir=").split(":")] == paths


def test_what_cannot_be_named_shorter_stays() -> None:
    for options in (["x" * 5000], ["lowerdir=" + ":".join(["relative"] * 1000)], [f"lowerdir={ROOT}\\\\:" * 100]):
        assert compact(options) == ("", options[0])
