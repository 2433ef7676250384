/* A process's stdin, stdout and stderr: pipes or a terminal on its side, streams of the wire on ours. */
#ifndef STDSTREAMS_H
#define STDSTREAMS_H

#include "process.h"

struct spawn;

int stdstreams_parse(const struct json *json, bool tty, uint32_t streams[3], struct error *err);
int stdstreams_open(struct process *p, struct spawn *s, int64_t rows, int64_t columns, struct error *err);
int stdstreams_pipe(struct process *p, int index, int *theirs, struct error *err);	/* stdin, stdout or stderr */
int terminal_resize(int master, int64_t rows, int64_t columns, struct error *err);

#endif
