#include "hook.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

struct hook {
	const char *path;
	const struct json *args, *env;
	int64_t timeout_s;		/* 0: none */
};

static int parse(const struct json *json, struct hook *h, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct hook, path, JSON_STRING), FIELD(struct hook, args, JSON_ARRAY),
		FIELD(struct hook, env, JSON_ARRAY), FIELD(struct hook, timeout_s, JSON_NUMBER),
	};

	*h = (struct hook){ 0 };
	if (json_fields(json, fields, COUNT(fields), h, err) < 0 || json_all(h->args, JSON_STRING, "args", err) < 0 ||
	    json_all(h->env, JSON_STRING, "env", err) < 0)
		return -1;
	return json_range("timeout_s", h->timeout_s, 0, INT32_MAX, err);
}

int hooks_parse(const struct json *list, const char *state, struct hooks *hooks, struct error *err)
{
	struct hook hook;

	*hooks = (struct hooks){ .list = list && list->count ? list : NULL, .state = state, .given = -1, .said = -1 };
	for (const struct json *h = json_first(list); h; h = h->next)
		if (parse(h, &hook, err) < 0)
			return -1;
	if (hooks->list && (!state || state[0] != '{'))
		return fail_as(err, EINVAL, "run hooks: there is no state for them");
	return 0;
}

/* The host does not know which pid it is going to have. */
static bool write_state(const struct hooks *hooks)
{
	const char *rest = hooks->state + 1;
	bool more = rest[strspn(rest, " \t\n")] != '}';

	return dprintf(hooks->given, "{\"pid\":%d%s%s", getpid(), more ? "," : "", rest) > 0;
}

int hooks_prepare(struct hooks *hooks, struct error *err)
{
	if (!hooks->list)
		return 0;
	hooks->given = memfd_create("hook", MFD_CLOEXEC);
	hooks->said = memfd_create("hook", MFD_CLOEXEC);
	if (hooks->given < 0 || hooks->said < 0 || !write_state(hooks))
		return fail(err, errno, "keep the state for hooks");
	return 0;
}

static char **list_of(const struct json *words, const char *instead)
{
	char **list = calloc((words ? words->count : 0) + 2, sizeof(*list));
	size_t count = 0;

	if (!list)
		return NULL;
	for (const struct json *w = json_first(words); w; w = w->next)
		list[count++] = (char *)w->string;
	if (!count)
		list[0] = (char *)instead;
	return list;
}

static _Noreturn void become(const struct hooks *hooks, const struct hook *h)
{
	char **argv = list_of(h->args, h->path), **envp = list_of(h->env, NULL);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	if (argv && envp && dup2(hooks->given, 0) == 0 && dup2(hooks->said, 1) == 1 && dup2(hooks->said, 2) == 2) {
		fcntl(3, F_SETFD, FD_CLOEXEC);		/* where a reaper is to come, it stays open */
		execve(h->path, argv, envp);
	}
	dprintf(hooks->said, "%s", strerror(errno));
	_exit(127);
}

/* Is something left of the time? */
static bool time_left(const struct hook *h, const struct timespec *begun, struct timespec *left)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left->tv_sec = h->timeout_s - (now.tv_sec - begun->tv_sec);
	left->tv_nsec = 0;
	return left->tv_sec > 0;
}

/* Its status as wait tells it; -1: it was ended. Calls that filters usually allow. */
static int wait_for(const struct hook *h, pid_t pid, const sigset_t *child)
{
	struct timespec begun, left;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (h->timeout_s && !time_left(h, &begun, &left)) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
		sigtimedwait(child, NULL, h->timeout_s ? &left : NULL);
	}
	return status;
}

static int tell(const struct hooks *hooks, const struct hook *h, unsigned number, int status, struct error *err)
{
	char said[160] = "";
	ssize_t n = pread(hooks->said, said, sizeof(said) - 1, 0);

	said[n > 0 ? n : 0] = 0;
	said[strcspn(said, "\n")] = 0;
	if (status < 0)
		return fail_as(err, ETIMEDOUT, "run hook startContainer #%u: %.100s did not end within %lld s", number,
			       h->path, (long long)h->timeout_s);
	return fail_as(err, ECANCELED, "run hook startContainer #%u: %.100s ended with status %d: %s", number, h->path,
		       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), said);
}

static int run_one(const struct hooks *hooks, const struct hook *h, unsigned number, const sigset_t *child,
		   struct error *err)
{
	pid_t pid;
	int status;

	if (ftruncate(hooks->said, 0) < 0 || lseek(hooks->said, 0, SEEK_SET) < 0 || lseek(hooks->given, 0, SEEK_SET) < 0)
		return fail(err, errno, "give a hook its state");
	pid = fork();
	if (pid < 0)
		return fail(err, errno, "fork for a hook");
	if (pid == 0)
		become(hooks, h);
	status = wait_for(h, pid, child);
	return status ? tell(hooks, h, number, status, err) : 0;
}

int hooks_run(const struct hooks *hooks, struct error *err)
{
	sigset_t child, before;
	struct hook hook;
	unsigned number = 0;
	int result = 0;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &before);
	for (const struct json *h = json_first(hooks->list); h && result == 0; h = h->next) {
		result = parse(h, &hook, err);
		if (result == 0)
			result = run_one(hooks, &hook, number++, &child, err);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	return result;
}
