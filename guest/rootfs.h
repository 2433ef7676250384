/* What a container sees below its root. */
#ifndef ROOTFS_H
#define ROOTFS_H

#include "container.h"

struct rootfs_spec {
	const struct json *lower, *upper;	/* {"target":n}; in tests {"path":…} */
	const struct json *mounts, *files;
	int64_t shm_bytes;
};

/* Disks and overlay, /dev, /sys, the caller's mounts, the pod's files, the caller's files. container->root is set. */
int rootfs_make(struct container *container, const struct rootfs_spec *spec, struct error *err);
/* Make /dev and /sys of a container that nobody has asked for yet; rootfs_make then has only to move them. */
int rootfs_stage(struct container *container, struct error *err);
void rootfs_unmake(struct container *container);

/* In the first process, in its new namespaces, before it leaves our root: /proc, cgroup, console, what is hidden.
   `terminal` is the number of its pts, -1: none. Afterwards "/" is the container's. */
int rootfs_enter(const struct container *container, int terminal, const char *cwd, struct error *err);

#endif
