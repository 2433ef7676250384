#include "volume.h"

#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

struct mount_spec {
	const char *type, *source, *target;
	bool read_only, populate;
	int64_t size_bytes, mode;
	const struct json *options;
};

static int open_share(const char *source, struct error *err)
{
	char path[300];
	autoclose int share = -1;
	int fd;

	if (format(err, path, sizeof(path), "%s/share", run_dir) < 0)
		return -1;
	share = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (share < 0)
		return fail(err, errno, "open the share");
	/* Opened as a folder first: only that mounts what virtiofs announces as a mount of the host. */
	fd = open_plain(share, source, O_RDONLY | O_DIRECTORY, 0, err);
	return fd >= 0 || err->number != ENOTDIR ? fd : open_plain(share, source, O_PATH, 0, err);
}

/* What the image has at a place, whatever is mounted there or above it: -1 if nothing. */
static int open_content(const struct container *c, const char *path)
{
	struct error ignored;
	autoclose int image = bare_mount(c->root, &ignored);

	return image < 0 ? -1 : open_beneath(image, path, O_RDONLY | O_DIRECTORY, 0, &ignored);
}

static int keep_unfilled(struct container *c, int volume, const char *target, struct error *err)
{
	autoclose int content = open_content(c, target);
	struct unfilled *u, **last = &c->unfilled;

	if (content < 0)
		return 0;
	u = calloc(1, sizeof(*u));
	if (!u)
		return fail(err, ENOMEM, "fill a volume");
	u->content = content;
	content = -1;
	u->volume = fcntl(volume, F_DUPFD_CLOEXEC, 0);
	u->marked = mkdirat(volume, COPY_UNFINISHED, 0700) == 0;	/* what is mounted in it leaves it not empty */
	snprintf(u->target, sizeof(u->target), "%s", target);
	while (*last)
		last = &(*last)->next;
	*last = u;
	return u->volume < 0 ? fail(err, errno, "keep a volume open") : 0;
}

static int mount_share(struct container *c, const struct mount_spec *spec, struct error *err)
{
	struct stat status;
	autoclose int target = -1;
	autoclose int source = open_share(spec->source ? spec->source : "", err);

	if (source < 0)
		return -1;
	if (fstat(source, &status) < 0)
		return fail(err, errno, "look at %s in the share", spec->source);
	target = make_beneath(c->root, spec->target, S_ISDIR(status.st_mode), err);
	if (target < 0)
		return -1;
	if (spec->populate && S_ISDIR(status.st_mode) && copy_is_due(source) &&
	    keep_unfilled(c, source, spec->target, err) < 0)
		return -1;
	return bind_on(source, target, spec->read_only, err);
}

/* NAME=DIGITS, for the kernel to judge the number. */
static bool is_number_option(const char *option)
{
	static const char *const names[] = { "uid=", "gid=", "nr_inodes=", "nr_blocks=" };

	for (size_t i = 0; i < COUNT(names); i++) {
		const char *digits = option + strlen(names[i]);

		if (!strncmp(option, names[i], strlen(names[i])))
			return *digits && !digits[strspn(digits, "0123456789")];
	}
	return false;
}

static int tmpfs_options(const struct mount_spec *spec, unsigned long *flags, char *data, size_t size,
			 struct error *err)
{
	static const struct { const char *name; unsigned long set, clear; } known[] = {
		{ "noexec", MS_NOEXEC, 0 }, { "exec", 0, MS_NOEXEC }, { "nosuid", MS_NOSUID, 0 },
		{ "suid", 0, MS_NOSUID }, { "nodev", MS_NODEV, 0 }, { "dev", 0, MS_NODEV },
		{ "ro", MS_RDONLY, 0 }, { "rw", 0, MS_RDONLY }, { "noatime", MS_NOATIME, 0 },
		{ "atime", 0, MS_NOATIME },
	};
	size_t length;

	*flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	if (json_all(spec->options, JSON_STRING, "options", err) < 0 ||
	    json_range("mode", spec->mode, 0, 07777, err) < 0 ||
	    json_range("size_bytes", spec->size_bytes, 0, INT64_MAX, err) < 0)
		return -1;
	if (format(err, data, size, "mode=%o", (unsigned int)spec->mode) < 0)
		return -1;
	length = strlen(data);
	if (spec->size_bytes &&
	    format(err, data + length, size - length, ",size=%lld", (long long)spec->size_bytes) < 0)
		return -1;
	for (const struct json *o = json_first(spec->options); o; o = o->next) {
		size_t i = 0;

		length = strlen(data);
		while (i < COUNT(known) && strcmp(known[i].name, o->string))
			i++;
		if (i < COUNT(known))
			*flags = (*flags | known[i].set) & ~known[i].clear;
		else if (!is_number_option(o->string))
			return fail_as(err, EINVAL, "mount a tmpfs with option '%.32s': it is not known", o->string);
		else if (format(err, data + length, size - length, ",%s", o->string) < 0)
			return -1;
	}
	return 0;
}

static int mount_tmpfs(struct container *c, const struct mount_spec *spec, struct error *err)
{
	char data[256];
	unsigned long flags;
	autoclose int target = -1;

	if (tmpfs_options(spec, &flags, data, sizeof(data), err) < 0)
		return -1;
	target = make_beneath(c->root, spec->target, true, err);
	if (target < 0)
		return -1;
	return mount_on(target, "tmpfs", "tmpfs", flags | (spec->read_only ? MS_RDONLY : 0), data, err);
}

static int mount_one(struct container *c, const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct mount_spec, type, JSON_STRING), FIELD(struct mount_spec, source, JSON_STRING),
		NEEDED(struct mount_spec, target, JSON_STRING), FIELD(struct mount_spec, read_only, JSON_BOOL),
		FIELD(struct mount_spec, populate, JSON_BOOL), FIELD(struct mount_spec, size_bytes, JSON_NUMBER),
		FIELD(struct mount_spec, mode, JSON_NUMBER), FIELD(struct mount_spec, options, JSON_ARRAY),
	};
	struct mount_spec spec = { .mode = 01777 };
	int result;

	if (json_fields(json, fields, COUNT(fields), &spec, err) < 0)
		return -1;
	if (spec.target[0] != '/')
		return fail_as(err, EINVAL, "mount on '%.100s': it is no absolute path", spec.target);
	if (!strcmp(spec.type, "share"))
		result = mount_share(c, &spec, err);
	else if (!strcmp(spec.type, "tmpfs"))
		result = mount_tmpfs(c, &spec, err);
	else
		return fail_as(err, EINVAL, "mount a '%.32s': it is no share and no tmpfs", spec.type);
	if (result < 0) {
		struct error cause = *err;

		snprintf(err->message, sizeof(err->message), "mount on %.100s: %.200s", spec.target, cause.message);
	}
	return result;
}

int volumes_mount(struct container *c, const struct json *mounts, struct error *err)
{
	for (const struct json *m = json_first(mounts); m; m = m->next)
		if (mount_one(c, m, err) < 0)
			return -1;
	return 0;
}

struct file_spec {
	const char *path, *content;
	int64_t mode, uid, gid;
};

/* Through a link it is written too, as long as that stays beneath the root. */
static int write_file(struct container *c, const struct file_spec *spec, struct error *err)
{
	size_t length;
	autofree uint8_t *content = base64_decode(spec->content, &length, err);
	autoclose int place = content ? make_beneath(c->root, spec->path, false, err) : -1;
	autoclose int fd = place < 0 ? -1 : open_beneath(c->root, spec->path, O_WRONLY | O_TRUNC | O_NONBLOCK, 0, err);

	if (fd < 0 || write_all(fd, content, length, err) < 0)
		return -1;
	if (fchown(fd, (uid_t)spec->uid, (gid_t)spec->gid) < 0 || fchmod(fd, (mode_t)spec->mode) < 0)
		return fail(err, errno, "set the owner of %.200s", spec->path);
	return 0;
}

int files_write(struct container *c, const struct json *files, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct file_spec, path, JSON_STRING), NEEDED(struct file_spec, content, JSON_STRING),
		FIELD(struct file_spec, mode, JSON_NUMBER), FIELD(struct file_spec, uid, JSON_NUMBER),
		FIELD(struct file_spec, gid, JSON_NUMBER),
	};

	for (const struct json *f = json_first(files); f; f = f->next) {
		struct file_spec spec = { .mode = 0644 };

		if (json_fields(f, fields, COUNT(fields), &spec, err) < 0 ||
		    json_range("mode", spec.mode, 0, 07777, err) < 0 ||
		    json_range("uid", spec.uid, 0, UINT32_MAX - 1, err) < 0 ||
		    json_range("gid", spec.gid, 0, UINT32_MAX - 1, err) < 0)
			return -1;
		if (write_file(c, &spec, err) < 0)
			return -1;
	}
	return 0;
}
