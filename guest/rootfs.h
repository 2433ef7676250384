/* What a container sees below its root. */
#ifndef ROOTFS_H
#define ROOTFS_H

#include "container.h"

struct rootfs_spec {
	const struct json *lower, *upper;	/* {"target":n,"type":…,"options":[…]}; in tests {"path":…}; NULL: none */
	const struct json *lowers;		/* several such, below `upper` */
	const char *folder;			/* of the share, in place of both; NULL or "": none */
	const char *over;			/* the container that this one goes on from, in place of all; the same */
	struct container *from;			/* which that is */
	const struct json *devices, *files;
};

/* The root itself, the mounts that are not of a process's namespaces, devices, files. container->root is set. */
int rootfs_make(struct container *container, const struct rootfs_spec *spec, struct error *err);
void rootfs_unmake(struct container *container);

/* In the first process, in its new namespaces, before it leaves our root: the other mounts, console, what is hidden.
   `terminal` is the number of its pts, -1: none. Afterwards "/" is the container's. */
/* What the first process would mount in its place, for one that is restored: the other mounts, what is hidden. */
int rootfs_complete(const struct container *container, int root, struct error *err);
int rootfs_enter(const struct container *container, int terminal, const char *cwd, struct error *err);

#endif
