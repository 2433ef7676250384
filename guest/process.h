/* Processes of containers: their start, streams, end. */
#ifndef PROCESS_H
#define PROCESS_H

#include "container.h"
#include "stream.h"

struct process {
	struct process *next;
	char id[ID_BYTES];
	struct container *container;
	int pid, pidfd;
	bool first, tty, running;
	bool holds;			/* its container stands still for as long as it runs */
	struct source starting;		/* the pipe that tells whether exec succeeded; fd -1: it has */
	struct call call;		/* who waits for that */
	bool restoring;			/* it is CRIU, which makes the first process; that one is it from then on */
	bool ready;			/* its namespaces and mounts are there */
	bool held;			/* it is ready, and waits for its release */
	int release;			/* where it waits, -1: it does not */
	int status;			/* when it runs no more */
	bool oom;
	uint64_t oom_kills;		/* of its cgroup when it began */
	int terminal;			/* the pty's master, -1: none */
	uint32_t streams[3];		/* stdin, stdout, stderr; 0: none */
	char *identity;			/* who it is, for the answer to its start; NULL: not asked */
};

extern struct process *processes;
extern void (*process_ended)(void);		/* called after each end; NULL: nobody waits for it */

void process_boot(void);			/* SIGCHLD from now on */
void processes_list(struct buffer *result);
void processes_drop(struct container *container);	/* forget its processes, dead or not */
int processes_rename(struct container *container, const char *id, const char *to, struct error *err);
unsigned processes_running(void);
void processes_signal(int signal);		/* every one that runs */

int op_process_start(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_archive(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_checkpoint(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_signal(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_resize(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_release(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_hang_up(const struct call *, const struct json *, struct buffer *, struct error *);
int op_process_forget(const struct call *, const struct json *, struct buffer *, struct error *);

#endif
