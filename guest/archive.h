/* tar in and out of a container's root: a process of ours that the container never sees. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "container.h"
#include "tar.h"

enum archive_mode {
	ARCHIVE_READ, ARCHIVE_WRITE,
	/* Of all, whatever is mounted there: what is another than in the image, as a layer and as a list; what there is. */
	ARCHIVE_LAYER, ARCHIVE_CHANGES, ARCHIVE_TREE,
};

struct archive {
	const struct container *container;
	int pidfd;			/* the container's first process: its mounts are seen; -1: ours */
	const char *path;
	enum archive_mode mode;
	bool follow, has_owner;
	struct tar_owner owner;
	const char *user;		/* of what is written; NULL or "": `owner`, or who the tar says */
	int stdio[3];
};

int archive_main(const void *archive);		/* 0 or 1 */

/* The parts, in archive_read.c, archive_write.c and layer.c. `root` is the container's, the tar goes through 1 or 0.
   What concerns one entry only is told by complain(), which has to be set; -1 ends it all. */
int archive_read(int root, const struct archive *archive, struct error *err);
int archive_write(int root, const struct archive *archive, struct error *err);
/* `root` without what is mounted in it; `dir`: where the image is, and the changes to it. */
int archive_layer(int root, int dir, enum archive_mode mode, struct error *err);

#endif
