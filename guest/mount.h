/* Paths beneath a root that somebody else filled, and mounts on them: by descriptors, never by names twice. */
#ifndef MOUNT_H
#define MOUNT_H

#include "error.h"

#include <stdint.h>
#include <sys/types.h>

/* MOUNT_ATTR_…, as the kernel has them; the C libraries differ in what they declare. */
enum {
	ATTR_RDONLY = 1, ATTR_NOSUID = 2, ATTR_NODEV = 4, ATTR_NOEXEC = 8, ATTR_NOATIME = 0x10,
	ATTR_STRICTATIME = 0x20, ATTR_ATIME = 0x70, ATTR_NODIRATIME = 0x80, ATTR_NOSYMFOLLOW = 0x200000, ATTR_IDMAP = 0x100000,
};

/* Where the agent keeps its things: /run/hyper, in tests a folder. */
extern char run_dir[256];

/* openat2 with everything, ".." and symlinks included, held beneath `root`. O_CLOEXEC is implied. */
struct json;

int open_beneath(int root, const char *path, int flags, mode_t mode, struct error *err);
/* The same, but no symlink may be on the way. */
int open_plain(int root, const char *path, int flags, mode_t mode, struct error *err);
/* An O_PATH descriptor of the folder, made if it alone is missing; no symlink may be on the way. */
int make_plain(int root, const char *path, struct error *err);
/* An O_PATH descriptor of a folder or else a file; what is missing is made (folders 0755, file 0644). */
int make_beneath(int root, const char *path, bool folder, struct error *err);

/* mount(2) on what `target` is. */
int mount_on(int target, const char *source, const char *type, unsigned long flags, const char *data,
	     struct error *err);
/* What `root` is, without what is mounted in it: a descriptor. */
int bare_mount(int root, struct error *err);
/* What `source` is, with all that is mounted below it, appears at `target` too, there with these attributes. */
int bind_on(int source, int target, uint64_t set, uint64_t clear, struct error *err);
int move_on(int mounted, int target, struct error *err);	/* from wherever it is, or from nowhere */
int mount_read_only(const char *path, struct error *err);
/* What was just mounted there, with the ids that it has in a user namespace. */
int mount_mapped(const char *path, int users, struct error *err);

int write_file_at(int dir, const char *name, const char *value, struct error *err);
/* At most size - 1 bytes and a NUL: their number, or -1. */
ssize_t read_file_at(int dir, const char *name, char *to, size_t size);
int write_all(int fd, const void *bytes, size_t length, struct error *err);
int make_folders(const char *path, struct error *err);		/* one of our own paths: mkdir -p */
/* /proc/sys below: "net.ipv4.ip_forward" or with slashes. */
int set_sysctls(const struct json *sysctls, struct error *err);
/* Have in folder `to` all that is in folder `from`. What is there already stays as it is, so that one that was cut short
   can be gone on with: until all of it is there, there is a folder of this name too. */
#define COPY_UNFINISHED ".hyper-unfinished"
int copy_missing(int from, int to, struct error *err);
/* Is `volume` empty, or such a one? */
bool copy_is_due(int volume);

#endif
