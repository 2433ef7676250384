/* The tar format, and whom those who read and write it tell what went wrong. */
#ifndef TAR_H
#define TAR_H

#include "error.h"

enum { TAR_BLOCK = 512, TAR_NAME = 100, TAR_PREFIX = 155, TAR_EXTENDED_MAX = 1 << 20, TAR_PATH_MAX = 8192 };

struct tar_header {		/* POSIX ustar */
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], owner[32], group[32], major_number[8], minor_number[8], prefix[155], pad[12];
};

unsigned tar_checksum(const struct tar_header *header);

extern void (*complain)(const struct error *err);	/* what concerns one entry only: the others go on */

#endif
