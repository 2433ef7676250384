"""The door for containerd: its shim protocol v2, by `hyper-shim`, which holds containerd's connections."""
