/* What the containers of a pod share: names, network, clock, the virtiofs share, perhaps the processes. */
#ifndef POD_H
#define POD_H

#include "container.h"

struct pod {
	bool set, share_pid;
	char hostname[HOSTNAME_BYTES];
	int processes;			/* share_pid: pidfd of the pid namespace's first process; else -1 */
};

extern struct pod pod;

int pod_files_write(const struct container *container, struct error *err);	/* resolv.conf, hosts, hostname */

int op_pod_setup(const struct call *, const struct json *, struct buffer *, struct error *);
int op_info(const struct call *, const struct json *, struct buffer *, struct error *);
int op_time_set(const struct call *, const struct json *, struct buffer *, struct error *);
int op_entropy_add(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
