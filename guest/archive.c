#include "archive.h"

#include "mount.h"
#include "spawn.h"
#include "tar.h"

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

	if (a->pidfd >= 0 && setns(a->pidfd, CLONE_NEWNS) < 0)
		return fail(err, errno, "enter the container's mounts");
	if (format(err, path, sizeof(path), a->pidfd >= 0 ? "/%.0s" : "%s/rootfs", a->container->dir) < 0)
		return -1;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fail(err, errno, "open the container's root") : fd;
}

int archive_main(const void *data)
{
	const struct archive *a = data;
	struct error err = { 0 };
	int root = open_root(a, &err);

	complain = say;
	if (root < 0 || spawn_arrange(a->stdio, root, -1, &err) < 0)
		return 1;
	root = STDERR_FILENO + 1;
	if ((a->write ? archive_write : archive_read)(root, a, &err) < 0)
		complain(&err);
	return complained;
}
