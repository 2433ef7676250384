"""What `containerd-shim-hyper-v2 -info` tells: containerd asks what its runtimes can do, and tells the kubelet."""

from __future__ import annotations

import json

from hypercontainer import __version__
from hypercontainer.model import features
from hypercontainer.shim import call

NAME = "io.containerd.hyper.v2"
MOUNTS, LEFT_TO_US = "containerd.io/runtime-allow-mounts", "erofs,format/*,mkdir/*"  # hyperd/shim/disks.py
FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
NOT_HERE = "createContainer"  # a hook that only runv has mounts for
CHECKPOINT = "org.opencontainers.runc.checkpoint.enabled"  # which only runv does


def info() -> bytes:
    """A RuntimeInfo. The options of the runtime that come on stdin change nothing of it."""
    found = features.features()
    found["hooks"] = [name for name in found["hooks"] if name != NOT_HERE]
    found["annotations"][CHECKPOINT] = "false"
    told = call.message({1: FEATURES.encode(), 2: json.dumps(found).encode()})
    mounts = call.message({1: MOUNTS.encode(), 2: LEFT_TO_US.encode()})
    return call.message({1: NAME.encode(), 2: call.message({1: __version__.encode()}), 4: told, 5: mounts})
