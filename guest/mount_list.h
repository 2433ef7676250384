/* What is mounted in a container: a list, which is the host's. */
#ifndef MOUNT_LIST_H
#define MOUNT_LIST_H

#include "json.h"

#include <sys/types.h>

enum { MOUNTS_MAX = 256, MOUNT_DATA = 256 };

struct container;
struct mount_kind;

struct mount_spec {
	const struct mount_kind *kind;
	char *source, *target;		/* source: below the share, a file of the pod's, a container; else NULL */
	const struct container *of;	/* the container that `source` names, once it is found */
	uint64_t set, clear;		/* attributes of the mount */
	unsigned long propagation;	/* 0: private */
	bool populate;
	uid_t uid;			/* of a socket */
	gid_t gid;
	mode_t mode;
	bool late;			/* of the first process's namespaces, or below what is */
	char data[MOUNT_DATA];		/* the file system's own options, a NUL behind each; an empty one ends them */
};

struct mount_list {
	struct mount_spec *specs;
	size_t count;
};

int mounts_parse(const struct json *mounts, struct mount_list *list, struct error *err);
/* What the first hosts mean, who say only what comes beside the usual file systems. shm_bytes 0: 64 MiB. */
int mounts_parse_first(const struct json *mounts, bool privileged, int64_t shm_bytes, struct mount_list *list,
		       struct error *err);
typedef struct container *(*container_finder)(const char *id, struct error *err);
/* Who the containers are that some are of; before any is made. */
int mounts_find(struct mount_list *list, container_finder find, struct error *err);
void mounts_free(struct mount_list *list);
/* POSIX message queues are those of the first process's namespace, and not ours. */
void mounts_put_off_queues(struct mount_list *list);

/* Make what of `list` any container can have, ahead of one whose list has it too. */
int mounts_stage(const struct mount_list *list, struct error *err);
/* Those that are not late, on the container's root. */
int mounts_make(struct container *container, struct error *err);
/* In the first process, before it leaves our root: the late ones, on `root`, and how mounts spread in its namespace. */
int mounts_make_late(const struct container *container, int root, struct error *err);

/* The flags of mount(2) that "private", "rshared" and so on stand for; false: it is no such word. */
bool propagation_of(const char *word, unsigned long *flags);

#endif
