/* Copying a tree: what an image has at a volume's place goes into the volume when that is new. */
#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

enum { COPY_DEPTH = 256 };

/* Zeros are holes in the copy, for an image may have any number of them in no room. */
static int copy_bytes(int from, int to, struct error *err)
{
	static const char zeros[65536];
	static char bytes[sizeof(zeros)];
	off_t size = 0;

	for (;;) {
		ssize_t n = read(from, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, errno, "read a file to copy");
		if (n == 0)
			break;
		size += n;
		if (n == (ssize_t)sizeof(bytes) && !memcmp(bytes, zeros, sizeof(bytes))) {
			if (lseek(to, n, SEEK_CUR) < 0)
				return fail(err, errno, "leave a hole");
		} else if (write_all(to, bytes, (size_t)n, err) < 0) {
			return -1;
		}
	}
	return ftruncate(to, size) < 0 ? fail(err, errno, "set the size of a file") : 0;
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

static const char whole[] = "file";	/* in `unfinished`, until it is */
static int unfinished = -1;

/* A file has its name once it is whole. */
static int copy_file(int from, int to, const char *name, const struct stat *status, struct error *err)
{
	autoclose int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	autoclose int out = openat(unfinished, whole, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (in < 0 || out < 0)
		return fail(err, errno, "copy %.200s", name);
	if (copy_bytes(in, out, err) < 0 || set_owner(unfinished, whole, status, err) < 0)
		return -1;
	if (syscall(SYS_renameat2, unfinished, whole, to, name, 1 /* RENAME_NOREPLACE */) < 0)
		return fail(err, errno, "copy %.200s", name);
	return 0;
}

static int copy_tree(int from, int to, int depth, struct error *err);

static int copy_folder(int from, int to, const char *name, int depth, struct error *err)
{
	autoclose int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	autoclose int out = -1;

	if (in < 0 || (mkdirat(to, name, 0700) < 0 && errno != EEXIST))
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
	struct stat status, there;
	int result = 0;

	if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, "look at %.200s", name);
	if (fstatat(to, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && !(S_ISDIR(status.st_mode) && S_ISDIR(there.st_mode)))
		return 0;
	if (S_ISREG(status.st_mode))
		return copy_file(from, to, name, &status, err);
	if (S_ISDIR(status.st_mode))
		result = copy_folder(from, to, name, depth, err);
	else if (S_ISLNK(status.st_mode))
		result = copy_link(from, to, name, err);
	else if (S_ISFIFO(status.st_mode))
		result = mknodat(to, name, S_IFIFO | 0600, 0) < 0 ? fail(err, errno, "copy %.200s", name) : 0;
	else
		return 0;	/* sockets and devices stay where they are */
	return result < 0 ? -1 : set_owner(to, name, &status, err);
}

static int copy_tree(int from, int to, int depth, struct error *err)
{
	int dup = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = dup < 0 ? NULL : fdopendir(dup);
	struct dirent *entry;
	int result = 0;

	if (!dir) {
		close_fd(&dup);
		return fail(err, errno, "read a folder to copy");
	}
	if (depth > COPY_DEPTH)
		result = fail(err, ELOOP, "copy a tree of %d levels", depth);
	while (result == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    (depth || strcmp(entry->d_name, COPY_UNFINISHED)))
			result = copy_entry(from, to, entry->d_name, depth, err);
	closedir(dir);
	return result;
}

static bool is_empty(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	int entries = 0;

	if (!dir) {
		close_fd(&fd);
		return false;
	}
	while (entries < 3 && readdir(dir))
		entries++;
	closedir(dir);
	return entries == 2;	/* "." and ".." */
}

bool copy_is_due(int volume)
{
	struct stat status;

	return is_empty(volume) || (fstatat(volume, COPY_UNFINISHED, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
				    S_ISDIR(status.st_mode));
}

int copy_missing(int from, int to, struct error *err)
{
	struct stat status;
	int result;

	if (mkdirat(to, COPY_UNFINISHED, 0700) < 0 && errno != EEXIST)
		return fail(err, errno, "make " COPY_UNFINISHED);
	unfinished = openat(to, COPY_UNFINISHED, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (unfinished < 0)
		return fail(err, errno, "open " COPY_UNFINISHED);
	result = copy_tree(from, to, 0, err);
	if (result == 0 && fstat(from, &status) == 0)
		result = set_owner(to, ".", &status, err);
	unlinkat(unfinished, whole, 0);		/* of one that was cut short, and is not missing any more */
	close_fd(&unfinished);
	if (result == 0 && unlinkat(to, COPY_UNFINISHED, AT_REMOVEDIR) < 0)
		result = fail(err, errno, "remove " COPY_UNFINISHED);
	return result;
}
