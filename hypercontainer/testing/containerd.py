"""What a containerd of one's own is told: its folders and sockets are nobody else's."""

import json
from pathlib import Path

PAUSE = "docker.io/library/pause:1"  # of the pods of its CRI plugin
PLUGINS = "/usr/lib/cni"
CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
disabled_plugins = {disabled}
[grpc]
address = "{folder}/c.sock"
[ttrpc]
address = "{folder}/c.sock.ttrpc"
[timeouts]
"io.containerd.timeout.task.state" = "300s"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""
# A host may lack CAP_SYS_RESOURCE, which no score of lack of memory can be lowered without.
CRI = """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{folder}/cni"
"""


def toml(folder: Path, *, cri: bool) -> str:
    """A config.toml; its socket is `folder`/c.sock. `cri`: a kubelet's calls are answered there, too, with networks of
    `folder`/cni. Lines about other plugins, and runtimes, may follow."""
    disabled = [] if cri else ["io.containerd.grpc.v1.cri"]
    lines = CONFIG + CRI if cri else CONFIG
    return lines.format(folder=folder, disabled=json.dumps(disabled), pause=PAUSE, plugins=PLUGINS)
