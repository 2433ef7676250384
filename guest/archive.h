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
   What concerns one entry only is told by complain(); -1 ends it all. */
int archive_read(int root, const struct archive *archive, struct error *err);
int archive_write(int root, const struct archive *archive, struct error *err);
void complain(const struct error *err);		/* a line on stderr; the exit status will be 1 */

enum { TAR_BLOCK = 512, TAR_NAME = 100, TAR_PREFIX = 155, TAR_EXTENDED_MAX = 1 << 20, TAR_PATH_MAX = 8192 };

struct tar_header {		/* POSIX ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], owner[32], group[32], major_number[8], minor_number[8], prefix[155], pad[12];
};

unsigned tar_checksum(const struct tar_header *header);

#endif
