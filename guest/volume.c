#include "volume.h"

#include "disk.h"
#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

int share_open(const char *source, struct error *err)
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

int volume_bind(int root, const struct mount_spec *spec, struct container *made, struct error *err)
{
	struct stat status;
	autoclose int target = -1;
	autoclose int source = share_open(spec->source, err);

	if (source < 0)
		return -1;
	if (fstat(source, &status) < 0)
		return fail(err, errno, "look at %s in the share", spec->source);
	target = make_beneath(root, spec->target, S_ISDIR(status.st_mode), err);
	if (target < 0)
		return -1;
	if (made && spec->populate && S_ISDIR(status.st_mode) && copy_is_due(source) &&
	    keep_unfilled(made, source, spec->target, err) < 0)
		return -1;
	return bind_on(source, target, spec->set, spec->clear, err);
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

int volume_open_disk(struct container *c, int target, struct error *err)
{
	char name[32], path[500], device[64];
	int root;

	if (c->disk_count == DISKS_MAX)
		return fail_as(err, E2BIG, "mount more than %d disks", DISKS_MAX);
	disk_name(target, name, sizeof(name));
	if (format(err, path, sizeof(path), "%s/%s", c->dir, name) < 0 || make_folders(path, err) < 0 ||
	    disk_scan(target, err) < 0)
		return -1;
	c->disks[c->disk_count++] = (unsigned char)target;
	if (disk_wait(target, device, sizeof(device), err) < 0)
		return -1;
	if (mount(device, path, "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
		return fail(err, errno, "mount erofs from disk %d", target);
	if (c->of_pod && mount_mapped(path, c->users, err) < 0)
		return -1;
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? fail(err, errno, "open %s", path) : root;
}
