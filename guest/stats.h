/* What a container uses, and what runs in it. */
#ifndef STATS_H
#define STATS_H

#include "reply.h"

int op_container_stats(const struct call *, const struct json *, struct buffer *, struct error *);
int op_pod_stats(const struct call *, const struct json *, struct buffer *, struct error *);
int op_container_files(const struct call *, const struct json *, struct buffer *, struct error *);
int op_container_processes(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
