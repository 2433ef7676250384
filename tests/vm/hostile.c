/* In place of guest/archive.c: an agent that the container's root has taken over. What is asked for is answered by the
 * container's file /hostile, whatever the path; what comes in is kept in /taken, wherever it should go. */
#include "archive.h"

#include "mount.h"
#include "spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

static int open_root(const struct archive *a, struct error *err)
{
	char path[500];

	if (a->pidfd >= 0 && setns(a->pidfd, CLONE_NEWNS) < 0)
		return fail(err, errno, "enter the container's mounts");
	if (format(err, path, sizeof(path), a->pidfd >= 0 ? "/%.0s" : "%s/rootfs", a->container->dir) < 0)
		return -1;
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int pass_on(int from, int to)
{
	char piece[1 << 16];
	ssize_t n;

	while ((n = read(from, piece, sizeof(piece))) > 0)
		for (ssize_t at = 0, put; at < n; at += put)
			if ((put = write(to, piece + at, (size_t)(n - at))) < 0)
				return 1;
	return n < 0;
}

int archive_main(const void *data)
{
	const struct archive *a = data;
	struct error err = { 0 };
	int file, root = open_root(a, &err);

	if (root < 0 || spawn_arrange(a->stdio, root, -1, &err) < 0)
		return 1;
	root = STDERR_FILENO + 1;
	if (a->mode == ARCHIVE_WRITE)
		file = openat(root, "taken", O_WRONLY | O_CREAT | O_APPEND, 0600);
	else
		file = openat(root, "hostile", O_RDONLY);
	if (file < 0)
		return 1;
	return a->mode == ARCHIVE_WRITE ? pass_on(STDIN_FILENO, file) : pass_on(file, STDOUT_FILENO);
}
