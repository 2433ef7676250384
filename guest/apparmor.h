/* AppArmor: what a process may do, by its name, in rules that the host has compiled. */
#ifndef APPARMOR_H
#define APPARMOR_H

#include "reply.h"

bool apparmor_is_on(void);	/* the kernel has it, and was told to use it */
/* Take profiles in, in the place of those of their names. */
int op_apparmor_load(const struct call *call, const struct json *args, struct buffer *result, struct error *err);
/* What this process, or a child of it, runs next is confined by the profile of that name. "": by none. Before its root is
   another: /proc must be the guest's. */
int apparmor_confine(const char *profile, struct error *err);

#endif
