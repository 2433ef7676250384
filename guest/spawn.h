/* The way from fork to exec. */
#ifndef SPAWN_H
#define SPAWN_H

#include "container.h"
#include "hook.h"
#include "privilege.h"

struct spawn {
	const struct container *container;
	const struct json *args, *env, *groups, *group_names;
	const char *cwd, *user, *apparmor;
	bool tty, init, first;
	enum memberships memberships;	/* not as usual: who it is is told, too */
	int oom_score_adj;
	struct privileges privileges;
	struct hooks hooks;	/* first: run before it */
	int stdio[3];		/* the process's ends */
	int status;		/* where it tells us why exec failed; closed by a successful exec */
	int terminal;		/* number of its pts, -1: none */
	int pidfd;		/* first: unused; else the process whose namespaces it joins */
	int pids, ipc;		/* first: processes in whose namespaces it begins, -1: none; else unused */
	int hold;		/* first: where it waits for a byte when all but its start is done, -1: it does not */
};

/* What comes through `status`. An error without a number: all but the start is done, it waits at `hold`; or before that,
   who it is to be. */
struct spawn_failure {
	struct error error;
	bool identified;
	uid_t uid;
	gid_t gid, groups[GROUPS_MAX];
	size_t groups_count;
};
_Static_assert(sizeof(struct spawn_failure) <= 4096, "a pipe takes it as a whole");

void spawn_boot(void);		/* remember our executable and namespace */
/* Start it; *pidfd gets a descriptor of it. Its pid, or -1. */
int spawn_process(const struct spawn *spawn, int *pidfd, struct error *err);
/* A process of ours that runs `body`, which should begin with spawn_arrange, and exits with what that returns. */
int spawn_helper(int (*body)(const void *data), const void *data, int *pidfd, struct error *err);
/* In a child: stdio at 0..2, two more descriptors at 3 and 4 (-1: none); all else is closed. */
int spawn_arrange(const int stdio[3], int third, int fourth, struct error *err);
/* From now on the containers' first processes share a pid namespace. Again does nothing. */
int spawn_share_pids(struct error *err);
bool spawn_shares_pids(void);

/* The executable started again: as the reaper above a container's process, or to hold a namespace open. */
_Noreturn void reaper_main(char **argv);
_Noreturn void pause_main(void);
/* Started by a guest that rehearses. */
int rehearsal_main(void);
/* execve with a search in environ's PATH: -1 with err->exec set, if it returns. */
int exec_command(char *const *argv, struct error *err);

#define REAPER_NAME "hyper-init"
#define PAUSE_NAME "hyper-pause"

#endif
