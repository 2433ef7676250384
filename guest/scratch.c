#include "scratch.h"

#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct disk_spec staged;		/* .type NULL: none */

static int open_place(struct error *err)
{
	char path[300];
	int fd;

	if (format(err, path, sizeof(path), "%s/scratch", run_dir) < 0 || make_folders(path, err) < 0)
		return -1;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fail(err, errno, "open %s", path) : fd;
}

static void forget(void)
{
	free((char *)staged.path);
	staged = (struct disk_spec){ 0 };
}

/* All of it is written to the disk then, behind which there may be another file next. */
static int unstage(struct error *err)
{
	char path[300];

	if (!staged.type)
		return 0;
	if (format(err, path, sizeof(path), "%s/scratch", run_dir) < 0)
		return -1;
	if (umount2(path, UMOUNT_NOFOLLOW) < 0)
		return fail(err, errno, "unmount %s", path);
	forget();
	return 0;
}

/* What the container would make there; written, so that a guest that waits has nothing to write. */
static int make_ready(struct error *err)
{
	static const char *const names[] = { "data", "work" };
	autoclose int place = open_place(err), root = place < 0 ? -1 : openat(place, ".", O_RDONLY | O_CLOEXEC);

	if (place < 0)
		return -1;
	if (root < 0)
		return fail(err, errno, "open a scratch disk");
	for (size_t i = 0; i < COUNT(names); i++)
		if (mkdirat(root, names[i], 0755) < 0 && errno != EEXIST)
			return fail(err, errno, "make folder %s of a scratch disk", names[i]);
	return syncfs(root) < 0 ? fail(err, errno, "write a scratch disk") : 0;
}

static int stage(struct disk_spec *disk, struct error *err)
{
	struct error later;
	autoclose int place = open_place(err);

	if (place < 0 || (!disk->path && disk_scan((int)disk->target, err) < 0) || disk_mount(disk, place, err) < 0)
		return -1;
	staged = *disk;
	staged.path = disk->path ? strdup(disk->path) : NULL;
	if (make_ready(err) == 0)
		return 0;
	if (unstage(&later) < 0)
		debug("%s", later.message);
	return -1;
}

int op_disk_stage(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct disk_spec disk = { .target = -1, .type = "ext4", .flags = SCRATCH_FLAGS };
	static const struct field fields[] = {
		FIELD(struct disk_spec, target, JSON_NUMBER), FIELD(struct disk_spec, path, JSON_STRING),
	};

	(void)call;
	if (json_fields(args, fields, testing ? 2 : 1, &disk, err) < 0 ||
	    (args->count && !disk.path && json_range("target", disk.target, 0, TARGETS_MAX, err) < 0) ||
	    unstage(err) < 0 || (args->count && stage(&disk, err) < 0))
		return -1;
	buffer_add(result, "{}", 2);
	return 0;
}

static bool same_path(const char *one, const char *other)
{
	return one && other ? !strcmp(one, other) : one == other;
}

static bool is_staged(const struct disk_spec *disk)
{
	return staged.type && disk->target == staged.target && same_path(disk->path, staged.path) &&
	       !strcmp(disk->type, staged.type) && disk->flags == staged.flags && !*disk->data;
}

int scratch_mount(const struct disk_spec *disk, int place, struct error *err)
{
	autoclose int mounted = -1;

	if (!is_staged(disk))
		return disk_mount(disk, place, err);
	mounted = open_place(err);
	if (mounted < 0 || move_on(mounted, place, err) < 0)
		return -1;
	forget();
	return 0;
}
