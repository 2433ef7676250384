#include "rootfs.h"

#include "device.h"
#include "disk.h"
#include "mount.h"
#include "volume.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC };

struct disk_spec {
	int64_t target;
	const char *path;
};

static int parse_disk(const struct json *json, const char *name, struct disk_spec *disk, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct disk_spec, target, JSON_NUMBER), FIELD(struct disk_spec, path, JSON_STRING),
	};

	*disk = (struct disk_spec){ .target = -1 };
	if (json_fields(json, fields, testing ? 2 : 1, disk, err) < 0)
		return -1;
	return disk->path ? 0 : json_range(name, disk->target, 0, TARGETS_MAX, err);
}

static int mount_disk(const struct container *c, const struct disk_spec *disk, const char *name, const char *type,
		      unsigned long flags, struct error *err)
{
	char device[64], at[500];
	autoclose int target = -1, source = -1;

	if (format(err, at, sizeof(at), "%s/%s", c->dir, name) < 0)
		return -1;
	target = open(at, O_PATH | O_CLOEXEC);
	if (target < 0)
		return fail(err, errno, "open %s", at);
	if (disk->path) {
		source = open(disk->path, O_PATH | O_CLOEXEC);
		return source < 0 ? fail(err, errno, "open %s", disk->path) : bind_on(source, target, 0, 0, err);
	}
	if (disk_wait((int)disk->target, device, sizeof(device), err) < 0)
		return -1;
	if (mount_on(target, device, type, flags, NULL, err) < 0)
		return fail(err, err->number, "mount %s from SCSI target %d", type, (int)disk->target);
	return 0;
}

static int make_sub(const struct container *c, const char *name, struct error *err)
{
	char path[500];

	return format(err, path, sizeof(path), "%s/%s", c->dir, name) < 0 ? -1 : make_folders(path, err);
}

static int mount_overlay(struct container *c, struct error *err)
{
	char options[2048], at[500];
	autoclose int target = -1;

	if (make_sub(c, "upper/data", err) < 0 || make_sub(c, "upper/work", err) < 0)
		return -1;
	if (format(err, options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper/data,workdir=%s/upper/work,redirect_dir=on",
		   c->dir, c->dir, c->dir) < 0 ||
	    format(err, at, sizeof(at), "%s/rootfs", c->dir) < 0)
		return -1;
	target = open(at, O_PATH | O_CLOEXEC);
	if (target < 0)
		return fail(err, errno, "open %s", at);
	if (mount_on(target, "overlay", "overlay", 0, options, err) < 0)
		return -1;
	c->root = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return c->root < 0 ? fail(err, errno, "open %s", at) : 0;
}

static int mount_root(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	struct disk_spec lower, upper;

	if (parse_disk(spec->lower, "lower target", &lower, err) < 0 ||
	    parse_disk(spec->upper, "upper target", &upper, err) < 0)
		return -1;
	if (lower.target >= 0 && disk_scan((int)lower.target, err) < 0)
		return -1;
	c->lower_target = (int)lower.target;
	if (upper.target >= 0 && disk_scan((int)upper.target, err) < 0)
		return -1;
	c->upper_target = (int)upper.target;
	if (mount_disk(c, &lower, "lower", "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, err) < 0 ||
	    mount_disk(c, &upper, "upper", "ext4", MS_NOSUID | MS_NODEV | MS_NOATIME, err) < 0)
		return -1;
	return mount_overlay(c, err);
}

static int make_subs(const struct container *c, struct error *err)
{
	return make_sub(c, "lower", err) < 0 || make_sub(c, "upper", err) < 0 ? -1 : make_sub(c, "rootfs", err);
}

int rootfs_make(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	if (make_subs(c, err) < 0 || mount_root(c, spec, err) < 0 || names_write(c->dir, c->hostname, err) < 0)
		return -1;
	if (mounts_make(c, err) < 0 || devices_make(c->root, spec->devices, err) < 0)
		return -1;
	return files_write(c, spec->files, err);
}

static void unmount(const struct container *c, const char *name, bool lazy)
{
	char path[500];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	for (int i = 0; i < 200; i++) {		/* what held it may be on its way out: a second at most */
		if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0 || errno != EBUSY)
			return;
		usleep(5000);
	}
	debug("unmount %s: %s", path, strerror(errno));
	umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH);
}

static void remove_dir(const struct container *c, const char *name)
{
	char path[500];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	remove(path);
}

void rootfs_unmake(struct container *c)
{
	static const char *const names[] = {
		"rootfs", "upper", "lower", "resolv.conf", "hosts", "hostname", "",
	};

	close_fd(&c->terminals);
	close_fd(&c->root);
	unmount(c, "rootfs", true);	/* with all that is mounted in it */
	unmount(c, "upper", false);	/* writes all of it to its disk */
	unmount(c, "lower", false);
	if (c->upper_target >= 0)
		disk_detach(c->upper_target);
	if (c->lower_target >= 0)
		disk_detach(c->lower_target);
	c->upper_target = c->lower_target = -1;
	for (size_t i = 0; i < COUNT(names); i++)
		remove_dir(c, names[i]);
}

/* The first process's part. Its root descriptor is opened anew: ours lead to our mounts, not to its copies. */

static int mask(int root, const char *path, struct error *err)
{
	struct stat status;
	autoclose int null = -1;
	autoclose int target = open_beneath(root, path, O_PATH, 0, err);

	if (target < 0)
		return err->number == ENOENT || err->number == ENOTDIR ? 0 : -1;
	if (fstat(target, &status) < 0)
		return fail(err, errno, "look at %s", path);
	if (S_ISDIR(status.st_mode))
		return mount_on(target, "tmpfs", "tmpfs", MS_RDONLY | PLAIN, "size=0,nr_inodes=2", err);
	null = open("/dev/null", O_PATH | O_CLOEXEC);
	return null < 0 ? fail(err, errno, "open /dev/null") : bind_on(null, target, ATTR_RDONLY, 0, err);
}

static int make_path_read_only(int root, const char *path, struct error *err)
{
	autoclose int target = open_beneath(root, path, O_PATH, 0, err);

	if (target < 0)
		return err->number == ENOENT || err->number == ENOTDIR ? 0 : -1;
	return bind_on(target, target, ATTR_RDONLY, 0, err);
}

static int bind_console(int root, int terminal, struct error *err)
{
	char path[32];
	autoclose int pts = -1, console = -1;
	autoclose int dev = open_plain(root, "dev", O_PATH | O_DIRECTORY, 0, err);

	if (dev < 0)
		return -1;
	snprintf(path, sizeof(path), "pts/%d", terminal);
	pts = open_plain(dev, path, O_PATH, 0, err);
	if (pts < 0)
		return -1;
	console = openat(dev, "console", O_CREAT | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_RDONLY | O_CLOEXEC, 0600);
	close_fd(&console);
	console = open_plain(dev, "console", O_PATH, 0, err);
	return console < 0 ? -1 : bind_on(pts, console, 0, 0, err);
}

static int hide(const struct container *c, int root, struct error *err)
{
	for (size_t i = 0; i < c->readonly_count; i++)
		if (make_path_read_only(root, c->readonly[i], err) < 0)
			return -1;
	for (size_t i = 0; i < c->masked_count; i++)
		if (mask(root, c->masked[i], err) < 0)
			return -1;
	return 0;
}

static int switch_root(int root, struct error *err)
{
	if (fchdir(root) < 0)
		return fail(err, errno, "enter the root");
	if (syscall(SYS_pivot_root, ".", ".") < 0)	/* the old root lies on the new one now */
		return fail(err, errno, "pivot the root");
	if (umount2(".", MNT_DETACH) < 0)
		return fail(err, errno, "leave the old root");
	return chdir("/") < 0 ? fail(err, errno, "enter the root") : 0;
}

int rootfs_enter(const struct container *c, int terminal, const char *cwd, struct error *err)
{
	char path[500];
	autoclose int root = -1;
	autoclose int folder = -1;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, errno, "make mounts private");
	if (format(err, path, sizeof(path), "%s/rootfs", c->dir) < 0)
		return -1;
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fail(err, errno, "open %s", path);
	if (mounts_make_late(c, root, err) < 0)
		return -1;
	if (terminal >= 0 && bind_console(root, terminal, err) < 0)
		return -1;
	if (hide(c, root, err) < 0)
		return -1;
	folder = make_beneath(root, cwd, true, err);	/* as docker does: a working directory that is missing is made */
	if (folder < 0 || switch_root(root, err) < 0)
		return -1;
	return c->read_only ? mount_read_only("/", err) : 0;
}
