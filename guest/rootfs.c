#include "rootfs.h"

#include "device.h"
#include "disk.h"
#include "mount.h"
#include "scratch.h"
#include "volume.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC };

static int open_sub(const struct container *c, const char *name, struct error *err)
{
	char path[500];
	int fd;

	if (format(err, path, sizeof(path), "%s/%s", c->dir, name) < 0)
		return -1;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fail(err, errno, "open %s", path) : fd;
}

static int mount_disk(const struct container *c, const struct disk_spec *disk, const char *name, struct error *err)
{
	autoclose int target = open_sub(c, name, err);

	return target < 0 ? -1 : disk_mount(disk, target, err);
}

static int mount_scratch(const struct container *c, const struct disk_spec *disk, struct error *err)
{
	autoclose int target = open_sub(c, "upper", err);

	return target < 0 ? -1 : scratch_mount(disk, target, err);
}

static int make_sub(const struct container *c, const char *name, struct error *err)
{
	char path[500];

	return format(err, path, sizeof(path), "%s/%s", c->dir, name) < 0 ? -1 : make_folders(path, err);
}

/* `options` name folders of the container's: from there, for the kernel takes no more than a page of them. */
static int mount_in(const struct container *c, const char *name, unsigned long flags, const char *options,
		    struct error *err)
{
	autoclose int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), target = open_sub(c, name, err);
	int result = -1;

	if (target < 0)
		return -1;
	if (here < 0 || chdir(c->dir) < 0)
		return fail(err, errno, "enter %s", c->dir);
	result = mount_on(target, "overlay", "overlay", flags, options, err);
	if (fchdir(here) < 0)
		result = fail(err, errno, "leave %s", c->dir);
	return result;
}

/* Ids of the image's disk are mapped; what is written has those of the outside, as it is made, and its root here. */
static int own_upper(const struct container *c, struct error *err)
{
	char path[500];

	if (!c->of_pod)
		return 0;
	if (format(err, path, sizeof(path), "%s/upper/data", c->dir) < 0)
		return -1;
	return chown(path, idmap_outside(&c->ids, 0), idmap_group_outside(&c->ids, 0)) < 0 ?
		       fail(err, errno, "give away %s", path) : 0;
}

static int map_lower(const struct container *c, struct error *err)
{
	char path[500];

	if (!c->of_pod)
		return 0;
	return format(err, path, sizeof(path), "%s/lower", c->dir) < 0 ? -1 : mount_mapped(path, c->users, err);
}

static int mount_overlay(struct container *c, struct error *err)
{
	char below[16 * BELOW_MAX] = "lower", options[sizeof(below) + 128];
	size_t length = 0;

	for (unsigned n = c->below; n; n--)
		length += (size_t)snprintf(below + length, sizeof(below) - length, "upper/%u:%s", n, n > 1 ? "" : "image");
	snprintf(options, sizeof(options), "lowerdir=%s,redirect_dir=follow", below);
	if (c->below && mount_in(c, "lower", MS_RDONLY | MS_NOSUID | MS_NODEV, options, err) < 0)
		return -1;
	if (make_sub(c, "upper/data", err) < 0 || make_sub(c, "upper/work", err) < 0 || own_upper(c, err) < 0)
		return -1;
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=upper/data,workdir=upper/work,redirect_dir=on", below);
	c->layered = true;
	return mount_in(c, "rootfs", 0, options, err);
}

/* Its number, when it is found, is the container's to detach. */
static int scan(const struct disk_spec *disk, int *target, struct error *err)
{
	if (disk->target >= 0 && disk_scan((int)disk->target, err) < 0)
		return -1;
	*target = (int)disk->target;
	return 0;
}

static int mount_disks(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	struct disk_spec lower, upper;

	if (disk_parse(spec->lower, "lower target", "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, &lower, err) < 0 ||
	    disk_parse(spec->upper, "upper target", "ext4", SCRATCH_FLAGS, &upper, err) < 0)
		return -1;
	if (scan(&lower, &c->lower_target, err) < 0 || scan(&upper, &c->upper_target, err) < 0)
		return -1;
	if (mount_disk(c, &lower, "lower", err) < 0 || map_lower(c, err) < 0 || mount_scratch(c, &upper, err) < 0)
		return -1;
	return mount_overlay(c, err);
}

static void lower_name(unsigned n, char *name, size_t size)
{
	snprintf(name, size, "lowers/%u", n);
}

static int mount_lower(struct container *c, unsigned n, const struct disk_spec *disk, struct error *err)
{
	char name[32];

	lower_name(n, name, sizeof(name));
	return make_sub(c, name, err) < 0 ? -1 : mount_disk(c, disk, name, err);
}

/* Another engine's: its folders on the upper one are called as it calls them, and it reads there what was written. So
   nothing is told there in words that only overlay has. */
static int mount_lowers(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	char options[16 * LOWERS_MAX + 128] = "redirect_dir=off,lowerdir=";
	size_t length = strlen(options);
	struct disk_spec lower, upper;
	unsigned n = 0;

	for (const struct json *l = json_first(spec->lowers); l; l = l->next, n++) {
		int target;

		if (disk_parse(l, "lower target", "", MS_RDONLY | MS_NODEV, &lower, err) < 0 || scan(&lower, &target, err) < 0)
			return -1;
		c->lowers[c->lower_count] = (unsigned char)target;
		c->lower_count += target >= 0;
		if (mount_lower(c, n, &lower, err) < 0)
			return -1;
		length += (size_t)snprintf(options + length, sizeof(options) - length, "%slowers/%u", n ? ":" : "", n);
	}
	if (!spec->upper)
		return mount_in(c, "rootfs", MS_RDONLY, options, err);
	if (disk_parse(spec->upper, "upper target", "", MS_NODEV, &upper, err) < 0 ||
	    scan(&upper, &c->upper_target, err) < 0 || mount_disk(c, &upper, "upper", err) < 0 ||
	    make_sub(c, "upper/upper", err) < 0 || make_sub(c, "upper/work", err) < 0)
		return -1;
	snprintf(options + length, sizeof(options) - length, ",upperdir=upper/upper,workdir=upper/work");
	return mount_in(c, "rootfs", 0, options, err);
}

static int check_lowers(const struct rootfs_spec *spec, struct error *err)
{
	unsigned count = 0;

	if (json_all(spec->lowers, JSON_OBJECT, "lowers", err) < 0)
		return -1;
	for (const struct json *l = json_first(spec->lowers); l; l = l->next)
		count++;
	if (count > LOWERS_MAX || count < (spec->upper ? 1 : 2))
		return fail_as(err, EINVAL, "lay %u disks over each other: %d at most, and two or one and an upper one", count,
			       LOWERS_MAX);
	return 0;
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

static int move_sub(const struct container *from, const char *name, const struct container *c, const char *to,
		    struct error *err)
{
	autoclose int mounted = open_sub(from, name, err), target = mounted < 0 ? -1 : open_sub(c, to, err);

	return target < 0 ? -1 : move_on(mounted, target, err);
}

/* A folder of the scratch disk is called after how many lie below it, and is written no more. */
static int keep_written(const struct container *c, const char *name, const char *suffix, struct error *err)
{
	char old[500], kept[500];

	if (format(err, old, sizeof(old), "%s/upper/%s", c->dir, name) < 0 ||
	    format(err, kept, sizeof(kept), "%s/upper/%u%s", c->dir, c->below, suffix) < 0)
		return -1;
	return rename(old, kept) < 0 ? fail(err, errno, "rename %s", old) : 0;
}

/* The disks of `from` are c's: what that one has written lies below what c writes. Its work folder goes aside too: the
   kernel may hold on to it a moment longer. */
static int take_over(struct container *c, struct container *from, struct error *err)
{
	close_fd(&from->terminals);
	close_fd(&from->root);
	unmount(from, "rootfs", true);
	if (make_sub(c, "image", err) < 0 || move_sub(from, from->below ? "image" : "lower", c, "image", err) < 0)
		return -1;
	c->lower_target = from->lower_target;
	from->lower_target = -1;
	if (move_sub(from, "upper", c, "upper", err) < 0)
		return -1;
	c->upper_target = from->upper_target;
	from->upper_target = -1;
	c->below = from->below + 1;
	if (keep_written(c, "data", "", err) < 0 || keep_written(c, "work", "-work", err) < 0)
		return -1;
	return mount_overlay(c, err);
}

static int mount_one(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	struct disk_spec disk;

	if (disk_parse(spec->lower, "lower target", "", 0, &disk, err) < 0 || scan(&disk, &c->lower_target, err) < 0)
		return -1;
	return mount_disk(c, &disk, "rootfs", err);
}

static int mount_folder(const struct container *c, const char *folder, struct error *err)
{
	autoclose int source = share_open(folder, err), target = source < 0 ? -1 : open_sub(c, "rootfs", err);

	return target < 0 ? -1 : bind_on(source, target, 0, 0, err);
}

static int mount_root(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	bool folder = spec->folder && *spec->folder;
	int result;

	if (folder + (spec->lower != NULL) + (spec->lowers != NULL) + (spec->from != NULL) != 1 ||
	    (spec->upper && !spec->lower && !spec->lowers))
		return fail_as(err, EINVAL, "make a root file system: it is of disks, or of a folder, or over a container");
	if (c->of_pod && !(spec->lower && spec->upper))
		return fail_as(err, EINVAL, "make a root file system in the pod's user namespace: it is of an image's disk");
	if (spec->from)
		result = take_over(c, spec->from, err);
	else if (folder)
		result = mount_folder(c, spec->folder, err);
	else if (spec->lowers)
		result = check_lowers(spec, err) < 0 ? -1 : mount_lowers(c, spec, err);
	else
		result = spec->upper ? mount_disks(c, spec, err) : mount_one(c, spec, err);
	if (result < 0)
		return -1;
	c->root = open_sub(c, "rootfs", err);
	return c->root < 0 ? -1 : 0;
}

static int make_subs(const struct container *c, struct error *err)
{
	return make_sub(c, "lower", err) < 0 || make_sub(c, "upper", err) < 0 ? -1 : make_sub(c, "rootfs", err);
}

/* Files that we make from here on are the container's, where its disks are mapped; off: ours again. */
static int make_as(const struct container *c, bool on, struct error *err)
{
	return c->of_pod ? idmap_make_as(on ? &c->ids : NULL, err) : 0;
}

static int furnish(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	if (names_write(c->dir, c->hostname, err) < 0 || mounts_make(c, err) < 0 ||
	    devices_make(c->root, c->dir, spec->devices, err) < 0)
		return -1;
	return files_write(c, spec->files, err);
}

int rootfs_make(struct container *c, const struct rootfs_spec *spec, struct error *err)
{
	struct error later;
	int result;

	if (make_subs(c, err) < 0 || mount_root(c, spec, err) < 0 || make_as(c, true, err) < 0)
		return -1;
	result = furnish(c, spec, err);
	return make_as(c, false, result < 0 ? &later : err) < 0 ? -1 : result;
}

static void remove_dir(const struct container *c, const char *name)
{
	char path[500];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	remove(path);
}

static bool has_sub(const struct container *c, const char *name)
{
	char path[500];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	return access(path, F_OK) == 0;
}

static void unmake_disks(struct container *c)
{
	char name[32];

	while (c->disk_count) {
		int target = c->disks[--c->disk_count];

		disk_name(target, name, sizeof(name));
		if (has_sub(c, name)) {
			unmount(c, name, false);
			remove_dir(c, name);
		}
		disk_detach(target);
	}
}

/* What is left of a disk that is the root itself reaches it before it is detached, whoever still holds the root. */
static void write_root(const struct container *c)
{
	bool is_root = c->root >= 0 && c->lower_target >= 0 && c->upper_target < 0;
	autoclose int root = is_root ? openat(c->root, ".", O_RDONLY | O_CLOEXEC) : -1;

	if (root >= 0 && syncfs(root) < 0)
		debug("write a root file system: %s", strerror(errno));
}

static void unmount_lowers(struct container *c)
{
	char name[32];

	for (unsigned n = 0; n < LOWERS_MAX; n++) {
		lower_name(n, name, sizeof(name));
		if (!has_sub(c, name))
			break;
		unmount(c, name, false);
		remove_dir(c, name);
	}
	while (c->lower_count)
		disk_detach(c->lowers[--c->lower_count]);
}

void rootfs_unmake(struct container *c)
{
	static const char *const names[] = {
		"rootfs", "upper", "lower", "lowers", "image", "disks", "resolv.conf", "hosts", "hostname", "",
	};

	write_root(c);
	close_fd(&c->terminals);
	close_fd(&c->root);
	unmount(c, "rootfs", true);	/* with all that is mounted in it */
	unmount(c, "upper", false);	/* writes all of it to its disk */
	unmount(c, "lower", false);
	unmount(c, "image", false);
	unmount_lowers(c);
	unmake_disks(c);
	if (c->upper_target >= 0)
		disk_detach(c->upper_target);
	if (c->lower_target >= 0)
		disk_detach(c->lower_target);
	c->upper_target = c->lower_target = -1;
	for (size_t i = 0; i < COUNT(names); i++)
		remove_dir(c, names[i]);
}

/* The first process's part. Its root descriptor is opened anew: ours lead to our mounts, not to its copies. */

struct places {
	int root, proc;
};

/* Most that is hidden lies in /proc, and each way there from a root that is a shared folder costs the host some
   questions. Links, and what leads out of it again, are followed from the root. */
static int open_hidden(const struct places *in, const char *path, struct error *err)
{
	if (in->proc >= 0 && !strncmp(path, "/proc/", 6)) {
		int found = open_plain(in->proc, path + 6, O_PATH, 0, err);

		if (found >= 0 || (err->number != ELOOP && err->number != EXDEV))
			return found;
	}
	return open_beneath(in->root, path, O_PATH, 0, err);
}

static int mask(const struct places *in, const char *path, struct error *err)
{
	struct stat status;
	autoclose int null = -1;
	autoclose int target = open_hidden(in, path, err);

	if (target < 0)
		return err->number == ENOENT || err->number == ENOTDIR ? 0 : -1;
	if (fstat(target, &status) < 0)
		return fail(err, errno, "look at %s", path);
	if (S_ISDIR(status.st_mode))
		return mount_on(target, "tmpfs", "tmpfs", MS_RDONLY | PLAIN, "size=0,nr_inodes=2", err);
	null = open("/dev/null", O_PATH | O_CLOEXEC);
	return null < 0 ? fail(err, errno, "open /dev/null") : bind_on(null, target, ATTR_RDONLY, 0, err);
}

static int make_path_read_only(const struct places *in, const char *path, struct error *err)
{
	autoclose int target = open_hidden(in, path, err);

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
	struct error none;
	autoclose int proc = open_plain(root, "proc", O_PATH | O_DIRECTORY, 0, &none);
	const struct places in = { root, proc };

	for (size_t i = 0; i < c->readonly_count; i++)
		if (make_path_read_only(&in, c->readonly[i], err) < 0)
			return -1;
	for (size_t i = 0; i < c->masked_count; i++)
		if (mask(&in, c->masked[i], err) < 0)
			return -1;
	return 0;
}

int rootfs_complete(const struct container *c, int root, struct error *err)
{
	return mounts_make_late(c, root, err) < 0 ? -1 : hide(c, root, err);
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
	if (make_as(c, true, err) < 0 || mounts_make_late(c, root, err) < 0)
		return -1;
	if (terminal >= 0 && bind_console(root, terminal, err) < 0)
		return -1;
	if (hide(c, root, err) < 0)
		return -1;
	folder = make_beneath(root, cwd, true, err);	/* as docker does: a working directory that is missing is made */
	if (folder < 0 || make_as(c, false, err) < 0 || switch_root(root, err) < 0)
		return -1;
	if (c->read_only && mount_read_only("/", err) < 0)
		return -1;
	if (c->propagation && mount(NULL, "/", NULL, c->propagation, NULL) < 0)
		return fail(err, errno, "spread mounts of the root");
	return 0;
}
