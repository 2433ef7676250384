#include "process.h"

#include "archive.h"
#include "cgroup.h"
#include "channel.h"
#include "checkpoint.h"
#include "module.h"
#include "spawn.h"
#include "stdstreams.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { PROCESSES_MAX = 2048, SIGNAL_MAX = 64 };

struct process *processes;
void (*process_ended)(void);
static unsigned process_count;

static struct process *find(const char *id)
{
	for (struct process *p = processes; p; p = p->next)
		if (!strcmp(p->id, id))
			return p;
	return NULL;
}

static struct process *find_known(const char *id, struct error *err)
{
	struct process *p = find(id);

	if (!p)
		fail(err, ESRCH, "find process %.64s", id);
	return p;
}

static void close_streams(struct process *p)
{
	input_free(p->streams[0] ? input_find(p->streams[0]) : NULL);
	output_free(p->streams[1] ? output_find(p->streams[1]) : NULL);
	output_free(p->streams[2] ? output_find(p->streams[2]) : NULL);
	close_fd(&p->terminal);
}

/* Have the container stand still until let_go, which comes by itself with the process's end. */
static int hold(struct process *p, struct error *err)
{
	if (cgroup_freeze(p->container->cgroup, true, err) < 0) {
		struct error ignored;

		cgroup_freeze(p->container->cgroup, false, &ignored);
		return -1;
	}
	p->container->held++;
	p->holds = true;
	return 0;
}

static void let_go(struct process *p)
{
	struct error err;

	if (!p->holds)
		return;
	p->holds = false;
	if (--p->container->held == 0 && p->container->cgroup >= 0 && cgroup_freeze(p->container->cgroup, false, &err) < 0)
		debug("%s", err.message);
}

static void drop(struct process *p)
{
	let_go(p);
	for (struct process **at = &processes; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			process_count--;
			break;
		}
	if (p->container->first == p)
		p->container->first = NULL;
	close_streams(p);
	loop_close(&p->starting);
	close_fd(&p->release);
	close_fd(&p->pidfd);
	free(p->identity);
	free(p);
}

enum { IDENTITY_BYTES = 64 + 11 * GROUPS_MAX };

/* The end of a start */

static void tell_pid(struct process *p)
{
	char text[IDENTITY_BYTES + 32];

	p->ready = true;
	snprintf(text, sizeof(text), "{\"pid\":%d%s}", p->pid, p->identity ? p->identity : "");
	reply_result(&p->call, text);
}

static void keep_identity(struct process *p, const struct spawn_failure *told)
{
	char text[IDENTITY_BYTES];
	size_t length = (size_t)snprintf(text, sizeof(text), ",\"uid\":%u,\"gid\":%u,\"groups\":[", told->uid, told->gid);

	for (size_t i = 0; i < told->groups_count && i < GROUPS_MAX; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%u", i ? "," : "", told->groups[i]);
	snprintf(text + length, sizeof(text) - length, "]");
	free(p->identity);
	p->identity = strdup(text);
}

static void finish(struct process *p, int status);

/* As a shell would say it of a command, 128 if it did not come to that. */
static int status_of(const struct error *err)
{
	if (!err->exec)
		return 128;
	return err->number == ENOENT || err->number == ENOTDIR ? 127 : 126;
}

static void start_failed(struct process *p, const struct error *err)
{
	struct call call = p->call;

	if (call.session != channel_session()) {	/* another host was told that it runs */
		debug("cannot %s", err->message);
		return finish(p, status_of(err));
	}
	drop(p);
	reply_error(&call, err);
	if (process_ended)
		process_ended();
}

/* It is killed, or goes on: it waits no more. */
static void let_start(struct process *p)
{
	p->held = false;
	close_fd(&p->release);
}

/* The pipe has the reason why exec failed, that it waits for its release, or its end: exec has succeeded. Returns false
   if p is gone. */
static bool read_start(struct process *p, bool ended)
{
	struct spawn_failure failure;
	ssize_t n = read(p->starting.fd, &failure, sizeof(failure));

	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !ended)
		return true;
	if (n == (ssize_t)sizeof(failure) && failure.identified) {
		keep_identity(p, &failure);
		return read_start(p, ended);
	}
	if (p->held) {	/* it is killed: its end tells */
		loop_close(&p->starting);
		return true;
	}
	if (n == (ssize_t)sizeof(failure) && !failure.error.number) {
		p->held = true;
		tell_pid(p);
		return true;
	}
	if (n == (ssize_t)sizeof(failure)) {
		failure.error.message[sizeof(failure.error.message) - 1] = 0;
		start_failed(p, &failure.error);
		return false;
	}
	loop_close(&p->starting);
	tell_pid(p);
	return true;
}

static void start_ready(struct source *source, uint32_t events)
{
	(void)events;
	read_start((struct process *)((char *)source - offsetof(struct process, starting)), false);
}

/* Ends */

/* CRIU has ended: whom it has made is our child now, for it has no other parent. */
static void restored(struct process *p, int status)
{
	struct spawn_failure failure;
	struct error err = { 0 };

	p->restoring = false;
	close_fd(&p->pidfd);
	if (read(p->starting.fd, &failure, sizeof(failure)) == (ssize_t)sizeof(failure)) {
		failure.error.message[sizeof(failure.error.message) - 1] = 0;
		err = failure.error;
	} else if (status) {
		fail_as(&err, EPROTO, "restore container %s: CRIU ended with status %d", p->container->id,
			WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	} else if ((p->pid = checkpoint_pid(p->container, &err)) > 0) {
		p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
		if (p->pidfd < 0)
			fail(&err, errno, "restore container %s", p->container->id);
	}
	if (err.number)
		return start_failed(p, &err);
	loop_close(&p->starting);
	tell_pid(p);
}

static void finish(struct process *p, int status)
{
	struct error err;

	loop_close(&p->starting);
	let_start(p);
	p->running = false;
	let_go(p);
	p->status = status;
	p->oom = p->container->cgroup >= 0 && cgroup_oom_kills(p->container->cgroup) > p->oom_kills;
	close_fd(&p->pidfd);
	if (p->first && p->container->first == p) {
		p->container->first = NULL;
		/* Its pid namespace went with it; in a shared one the rest has to be sent after it. */
		if ((spawn_shares_pids() || *p->container->pid_of) && p->container->cgroup >= 0 && cgroup_kill(p->container->cgroup, &err) < 0)
			debug("%s", err.message);
	}
	for (int i = 1; i < 3; i++) {
		struct output *output = p->streams[i] ? output_find(p->streams[i]) : NULL;

		if (output)
			output_hurry(output);
	}
	tell_exit(p->id, p->status, p->oom);
	if (process_ended)
		process_ended();
}

static void ended(struct process *p, int status)
{
	if (p->restoring)
		return restored(p, status);
	if (p->starting.fd < 0 || read_start(p, true))
		finish(p, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct process *p = processes; p; p = p->next)
			if (p->pid == pid && p->running) {
				ended(p, status);
				break;
			}
}

static void signal_ready(struct source *source, uint32_t events)
{
	struct signalfd_siginfo info[16];

	(void)events;
	while (read(source->fd, info, sizeof(info)) > 0)
		;
	reap();
}

void process_boot(void)
{
	static struct source signals = { -1, 0, signal_ready };
	sigset_t set;

	container_left = processes_drop;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals.fd < 0)
		die("open signalfd: %s", strerror(errno));
	loop_watch(&signals, EPOLLIN);
}

unsigned processes_running(void)
{
	unsigned count = 0;

	for (struct process *p = processes; p; p = p->next)
		count += p->running;
	return count;
}

void processes_signal(int signal)
{
	for (struct process *p = processes; p; p = p->next)
		if (p->running)
			syscall(SYS_pidfd_send_signal, p->pidfd, signal, NULL, 0);
}

void processes_drop(struct container *container)
{
	struct error err;

	for (struct process *p = processes, *next; p; p = next) {
		next = p->next;
		if (p->container != container)
			continue;
		if (p->running)		/* not all are in the cgroup: an archive is not */
			syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
		if (p->starting.fd >= 0 && !p->held) {
			fail(&err, ECANCELED, "start process %s", p->id);
			reply_error(&p->call, &err);
		}
		drop(p);
	}
}

/* The process that has its container's id, its first, takes the new one with it. */
int processes_rename(struct container *container, const char *id, const char *to, struct error *err)
{
	struct process *p = find(id);

	if (strcmp(id, to) && find(to))
		return fail(err, EEXIST, "rename process %.64s to %.64s", id, to);
	if (p && p->container == container)
		strcpy(p->id, to);
	return 0;
}

void processes_list(struct buffer *result)
{
	for (struct process *p = processes; p; p = p->next) {
		buffer_format(result, "%s{\"id\":\"%s\",\"container\":\"%s\",\"pid\":%d,\"running\":%s,\"status\":%d,",
			      p == processes ? "" : ",", p->id, p->container->id, p->pid, p->running ? "true" : "false",
			      p->status);
		buffer_format(result, "\"held\":%s,", p->held ? "true" : "false");
		buffer_format(result, "\"oom\":%s,\"tty\":%s,\"streams\":{\"stdin\":%u,\"stdout\":%u,\"stderr\":%u}}",
			      p->oom ? "true" : "false", p->tty ? "true" : "false", p->streams[0], p->streams[1],
			      p->streams[2]);
	}
}

struct start_args {
	const char *id, *container, *cwd, *user, *memberships, *seccomp, *state, *apparmor;
	const struct json *args, *env, *groups, *group_names, *capabilities, *capability_sets, *rlimits, *scheduling, *streams;
	const struct json *hooks, *restore;
	bool tty, init, first, hold, no_new_privs;
	int64_t rows, columns, oom_score_adj, umask;
};

static int parse_start(const struct json *args, struct start_args *a, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct start_args, id, JSON_STRING), NEEDED(struct start_args, container, JSON_STRING),
		NEEDED(struct start_args, args, JSON_ARRAY), FIELD(struct start_args, env, JSON_ARRAY),
		FIELD(struct start_args, cwd, JSON_STRING), FIELD(struct start_args, user, JSON_STRING),
		FIELD(struct start_args, groups, JSON_ARRAY), FIELD(struct start_args, group_names, JSON_ARRAY),
		FIELD(struct start_args, tty, JSON_BOOL),
		FIELD(struct start_args, rows, JSON_NUMBER), FIELD(struct start_args, columns, JSON_NUMBER),
		FIELD(struct start_args, init, JSON_BOOL), FIELD(struct start_args, first, JSON_BOOL),
		FIELD(struct start_args, capabilities, JSON_ARRAY),
		FIELD(struct start_args, capability_sets, JSON_OBJECT), FIELD(struct start_args, umask, JSON_NUMBER),
		FIELD(struct start_args, no_new_privs, JSON_BOOL), FIELD(struct start_args, scheduling, JSON_OBJECT),
		FIELD(struct start_args, rlimits, JSON_ARRAY), FIELD(struct start_args, seccomp, JSON_STRING),
		FIELD(struct start_args, oom_score_adj, JSON_NUMBER), FIELD(struct start_args, streams, JSON_OBJECT),
		FIELD(struct start_args, hooks, JSON_ARRAY), FIELD(struct start_args, state, JSON_STRING),
		FIELD(struct start_args, hold, JSON_BOOL), FIELD(struct start_args, restore, JSON_OBJECT),
		FIELD(struct start_args, memberships, JSON_STRING), FIELD(struct start_args, apparmor, JSON_STRING),
	};

	if (json_fields(args, fields, COUNT(fields), a, err) < 0 || check_id("process", a->id, err) < 0 ||
	    json_all(a->args, JSON_STRING, "args", err) < 0 || json_all(a->env, JSON_STRING, "env", err) < 0 ||
	    json_all(a->groups, JSON_NUMBER, "groups", err) < 0 ||
	    json_all(a->group_names, JSON_STRING, "group_names", err) < 0 ||
	    json_range("oom_score_adj", a->oom_score_adj, -1000, 1000, err) < 0 ||
	    json_range("umask", a->umask, 0, 0777, err) < 0)
		return -1;
	for (const struct json *g = json_first(a->groups); g; g = g->next)
		if (json_range("group", g->number, 0, UINT32_MAX - 1, err) < 0)
			return -1;
	if (!a->args->count)
		return fail(err, EINVAL, "start process %s: it has no arguments", a->id);
	if (a->hold && !a->first)
		return fail_as(err, EINVAL, "hold process %s: it is no first process", a->id);
	if (a->restore && (!a->first || a->tty || a->init || a->hooks || a->hold || *a->apparmor))
		return fail_as(err, EINVAL, "restore process %s: it is no first one with pipes and nothing else", a->id);
	if (a->hooks && !a->first)
		return fail_as(err, EINVAL, "start process %s: hooks are run before a first process", a->id);
	return !a->cwd || a->cwd[0] == '/' ? 0 : fail(err, EINVAL, "start in folder '%.100s'", a->cwd);
}

static int parse_memberships(const char *word, enum memberships *to, struct error *err)
{
	static const char *const words[] = {
		[MEMBERSHIPS_USUAL] = "", [MEMBERSHIPS_MERGE] = "merge", [MEMBERSHIPS_STRICT] = "strict",
	};

	for (size_t i = 0; i < COUNT(words); i++)
		if (!strcmp(words[i], word)) {
			*to = (enum memberships)i;
			return 0;
		}
	return fail_as(err, EINVAL, "have memberships '%.20s': there is merge and strict", word);
}

static struct process *process_new(const char *id, const char *container, struct error *err)
{
	struct container *c = container_find(container, err);
	struct process *p;

	if (!c)
		return NULL;
	if (c->filling) {
		fail(err, EBUSY, "start process %s: volumes of container %s are being filled", id, container);
		return NULL;
	}
	if (find(id) || process_count >= PROCESSES_MAX) {
		fail(err, find(id) ? EEXIST : EAGAIN, "start process %s", id);
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		fail(err, ENOMEM, "start process %s", id);
		return NULL;
	}
	*p = (struct process){ .container = c, .pidfd = -1, .terminal = -1, .release = -1, .starting = { -1, 0, start_ready } };
	strcpy(p->id, id);
	p->oom_kills = cgroup_oom_kills(c->cgroup);
	p->next = processes;
	processes = p;
	process_count++;
	return p;
}

static int check_first(const struct process *p, bool first, struct error *err)
{
	const struct process *running = p->container->first;

	if (first && running)
		return fail(err, EEXIST, "start the first process of container %s", p->container->id);
	if (!first && (!running || !running->ready))
		return fail(err, ESRCH, "start process %s: container %s does not run", p->id, p->container->id);
	return 0;
}

/* The first process of the container `id`, whose namespace is to be joined. "": none. */
static int find_first(const char *id, int *pidfd, struct error *err)
{
	const struct container *c = *id ? container_find(id, err) : NULL;

	if (!*id)
		return 0;
	if (!c)
		return -1;
	if (!c->first || !c->first->ready)
		return fail(err, ESRCH, "join container %s, which does not run", id);
	*pidfd = c->first->pidfd;
	return 0;
}

static int find_namespaces(const struct container *c, struct spawn *s, struct error *err)
{
	return find_first(c->pid_of, &s->pids, err) < 0 ? -1 : find_first(c->ipc_of, &s->ipc, err);
}

static void close_spawn(struct spawn *s)
{
	for (int i = 0; i < 3; i++)
		close_fd(&s->stdio[i]);
	close_fd(&s->status);
	close_fd(&s->hold);
	free(s->privileges.seccomp);
}

static int open_start(struct process *p, struct spawn *s, bool hold, struct error *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return fail(err, errno, "make a pipe");
	p->starting.fd = ends[0];
	s->status = ends[1];
	if (!hold)
		return 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(err, errno, "make a pipe");
	s->hold = ends[0];
	p->release = ends[1];
	return 0;
}

static int spawn_restore(struct process *p, const struct spawn *s, const struct json *wanted, struct error *err)
{
	struct checkpoint c = { .container = p->container, .status = s->status };

	memcpy(c.stdio, s->stdio, sizeof(c.stdio));
	if (checkpoint_parse(wanted, &c, err) < 0 ||
	    checkpoint_name_pid_file(p->container, c.pid_file, sizeof(c.pid_file), err) < 0)
		return -1;
	p->restoring = true;
	return spawn_helper(checkpoint_restore, &c, &p->pidfd, err);
}

static int launch(struct process *p, struct spawn *s, const struct start_args *a, struct error *err)
{

	if (check_first(p, s->first, err) < 0 || (s->first && find_namespaces(p->container, s, err) < 0) ||
	    stdstreams_parse(a->streams, a->tty, p->streams, err) < 0) {
		memset(p->streams, 0, sizeof(p->streams));	/* they may be another's */
		return -1;
	}
	if (capabilities_parse(a->capabilities, a->capability_sets, &s->privileges.capabilities, err) < 0 ||
	    scheduling_parse(a->scheduling, &s->privileges.scheduling, err) < 0 ||
	    privileges_parse(a->rlimits, a->seccomp, &s->privileges, err) < 0 ||
	    hooks_parse(a->hooks, a->state, &s->hooks, err) < 0 ||
	    stdstreams_open(p, s, a->rows, a->columns, err) < 0 || open_start(p, s, a->hold, err) < 0)
		return -1;
	if (!s->first)
		s->pidfd = p->container->first->pidfd;
	if (s->privileges.capabilities.bounding >> CAP_NET_ADMIN & 1)
		modules_for_network();
	p->pid = a->restore ? spawn_restore(p, s, a->restore, err) : spawn_process(s, &p->pidfd, err);
	if (p->pid < 0)
		return -1;
	if (!a->restore)
		loop_watch(&p->starting, EPOLLIN);
	p->running = true;
	if (s->first)
		p->container->first = p;
	return 0;
}

int op_process_start(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct start_args a = { .cwd = "/", .user = "", .memberships = "", .apparmor = "", .umask = 022 };
	struct spawn s = { .stdio = { -1, -1, -1 }, .status = -1, .terminal = -1, .pidfd = -1, .pids = -1, .ipc = -1, .hold = -1 };
	struct process *p;
	int outcome;

	(void)result;
	if (parse_start(args, &a, err) < 0 || parse_memberships(a.memberships, &s.memberships, err) < 0 ||
	    !(p = process_new(a.id, a.container, err)))
		return -1;
	p->call = *call;
	p->tty = a.tty;
	p->first = a.first;
	s.container = p->container;
	s.args = a.args;
	s.env = a.env;
	s.groups = a.groups;
	s.group_names = a.group_names;
	s.cwd = a.cwd;
	s.user = a.user;
	s.apparmor = a.apparmor;
	s.tty = a.tty;
	s.init = a.init;
	s.first = a.first;
	s.oom_score_adj = (int)a.oom_score_adj;
	s.privileges.no_new_privs = a.no_new_privs;
	s.privileges.umask = (mode_t)a.umask;
	outcome = launch(p, &s, &a, err);
	close_spawn(&s);
	if (outcome < 0)
		drop(p);
	return outcome < 0 ? -1 : LATER;
}

struct archive_args {
	const char *id, *container, *mode, *path, *user;
	const struct json *streams, *owner;
	bool follow, freeze;
};

struct owner_args {
	int64_t uid, gid;
};

static int parse_mode(const char *word, enum archive_mode *mode, struct error *err)
{
	static const char *const words[] = {
		[ARCHIVE_READ] = "read", [ARCHIVE_WRITE] = "write", [ARCHIVE_LAYER] = "layer",
		[ARCHIVE_CHANGES] = "changes", [ARCHIVE_TREE] = "tree",
	};

	for (size_t i = 0; i < COUNT(words); i++)
		if (!strcmp(words[i], word)) {
			*mode = (enum archive_mode)i;
			return 0;
		}
	return fail(err, EINVAL, "archive in mode '%.20s'", word);
}

static int parse_archive(const struct json *args, struct archive_args *a, struct archive *archive, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct archive_args, id, JSON_STRING), NEEDED(struct archive_args, container, JSON_STRING),
		NEEDED(struct archive_args, mode, JSON_STRING), NEEDED(struct archive_args, path, JSON_STRING),
		FIELD(struct archive_args, streams, JSON_OBJECT), FIELD(struct archive_args, owner, JSON_OBJECT),
		FIELD(struct archive_args, user, JSON_STRING), FIELD(struct archive_args, follow, JSON_BOOL),
		FIELD(struct archive_args, freeze, JSON_BOOL),
	};
	static const struct field owner_fields[] = {
		NEEDED(struct owner_args, uid, JSON_NUMBER), NEEDED(struct owner_args, gid, JSON_NUMBER),
	};
	struct owner_args owner = { -1, -1 };

	if (json_fields(args, fields, COUNT(fields), a, err) < 0 || check_id("process", a->id, err) < 0)
		return -1;
	if (parse_mode(a->mode, &archive->mode, err) < 0)
		return -1;
	if (a->owner && (json_fields(a->owner, owner_fields, 2, &owner, err) < 0 ||
			 json_range("uid", owner.uid, 0, UINT32_MAX - 1, err) < 0 ||
			 json_range("gid", owner.gid, 0, UINT32_MAX - 1, err) < 0))
		return -1;
	archive->path = a->path;
	archive->user = a->user;
	archive->follow = a->follow;
	archive->has_owner = a->owner != NULL;
	archive->owner = (struct tar_owner){ (uint32_t)owner.uid, (uint32_t)owner.gid };
	return 0;
}

static int launch_archive(struct process *p, struct archive *archive, const struct archive_args *a, struct error *err)
{
	if (stdstreams_parse(a->streams, false, p->streams, err) < 0) {
		memset(p->streams, 0, sizeof(p->streams));
		return -1;
	}
	for (int i = 0; i < 3; i++)
		if (stdstreams_pipe(p, i, &archive->stdio[i], err) < 0)
			return -1;
	if (a->freeze && hold(p, err) < 0)
		return -1;
	if (p->container->first && p->container->first->ready)
		archive->pidfd = p->container->first->pidfd;
	p->pid = spawn_helper(archive_main, archive, &p->pidfd, err);
	p->running = p->pid > 0;
	return p->pid < 0 ? -1 : 0;
}

int op_process_archive(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct archive_args a = { 0 };
	struct archive archive = { .stdio = { -1, -1, -1 }, .pidfd = -1 };
	struct process *p;
	int outcome;

	(void)call;
	if (parse_archive(args, &a, &archive, err) < 0 || !(p = process_new(a.id, a.container, err)))
		return -1;
	archive.container = p->container;
	outcome = launch_archive(p, &archive, &a, err);
	for (int i = 0; i < 3; i++)
		close_fd(&archive.stdio[i]);
	if (outcome < 0)
		drop(p);
	else
		buffer_format(result, "{\"pid\":%d}", p->pid);
	return outcome;
}

/* Which pipes of ours are its stdio: another container's first process will have others in their place. */
static void name_pipes(const struct process *first, struct checkpoint *c)
{
	for (int i = 0; i < 3; i++) {
		const struct output *out = i && first->streams[i] ? output_find(first->streams[i]) : NULL;
		const struct input *in = !i && first->streams[i] ? input_find(first->streams[i]) : NULL;
		int fd = out ? out->source.fd : in ? in->source.fd : -1;
		char path[32];
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = fd < 0 ? 0 : readlink(path, c->pipes[i], sizeof(c->pipes[i]) - 1);
		c->pipes[i][length > 0 ? length : 0] = 0;
	}
}

static int name_group(const struct container *container, struct checkpoint *c, struct error *err)
{
	char path[32];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", container->cgroup);
	length = readlink(path, c->group, sizeof(c->group) - 1);
	if (length < 0)
		return fail(err, errno, "find the cgroup of container %s", container->id);
	c->group[length] = 0;
	return 0;
}

static int launch_checkpoint(struct process *p, struct checkpoint *c, const struct json *streams, struct error *err)
{
	const struct process *first = p->container->first;

	if (!first || first->starting.fd >= 0 || first->held)
		return fail_as(err, ESRCH, "save container %s: it does not run", p->container->id);
	if (first->tty)
		return fail_as(err, EINVAL, "save container %s: it has a terminal", p->container->id);
	c->pid = first->pid;
	name_pipes(first, c);
	if (c->changes && name_group(p->container, c, err) < 0)
		return -1;
	if (stdstreams_parse(streams, false, p->streams, err) < 0) {
		memset(p->streams, 0, sizeof(p->streams));
		return -1;
	}
	for (int i = 0; i < 3; i++)
		if (stdstreams_pipe(p, i, &c->stdio[i], err) < 0)
			return -1;
	if (c->changes && hold(p, err) < 0)
		return -1;
	p->pid = spawn_helper(checkpoint_dump, c, &p->pidfd, err);
	p->running = p->pid > 0;
	return p->pid < 0 ? -1 : 0;
}

int op_process_checkpoint(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct checkpoint_args { const char *id, *container; const struct json *streams, *criu; bool changes; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct checkpoint_args, id, JSON_STRING), NEEDED(struct checkpoint_args, container, JSON_STRING),
		FIELD(struct checkpoint_args, streams, JSON_OBJECT), NEEDED(struct checkpoint_args, criu, JSON_OBJECT),
		FIELD(struct checkpoint_args, changes, JSON_BOOL),
	};
	struct checkpoint c = { .stdio = { -1, -1, -1 }, .status = -1 };
	struct process *p;
	int outcome;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || check_id("process", a.id, err) < 0 ||
	    checkpoint_parse(a.criu, &c, err) < 0 || !(p = process_new(a.id, a.container, err)))
		return -1;
	c.container = p->container;
	c.changes = a.changes;
	outcome = launch_checkpoint(p, &c, a.streams, err);
	for (int i = 0; i < 3; i++)
		close_fd(&c.stdio[i]);
	if (outcome < 0)
		drop(p);
	else
		buffer_format(result, "{\"pid\":%d}", p->pid);
	return outcome;
}

struct signal_args {
	const char *process;
	int64_t signal, rows, columns, stream;
	bool group, all;
};

static void signal_one(int pid, void *data)
{
	kill(pid, *(const int *)data);
}

static int signal_all(struct container *c, int signal, struct error *err)
{
	int count;

	if (signal == SIGKILL)
		return cgroup_kill(c->cgroup, err);
	count = cgroup_each(c->cgroup, signal_one, &signal, err);
	return count == 0 ? fail(err, ESRCH, "signal container %s", c->id) : count < 0 ? -1 : 0;
}

int op_process_signal(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct signal_args, process, JSON_STRING), NEEDED(struct signal_args, signal, JSON_NUMBER),
		FIELD(struct signal_args, group, JSON_BOOL), FIELD(struct signal_args, all, JSON_BOOL),
	};
	struct signal_args a = { 0 };
	struct process *p;
	int signal;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 ||
	    json_range("signal", a.signal, 0, SIGNAL_MAX, err) < 0 || !(p = find_known(a.process, err)))
		return -1;
	signal = (int)a.signal;
	buffer_add(result, "{}", 2);
	if (a.all)
		return signal_all(p->container, signal, err);
	if (!p->running)
		return fail(err, ESRCH, "signal process %s", p->id);
	/* Its pid is ours until we reap it, and a session's leader leads the group of that number. */
	if ((a.group ? kill(-p->pid, signal) : (int)syscall(SYS_pidfd_send_signal, p->pidfd, signal, NULL, 0)) < 0)
		return fail(err, errno, "signal process %s", p->id);
	return 0;
}

int op_process_release(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = { NEEDED(struct signal_args, process, JSON_STRING) };
	struct signal_args a = { 0 };
	struct process *p;

	(void)result;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || !(p = find_known(a.process, err)))
		return -1;
	if (!p->held || p->starting.fd < 0)
		return fail(err, ESRCH, "release process %s, which does not wait", p->id);
	if (write(p->release, "", 1) < 0)
		return fail(err, errno, "release process %s", p->id);
	let_start(p);
	p->call = *call;
	return LATER;
}

int op_process_resize(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct signal_args, process, JSON_STRING), NEEDED(struct signal_args, rows, JSON_NUMBER),
		NEEDED(struct signal_args, columns, JSON_NUMBER),
	};
	struct signal_args a = { 0 };
	struct process *p;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || !(p = find_known(a.process, err)))
		return -1;
	if (p->terminal < 0)
		return fail(err, ENOTTY, "resize process %s", p->id);
	buffer_add(result, "{}", 2);
	return terminal_resize(p->terminal, a.rows, a.columns, err);
}

/* Nobody will read what it writes there. Of a terminal our last descriptors go: the kernel hangs up. */
int op_process_hang_up(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct signal_args, process, JSON_STRING), NEEDED(struct signal_args, stream, JSON_NUMBER),
	};
	struct signal_args a = { 0 };
	struct process *p;
	struct input *in;
	struct output *out;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || !(p = find_known(a.process, err)))
		return -1;
	if (a.stream <= 0 || (a.stream != p->streams[1] && a.stream != p->streams[2]))
		return fail(err, EINVAL, "hang up stream %lld of process %s", (long long)a.stream, p->id);
	if ((out = output_find((uint32_t)a.stream)))
		output_hang_up(out);
	if (p->tty && (in = p->streams[0] ? input_find(p->streams[0]) : NULL) && in->source.fd >= 0)
		input_stop(in);
	close_fd(&p->terminal);
	buffer_add(result, "{}", 2);
	return 0;
}

int op_process_forget(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = { NEEDED(struct signal_args, process, JSON_STRING) };
	struct signal_args a = { 0 };
	struct process *p;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || !(p = find_known(a.process, err)))
		return -1;
	if (p->running)
		return fail(err, EBUSY, "forget process %s", p->id);
	drop(p);
	buffer_add(result, "{}", 2);
	return 0;
}
