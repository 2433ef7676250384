#include "checkpoint.h"

#include "archive.h"
#include "mount.h"
#include "rootfs.h"
#include "spawn.h"
#include "volume.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define LIST "hyper.mounts"	/* in the images: what is mounted from outside, a target a line */
#define MODULES "modules.order"	/* beside CRIU: what to load, in this order */
#define PIPES "hyper.pipes"	/* ... and what stdio was, a line each */
#define LAYER "rootfs-diff.tar"	/* beside the log: what the container has changed of its image */
#define CHANGES "changes"	/* ... and the list of that */

enum { WORDS_MAX = 2 * MOUNTS_MAX + 64 };

struct words {
	const char *list[WORDS_MAX];
	size_t count;
};

int checkpoint_parse(const struct json *json, struct checkpoint *to, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct checkpoint, program, JSON_STRING), NEEDED(struct checkpoint, images, JSON_STRING),
		NEEDED(struct checkpoint, work, JSON_STRING), FIELD(struct checkpoint, flags, JSON_ARRAY),
	};

	return json_fields(json, fields, COUNT(fields), to, err) < 0 ? -1 : json_all(to->flags, JSON_STRING, "flags", err);
}

int checkpoint_name_pid_file(const struct container *c, char *to, size_t size, struct error *err)
{
	return format(err, to, size, "%s/criu.pid", c->dir);
}

int checkpoint_pid(const struct container *c, struct error *err)
{
	char path[480], text[32];
	int pid;

	if (checkpoint_name_pid_file(c, path, sizeof(path), err) < 0)
		return -1;
	if (read_file_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return fail(err, errno, "read %s", path);
	unlink(path);
	pid = atoi(text);
	return pid > 1 ? pid : fail_as(err, EPROTO, "restore container %s: CRIU does not say whom it has made", c->id);
}

/* Words */

static int add(struct words *words, const char *word, struct error *err)
{
	if (words->count >= WORDS_MAX - 1)
		return fail_as(err, E2BIG, "tell CRIU all: there is too much mounted");
	words->list[words->count++] = word;
	return 0;
}

static int add_formatted(struct words *words, const char *flag, struct error *err, const char *how, const char *one,
			 const char *other)
{
	char *made = NULL;

	if (asprintf(&made, how, one, other) < 0)
		return fail(err, ENOMEM, "tell CRIU all");
	return add(words, flag, err) < 0 ? -1 : add(words, made, err);
}

static int add_flags(struct words *words, const struct json *flags, struct error *err)
{
	for (const struct json *f = json_first(flags); f; f = f->next)
		if (add(words, f->string, err) < 0)
			return -1;
	return 0;
}

/* What is where, for us alone */

static int show(const char *source, const char *path, struct error *err)
{
	autoclose int from = share_open(source, err), to = -1;

	if (from < 0 || make_folders(path, err) < 0)
		return -1;
	to = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return to < 0 ? fail(err, errno, "open %s", path) : bind_on(from, to, 0, 0, err);
}

static int place(const struct checkpoint *c, char images[300], char work[300], struct error *err)
{
	static const char *const usual[] = { "/lib64", "/lib", "/bin" };

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, errno, "make mounts private");
	if (format(err, images, 300, "%s/criu/images", run_dir) < 0 || format(err, work, 300, "%s/criu/work", run_dir) < 0)
		return -1;
	/* CRIU tries things out in the one, and compares terminals with those of the other. */
	if (make_folders("/tmp", err) < 0 || make_folders("/dev/pts", err) < 0)
		return -1;
	if (mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, NULL) < 0)
		return fail(err, errno, "mount devpts");
	/* Where programs look for their libraries, and each other. */
	for (size_t i = 0; i < COUNT(usual); i++)
		if (show(c->program, usual[i], err) < 0)
			return -1;
	return show(c->images, images, err) < 0 ? -1 : show(c->work, work, err);
}

/* What of the kernel CRIU asks of sockets and filters: what cannot be loaded CRIU misses, and says so. */
static int load_modules(struct error *err)
{
	char name[128], path[160];
	FILE *order = fopen("/bin/" MODULES, "re");

	if (!order)
		return fail(err, errno, "open " MODULES);
	while (fgets(name, sizeof(name), order)) {
		autoclose int module = -1;

		name[strcspn(name, "\n")] = 0;
		snprintf(path, sizeof(path), "/bin/%s", name);
		module = open(path, O_RDONLY | O_CLOEXEC);
		if ((module < 0 || syscall(SYS_finit_module, module, "", 0) < 0) && errno != EEXIST)
			debug("load %s: %s", name, strerror(errno));
	}
	fclose(order);
	return 0;
}

/* Returns if that fails. */
static int run(struct words *words, struct error *err)
{
	static char *const environment[] = { "PATH=/bin", "LD_LIBRARY_PATH=/lib", NULL };

	words->list[words->count] = NULL;
	execve("/bin/criu", (char *const *)words->list, environment);
	return fail(err, errno, "run CRIU");
}

static int begin(const struct checkpoint *c, const char *verb, struct words *words, char images[300],
		 struct error *err)
{
	static char work[300];

	if (place(c, images, work, err) < 0 || load_modules(err) < 0 || add(words, "criu", err) < 0 || add(words, verb, err) < 0)
		return -1;
	if (add(words, "--images-dir", err) < 0 || add(words, images, err) < 0 || add(words, "--work-dir", err) < 0 ||
	    add(words, work, err) < 0 || add(words, "--manage-cgroups=ignore", err) < 0)
		return -1;
	if (add(words, "-v4", err) < 0)
		return -1;
	return add_formatted(words, "--log-file", err, "%s%s", verb, ".log");
}

/* Dump */

/* The kernel's own, which CRIU makes anew with all that is in them; all else is bound anew. */
static bool is_made_anew(const char *root, const char *type)
{
	static const char *const with_parts[] = { "proc", "sysfs" }, *const whole[] = { "tmpfs", "devpts", "mqueue" };

	for (size_t i = 0; i < COUNT(with_parts); i++)
		if (!strcmp(type, with_parts[i]))
			return true;
	for (size_t i = 0; i < COUNT(whole); i++)
		if (!strcmp(type, whole[i]))
			return !strcmp(root, "/");
	return false;
}

static int list_mounts(const struct checkpoint *c, struct words *words, FILE *list, struct error *err)
{
	char path[64], line[4 * PATH_MAX], root[PATH_MAX], target[PATH_MAX], type[64];
	FILE *mounts;
	int result = 0;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", c->pid);
	mounts = fopen(path, "re");
	if (!mounts)
		return fail(err, errno, "open %s", path);
	while (result == 0 && fgets(line, sizeof(line), mounts)) {
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%*d %*d %*s %4095s %4095s", root, target) != 2 || sscanf(rest, " - %63s", type) != 1)
			result = fail_as(err, EPROTO, "read %s", path);
		else if (strcmp(target, "/") && !is_made_anew(root, type)) {
			fprintf(list, "%s\n", target);
			result = add_formatted(words, "--external", err, "mnt[%s]:%s", target, target);
		}
	}
	fclose(mounts);
	return result;
}

static FILE *open_in(const char *folder, const char *name, const char *mode, struct error *err)
{
	char path[400];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, mode);
	if (!file)
		fail(err, errno, "open %s", path);
	return file;
}

static int keep_pipes(const struct checkpoint *c, const char *images, struct error *err)
{
	FILE *pipes = open_in(images, PIPES, "we", err);

	if (!pipes)
		return -1;
	for (int i = 0; i < 3; i++)
		fprintf(pipes, "%s\n", c->pipes[i]);
	return fclose(pipes) ? fail(err, errno, "write %s", PIPES) : 0;
}

/* Who has no stdin, say, has /dev/null there, which is of our mounts and not of the container's. */
static int tell_nulls(const struct checkpoint *c, struct words *words, struct error *err)
{
	char path[64], text[512];
	struct stat status;

	for (int i = 0; i < 3; i++) {
		char *made = NULL;
		const char *mount;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", c->pid, i);
		if (stat(path, &status) < 0 || !S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", c->pid, i);
		if (read_file_at(AT_FDCWD, path, text, sizeof(text)) < 0 || !(mount = strstr(text, "mnt_id:")))
			return fail(err, errno, "read %s", path);
		if (asprintf(&made, "file[%x:%llx]", atoi(mount + 7), (unsigned long long)status.st_ino) < 0)
			return fail(err, ENOMEM, "tell CRIU all");
		if (add(words, "--external", err) < 0 || add(words, made, err) < 0)
			return -1;
	}
	return 0;
}

static int dump(const struct checkpoint *c, struct words *words, struct error *err)
{
	static char images[300], pid[16];
	FILE *list;
	int result;

	snprintf(pid, sizeof(pid), "%d", c->pid);
	if (begin(c, "dump", words, images, err) < 0 || add(words, "--tree", err) < 0 || add(words, pid, err) < 0 ||
	    keep_pipes(c, images, err) < 0 || !(list = open_in(images, LIST, "we", err)))
		return -1;
	result = list_mounts(c, words, list, err);
	if (fclose(list) && result == 0)
		result = fail(err, errno, "write %s", LIST);
	if (result == 0 && c->changes && (tell_nulls(c, words, err) < 0 || add(words, "--freeze-cgroup", err) < 0 ||
					  add(words, c->group, err) < 0))
		result = -1;
	return result < 0 ? -1 : add_flags(words, c->flags, err);
}

static int become_criu(const void *data)
{
	static struct words words;
	const struct checkpoint *c = data;
	struct error err;

	if (spawn_arrange(c->stdio, -1, -1, &err) == 0 && dump(c, &words, &err) == 0)
		run(&words, &err);
	dprintf(STDERR_FILENO, "cannot %s\n", err.message);
	return 1;
}

/* Dump with what was changed: one after the other, while nothing of the container runs */

static volatile pid_t part;		/* who is at it */
static volatile sig_atomic_t stopped;

/* Who is at it ends before us, and thaws nobody behind our back: CRIU thaws and freezes the cgroup itself. */
static void stop_part(int signal)
{
	(void)signal;
	stopped = 1;
	if (part > 0)
		kill(part, SIGKILL);
}

static int start_part(int (*body)(const void *data), const void *data, struct error *err)
{
	sigset_t term, before;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	part = stopped ? -1 : fork();
	if (part == 0) {
		signal(SIGTERM, SIG_DFL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(body(data));
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return part < 0 ? fail(err, stopped ? EINTR : errno, "fork") : 0;
}

static int wait_part(void)
{
	int status;

	while (waitpid(part, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	part = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int keep_changes(const struct checkpoint *c, const struct container *container, enum archive_mode mode,
			const char *name, struct error *err)
{
	struct archive archive = { .container = container, .pidfd = -1, .path = "/", .mode = mode,
				   .stdio = { -1, -1, STDERR_FILENO } };
	autoclose int folder = share_open(c->work, err), file = -1;

	if (folder < 0)
		return -1;
	file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (file < 0)
		return fail(err, errno, "make %s", name);
	archive.stdio[1] = file;
	if (start_part(archive_main, &archive, err) < 0)
		return -1;
	return wait_part() ? fail_as(err, EIO, "tell what container %s has changed", container->id) : 0;
}

static int dump_all(const struct checkpoint *c)
{
	struct container own = *c->container;
	const int stdio[3] = { -1, -1, c->stdio[2] };
	struct error err;
	int status = 0;

	signal(SIGTERM, stop_part);
	if (start_part(become_criu, c, &err) == 0 && spawn_arrange(stdio, own.root, -1, &err) == 0) {
		own.root = STDERR_FILENO + 1;
		status = wait_part();
		if (status || (keep_changes(c, &own, ARCHIVE_LAYER, LAYER, &err) == 0 &&
			       keep_changes(c, &own, ARCHIVE_CHANGES, CHANGES, &err) == 0))
			return status;
	}
	dprintf(STDERR_FILENO, "cannot %s\n", err.message);
	return 1;
}

int checkpoint_dump(const void *data)
{
	const struct checkpoint *c = data;

	return c->changes ? dump_all(c) : become_criu(c);
}

/* Restore */

static int bind_listed(const struct checkpoint *c, const char *images, struct words *words, struct error *err)
{
	char target[PATH_MAX], source[PATH_MAX + 500];
	FILE *list = open_in(images, LIST, "re", err);
	int result = 0;

	if (!list)
		return -1;
	while (result == 0 && fgets(target, sizeof(target), list)) {
		target[strcspn(target, "\n")] = 0;
		snprintf(source, sizeof(source), "%s/rootfs%s", c->container->dir, target);
		result = add_formatted(words, "--external", err, "mnt[%s]:%s", target, source);
	}
	fclose(list);
	return result;
}

static int inherit(const char *images, struct words *words, struct error *err)
{
	static char pipes[3][64];
	char number[2] = "0";
	FILE *list = open_in(images, PIPES, "re", err);
	int result = 0;

	if (!list)
		return -1;
	for (int i = 0; i < 3 && result == 0; i++) {
		if (!fgets(pipes[i], sizeof(pipes[i]), list))
			break;
		pipes[i][strcspn(pipes[i], "\n")] = 0;
		number[0] = (char)('0' + i);
		if (*pipes[i])
			result = add_formatted(words, "--inherit-fd", err, "fd[%s]:%s", number, pipes[i]);
	}
	fclose(list);
	return result;
}

/* Its root alone, with nothing in it: CRIU mounts there what was, each from where the container has it. */
static int place_root(const struct container *c, char root[300], struct error *err)
{
	char whole[500];
	autoclose int from = -1, to = -1, bare = -1;

	if (format(err, root, 300, "%s/criu/root", run_dir) < 0 || make_folders(root, err) < 0 ||
	    format(err, whole, sizeof(whole), "%s/rootfs", c->dir) < 0)
		return -1;
	from = open(whole, O_PATH | O_DIRECTORY | O_CLOEXEC);
	to = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || to < 0)
		return fail(err, errno, "open %s", root);
	bare = bare_mount(from, err);
	return bare < 0 || move_on(bare, to, err) < 0 ? -1 : rootfs_complete(c, from, err);
}

static int enter_group(const struct container *c, struct error *err)
{
	if (write_file_at(c->cgroup, "cgroup.procs", "0", err) < 0)
		return -1;
	return unshare(CLONE_NEWCGROUP) < 0 ? fail(err, errno, "make a cgroup namespace") : 0;
}

static int restore(const struct checkpoint *c, struct words *words, struct error *err)
{
	static char images[300], root[300];

	if (begin(c, "restore", words, images, err) < 0 || place_root(c->container, root, err) < 0 ||
	    bind_listed(c, images, words, err) < 0 || inherit(images, words, err) < 0)
		return -1;
	if (add(words, "--root", err) < 0 || add(words, root, err) < 0 || add(words, "--pidfile", err) < 0 ||
	    add(words, c->pid_file, err) < 0 || add(words, "--restore-detached", err) < 0)
		return -1;
	return add_flags(words, c->flags, err);
}

int checkpoint_restore(const void *data)
{
	static struct words words;
	const struct checkpoint *c = data;
	struct spawn_failure failure = { 0 };

	if (enter_group(c->container, &failure.error) == 0 && spawn_arrange(c->stdio, c->status, -1, &failure.error) == 0 &&
	    restore(c, &words, &failure.error) == 0)
		run(&words, &failure.error);
	return write(STDERR_FILENO + 1, &failure, sizeof(failure)) < 0 ? 2 : 1;
}
