# The devices of guests on hosts of this architecture: with hypervisor/qemu/argv.py, see README.md
CONFIG_Q35=y  # the usual machine; its chip set, and the slots of processors and memory come with it
CONFIG_MICROVM=y  # the machine that a setting may name instead; the bus of its devices comes with it
CONFIG_VIRTIO_PCI=y  # how the first one has what follows
CONFIG_VIRTIO_SERIAL=y  # the agent's channel
CONFIG_VIRTIO_SCSI=y  # the bus of the disks, and the disks on it
CONFIG_VIRTIO_NET=y  # interfaces
CONFIG_VIRTIO_RNG=y  # entropy of the host's
CONFIG_VIRTIO_BALLOON=y  # which pages are free
CONFIG_VIRTIO_MEM=y  # more memory, and less again, while a guest runs
CONFIG_VHOST_USER_FS=y  # shared folders, by virtiofsd
