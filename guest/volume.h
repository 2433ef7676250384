/* What a caller mounts into a container, and the files it puts there. */
#ifndef VOLUME_H
#define VOLUME_H

#include "container.h"

/* A folder or file of the share, with what the host has mounted on it: a descriptor. */
int share_open(const char *source, struct error *err);
/* Mount that part of the share; that it is to be filled is kept in the container that is `made`, or NULL. */
int volume_bind(int root, const struct mount_spec *mount, struct container *made, struct error *err);
int files_write(struct container *container, const struct json *files, struct error *err);

/* The EROFS on that disk, mounted apart for the container until that is unmade: a descriptor of its root. */
int volume_open_disk(struct container *container, int target, struct error *err);

#endif
