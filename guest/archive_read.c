/* A tree of the container's as a tar. */
#include "archive.h"
#include "mount.h"
#include "tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 512 };

static int read_tree(const struct archive *a, int dir, const char *base, char *name, int depth, struct error *err);

static int read_folder(const struct archive *a, int dir, const char *base, char *name, int depth, struct tar_entry *e,
		       struct error *err)
{
	size_t length = strlen(name);
	int fd = openat(dir, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), result = 0;
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct error skipped;

	if (!list || depth > DEPTH_MAX) {
		fail(&skipped, list ? ELOOP : errno, "read folder %.200s", name);
		complain(&skipped);
		if (list)
			closedir(list);
		else
			close_fd(&fd);
		return 0;
	}
	e->type = '5';
	e->fd = fd;
	if (length + 2 > TAR_PATH_MAX) {
		result = fail(err, ENAMETOOLONG, "read folder %.200s", name);
	} else {
		strcpy(name + length, "/");
		result = tar_put(e, err);
	}
	while (result == 0 && (entry = readdir(list))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (length + 2 + strlen(entry->d_name) > TAR_PATH_MAX) {
			fail(&skipped, ENAMETOOLONG, "read %.100s below %.100s", entry->d_name, name);
			complain(&skipped);
			continue;
		}
		strcpy(name + length + 1, entry->d_name);
		result = read_tree(a, fd, entry->d_name, name, depth + 1, err);
	}
	name[length] = 0;
	closedir(list);
	return result;
}

/* `base` in `dir` goes into the tar as `name`, which has room for TAR_PATH_MAX and is as it was afterwards. */
static int read_tree(const struct archive *a, int dir, const char *base, char *name, int depth, struct error *err)
{
	struct stat status;
	struct tar_entry e = {
		.name = name, .fd = -1, .status = &status, .owner = a->has_owner ? &a->owner : NULL,
	};
	struct error skipped;

	if (fstatat(dir, base, &status, AT_SYMLINK_NOFOLLOW) < 0) {
		if (depth == 0)
			return fail(err, errno, "read %.200s", name);
		fail(&skipped, errno, "read %.200s", name);
		complain(&skipped);
		return 0;
	}
	if (S_ISDIR(status.st_mode))
		return read_folder(a, dir, base, name, depth, &e, err);
	return tar_put_at(dir, base, &e, err);
}

/* Cut the path into the folder that holds it and its last name: "." where it has none. */
static int split(const char *path, char *parent, size_t size, const char **base, struct error *err)
{
	char *slash;

	if (format(err, parent, size, "/%s", path) < 0)
		return -1;
	while ((slash = strrchr(parent, '/')) != parent && !slash[1])
		*slash = 0;
	*base = slash[1] && strcmp(slash + 1, "..") ? slash + 1 : ".";
	if (**base != '.' || (*base)[1])
		*slash = 0;
	return 0;
}

/* With follow: replace `path` by what it leads to, link by link; the entry keeps the name that was asked for. */
static int find_target(int root, char *path, size_t size, struct error *err)
{
	char target[4096], joined[2 * TAR_PATH_MAX], parent[TAR_PATH_MAX + 1];
	const char *base;

	for (int links = 0; links < 40; links++) {
		struct stat status;
		ssize_t length;
		autoclose int dir = -1;

		if (split(path, parent, sizeof(parent), &base, err) < 0)
			return -1;
		dir = open_beneath(root, parent, O_PATH | O_DIRECTORY, 0, err);
		if (dir < 0)
			return -1;
		if (fstatat(dir, base, &status, AT_SYMLINK_NOFOLLOW) < 0)
			return fail(err, errno, "read %.200s", path);
		if (!S_ISLNK(status.st_mode))
			return 0;
		length = readlinkat(dir, base, target, sizeof(target) - 1);
		if (length < 0)
			return fail(err, errno, "read link %.200s", path);
		target[length] = 0;
		if (format(err, joined, sizeof(joined), "%s/%s", *target == '/' ? "" : parent, target) < 0 ||
		    format(err, path, size, "%s", joined) < 0)
			return -1;
	}
	return fail(err, ELOOP, "follow %.200s", path);
}

int archive_read(int root, const struct archive *a, struct error *err)
{
	static char name[TAR_PATH_MAX + 1], path[TAR_PATH_MAX + 1], parent[TAR_PATH_MAX + 1];
	const char *base;
	autoclose int dir = -1;

	if (split(a->path, parent, sizeof(parent), &base, err) < 0 ||
	    format(err, name, TAR_PATH_MAX, "%s", base) < 0 || format(err, path, sizeof(path), "%s", a->path) < 0)
		return -1;
	if (a->follow && find_target(root, path, sizeof(path), err) < 0)
		return -1;
	if (split(path, parent, sizeof(parent), &base, err) < 0)
		return -1;
	dir = open_beneath(root, parent, O_PATH | O_DIRECTORY, 0, err);
	if (dir < 0 || read_tree(a, dir, base, name, 0, err) < 0)
		return -1;
	return tar_end(err);
}
