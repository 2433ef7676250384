/* The tar format, how it is written, and whom those who read and write it tell what went wrong. */
#ifndef TAR_H
#define TAR_H

#include "error.h"

#include <sys/types.h>

enum { TAR_BLOCK = 512, TAR_NAME = 100, TAR_PREFIX = 155, TAR_EXTENDED_MAX = 1 << 20, TAR_PATH_MAX = 8192 };

struct tar_header {		/* POSIX ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], owner[32], group[32], major_number[8], minor_number[8], prefix[155], pad[12];
};

struct tar_owner {
	uint32_t uid, gid;
};

struct tar_entry {
	const char *name;
	char type;
	const char *link;
	uint64_t size;			/* of what follows the header */
	int fd;				/* for its xattrs, -1: none */
	const struct stat *status;
	const struct tar_owner *owner;	/* NULL: as `status` says */
	bool exact;			/* with nanoseconds and holes, which not every reader wants; what has gone is left out */
	const struct pieces *pieces;	/* of a file with holes */
};

/* Write one header; `size` bytes are to follow. */
int tar_put(const struct tar_entry *entry, struct error *err);
/* Write what is no folder: `base` in `dir`, which was just looked at. A file with several names is a link from its second
   one on, a socket is left out. */
int tar_put_at(int dir, const char *base, struct tar_entry *entry, struct error *err);
int tar_bytes(const void *bytes, size_t length, struct error *err);	/* as they are */
int tar_end(struct error *err);	/* and flush */
int tar_flush(struct error *err);

unsigned tar_checksum(const struct tar_header *header);

extern void (*complain)(const struct error *err);	/* what concerns one entry only: the others go on */

#endif
