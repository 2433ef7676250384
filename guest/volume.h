/* What a caller mounts into a container, and the files it puts there. */
#ifndef VOLUME_H
#define VOLUME_H

#include "container.h"

int volumes_mount(struct container *container, const struct json *mounts, struct error *err);
int files_write(struct container *container, const struct json *files, struct error *err);

#endif
