/* What a container has made of its image: as a layer's tar in OCI's words, or as the list that docker's diff prints.

   The overlay's upper folder says where to look: what it has is another than in the image, by its own account. Folders
   that are not merged with the image's of the same name (opaque ones, renamed ones) are compared with it name by name
   for the list, and hide it in the layer. What there is to read is read through the overlay. */
#include "archive.h"
#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { DEPTH_MAX = 200, XATTR_MAX = 4096 };	/* each level holds three descriptors */

#define WHITEOUT ".wh."
#define OPAQUE WHITEOUT WHITEOUT ".opq"

/* A folder on the way down. */
struct place {
	struct place *above;
	int merged, upper, lower;	/* as it is; what was written to it, -1: look at all; in the image, -1: not there */
	size_t length;			/* of its path */
	int depth;
	const struct stat *status;
	char due;			/* what it is to be called once there is something in it to tell of, 0: nothing */
};

static enum archive_mode mode;
static char path[TAR_PATH_MAX + 2];	/* of what is looked at, below the root, no slash in front */

static int complain_of(int number, const char *what, const char *name)
{
	struct error err;

	fail(&err, number, "%s %.200s", what, name);
	complain(&err);
	return 0;
}

/* ---- what is told ---- */

static int list_change(char kind, struct error *err)
{
	char head[2] = { kind, '/' };

	if (tar_bytes(head, 2, err) < 0)
		return -1;
	return tar_bytes(path, strlen(path) + 1, err);
}

/* An empty file that hides what the image has. */
static int put_whiteout(const char *folder, size_t length, const char *prefix, const char *name, struct error *err)
{
	static const struct stat nothing;
	char hidden[TAR_PATH_MAX + 16];
	struct tar_entry e = { .name = hidden, .type = '0', .fd = -1, .status = &nothing };

	snprintf(hidden, sizeof(hidden), "%.*s%s%s%s", (int)length, folder, length ? "/" : "", prefix, name);
	return tar_put(&e, err);
}

static int put_folder(const struct place *place, struct error *err)
{
	static char name[TAR_PATH_MAX + 2];
	const struct tar_entry e = {
		.name = name, .type = '5', .fd = place->merged, .status = place->status, .exact = true,
	};

	snprintf(name, sizeof(name), "%.*s/", (int)place->length, path);
	return tar_put(&e, err);
}

/* The folders above, as changed ones where that was not said of them yet. */
static int tell_above(struct place *place, struct error *err)
{
	char kind = place->due, cut = path[place->length];
	int result;

	if (!kind)
		return 0;
	place->due = 0;
	if (place->above && tell_above(place->above, err) < 0)
		return -1;
	if (mode != ARCHIVE_CHANGES)
		return put_folder(place, err);
	path[place->length] = 0;
	result = list_change(kind, err);
	path[place->length] = cut;
	return result;
}

static int tell_deleted(struct place *place, const char *name, struct error *err)
{
	if (mode == ARCHIVE_TREE)
		return 0;
	if (tell_above(place, err) < 0)
		return -1;
	return mode == ARCHIVE_CHANGES ? list_change('D', err) : put_whiteout(path, place->length, WHITEOUT, name, err);
}

static int tell_file(struct place *place, const char *name, const struct stat *status, bool added, struct error *err)
{
	struct tar_entry e = { .name = path, .fd = -1, .status = status, .exact = true };

	if (tell_above(place, err) < 0)
		return -1;
	if (mode == ARCHIVE_CHANGES)
		return list_change(added ? 'A' : 'C', err);
	if (mode == ARCHIVE_LAYER && !strncmp(name, WHITEOUT, 4))
		return complain_of(EINVAL, "keep in a layer, where names that begin so mean something else,", path);
	return tar_put_at(place->merged, name, &e, err);
}

/* ---- what is another ---- */

static bool other_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec || (a->tv_nsec != b->tv_nsec && a->tv_nsec && b->tv_nsec);
}

/* As docker compares, which a layer need not believe: a folder by what it is, not by when something in it changed. */
static bool other_status(const struct stat *a, const struct stat *b)
{
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid || a->st_rdev != b->st_rdev)
		return true;
	return !S_ISDIR(a->st_mode) && (a->st_size != b->st_size || other_time(&a->st_mtim, &b->st_mtim));
}

static ssize_t capability(int dir, const char *name, char *value, size_t size)
{
	autoclose int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	return fd < 0 ? -1 : fgetxattr(fd, "security.capability", value, size);
}

static bool other_file(const struct place *place, const char *name, const struct stat *merged, const struct stat *lower)
{
	char a[64], b[64];
	ssize_t length;

	if (other_status(merged, lower))
		return true;
	if (!S_ISREG(merged->st_mode))
		return false;
	length = capability(place->merged, name, a, sizeof(a));
	return length != capability(place->lower, name, b, sizeof(b)) || (length > 0 && memcmp(a, b, (size_t)length));
}

static bool other_content(const struct place *place, const char *name, const struct stat *status)
{
	static char a[65536], b[65536];
	char target[2][TAR_PATH_MAX];
	autoclose int merged = -1, lower = -1;
	ssize_t n;

	if (S_ISLNK(status->st_mode)) {
		n = readlinkat(place->merged, name, target[0], sizeof(target[0]));
		return n < 0 || n != readlinkat(place->lower, name, target[1], sizeof(target[1])) ||
			memcmp(target[0], target[1], (size_t)n);
	}
	if (!S_ISREG(status->st_mode))
		return false;
	merged = openat(place->merged, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	lower = openat(place->lower, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	for (off_t at = 0; at < status->st_size; at += n) {
		n = pread(merged, a, sizeof(a), at);
		if (n <= 0 || n != pread(lower, b, (size_t)n, at) || memcmp(a, b, (size_t)n))
			return true;
	}
	return false;
}

/* Does it have an attribute that the other has not, or not so? Only those that a layer keeps count. */
static bool has_more(int fd, int other)
{
	char names[XATTR_MAX], a[XATTR_MAX], b[XATTR_MAX];
	ssize_t length = flistxattr(fd, names, sizeof(names));

	for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t n;

		if (strncmp(names + at, "user.", 5))
			continue;
		n = fgetxattr(fd, names + at, a, sizeof(a));
		if (n != fgetxattr(other, names + at, b, sizeof(b)) || (n > 0 && memcmp(a, b, (size_t)n)))
			return true;
	}
	return false;
}

/* Where what every container has is mounted. docker has these too before a container begins. */
static bool is_mount_point(void)
{
	static const char *const points[] = {
		"dev", "proc", "sys", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf",
	};

	for (size_t i = 0; i < COUNT(points); i++)
		if (!strcmp(points[i], path))
			return true;
	return false;
}

/* ---- the way down ---- */

struct names {
	char **list;
	size_t count, room;
};

static int add_name(struct names *n, const char *name, struct error *err)
{
	if (n->count == n->room) {
		size_t room = n->room ? 2 * n->room : 64;
		char **list = realloc(n->list, room * sizeof(*list));

		if (!list)
			return fail(err, ENOMEM, "read folder %.200s", path);
		n->list = list;
		n->room = room;
	}
	if (!(n->list[n->count] = strdup(name)))
		return fail(err, ENOMEM, "read folder %.200s", path);
	n->count++;
	return 0;
}

static int add_names(struct names *n, int dir, struct error *err)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!folder) {
		complain_of(errno, "read folder", path);
		close_fd(&fd);
		return 0;
	}
	while (result == 0 && (entry = readdir(folder)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			result = add_name(n, entry->d_name, err);
	closedir(folder);
	return result;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_free(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
}

static int visit(struct place *place, const char *name, struct error *err);

/* In order, so that the same changes are the same bytes. */
static int visit_all(struct place *place, struct error *err)
{
	struct names names = { 0 };
	int result = add_names(&names, place->upper >= 0 ? place->upper : place->merged, err);

	if (result == 0 && place->upper < 0 && place->lower >= 0)
		result = add_names(&names, place->lower, err);
	if (names.count)
		qsort(names.list, names.count, sizeof(*names.list), compare);
	for (size_t i = 0; result == 0 && i < names.count; i++) {
		size_t length = strlen(names.list[i]);

		if (i && !strcmp(names.list[i], names.list[i - 1]))
			continue;
		if (place->length + length + 2 > TAR_PATH_MAX) {
			complain_of(ENAMETOOLONG, "read", names.list[i]);
			continue;
		}
		snprintf(path + place->length, sizeof(path) - place->length, "%s%s", place->length ? "/" : "",
			 names.list[i]);
		result = visit(place, names.list[i], err);
		path[place->length] = 0;
	}
	names_free(&names);
	return result;
}

static int open_folder(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* What was written to a folder that is otherwise as in the image; -1: it hides that, or came from elsewhere. */
static int open_merged(int upper, const char *name)
{
	char value[2];
	int fd = open_folder(upper, name);

	if (fd >= 0 && (fgetxattr(fd, "trusted.overlay.opaque", value, sizeof(value)) > 0 ||
			fgetxattr(fd, "trusted.overlay.redirect", NULL, 0) >= 0))
		close_fd(&fd);
	return fd;
}

static int visit_folder(struct place *above, const char *name, const struct stat *status, const struct stat *lower_status,
			struct error *err)
{
	struct place here = { .above = above, .length = strlen(path), .depth = above->depth + 1, .status = status };
	autoclose int lower = lower_status && S_ISDIR(lower_status->st_mode) ? open_folder(above->lower, name) : -1;
	autoclose int upper = above->upper >= 0 && lower >= 0 ? open_merged(above->upper, name) : -1;
	autoclose int merged = open_folder(above->merged, name);
	bool hides = mode == ARCHIVE_LAYER && lower >= 0 && upper < 0;

	if (merged < 0 && errno == ENOENT)
		return 0;		/* it went while we looked */
	if (merged < 0 || here.depth > DEPTH_MAX)
		return complain_of(merged < 0 ? errno : ELOOP, "read folder", path);
	if (mode == ARCHIVE_LAYER && !strncmp(name, WHITEOUT, 4))
		return complain_of(EINVAL, "keep in a layer, where names that begin so mean something else,", path);
	here.merged = merged;
	here.upper = upper;
	here.lower = hides ? -1 : lower;
	here.due = lower_status || (mode != ARCHIVE_TREE && is_mount_point()) ? 'C' : 'A';
	if (here.due == 'A' || hides || (lower_status && other_status(status, lower_status)) ||
	    (mode == ARCHIVE_LAYER && lower >= 0 && (has_more(merged, lower) || has_more(lower, merged))))
		if (tell_above(&here, err) < 0)
			return -1;
	if (hides && put_whiteout(path, here.length, "", OPAQUE, err) < 0)
		return -1;
	return visit_all(&here, err);
}

static int visit(struct place *place, const char *name, struct error *err)
{
	struct stat status, lower;
	bool known = place->lower >= 0 && fstatat(place->lower, name, &lower, AT_SYMLINK_NOFOLLOW) == 0;

	if (fstatat(place->merged, name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return complain_of(errno, "read", path);
		return known ? tell_deleted(place, name, err) : 0;
	}
	if (S_ISDIR(status.st_mode))
		return visit_folder(place, name, &status, known ? &lower : NULL, err);
	if (mode != ARCHIVE_TREE && !known && S_ISREG(status.st_mode) && !status.st_size && is_mount_point())
		return 0;
	if (known && !other_file(place, name, &status, &lower) && (mode == ARCHIVE_CHANGES ||
	    (status.st_nlink == lower.st_nlink && !other_content(place, name, &status))))
		return 0;	/* opened to be written to, or changed and changed back */
	return tell_file(place, name, &status, !known, err);
}

int archive_layer(int root, int dir, enum archive_mode what, struct error *err)
{
	autoclose int merged = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autoclose int upper = what == ARCHIVE_TREE ? -1 : open_plain(dir, "upper/data", O_RDONLY | O_DIRECTORY, 0, err);
	autoclose int lower = what == ARCHIVE_TREE ? -1 : open_plain(dir, "lower", O_RDONLY | O_DIRECTORY, 0, err);
	struct place top = { .merged = merged, .upper = upper, .lower = lower };

	if (merged < 0)
		return fail(err, errno, "open the container's root");
	if (what != ARCHIVE_TREE && (upper < 0 || lower < 0))
		return -1;
	mode = what;
	if (visit_all(&top, err) < 0)
		return -1;
	return what == ARCHIVE_CHANGES ? tar_flush(err) : tar_end(err);
}
