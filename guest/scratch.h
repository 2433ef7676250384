/* The scratch disk of a container, which may be mounted before there is one. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "disk.h"
#include "reply.h"

#include <sys/mount.h>

enum { SCRATCH_FLAGS = MS_NOSUID | MS_NODEV | MS_NOATIME };

/* Mount the disk on `place`: if it is the one that is staged, that is moved there, and none is staged any more. */
int scratch_mount(const struct disk_spec *disk, int place, struct error *err);

int op_disk_stage(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
