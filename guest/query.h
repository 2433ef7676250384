/* Questions whose answer may take its time, or not come at all: a helper finds it, and we go on. */
#ifndef QUERY_H
#define QUERY_H

#include "container.h"

/* In the helper: write the answer about the container with this cgroup and this root. Who is in a `hurry` has not come to
   an end in time, and leaves out what takes so long. Below 0: there is none. */
typedef int query_body(int group, int root, bool hurry, struct buffer *result);

/* LATER, or -1. `verb` is for words: "list the processes" of it. */
int query_begin(const struct call *call, const struct container *container, query_body *body, const char *verb,
		struct error *err);

#endif
