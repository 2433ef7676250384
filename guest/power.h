/* The orderly end. */
#ifndef POWER_H
#define POWER_H

#include "reply.h"

int op_poweroff(const struct call *, const struct json *, struct buffer *, struct error *);
int power_check(struct error *err);		/* -1 when the guest is going down: nothing new begins */

#endif
