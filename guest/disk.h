/* Disks: SCSI targets that are looked for when a container wants them; or, on a VMM without SCSI, block devices that are
   there from the start, named by their numbers. */
#ifndef DISK_H
#define DISK_H

#include "json.h"

enum { TARGETS_MAX = 255 };

/* Disk number 0 is /dev/<prefix>a, and so on to z: no SCSI. */
void disk_boot(const char *prefix);
/* Ask the controller for `target`, unless it is known; disk_wait then waits for it. */
int disk_scan(int target, struct error *err);
/* Wait (seconds at most) and return the path of its device in `path`. */
int disk_wait(int target, char *path, size_t size, struct error *err);
/* Several, and wait for them: an array of numbers. */
int disks_scan(const struct json *targets, struct error *err);
void disk_detach(int target);

/* A file system on one. */
struct disk_spec {
	int64_t target;
	const char *path, *type;
	unsigned long flags;
	const struct json *options;
	char data[256];			/* of them, the file system's own: with commas between */
};

/* {"target":n,"type":…,"options":[…]}, in tests {"path":…}. `name`: what the target is, for words; `type` and `flags`:
   those of the first hosts, who say no type. */
int disk_parse(const struct json *json, const char *name, const char *type, unsigned long flags,
	       struct disk_spec *disk, struct error *err);
int disk_mount(const struct disk_spec *disk, int place, struct error *err);	/* it is waited for */

/* Where it is mounted in the folder of a container that has it beside its root. */
void disk_name(int target, char *name, size_t size);

#endif
