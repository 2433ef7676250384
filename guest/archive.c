#include "archive.h"

#include "mount.h"
#include "spawn.h"
#include "tar.h"
#include "user.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static int complained;	/* errno of the first complaint */

static void say(const struct error *err)
{
	dprintf(STDERR_FILENO, "cannot %s\n", err->message);
	if (!complained)
		complained = err->number > 0 ? err->number : EIO;
}

static int open_root(const struct archive *a, struct error *err)
{
	char path[500];
	int fd;

	if (a->mode >= ARCHIVE_LAYER)
		return bare_mount(a->container->root, err);
	if (a->pidfd >= 0 && setns(a->pidfd, CLONE_NEWNS) < 0)
		return fail(err, errno, "enter the container's mounts");
	if (format(err, path, sizeof(path), a->pidfd >= 0 ? "/%.0s" : "%s/rootfs", a->container->dir) < 0)
		return -1;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fail(err, errno, "open the container's root") : fd;
}

static int write_as(int root, const struct archive *a, struct error *err)
{
	struct archive own = *a;
	struct identity identity;

	if (a->user && *a->user) {
		if (user_find(root, a->user, MEMBERSHIPS_USUAL, &identity, err) < 0)
			return -1;
		own.has_owner = true;
		own.owner = (struct tar_owner){ identity.uid, identity.gid };
	}
	return archive_write(root, &own, err);
}

static int run(const struct archive *a, int root, int dir, struct error *err)
{
	switch (a->mode) {
	case ARCHIVE_READ:
		return archive_read(root, a, err);
	case ARCHIVE_WRITE:
		return write_as(root, a, err);
	default:
		return archive_layer(root, dir, a->mode, err);
	}
}

int archive_main(const void *data)
{
	const struct archive *a = data;
	struct error err = { 0 };
	bool whole = a->mode >= ARCHIVE_LAYER;	/* image and changes, which the container does not see */
	int dir = whole ? open(a->container->dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	int root = open_root(a, &err);

	complain = say;
	if (root < 0 || (whole && dir < 0) || spawn_arrange(a->stdio, root, dir, &err) < 0)
		return 1;
	if (run(a, STDERR_FILENO + 1, STDERR_FILENO + 2, &err) < 0)
		complain(&err);
	return complained;
}
