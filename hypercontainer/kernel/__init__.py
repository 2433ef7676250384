"""Guest kernels: fetched, unpacked, and packed with hyperstart into what a hypervisor boots."""
