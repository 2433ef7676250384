/* The pod's network by rtnetlink: links found by MAC, addresses, routes, rules. Done again, it changes what differs. */
#ifndef NET_H
#define NET_H

#include "json.h"

int net_remove(const struct json *macs, struct error *err);	/* for good; what is not there is fine */
int net_setup(const struct json *interfaces, const struct json *routes, const struct json *rules, struct error *err);
void net_boot(void);		/* lo up */
void net_list(struct buffer *result);	/* the counters of container.stats */

#endif
