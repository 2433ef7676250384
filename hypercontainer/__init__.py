"""HyperContainer: VM + Docker image. Any OCI image runs in a virtual machine of its own."""

__version__ = "0.1.0"
