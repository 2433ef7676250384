/* Members of a tar, written to stdout: ustar, with pax headers for what does not fit. */
#include "tar.h"

#include "json.h"
#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { LINKS_MAX = 1 << 16, XATTR_MAX = 4096, PIECES_MAX = 9000, HOLES_LEAST = 64 * 1024 };

/* Files with several names that were written already. */
static struct seen { dev_t dev; ino_t ino; char *name; } *seen;

static char buffered[64 * 1024];
static size_t buffered_length;

/* What a file has beside holes. */
struct pieces {
	size_t count;
	struct piece { off_t at, length; } list[PIECES_MAX];
};

int tar_flush(struct error *err)
{
	int result = write_all(STDOUT_FILENO, buffered, buffered_length, err);

	buffered_length = 0;
	return result;
}

int tar_bytes(const void *bytes, size_t length, struct error *err)
{
	const char *from = bytes;

	while (length) {
		size_t room = sizeof(buffered) - buffered_length, n = length < room ? length : room;

		memcpy(buffered + buffered_length, from, n);
		buffered_length += n;
		from += n;
		length -= n;
		if (buffered_length == sizeof(buffered) && tar_flush(err) < 0)
			return -1;
	}
	return 0;
}

static int pad(uint64_t length, struct error *err)
{
	static const char zeros[TAR_BLOCK];

	return tar_bytes(zeros, (size_t)(-length & (TAR_BLOCK - 1)), err);
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
	return tar_bytes(h, sizeof(*h), err);
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

static void add_time(struct buffer *b, const struct timespec *time)
{
	char text[40];

	add_record(b, "mtime", text,
		   (size_t)snprintf(text, sizeof(text), "%lld.%09ld", (long long)time->tv_sec, time->tv_nsec));
}

/* GNU's format 1.0: the map comes before the content. */
static void add_sparse(struct buffer *b, const struct tar_entry *e)
{
	add_number(b, "GNU.sparse.major", 1);
	add_number(b, "GNU.sparse.minor", 0);
	add_record(b, "GNU.sparse.name", e->name, strlen(e->name));
	add_number(b, "GNU.sparse.realsize", (uint64_t)e->status->st_size);
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
	if (put_header(&h, err) < 0 || tar_bytes(b->data, b->length, err) < 0)
		return -1;
	return pad(b->length, err);
}

int tar_put(const struct tar_entry *e, struct error *err)
{
	struct tar_header h = { .type = e->type };
	struct buffer extended = { 0 };
	uint32_t uid = e->owner ? e->owner->uid : e->status->st_uid, gid = e->owner ? e->owner->gid : e->status->st_gid;
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
	if (e->exact && e->status->st_mtime >= 0 && e->status->st_mtim.tv_nsec)
		add_time(&extended, &e->status->st_mtim);
	if (e->pieces)
		add_sparse(&extended, e);
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

/* Exactly the `size` bytes from `at` on, whatever became of the file meanwhile. */
static int put_content(int fd, off_t at, uint64_t size, const char *name, struct error *err)
{
	static char bytes[65536];
	bool short_of = false;

	while (size) {
		size_t wanted = size < sizeof(bytes) ? (size_t)size : sizeof(bytes);
		ssize_t n = short_of ? (ssize_t)wanted : pread(fd, bytes, wanted, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			struct error shorter;

			fail(&shorter, n < 0 ? errno : EIO, "read all of %.200s", name);
			complain(&shorter);
			memset(bytes, 0, sizeof(bytes));
			short_of = true;
			continue;
		}
		if (tar_bytes(bytes, (size_t)n, err) < 0)
			return -1;
		at += n;
		size -= (uint64_t)n;
	}
	return 0;
}

/* Its pieces, or NULL: it has hardly a hole, or nobody can say. What is left of one with too many is one piece. */
static const struct pieces *find_pieces(int fd, const struct stat *status)
{
	static struct pieces pieces;
	off_t end = status->st_size, at = 0;

	pieces.count = 0;
	if (status->st_blocks * 512 + HOLES_LEAST > end)
		return NULL;
	while (at < end) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break;
		if (data < 0)
			return NULL;
		hole = pieces.count == PIECES_MAX - 1 ? end : lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || data >= end)
			break;
		hole = hole < end ? hole : end;
		pieces.list[pieces.count++] = (struct piece){ data, hole - data };
		at = hole;
	}
	return &pieces;
}

static void print_map(struct buffer *map, const struct pieces *pieces)
{
	buffer_format(map, "%zu\n", pieces->count);
	for (size_t i = 0; i < pieces->count; i++)
		buffer_format(map, "%lld\n%lld\n", (long long)pieces->list[i].at, (long long)pieces->list[i].length);
}

static int put_sparse(int fd, struct tar_entry *e, struct error *err)
{
	struct buffer map = { 0 };
	uint64_t stored = 0;
	int result = -1;

	print_map(&map, e->pieces);
	for (size_t i = 0; i < e->pieces->count; i++)
		stored += (uint64_t)e->pieces->list[i].length;
	e->size = (map.length + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK + stored;
	if (map.failed)
		fail(err, ENOMEM, "write a header");
	else if (tar_put(e, err) == 0 && tar_bytes(map.data, map.length, err) == 0 && pad(map.length, err) == 0)
		result = 0;
	buffer_free(&map);
	for (size_t i = 0; result == 0 && i < e->pieces->count; i++)
		result = put_content(fd, e->pieces->list[i].at, (uint64_t)e->pieces->list[i].length, e->name, err);
	return result < 0 ? -1 : pad(stored, err);
}

static int put_file(int dir, const char *base, struct tar_entry *e, struct error *err)
{
	struct stat status;
	/* Not to hang in a fifo that took its place. */
	autoclose int fd = openat(dir, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct error skipped;

	if (fd < 0 && errno == ENOENT && e->exact)
		return 0;
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
	e->pieces = e->exact && !e->link ? find_pieces(fd, &status) : NULL;
	if (e->pieces)
		return put_sparse(fd, e, err);
	if (tar_put(e, err) < 0 || put_content(fd, 0, e->size, e->name, err) < 0)
		return -1;
	return pad(e->size, err);
}

static int put_link(int dir, const char *base, struct tar_entry *e, struct error *err)
{
	char target[TAR_PATH_MAX];
	ssize_t length = readlinkat(dir, base, target, sizeof(target) - 1);
	struct error skipped;

	if (length < 0 && errno == ENOENT && e->exact)
		return 0;
	if (length < 0) {
		fail(&skipped, errno, "read link %.200s", e->name);
		complain(&skipped);
		return 0;
	}
	target[length] = 0;
	e->type = '2';
	e->link = target;
	return tar_put(e, err);
}

int tar_put_at(int dir, const char *base, struct tar_entry *e, struct error *err)
{
	mode_t mode = e->status->st_mode;

	switch (mode & S_IFMT) {
	case S_IFREG:
		return put_file(dir, base, e, err);
	case S_IFLNK:
		return put_link(dir, base, e, err);
	case S_IFSOCK:
		return 0;
	default:
		e->type = S_ISCHR(mode) ? '3' : S_ISBLK(mode) ? '4' : '6';
		return tar_put(e, err);
	}
}

int tar_end(struct error *err)
{
	static const char zeros[2 * TAR_BLOCK];

	return tar_bytes(zeros, sizeof(zeros), err) < 0 ? -1 : tar_flush(err);
}
