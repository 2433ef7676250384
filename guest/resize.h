/* Sizes: what the guest has while it runs, and what its containers may have of it. */
#ifndef RESIZE_H
#define RESIZE_H

#include "json.h"
#include "reply.h"

void resize_boot(void);		/* remember how much memory there is before any is added */

int op_pod_resize(const struct call *, const struct json *, struct buffer *, struct error *);
int op_container_update(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
