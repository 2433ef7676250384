/* What a process may do: capabilities, limits, system calls, its user. */
#ifndef PRIVILEGE_H
#define PRIVILEGE_H

#include "json.h"
#include "user.h"

#include <stdint.h>

enum { RLIMITS_MAX = 16, SECCOMP_MAX = 4096 };

struct capabilities {		/* bit n = capability n */
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

struct scheduling {		/* the kernel's numbers; policy -1, io_priority and personality 0: as usual */
	int64_t policy, nice, priority, flags, runtime_ns, deadline_ns, period_ns, io_priority, personality;
};

struct privileges {
	struct capabilities capabilities;
	mode_t umask;
	bool no_new_privs;
	struct scheduling scheduling;
	struct { int resource; uint64_t soft, hard; } rlimits[RLIMITS_MAX];
	size_t rlimits_count;
	uint8_t *seccomp;		/* classic BPF, 8 bytes an instruction; NULL: none */
	size_t seccomp_length;		/* instructions */
};

/* `capabilities`: those that are bounding, effective and permitted; or `sets` has all five. */
int capabilities_parse(const struct json *capabilities, const struct json *sets, struct capabilities *to,
		       struct error *err);
int privileges_parse(const struct json *rlimits, const char *seccomp, struct privileges *privileges,
		     struct error *err);
/* NULL: as usual. */
int scheduling_parse(const struct json *json, struct scheduling *scheduling, struct error *err);
/* For the rest of this process's life, in the user namespace `users`; -1: in ours. After this nothing but exec should follow: the filter is on. */
int privileges_drop(const struct privileges *privileges, const struct identity *identity, const char *cwd,
		    int users, struct error *err);
void limits_boot(void);			/* our own */

#endif
