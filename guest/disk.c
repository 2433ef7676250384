#include "disk.h"

#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* As often as a disk is looked for: five seconds and more. By the clock it would be less, down to never, in a guest that
 * gets no processor; the driver needs that one too. */
enum { LOOKS_MAX = 10000, BETWEEN_LOOKS_NS = 500000 };

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
	int host = find_host(err);

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

	if (device_path(target, "block", folder, sizeof(folder), err) < 0)
		return -1;
	for (int looks = 0; looks < LOOKS_MAX; looks++) {
		if (find_block(folder, path, size))
			return 0;
		nanosleep(&(struct timespec){ .tv_nsec = BETWEEN_LOOKS_NS }, NULL);
	}
	return fail(err, ENODEV, "find the disk at SCSI target %d", target);
}

void disk_detach(int target)
{
	char path[80];
	struct error err;

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

void disk_name(int target, char *name, size_t size)
{
	snprintf(name, size, "disks/%d", target);
}
