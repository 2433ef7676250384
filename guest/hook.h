/* Programs that an engine has run in a container, before its own. */
#ifndef HOOK_H
#define HOOK_H

#include "json.h"

struct hooks {
	const struct json *list;	/* NULL: none */
	const char *state;		/* a JSON object: what they read from their stdin, with the process's pid */
	int given, said;		/* files of ours: that, and what one has written */
};

int hooks_parse(const struct json *list, const char *state, struct hooks *hooks, struct error *err);
/* While we may all. */
int hooks_prepare(struct hooks *hooks, struct error *err);
/* One after the other, as the process that is to come: with its root, user, capabilities and filter. -1: one ended
   badly, or not in time, and those behind it were not run. */
int hooks_run(const struct hooks *hooks, struct error *err);

#endif
