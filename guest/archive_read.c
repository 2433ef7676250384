/* A tree of the container's as a tar: ustar, with pax headers for what does not fit. */
#include "archive.h"
#include "mount.h"
#include "tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { DEPTH_MAX = 512, LINKS_MAX = 1 << 16, XATTR_MAX = 4096 };

/* Files with several names that were written already. */
static struct seen { dev_t dev; ino_t ino; char *name; } *seen;

static char buffered[64 * 1024];
static size_t buffered_length;

static int flush(struct error *err)
{
	int result = write_all(STDOUT_FILENO, buffered, buffered_length, err);

	buffered_length = 0;
	return result;
}

static int put(const void *bytes, size_t length, struct error *err)
{
	const char *from = bytes;

	while (length) {
		size_t room = sizeof(buffered) - buffered_length, n = length < room ? length : room;

		memcpy(buffered + buffered_length, from, n);
		buffered_length += n;
		from += n;
		length -= n;
		if (buffered_length == sizeof(buffered) && flush(err) < 0)
			return -1;
	}
	return 0;
}

static int pad(uint64_t length, struct error *err)
{
	static const char zeros[TAR_BLOCK];

	return put(zeros, (size_t)(-length & (TAR_BLOCK - 1)), err);
}

static void put_octal(char *field, size_t size, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%0*llo", (int)size - 1, (unsigned long long)value);
	if (strlen(digits) < size)
		memcpy(field, digits, size);
	else
		memset(field, '0', size - 1);	/* too large: a pax record has it */
}

static int put_header(struct tar_header *h, struct error *err)
{
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	snprintf(h->checksum, sizeof(h->checksum), "%06o", tar_checksum(h));
	h->checksum[7] = ' ';
	return put(h, sizeof(*h), err);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void add_record(struct buffer *b, const char *key, const void *value, size_t length)
{
	size_t rest = strlen(key) + length + 3, total = rest + 1, digits;

	do {
		digits = (size_t)snprintf(NULL, 0, "%zu", total);
		total = rest + digits;
	} while ((size_t)snprintf(NULL, 0, "%zu", total) != digits);
	buffer_format(b, "%zu %s=", total, key);
	buffer_add(b, value, length);
	buffer_add(b, "\n", 1);
}

static void add_number(struct buffer *b, const char *key, uint64_t value)
{
	char digits[24];

	add_record(b, key, digits, (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value));
}

/* Capabilities and the user's own: others are the file system's business. */
static void add_xattrs(struct buffer *b, int fd)
{
	char names[XATTR_MAX], value[XATTR_MAX], key[300];
	ssize_t length = flistxattr(fd, names, sizeof(names));

	for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
		const char *name = names + at;
		ssize_t n;

		if (strcmp(name, "security.capability") && strncmp(name, "user.", 5))
			continue;
		n = fgetxattr(fd, name, value, sizeof(value));
		snprintf(key, sizeof(key), "SCHILY.xattr.%.255s", name);
		if (n >= 0)
			add_record(b, key, value, (size_t)n);
	}
}

static int put_extended(const struct buffer *b, struct error *err)
{
	struct tar_header h = { .type = 'x', .name = "././@PaxHeader" };

	if (b->failed)
		return fail(err, ENOMEM, "write a header");
	if (!b->length)
		return 0;
	put_octal(h.mode, sizeof(h.mode), 0644);
	put_octal(h.uid, sizeof(h.uid), 0);
	put_octal(h.gid, sizeof(h.gid), 0);
	put_octal(h.size, sizeof(h.size), b->length);
	put_octal(h.mtime, sizeof(h.mtime), 0);
	if (put_header(&h, err) < 0 || put(b->data, b->length, err) < 0)
		return -1;
	return pad(b->length, err);
}

struct entry {
	const char *name;
	char type;
	const char *link;
	uint64_t size;
	int fd;				/* for its xattrs, -1: none */
	const struct stat *status;
};

static int put_entry(const struct archive *a, const struct entry *e, struct error *err)
{
	struct tar_header h = { .type = e->type };
	struct buffer extended = { 0 };
	uint32_t uid = a->has_owner ? a->uid : e->status->st_uid, gid = a->has_owner ? a->gid : e->status->st_gid;
	uint64_t mtime = e->status->st_mtime < 0 ? 0 : (uint64_t)e->status->st_mtime;
	size_t name = strlen(e->name), link = e->link ? strlen(e->link) : 0;
	int result;

	if (name > TAR_NAME)
		add_record(&extended, "path", e->name, name);
	if (link > TAR_NAME)
		add_record(&extended, "linkpath", e->link, link);
	if (uid > 07777777)
		add_number(&extended, "uid", uid);
	if (gid > 07777777)
		add_number(&extended, "gid", gid);
	if (e->size > 077777777777ull)
		add_number(&extended, "size", e->size);
	if (e->fd >= 0)
		add_xattrs(&extended, e->fd);
	memcpy(h.name, e->name, name < TAR_NAME ? name : TAR_NAME);
	if (link)
		memcpy(h.link, e->link, link < TAR_NAME ? link : TAR_NAME);
	put_octal(h.mode, sizeof(h.mode), e->status->st_mode & 07777);
	put_octal(h.uid, sizeof(h.uid), uid);
	put_octal(h.gid, sizeof(h.gid), gid);
	put_octal(h.size, sizeof(h.size), e->size);
	put_octal(h.mtime, sizeof(h.mtime), mtime);
	put_octal(h.major_number, sizeof(h.major_number), major(e->status->st_rdev));
	put_octal(h.minor_number, sizeof(h.minor_number), minor(e->status->st_rdev));
	result = put_extended(&extended, err) < 0 || put_header(&h, err) < 0 ? -1 : 0;
	buffer_free(&extended);
	return result;
}

/* The name under which this file was written, or NULL; then it is remembered under `name`. */
static const char *seen_before(const struct stat *status, const char *name)
{
	size_t at = (size_t)(status->st_ino * 2654435761u) % LINKS_MAX;

	if (!seen && !(seen = calloc(LINKS_MAX, sizeof(*seen))))
		return NULL;
	for (int i = 0; i < 64; i++, at = (at + 1) % LINKS_MAX) {
		if (!seen[at].name) {
			seen[at] = (struct seen){ status->st_dev, status->st_ino, strdup(name) };
			return NULL;
		}
		if (seen[at].dev == status->st_dev && seen[at].ino == status->st_ino)
			return seen[at].name;
	}
	return NULL;	/* too many: it becomes a file of its own */
}

/* Exactly `size` bytes, whatever became of the file meanwhile. */
static int put_content(int fd, uint64_t size, const char *name, struct error *err)
{
	static char bytes[65536];
	uint64_t left = size;

	while (left) {
		ssize_t n = read(fd, bytes, left < sizeof(bytes) ? (size_t)left : sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			struct error shorter;

			fail(&shorter, n < 0 ? errno : EIO, "read all of %.200s", name);
			complain(&shorter);
			memset(bytes, 0, sizeof(bytes));
			for (; left; left -= (uint64_t)n) {
				n = left < sizeof(bytes) ? (ssize_t)left : (ssize_t)sizeof(bytes);
				if (put(bytes, (size_t)n, err) < 0)
					return -1;
			}
			break;
		}
		if (put(bytes, (size_t)n, err) < 0)
			return -1;
		left -= (uint64_t)n;
	}
	return pad(size, err);
}

static int read_file(const struct archive *a, int dir, const char *base, struct entry *e, struct error *err)
{
	struct stat status;
	/* Not to hang in a fifo that took its place. */
	autoclose int fd = openat(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct error skipped;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		fail(&skipped, fd < 0 ? errno : ESTALE, "read %.200s", e->name);
		complain(&skipped);
		return 0;
	}
	e->status = &status;
	e->link = status.st_nlink > 1 ? seen_before(&status, e->name) : NULL;
	e->type = e->link ? '1' : '0';
	e->size = e->link ? 0 : (uint64_t)status.st_size;
	e->fd = e->link ? -1 : fd;
	if (put_entry(a, e, err) < 0)
		return -1;
	return e->link ? 0 : put_content(fd, e->size, e->name, err);
}

static int read_tree(const struct archive *a, int dir, const char *base, char *name, int depth, struct error *err);

static int read_folder(const struct archive *a, int dir, const char *base, char *name, int depth, struct entry *e,
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
		result = put_entry(a, e, err);
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

static int read_link(const struct archive *a, int dir, const char *base, struct entry *e, struct error *err)
{
	char target[TAR_PATH_MAX];
	ssize_t length = readlinkat(dir, base, target, sizeof(target) - 1);
	struct error skipped;

	if (length < 0) {
		fail(&skipped, errno, "read link %.200s", e->name);
		complain(&skipped);
		return 0;
	}
	target[length] = 0;
	e->type = '2';
	e->link = target;
	return put_entry(a, e, err);
}

/* `base` in `dir` goes into the tar as `name`, which has room for TAR_PATH_MAX and is as it was afterwards. */
static int read_tree(const struct archive *a, int dir, const char *base, char *name, int depth, struct error *err)
{
	struct stat status;
	struct entry e = { .name = name, .fd = -1, .status = &status };
	struct error skipped;

	if (fstatat(dir, base, &status, AT_SYMLINK_NOFOLLOW) < 0) {
		if (depth == 0)
			return fail(err, errno, "read %.200s", name);
		fail(&skipped, errno, "read %.200s", name);
		complain(&skipped);
		return 0;
	}
	switch (status.st_mode & S_IFMT) {
	case S_IFDIR:
		return read_folder(a, dir, base, name, depth, &e, err);
	case S_IFREG:
		return read_file(a, dir, base, &e, err);
	case S_IFLNK:
		return read_link(a, dir, base, &e, err);
	case S_IFSOCK:
		return 0;
	default:
		e.type = S_ISCHR(status.st_mode) ? '3' : S_ISBLK(status.st_mode) ? '4' : '6';
		return put_entry(a, &e, err);
	}
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
	static const char zeros[2 * TAR_BLOCK];
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
	if (dir < 0 || read_tree(a, dir, base, name, 0, err) < 0 || put(zeros, sizeof(zeros), err) < 0)
		return -1;
	return flush(err);
}
