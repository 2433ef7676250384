/* cgroup v2: one group a container. */
#ifndef CGROUP_H
#define CGROUP_H

#include "device.h"

#include <stdint.h>

/* Where our groups are made: below /sys/fs/cgroup, in tests a group of our own. */
extern char cgroup_dir[256];

enum { CGROUP_FILE_BYTES = 8192 };	/* of a group's file are read */

struct limits {		/* 0 = none */
	int64_t memory_bytes, cpu_quota_us, cpu_period_us, cpu_shares, pids;
	const struct json *unified;	/* a file of the group's -> what is written to it, last */
};

int limits_parse(const struct json *json, struct limits *limits, struct error *err);
void cgroup_boot(void);				/* hand the controllers down */
void cgroup_leave_room(void);			/* for us: all containers together have so many threads at most */
/* Group `number`, without limits: a descriptor of its folder; only the usual devices unless all_devices. */
int cgroup_create(unsigned number, bool all_devices, struct error *err);
int cgroup_limit(int group, const struct limits *limits, struct error *err);	/* a new one */
/* The usual ones may be used, and others by these rules. */
int cgroup_rule_devices(int group, const struct device_rule *rules, size_t count, struct error *err);
/* Set all limits anew. EBUSY: it uses more memory than that, and what could be given back does not count. */
int cgroup_update(int group, const struct limits *limits, struct error *err);
void cgroup_remove(unsigned number);		/* kill what is in it, wait for that, remove it */
int cgroup_kill(int group, struct error *err);	/* everything in it, which may be used again */
int cgroup_freeze(int group, bool frozen, struct error *err);
int64_t cgroup_value(const char *text, const char *key);	/* in what such a file has; -1: there is none */
uint64_t cgroup_number(int group, const char *file, const char *key);	/* key NULL: the file is the number */
uint64_t cgroup_oom_kills(int group);
/* Call visit for each process in it; their number. */
int cgroup_each(int group, void (*visit)(int pid, void *data), void *data, struct error *err);
/* With those of groups that were made in it. */
int cgroup_each_below(int group, void (*visit)(int pid, void *data), void *data, struct error *err);

#endif
