#include "spawn.h"

#include "apparmor.h"
#include "loop.h"
#include "mount.h"
#include "rootfs.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum {
	STATUS_FD = 3, EXE_FD = 4, USERS_FD = 5, HOLD_FD = 6, CLEAN_FD = 7,	/* where they are in the child */
	HIGH_FD = 256,
	HELPER_NICE = -10,	/* nine times the usual weight: about what all containers have together */
	FLAG_PIDFD = 0x1000,
};
#define FLAG_INTO_CGROUP 0x200000000ull
#define FLAG_TIME 0x80		/* CLONE_NEWTIME, as old headers do not have it */

struct clone_bytes {		/* clone_args, as the C libraries do not declare it */
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

extern char **environ;
static int executable = -1, own_pids = -1;
static int shared_pids = -1;	/* pidfd of the first process of the namespace that containers share */

void spawn_boot(void)
{
	executable = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	own_pids = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (executable < 0 || own_pids < 0)
		die("open our executable: %s", strerror(errno));
}

static pid_t fork_into(uint64_t flags, int cgroup, int *pidfd)
{
	struct clone_bytes args = { .flags = flags | FLAG_PIDFD, .exit_signal = SIGCHLD };

	args.pidfd = (uint64_t)(uintptr_t)pidfd;
	if (cgroup >= 0) {
		args.flags |= FLAG_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* Returns errno. */
static int search(char *const *argv)
{
	const char *path = getenv("PATH"), *name = argv[0];
	char full[PATH_MAX];
	int number = ENOENT;

	if (!*name)
		return ENOENT;
	if (strchr(name, '/')) {
		execve(name, argv, environ);
		return errno;
	}
	if (!path)
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (const char *end; ; path = end + 1) {
		end = strchrnul(path, ':');
		if (snprintf(full, sizeof(full), "%.*s%s%s", (int)(end - path), path, end > path ? "/" : "", name) <
		    (int)sizeof(full)) {
			execve(full, argv, environ);
			if (errno != ENOENT && errno != ENOTDIR)
				number = errno;
			if (number != ENOENT && number != EACCES)
				return number;
		}
		if (!*end)
			return number;
	}
}

int exec_command(char *const *argv, struct error *err)
{
	fail(err, search(argv), "run %.100s", argv[0]);
	err->exec = true;
	return -1;
}

/* The child. Every error on the way ends in report(). */

static _Noreturn void report(int status, const struct error *err)
{
	struct spawn_failure failure = { .error = *err };

	if (write(status, &failure, sizeof(failure)) < 0)
		_exit(126);
	_exit(127);
}

/* What is ignored stays so over exec. The C library keeps some signals to itself, so the kernel is asked. */
static void reset_signals(void)
{
	const unsigned long by_default[4] = { 0 };	/* the kernel's struct sigaction */
	sigset_t none;

	for (int signal = 1; signal <= 64; signal++)
		syscall(SYS_rt_sigaction, signal, by_default, NULL, 8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int arrange(const int stdio[3], int third, int fourth, int fifth, int sixth, struct error *err)
{
	const int from[] = { stdio[0], stdio[1], stdio[2], third, fourth, fifth, sixth };
	int high[COUNT(from)];

	for (size_t i = 0; i < COUNT(from); i++) {
		high[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, HIGH_FD);
		if (from[i] >= 0 && high[i] < 0)
			return fail(err, errno, "arrange descriptors");
	}
	for (int i = 0; i < (int)COUNT(from); i++) {
		if (high[i] < 0)
			close(i);
		else if (dup3(high[i], i, i < STATUS_FD ? 0 : O_CLOEXEC) < 0)
			return fail(err, errno, "arrange descriptors");
	}
	return syscall(SYS_close_range, CLEAN_FD, ~0u, 0) < 0 ? fail(err, errno, "close descriptors") : 0;
}

int spawn_arrange(const int stdio[3], int third, int fourth, struct error *err)
{
	return arrange(stdio, third, fourth, -1, -1, err);
}

static int join(const struct spawn *s, struct error *err)
{
	int own = s->container->own_time ? FLAG_TIME : 0;

	if (setns(s->pidfd, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | own) < 0)
		return fail(err, errno, "join container %s", s->container->id);
	return 0;
}

static int join_ipc(const struct spawn *s, struct error *err)
{
	if (s->ipc >= 0 && setns(s->ipc, CLONE_NEWIPC) < 0)
		return fail(err, errno, "join the IPC namespace of container %s", s->container->ipc_of);
	return 0;
}

static int format_offset(char *to, size_t size, const char *clock, int64_t ns, struct error *err)
{
	int64_t rest = ns % 1000000000;

	rest += rest < 0 ? 1000000000 : 0;
	return format(err, to, size, "%s %lld %lld\n", clock, (long long)((ns - rest) / 1000000000), (long long)rest);
}

/* Whoever makes a time namespace is not in it, and its clocks are set before anybody is. */
static int found_time(const struct container *c, struct error *err)
{
	char offset[2][64];
	autoclose int made = -1;

	if (!c->own_time)
		return 0;
	if (unshare(FLAG_TIME) < 0)
		return fail(err, errno, "make a time namespace");
	if (format_offset(offset[0], sizeof(offset[0]), "monotonic", c->monotonic_ns, err) < 0 ||
	    format_offset(offset[1], sizeof(offset[1]), "boottime", c->boottime_ns, err) < 0)
		return -1;
	for (size_t i = 0; i < COUNT(offset); i++)
		if (write_file_at(AT_FDCWD, "/proc/self/timens_offsets", offset[i], err) < 0)
			return -1;
	made = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	return made < 0 || setns(made, FLAG_TIME) < 0 ? fail(err, errno, "enter a time namespace") : 0;
}

static int found(const struct spawn *s, struct error *err)
{
	const char *name = s->container->hostname;

	if (found_time(s->container, err) < 0)
		return -1;
	/* Not by clone: there the namespace's root would be our own cgroup. */
	if (unshare(CLONE_NEWCGROUP) < 0)
		return fail(err, errno, "make a cgroup namespace");
	if (*name && sethostname(name, strlen(name)) < 0)
		return fail(err, errno, "set the hostname");
	return rootfs_enter(s->container, s->terminal, s->cwd, err);
}

static int own_stdio(uid_t uid, struct error *err)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat status;

		/* /dev/null belongs to all */
		if (fstat(fd, &status) < 0 || status.st_uid == uid ||
		    (S_ISCHR(status.st_mode) && !isatty(fd)))
			continue;
		if (fchown(fd, uid, (gid_t)-1) < 0)
			return fail(err, errno, "give away descriptor %d", fd);
	}
	return 0;
}

static int find_identity(const struct spawn *s, struct identity *identity, struct error *err)
{
	autoclose int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return fail(err, errno, "open the root");
	if (user_find(root, s->user, s->memberships, identity, err) < 0)
		return -1;
	for (const struct json *g = json_first(s->groups); g; g = g->next)
		if (user_add_group(identity, (gid_t)g->number, err) < 0)
			return -1;
	for (const struct json *g = json_first(s->group_names); g; g = g->next)
		if (user_add_named_group(root, g->string, identity, err) < 0)
			return -1;
	return 0;
}

static int tell_identity(const struct identity *identity, struct error *err)
{
	struct spawn_failure told = { .identified = true, .uid = identity->uid, .gid = identity->gid };

	memcpy(told.groups, identity->groups, sizeof(told.groups));
	told.groups_count = identity->groups_count;
	return write(STATUS_FD, &told, sizeof(told)) < 0 ? fail(err, errno, "tell whose process it is") : 0;
}

static bool names(const struct spawn *s, const char *entry)
{
	for (const struct json *e = json_first(s->env); e; e = e->next)
		if (!strncmp(e->string, entry, (size_t)(strchr(entry, '=') - entry) + 1))
			return true;
	return false;
}

/* environ from the caller's list; HOME, HOSTNAME and, at a terminal, TERM are added when it says none. The container's
   name is asked for here: a fork has one of its own. */
static int set_environment(const struct spawn *s, const char *home, struct error *err)
{
	static char home_entry[PATH_MAX + 8], host_entry[HOST_NAME_MAX + 16], term_entry[] = "TERM=xterm";
	char host[HOST_NAME_MAX + 1] = "", *usual[] = { home_entry, host_entry, s->tty ? term_entry : NULL };
	size_t count = 0;
	char **list = calloc((s->env ? s->env->count : 0) + COUNT(usual) + 1, sizeof(*list));

	if (!list)
		return fail(err, ENOMEM, "make an environment");
	gethostname(host, sizeof(host) - 1);
	snprintf(home_entry, sizeof(home_entry), "HOME=%s", home);
	snprintf(host_entry, sizeof(host_entry), "HOSTNAME=%s", host);
	for (const struct json *e = json_first(s->env); e; e = e->next)
		list[count++] = (char *)e->string;
	for (size_t i = 0; i < COUNT(usual); i++)
		if (usual[i] && !names(s, usual[i]))
			list[count++] = usual[i];
	environ = list;
	return 0;
}

static char **make_argv(const struct spawn *s, struct error *err)
{
	static char status[] = "3", name[] = REAPER_NAME;
	char **argv = calloc((size_t)s->args->count + 3, sizeof(*argv));
	size_t count = 0;

	if (!argv) {
		fail(err, ENOMEM, "make arguments");
		return NULL;
	}
	if (s->init) {
		argv[count++] = name;
		argv[count++] = status;
	}
	for (const struct json *a = s->args->first; a; a = a->next)
		argv[count++] = (char *)a->string;
	return argv;
}

static int set_oom(int value, struct error *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	/* In a test we may not be allowed to; there our own is 0 too. */
	return write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", text, err) < 0 && !testing ? -1 : 0;
}

/* Until its start. Whoever else is in the container by then must not look into this fork of ours: see prepare. */
static int wait_for_start(struct error *err)
{
	struct spawn_failure held = { 0 };
	ssize_t n;
	char byte;

	if (write(STATUS_FD, &held, sizeof(held)) < 0)
		return fail(err, errno, "tell that all is set up");
	while ((n = read(HOLD_FD, &byte, 1)) < 0 && errno == EINTR)
		;
	close(HOLD_FD);
	return n == 1 ? 0 : fail(err, ECANCELED, "wait for the start");
}

static int prepare(const struct spawn *s, char ***argv, int *status, struct error *err)
{
	static struct identity identity;
	struct hooks hooks = s->hooks;
	int users = s->container->users;

	setsid();
	if (set_oom(s->oom_score_adj, err) < 0 || apparmor_confine(s->apparmor, err) < 0 ||
	    (s->first ? join_ipc(s, err) : join(s, err)) < 0 ||
	    arrange(s->stdio, s->status, executable, users, s->hold, err) < 0)
		return -1;
	*status = STATUS_FD;
	if (s->first && found(s, err) < 0)
		return -1;
	if (s->tty && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		return fail(err, errno, "take the terminal");
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);		/* a kernel may have none */
	if (find_identity(s, &identity, err) < 0 || own_stdio(idmap_outside(&s->container->ids, identity.uid), err) < 0 ||
	    set_environment(s, identity.home, err) < 0 || !(*argv = make_argv(s, err)))
		return -1;
	if (s->memberships != MEMBERSHIPS_USUAL && tell_identity(&identity, err) < 0)
		return -1;
	if (s->init && fcntl(STATUS_FD, F_SETFD, 0) < 0)
		return fail(err, errno, "pass a descriptor on");
	setpriority(PRIO_PROCESS, 0, 0);	/* ours was for the way here: in a crowd that would take seconds */
	users = users < 0 ? -1 : USERS_FD;
	if (s->hold >= 0)
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);	/* until it is another program */
	if (hooks_prepare(&hooks, err) < 0 || privileges_drop(&s->privileges, &identity, s->cwd, users, err) < 0)
		return -1;
	if (s->hold >= 0 && wait_for_start(err) < 0)
		return -1;
	return hooks_run(&hooks, err);
}

static _Noreturn void child(const struct spawn *s)
{
	int status = s->status;
	struct error err = { 0 };
	char **argv = NULL;

	reset_signals();
	if (prepare(s, &argv, &status, &err) < 0)
		report(status, &err);
	if (s->init) {
		syscall(SYS_execveat, EXE_FD, "", argv, environ, 0x1000 /* AT_EMPTY_PATH */);
		fail(&err, errno, "run the reaper");
	} else {
		exec_command(argv, &err);
	}
	report(status, &err);
}

/* Children are made in the pid namespace that we point at; it is pointed back at once. */
static int point_at(int pidfd, struct error *err)
{
	if (setns(pidfd, CLONE_NEWPID) < 0)
		return fail(err, errno == EINVAL ? ESRCH : errno, "join a pid namespace");
	return 0;
}

static void point_back(void)
{
	if (setns(own_pids, CLONE_NEWPID) < 0)
		die("return to our pid namespace: %s", strerror(errno));
}

int spawn_process(const struct spawn *s, int *pidfd, struct error *err)
{
	const struct container *c = s->container;
	uint64_t flags = s->first ? CLONE_NEWNS : 0;
	int namespace = !s->first ? s->pidfd : s->pids >= 0 ? s->pids : shared_pids;
	pid_t pid;

	if (s->first)
		flags |= (*c->hostname ? CLONE_NEWUTS : 0) | (c->own_ipc ? CLONE_NEWIPC : 0) |
			 (namespace < 0 ? CLONE_NEWPID : 0);
	if (namespace >= 0 && point_at(namespace, err) < 0)
		return -1;
	pid = fork_into(flags, c->cgroup, pidfd);
	if (pid == 0)
		child(s);
	if (pid < 0 && errno == EAGAIN)
		fail(err, errno, "start a process where as many run as there may be");
	else if (pid < 0)
		fail(err, errno, "fork");
	if (namespace >= 0)
		point_back();
	return pid;
}

int spawn_helper(int (*body)(const void *data), const void *data, int *pidfd, struct error *err)
{
	pid_t pid = fork_into(0, -1, pidfd);

	if (pid < 0)
		return fail(err, errno, "fork");
	if (pid > 0)
		return pid;
	reset_signals();
	setsid();
	if (!testing)	/* not before the containers as we are, and not behind them as whoever else is in no group */
		setpriority(PRIO_PROCESS, 0, HELPER_NICE);
	_exit(body(data));
}

/* Nothing of ours must be found through /proc/1 of the shared namespace: an empty root, no descriptors. */
static int hide_pause(struct error *err)
{
	static const int none[3] = { -1, -1, -1 };
	char path[300];

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, errno, "make mounts private");
	if (format(err, path, sizeof(path), "%s/empty", run_dir) < 0 || make_folders(path, err) < 0)
		return -1;
	if (mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k") < 0 ||
	    chdir(path) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return fail(err, errno, "enter an empty root");
	return spawn_arrange(none, -1, executable, err);
}

int spawn_share_pids(struct error *err)
{
	char *const argv[] = { (char *)PAUSE_NAME, NULL }, *const envp[] = { NULL };
	pid_t pid;

	if (spawn_shares_pids())
		return 0;
	pid = fork_into(CLONE_NEWNS | CLONE_NEWPID, -1, &shared_pids);
	if (pid < 0)
		return fail(err, errno, "fork");
	if (pid > 0)
		return 0;
	reset_signals();
	if (hide_pause(err) == 0)
		syscall(SYS_execveat, EXE_FD, "", argv, envp, 0x1000);
	_exit(1);
}

bool spawn_shares_pids(void)
{
	return shared_pids >= 0;
}
