/* The nameserver of a pod's networks. Containers find it at 127.0.0.11, as docker has it; it is on the host. */
#ifndef NAMESERVER_H
#define NAMESERVER_H

#include "json.h"

enum { RESOLVER_ADDRESS = 0x7F00000B };	/* 127.0.0.11 */

/* {"address":"10.0.0.1","port":n}: questions to 127.0.0.11, port 53, go there. NULL: as before. */
int nameserver_set(const struct json *json, struct error *err);
/* They go to that port of 127.0.0.11 itself. */
int nameserver_here(uint16_t port, struct error *err);

#endif
