/* Containers: a root file system, mounts, a cgroup; the processes come later. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "idmap.h"
#include "mount_list.h"
#include "names.h"
#include "reply.h"

enum { ID_BYTES = 65, PATHS_MAX = 128, BELOW_MAX = 64, LOWERS_MAX = 120, DISKS_MAX = 64 };

struct fill;
struct process;

/* A new volume that is to get what the image has at its place. */
struct unfilled {
	struct unfilled *next;
	int content, volume;
	bool marked;			/* by us, to be one */
	char target[104];		/* for words */
};

struct container {
	struct container *next;
	char id[ID_BYTES];
	unsigned number;		/* names what is its own: it keeps that when it is renamed */
	char dir[400];			/* lower, upper and rootfs are mounted in it */
	char hostname[HOSTNAME_BYTES];	/* "": the pod's */
	int root;			/* its root as we mounted it, O_PATH */
	int terminals;			/* its devpts */
	int cgroup;
	int lower_target, upper_target;	/* -1: none */
	unsigned char lowers[LOWERS_MAX];	/* or the targets of several, the uppermost first */
	unsigned lower_count;
	unsigned char disks[DISKS_MAX];	/* targets of those that are devices in it */
	unsigned disk_count;
	bool read_only, privileged, has_cgroup, layered;	/* layered: its changes lie over something */
	unsigned below;			/* how many containers' changes lie between its own and the image */
	unsigned held;			/* how many processes of ours have it stand still */
	char pid_of[ID_BYTES];		/* in whose pid namespace its first processes begin; "": each in one of its own */
	char ipc_of[ID_BYTES];		/* the same of IPC; "": in the guest's */
	bool own_ipc;			/* ... or each in one of its own */
	bool own_time;			/* the same of clocks, which are ahead of the guest's by so much: */
	int64_t monotonic_ns, boottime_ns;
	struct idmap ids;
	int users;			/* its user namespace, -1: the guest's */
	bool of_pod;			/* ... which is that of its pod: disks of images are mapped, and so is what we make */
	unsigned long propagation;	/* of its root, once it is that: MS_…; 0: private */
	struct mount_list mounts;
	char *masked[PATHS_MAX], *readonly[PATHS_MAX];
	size_t masked_count, readonly_count;
	struct process *first;		/* its PID 1 while that runs */
	struct unfilled *unfilled;
	struct fill *filling;		/* one of its volumes, NULL: none */
	void (*filled)(struct container *, const struct error *);
	struct call creator;		/* who waits for that */
};

extern struct container *containers;
extern void (*container_left)(struct container *);	/* another one goes on from it: its processes are forgotten */

struct container *container_find(const char *id, struct error *err);
int check_id(const char *what, const char *id, struct error *err);
void container_unmount(struct container *container);	/* processes are gone; the record stays */
void container_remove(struct container *container);	/* the record goes too */
void containers_list(struct buffer *result);

/* Have those that are made from here on be in one user namespace. Again the same: no change. */
int containers_share_users(const struct json *users, struct error *err);

/* Make what any container needs ahead of the next one. */
int container_stage(struct error *err);

int op_stage(const struct call *, const struct json *, struct buffer *, struct error *);
int op_container_create(const struct call *, const struct json *, struct buffer *, struct error *);
int op_container_freeze(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
