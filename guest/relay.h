/* Sockets of the host in containers: we listen in their place, and the host takes what connects. And the other way
   round: it connects to a port of ours. */
#ifndef RELAY_H
#define RELAY_H

#include "container.h"

void relay_boot(void);
/* Listen at 127.0.0.11 for questions of names, by UDP and TCP, for the host to take: "udp" and "tcp" of no container. */
int relay_resolver(struct error *err);
/* Have the socket there that `spec`, one of the container's mounts, is to show; whoever connects waits for the host. */
int relay_listen(struct container *container, const struct mount_spec *spec, struct error *err);
/* That socket, to be mounted: an O_PATH descriptor. */
int relay_open(const struct container *container, const struct mount_spec *spec, struct error *err);
/* Its sockets are no more, and whoever was connected to one meets its end. */
void relay_close(struct container *container);
bool relay_settled(void);		/* of those that are dead, nobody had anything to say that the host has not heard */

int op_socket_watch(const struct call *, const struct json *, struct buffer *, struct error *);
int op_socket_accept(const struct call *, const struct json *, struct buffer *, struct error *);
int op_socket_connect(const struct call *, const struct json *, struct buffer *, struct error *);
int op_socket_close(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
