#include "disk.h"

#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

/* As often as a disk is looked for: five seconds and more. By the clock it would be less, down to never, in a guest that
 * gets no processor; the driver needs that one too. */
enum { LOOKS_MAX = 10000, BETWEEN_LOOKS_NS = 500000 };

/* "/dev/vd", where disks have names; "": they are SCSI targets. */
static char named[24];

void disk_boot(const char *prefix)
{
	snprintf(named, sizeof(named), "/dev/%.16s", prefix);
}

/* The number of the virtio-scsi controller, or -1. */
static int find_host(struct error *err)
{
	static int known = -1;
	DIR *dir;
	struct dirent *entry;

	if (known >= 0)
		return known;
	dir = opendir("/sys/class/scsi_host");
	if (!dir)
		return fail(err, errno, "find a SCSI controller");
	while ((entry = readdir(dir))) {
		char path[300], name[32];

		snprintf(path, sizeof(path), "/sys/class/scsi_host/%s/proc_name", entry->d_name);
		if (read_file_at(AT_FDCWD, path, name, sizeof(name)) > 0 && !strncmp(name, "virtio_scsi", 11))
			sscanf(entry->d_name, "host%d", &known);
	}
	closedir(dir);
	return known >= 0 ? known : fail(err, ENODEV, "find a virtio-scsi controller");
}

static int device_path(int target, const char *name, char *path, size_t size, struct error *err)
{
	int host = find_host(err);

	if (host < 0)
		return -1;
	return format(err, path, size, "/sys/bus/scsi/devices/%d:0:%d:0/%s", host, target, name);
}

int disk_scan(int target, struct error *err)
{
	char path[80], where[32];
	int host;

	if (*named)
		return 0;
	host = find_host(err);
	if (device_path(target, "block", path, sizeof(path), err) < 0)
		return -1;
	if (access(path, F_OK) == 0)
		return 0;
	snprintf(path, sizeof(path), "/sys/class/scsi_host/host%d/scan", host);
	snprintf(where, sizeof(where), "0 %d 0", target);
	return write_file_at(AT_FDCWD, path, where, err);
}

/* A device node appears a moment before its disk does; until then opening it fails with ENXIO. */
static bool answers(const char *path)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0;
}

/* The one entry of the device's folder "block" names it. */
static bool find_block(const char *folder, char *path, size_t size)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	struct error err;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			found = format(&err, path, size, "/dev/%s", entry->d_name) == 0 && answers(path);
	closedir(dir);
	return found;
}

int disk_wait(int target, char *path, size_t size, struct error *err)
{
	char folder[80];

	if (*named && target > 'z' - 'a')
		return fail_as(err, ENODEV, "find disk %d: the last that has a name is %d", target, 'z' - 'a');
	if (*named ? format(err, path, size, "%s%c", named, 'a' + target) < 0
		   : device_path(target, "block", folder, sizeof(folder), err) < 0)
		return -1;
	for (int looks = 0; looks < LOOKS_MAX; looks++) {
		if (*named ? answers(path) : find_block(folder, path, size))
			return 0;
		nanosleep(&(struct timespec){ .tv_nsec = BETWEEN_LOOKS_NS }, NULL);
	}
	return fail(err, ENODEV, "find disk %d", target);
}

void disk_detach(int target)
{
	char path[80];
	struct error err;

	if (*named)
		return;			/* it stays as long as the guest */
	if (device_path(target, "delete", path, sizeof(path), &err) < 0 ||
	    write_file_at(AT_FDCWD, path, "1", &err) < 0)
		debug("detach disk %d: %s", target, err.message);
}

int disks_scan(const struct json *targets, struct error *err)
{
	char path[64];

	if (json_all(targets, JSON_NUMBER, "targets", err) < 0)
		return -1;
	for (const struct json *t = json_first(targets); t; t = t->next)
		if (json_range("target", t->number, 0, TARGETS_MAX, err) < 0 || disk_scan((int)t->number, err) < 0)
			return -1;
	for (const struct json *t = json_first(targets); t; t = t->next)
		if (disk_wait((int)t->number, path, sizeof(path), err) < 0)
			return -1;
	return 0;
}

static int add_option(struct disk_spec *disk, const char *word, struct error *err)
{
	static const struct { const char *word; unsigned long flag; } flags[] = {
		{ "ro", MS_RDONLY }, { "nosuid", MS_NOSUID }, { "nodev", MS_NODEV }, { "noexec", MS_NOEXEC },
		{ "noatime", MS_NOATIME }, { "nodiratime", MS_NODIRATIME }, { "relatime", MS_RELATIME },
		{ "strictatime", MS_STRICTATIME },
	};
	size_t used = strlen(disk->data);

	for (size_t i = 0; i < COUNT(flags); i++)
		if (!strcmp(flags[i].word, word)) {
			disk->flags |= flags[i].flag;
			return 0;
		}
	if (!*word || strchr(word, ','))
		return fail_as(err, EINVAL, "mount a disk with option '%.32s': it is no word", word);
	return format(err, disk->data + used, sizeof(disk->data) - used, "%s%s", used ? "," : "", word);
}

int disk_parse(const struct json *json, const char *name, const char *type, unsigned long flags,
	       struct disk_spec *disk, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct disk_spec, target, JSON_NUMBER), FIELD(struct disk_spec, type, JSON_STRING),
		FIELD(struct disk_spec, options, JSON_ARRAY), FIELD(struct disk_spec, path, JSON_STRING),
	};

	*disk = (struct disk_spec){ .target = -1, .type = type, .flags = flags };
	if (json_fields(json, fields, testing ? 4 : 3, disk, err) < 0 ||
	    json_all(disk->options, JSON_STRING, "options", err) < 0)
		return -1;
	if (strcmp(disk->type, "erofs") && strcmp(disk->type, "ext4"))
		return fail_as(err, EINVAL, "mount a disk of '%.32s': there is erofs and ext4", disk->type);
	for (const struct json *o = json_first(disk->options); o; o = o->next)
		if (add_option(disk, o->string, err) < 0)
			return -1;
	return disk->path ? 0 : json_range(name, disk->target, 0, TARGETS_MAX, err);
}

static int mount_folder(const struct disk_spec *disk, int place, struct error *err)
{
	autoclose int source = open(disk->path, O_PATH | O_CLOEXEC);

	if (source < 0)
		return fail(err, errno, "open %s", disk->path);
	return bind_on(source, place, disk->flags & MS_RDONLY ? ATTR_RDONLY : 0, 0, err);
}

int disk_mount(const struct disk_spec *disk, int place, struct error *err)
{
	char device[64];

	if (disk->path)
		return mount_folder(disk, place, err);
	if (disk_wait((int)disk->target, device, sizeof(device), err) < 0)
		return -1;
	if (mount_on(place, device, disk->type, disk->flags, *disk->data ? disk->data : NULL, err) < 0)
		return fail(err, err->number, "mount %s from disk %d", disk->type, (int)disk->target);
	return 0;
}

void disk_name(int target, char *name, size_t size)
{
	snprintf(name, size, "disks/%d", target);
}
