/* A tar into the container's root. Every name in it is hostile: parents are resolved beneath the root, the last
   component is never followed. */
#include "archive.h"
#include "mount.h"
#include "tar.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { XATTRS_MAX = 16 };

struct member {
	char type;
	char *name, *link;
	uint64_t size;
	uint32_t mode, uid, gid;
	int64_t mtime;
	unsigned major_number, minor_number;
	struct { char *key; const char *value; size_t length; } xattrs[XATTRS_MAX];
	size_t xattrs_count;
};

/* What pax and GNU headers say about the next member. The text holds all strings. */
struct extended {
	char *text, *gnu_name, *gnu_link;
	bool has_size, has_uid, has_gid, has_mtime;
	struct member said;
};

static int get(void *to, size_t length, struct error *err)
{
	char *at = to;

	while (length) {
		ssize_t n = read(STDIN_FILENO, at, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, errno, "read the archive");
		if (n == 0)
			return fail(err, EPIPE, "read the archive: it was cut short");
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

static uint64_t padding(uint64_t size)
{
	return -size & (TAR_BLOCK - 1);
}

static int discard(uint64_t length, struct error *err)
{
	static char bytes[65536];

	while (length) {
		size_t n = length < sizeof(bytes) ? (size_t)length : sizeof(bytes);

		if (get(bytes, n, err) < 0)
			return -1;
		length -= n;
	}
	return 0;
}

/* Octal digits, or a big-endian number behind a byte with the highest bit set. */
static int get_number(const char *field, size_t size, uint64_t *value, struct error *err)
{
	const unsigned char *b = (const unsigned char *)field;
	size_t i = 0;

	*value = 0;
	if (b[0] & 0x80) {
		if (b[0] != 0x80)
			return fail(err, EINVAL, "read a number of the archive");
		for (i = 1; i < size; i++) {
			if (*value >> 55)
				return fail(err, ERANGE, "read a number of the archive");
			*value = *value << 8 | b[i];
		}
		return 0;
	}
	while (i < size && b[i] == ' ')
		i++;
	for (; i < size && b[i] >= '0' && b[i] <= '7'; i++)
		*value = *value << 3 | (uint64_t)(b[i] - '0');
	return i < size && b[i] && b[i] != ' ' ? fail(err, EINVAL, "read a number of the archive") : 0;
}

static char *get_text(uint64_t size, struct error *err)
{
	char *text;

	if (size > TAR_EXTENDED_MAX) {
		fail(err, E2BIG, "read a header of %llu bytes", (unsigned long long)size);
		return NULL;
	}
	text = malloc((size_t)size + 1);
	if (!text) {
		fail(err, ENOMEM, "read a header");
		return NULL;
	}
	text[size] = 0;
	if (get(text, (size_t)size, err) == 0 && discard(padding(size), err) == 0)
		return text;
	free(text);
	return NULL;
}

/* Decimal digits and nothing else, at most `most`. */
static int parse_decimal(const char *text, uint64_t most, uint64_t *value, struct error *err)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || *value > most)
		return fail(err, EINVAL, "read the number '%.40s' of a pax header", text);
	return 0;
}

static int keep_number(struct extended *x, const char *key, const char *value, struct error *err)
{
	struct member *said = &x->said;
	uint64_t number;

	if (!strcmp(key, "mtime")) {	/* before 1970 and with a fraction too */
		said->mtime = strtoll(value, NULL, 10);
		x->has_mtime = true;
		return 0;
	}
	if (parse_decimal(value, *key == 's' ? INT64_MAX : UINT32_MAX, &number, err) < 0)
		return -1;
	if (!strcmp(key, "size")) {
		said->size = number;
		x->has_size = true;
	} else if (!strcmp(key, "uid")) {
		said->uid = (uint32_t)number;
		x->has_uid = true;
	} else {
		said->gid = (uint32_t)number;
		x->has_gid = true;
	}
	return 0;
}

/* An empty value means what the member's own header says. */
static int keep_record(struct extended *x, char *key, char *value, size_t length, struct error *err)
{
	struct member *said = &x->said;

	if (!strcmp(key, "path")) {
		said->name = *value ? value : NULL;
	} else if (!strcmp(key, "linkpath")) {
		said->link = *value ? value : NULL;
	} else if (!strcmp(key, "size") || !strcmp(key, "uid") || !strcmp(key, "gid") || !strcmp(key, "mtime")) {
		return *value ? keep_number(x, key, value, err) : 0;
	} else if (!strncmp(key, "SCHILY.xattr.", 13)) {
		if (said->xattrs_count == XATTRS_MAX) {
			fail(err, E2BIG, "keep more than %d attributes of a file", XATTRS_MAX);
			complain(err);
			return 0;
		}
		said->xattrs[said->xattrs_count].key = key + 13;
		said->xattrs[said->xattrs_count].value = value;
		said->xattrs[said->xattrs_count++].length = length;
	}
	return 0;
}

static int parse_records(struct extended *x, size_t size, struct error *err)
{
	char *at = x->text, *end = at + size;

	while (at < end) {
		char *space, *equals;
		unsigned long length;

		if (*at < '1' || *at > '9')
			return fail(err, EINVAL, "read a pax header");
		errno = 0;
		length = strtoul(at, &space, 10);
		if (errno || *space != ' ' || length > (size_t)(end - at) || length < (size_t)(space - at) + 3 ||
		    at[length - 1] != '\n')
			return fail(err, EINVAL, "read a pax header");
		at[length - 1] = 0;
		equals = memchr(space, '=', (size_t)(at + length - space));
		if (!equals)
			return fail(err, EINVAL, "read a pax header");
		*equals++ = 0;
		if (keep_record(x, space + 1, equals, (size_t)(at + length - 1 - equals), err) < 0)
			return -1;
		at += length;
	}
	return 0;
}

/* All that a pax header said goes with its text, which holds the strings. */
static void forget_records(struct extended *x)
{
	free(x->text);
	*x = (struct extended){ .gnu_name = x->gnu_name, .gnu_link = x->gnu_link };
}

/* Its size is what its own header says: what a pax header said is of the member. */
static int read_extended(struct extended *x, const struct tar_header *h, struct error *err)
{
	char type = h->type, *text, **keep = type == 'L' ? &x->gnu_name : type == 'K' ? &x->gnu_link : &x->text;
	uint64_t size;

	if (get_number(h->size, sizeof(h->size), &size, err) < 0 || !(text = get_text(size, err)))
		return -1;
	if (type == 'g') {	/* of no file in particular: comments, mostly */
		free(text);
		return 0;
	}
	if (type == 'x')
		forget_records(x);	/* of two for one member the second is meant */
	free(*keep);
	*keep = text;
	return type == 'x' ? parse_records(x, (size_t)size, err) : 0;
}

static void forget_extended(struct extended *x)
{
	forget_records(x);
	free(x->gnu_name);
	free(x->gnu_link);
	x->gnu_name = x->gnu_link = NULL;
}

static int parse_member(const struct tar_header *h, struct extended *x, char *name, char *link, struct member *m,
			struct error *err)
{
	uint64_t mode, uid, gid, mtime, major_number, minor_number;

	if (get_number(h->mode, 8, &mode, err) < 0 || get_number(h->uid, 8, &uid, err) < 0 ||
	    get_number(h->gid, 8, &gid, err) < 0 || get_number(h->mtime, 12, &mtime, err) < 0 ||
	    get_number(h->size, 12, &m->size, err) < 0)
		return -1;
	if (get_number(h->major_number, 8, &major_number, err) < 0 || get_number(h->minor_number, 8, &minor_number, err) < 0)
		major_number = minor_number = 0;	/* old archives have anything there */
	if (h->prefix[0] && !memcmp(h->magic, "ustar", 6))
		snprintf(name, TAR_PATH_MAX, "%.155s/%.100s", h->prefix, h->name);
	else
		snprintf(name, TAR_PATH_MAX, "%.100s", h->name);
	snprintf(link, TAR_PATH_MAX, "%.100s", h->link);
	m->type = h->type;
	m->name = x->said.name ? x->said.name : x->gnu_name ? x->gnu_name : name;
	m->link = x->said.link ? x->said.link : x->gnu_link ? x->gnu_link : link;
	m->size = x->has_size ? x->said.size : m->size;
	m->mode = (uint32_t)mode & 07777;
	m->uid = x->has_uid ? x->said.uid : (uint32_t)uid;
	m->gid = x->has_gid ? x->said.gid : (uint32_t)gid;
	m->mtime = x->has_mtime ? x->said.mtime : (int64_t)mtime;
	m->major_number = (unsigned)major_number;
	m->minor_number = (unsigned)minor_number;
	memcpy(m->xattrs, x->said.xattrs, sizeof(m->xattrs));
	m->xattrs_count = x->said.xattrs_count;
	return m->size > INT64_MAX - TAR_BLOCK ? fail(err, EINVAL, "read the archive: an absurd size") : 0;
}

/* No "..", no leading or doubled slashes, no ".": what is left names something below, or is empty: the place itself. */
static int clean(char *name, struct error *err)
{
	char *to = name, *rest = name, *part;

	while ((part = strsep(&rest, "/"))) {
		if (!*part || !strcmp(part, "."))
			continue;
		if (!strcmp(part, ".."))
			return fail(err, EPERM, "unpack a name with '..' in it");
		if (to != name)
			*to++ = '/';
		memmove(to, part, strlen(part) + 1);
		to += strlen(to);
	}
	*to = 0;
	return 0;
}

/* The folder that is to hold `name`, made if it must be; *base is the last part of it. */
static int open_parent(int root, const char *place, char *name, char **base, struct error *err)
{
	char path[2 * TAR_PATH_MAX];
	char *slash = strrchr(name, '/');
	int fd;

	*base = slash ? slash + 1 : name;
	if (slash)
		*slash = 0;
	fd = format(err, path, sizeof(path), "%s/%s", place, slash ? name : "") < 0 ? -1 :
		make_beneath(root, path, true, err);
	if (slash)
		*slash = '/';
	return fd;
}

static int finish(const struct archive *a, int dir, const char *base, const struct member *m, struct error *err)
{
	struct timespec times[2] = { { .tv_sec = m->mtime }, { .tv_sec = m->mtime } };

	if (fchownat(dir, base, a->has_owner ? a->owner.uid : m->uid, a->has_owner ? a->owner.gid : m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, "set the owner of %.200s", m->name);
	if (m->type != '2' && m->type != '1' && fchmodat(dir, base, m->mode, 0) < 0)
		return fail(err, errno, "set the mode of %.200s", m->name);
	utimensat(dir, base, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

/* What stands in the way goes; a folder does not, and what is mounted there cannot. */
static int clear(int dir, const char *base, const char *name, struct error *err)
{
	if (unlinkat(dir, base, 0) == 0 || errno == ENOENT)
		return 0;
	return fail(err, errno == EISDIR ? EEXIST : errno, "replace %.200s", name);
}

static int put_content(int fd, const struct member *m, struct error *err)
{
	static char bytes[65536];
	struct error first = { 0 };

	for (uint64_t left = m->size; left; ) {
		size_t n = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);

		if (get(bytes, n, err) < 0)
			return -1;
		left -= n;
		if (!first.number && write_all(fd, bytes, n, &first) < 0)
			fail(&first, first.number, "write %.200s", m->name);
	}
	if (discard(padding(m->size), err) < 0)
		return -1;
	if (first.number)
		complain(&first);
	return 0;
}

static void set_xattrs(int fd, const struct member *m)
{
	for (size_t i = 0; i < m->xattrs_count; i++) {
		const char *key = m->xattrs[i].key;
		struct error err;

		if (strcmp(key, "security.capability") && strncmp(key, "user.", 5))
			continue;
		if (fsetxattr(fd, key, m->xattrs[i].value, m->xattrs[i].length, 0) == 0)
			continue;
		fail(&err, errno, "set %.60s of %.200s", key, m->name);
		complain(&err);
	}
}

/* Returns 1 if the member's content was consumed. */
static int write_file(const struct archive *a, int dir, const char *base, const struct member *m, struct error *err)
{
	int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	autoclose int fd = -1;

	/* A file that something is mounted on keeps its inode: new content, the old place. */
	if (clear(dir, base, m->name, err) < 0 && err->number != EBUSY)
		return -1;
	fd = openat(dir, base, flags | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fail(err, errno, "write %.200s", m->name);
	if (put_content(fd, m, err) < 0)
		return -2;
	if (finish(a, dir, base, m, err) < 0) {
		complain(err);
		return 1;
	}
	set_xattrs(fd, m);	/* behind chown, which takes capabilities away */
	return 1;
}

/* A link to a folder serves as one, as long as it stays beneath the root. */
static int write_folder(const struct archive *a, int root, const char *place, int dir, const char *base,
			const struct member *m, struct error *err)
{
	char path[2 * TAR_PATH_MAX];
	struct stat status;
	autoclose int fd = -1;

	if (mkdirat(dir, base, 0700) == 0)
		return finish(a, dir, base, m, err);
	if (errno != EEXIST || fstatat(dir, base, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, "make folder %.200s", m->name);
	if (S_ISDIR(status.st_mode))
		return finish(a, dir, base, m, err);
	if (!S_ISLNK(status.st_mode))
		return fail(err, ENOTDIR, "make folder %.200s", m->name);
	if (format(err, path, sizeof(path), "%s/%s", place, m->name) < 0)
		return -1;
	fd = open_beneath(root, path, O_PATH | O_DIRECTORY, 0, err);
	return fd < 0 ? -1 : 0;
}

static int write_hard_link(int root, const char *place, int dir, const char *base, const struct member *m,
			   struct error *err)
{
	char *target_base;
	autoclose int target = -1;

	if (clean(m->link, err) < 0)
		return -1;
	target = open_parent(root, place, m->link, &target_base, err);
	if (target < 0 || clear(dir, base, m->name, err) < 0)
		return -1;
	if (linkat(target, target_base, dir, base, 0) < 0)
		return fail(err, errno, "link %.200s to %.100s", m->name, m->link);
	return 0;
}

static int write_special(const struct archive *a, int dir, const char *base, const struct member *m, struct error *err)
{
	mode_t type = m->type == '3' ? S_IFCHR : m->type == '4' ? S_IFBLK : S_IFIFO;
	int made;

	if (clear(dir, base, m->name, err) < 0)
		return -1;
	if (m->type == '2')
		made = symlinkat(m->link, dir, base);
	else
		made = mknodat(dir, base, type | 0600, makedev(m->major_number, m->minor_number));
	return made < 0 ? fail(err, errno, "make %.200s", m->name) : finish(a, dir, base, m, err);
}

/* 1: its content was consumed. 0: it has none, or it is to be skipped. -2: the archive cannot be read on. */
static int write_member(const struct archive *a, int root, struct member *m, struct error *err)
{
	char *base;
	autoclose int dir = -1;

	if (clean(m->name, err) < 0)
		return -1;
	if (!*m->name)
		return 0;	/* "./": the place itself, which keeps its owner and mode */
	dir = open_parent(root, a->path, m->name, &base, err);
	if (dir < 0)
		return -1;
	switch (m->type) {
	case '0':
	case '7':
	case 0:
		return write_file(a, dir, base, m, err);
	case '1':
		return write_hard_link(root, a->path, dir, base, m, err);
	case '5':
		return write_folder(a, root, a->path, dir, base, m, err);
	case '2':
	case '3':
	case '4':
	case '6':
		return write_special(a, dir, base, m, err);
	default:
		return fail(err, EOPNOTSUPP, "unpack %.200s of type '%c'", m->name, m->type);
	}
}

static bool is_zero(const struct tar_header *h)
{
	const char *bytes = (const char *)h;

	for (size_t i = 0; i < sizeof(*h); i++)
		if (bytes[i])
			return false;
	return true;
}

/* 1: the end of the archive. */
static int read_header(struct tar_header *h, struct error *err)
{
	uint64_t checksum;
	ssize_t n;

	do
		n = read(STDIN_FILENO, h, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 1;	/* some writers leave the two blocks of zeros out */
	if (n < 0)
		return fail(err, errno, "read the archive");
	if (get((char *)h + 1, sizeof(*h) - 1, err) < 0)
		return -1;
	if (is_zero(h))
		return 1;
	if (get_number(h->checksum, 8, &checksum, err) < 0 || checksum != tar_checksum(h))
		return fail(err, EINVAL, "read the archive: a header's checksum is wrong");
	return 0;
}

/* The last reader: otherwise who writes the padding behind the end would get SIGPIPE. */
static void drain(void)
{
	static char bytes[65536];
	ssize_t n;

	do
		n = read(STDIN_FILENO, bytes, sizeof(bytes));
	while (n > 0 || (n < 0 && errno == EINTR));
}

static int write_all_members(const struct archive *a, int root, struct extended *x, struct error *err)
{
	static char name[TAR_PATH_MAX], link[TAR_PATH_MAX];
	struct tar_header h;
	int end;

	while ((end = read_header(&h, err)) == 0) {
		struct member m = { 0 };
		int done;

		if (h.type && strchr("xgLK", h.type)) {
			if (read_extended(x, &h, err) < 0)
				return -1;
			continue;
		}
		if (parse_member(&h, x, name, link, &m, err) < 0)
			return -1;
		done = write_member(a, root, &m, err);
		if (done == -1)
			complain(err);
		if (done == -2 || (done <= 0 && discard(m.size + padding(m.size), err) < 0))
			return -1;
		forget_extended(x);
	}
	return end < 0 ? -1 : 0;
}

int archive_write(int root, const struct archive *a, struct error *err)
{
	struct extended x = { 0 };
	autoclose int place = open_beneath(root, a->path, O_PATH | O_DIRECTORY, 0, err);
	int result;

	if (place < 0)
		return -1;
	result = write_all_members(a, root, &x, err);
	forget_extended(&x);
	if (result == 0)
		drain();
	return result;
}
