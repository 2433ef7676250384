/* What the pod's host is called, and whom its containers know by name: their resolv.conf, hosts and hostname. */
#ifndef NAMES_H
#define NAMES_H

#include "json.h"

enum { HOSTNAME_BYTES = 65 };

extern char pod_hostname[HOSTNAME_BYTES];

int names_set_hostname(const char *name, struct error *err);
int names_set_dns(const struct json *dns, struct error *err);		/* NULL: as before; so for hosts */
int names_set_hosts(const struct json *lines, struct error *err);

/* Write the three files to the folder `dir` of a container. `hostname` is its own, "": the pod's. */
int names_write(const char *dir, const char *hostname, struct error *err);

#endif
