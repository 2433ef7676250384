/* What the containers of a pod share: names, network, clock, the virtiofs share, perhaps the processes and users. */
#ifndef POD_H
#define POD_H

#include "reply.h"

extern bool pod_is_set;		/* by pod.setup */

int op_pod_setup(const struct call *, const struct json *, struct buffer *, struct error *);
int op_info(const struct call *, const struct json *, struct buffer *, struct error *);
int op_time_set(const struct call *, const struct json *, struct buffer *, struct error *);
int op_entropy_add(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
