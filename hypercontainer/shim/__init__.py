"""containerd-shim-hyper-v2: what containerd runs to start a shim, and to clean up after one. It comes and goes."""
