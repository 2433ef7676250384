"""Kubernetes' Container Runtime Interface: what a kubelet asks, as the engine has it."""
