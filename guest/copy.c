/* Copying a tree: what an image has at a volume's place moves into the volume when that is new. */
#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { COPY_DEPTH = 256 };

static int copy_bytes(int from, int to, struct error *err)
{
	static char bytes[65536];

	for (;;) {
		ssize_t n = read(from, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, errno, "read a file to copy");
		if (n == 0)
			return 0;
		if (write_all(to, bytes, (size_t)n, err) < 0)
			return -1;
	}
}

/* The host takes no setuid and no setgid bit: the copy has none then. */
static int set_mode(int dir, const char *name, mode_t mode)
{
	if (fchmodat(dir, name, mode & 07777, 0) == 0)
		return 0;
	return errno == EPERM && mode & (S_ISUID | S_ISGID) ? fchmodat(dir, name, mode & 01777, 0) : -1;
}

static int set_owner(int dir, const char *name, const struct stat *status, struct error *err)
{
	struct timespec times[2] = { status->st_atim, status->st_mtim };

	if (fchownat(dir, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, "set the owner of %.200s", name);
	if (!S_ISLNK(status->st_mode) && set_mode(dir, name, status->st_mode) < 0)
		return fail(err, errno, "set the mode of %.200s", name);
	utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int copy_file(int from, int to, const char *name, struct error *err)
{
	autoclose int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	autoclose int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (in < 0 || out < 0)
		return fail(err, errno, "copy %.200s", name);
	return copy_bytes(in, out, err);
}

static int copy_folder(int from, int to, const char *name, int depth, struct error *err)
{
	autoclose int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	autoclose int out = -1;

	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return fail(err, errno, "copy folder %.200s", name);
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return fail(err, errno, "open folder %.200s", name);
	return copy_tree(in, out, depth + 1, err);
}

static int copy_link(int from, int to, const char *name, struct error *err)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(from, name, target, sizeof(target) - 1);

	if (length < 0)
		return fail(err, errno, "read link %.200s", name);
	target[length] = 0;
	if (symlinkat(target, to, name) < 0)
		return fail(err, errno, "copy link %.200s", name);
	return 0;
}

static int copy_entry(int from, int to, const char *name, int depth, struct error *err)
{
	struct stat status;
	int result = 0;

	if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, "look at %.200s", name);
	if (S_ISDIR(status.st_mode))
		result = copy_folder(from, to, name, depth, err);
	else if (S_ISREG(status.st_mode))
		result = copy_file(from, to, name, err);
	else if (S_ISLNK(status.st_mode))
		result = copy_link(from, to, name, err);
	else if (S_ISFIFO(status.st_mode))
		result = mknodat(to, name, S_IFIFO | 0600, 0) < 0 ? fail(err, errno, "copy %.200s", name) : 0;
	else
		return 0;	/* sockets and devices stay where they are */
	return result < 0 ? -1 : set_owner(to, name, &status, err);
}

int copy_tree(int from, int to, int depth, struct error *err)
{
	int dup = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = dup < 0 ? NULL : fdopendir(dup);
	struct dirent *entry;
	struct stat status;
	int result = 0;

	if (!dir) {
		close_fd(&dup);
		return fail(err, errno, "read a folder to copy");
	}
	if (depth > COPY_DEPTH)
		result = fail(err, ELOOP, "copy a tree of %d levels", depth);
	while (result == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			result = copy_entry(from, to, entry->d_name, depth, err);
	if (result == 0 && depth == 0 && fstat(from, &status) == 0)
		result = set_owner(to, ".", &status, err);
	closedir(dir);
	return result;
}
