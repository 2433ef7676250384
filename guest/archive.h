/* tar in and out of a container's root: a process of ours that the container never sees. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "container.h"

struct archive {
	const struct container *container;
	int pidfd;			/* the container's first process: its mounts are seen; -1: ours */
	const char *path;
	bool write, follow, has_owner;
	uint32_t uid, gid;
	int stdio[3];
};

int archive_main(const void *archive);		/* 0 or 1 */

/* The two halves, in archive_read.c and archive_write.c. `root` is the container's, the tar goes through 1 or 0.
   What concerns one entry only is told by complain(), which has to be set; -1 ends it all. */
int archive_read(int root, const struct archive *archive, struct error *err);
int archive_write(int root, const struct archive *archive, struct error *err);

#endif
