/* Our executable, started again inside a container or a pid namespace. It knows nothing of the agent's. */
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

static _Noreturn void run_below(int status, char **argv, const sigset_t *mask)
{
	struct spawn_failure failure = { 0 };

	setpgid(0, 0);
	/* Its group becomes the terminal's foreground: SIGTTOU, which stops those who ask from the background, is blocked. */
	tcsetpgrp(STDIN_FILENO, getpid());
	sigprocmask(SIG_SETMASK, mask, NULL);
	memset(&failure, 0, sizeof(failure));
	exec_command(argv, &failure.error);
	if (write(status, &failure, sizeof(failure)) < 0)
		_exit(126);
	_exit(127);
}

/* Reap all that ended; -1 while `child` runs, else what we exit with. */
static int reap(pid_t child)
{
	int status, result = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == child)
			result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return result;
}

static bool is_job_control(int signal)
{
	return signal == SIGTTIN || signal == SIGTTOU;
}

/* argv: its name, the number of the status descriptor, the command. */
_Noreturn void reaper_main(char **argv)
{
	int status = atoi(argv[1]), result = -1;
	sigset_t all, before;
	pid_t child;

	prctl(PR_SET_NAME, "init", 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	fcntl(status, F_SETFD, FD_CLOEXEC);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	child = fork();
	if (child < 0)
		_exit(126);
	if (child == 0)
		run_below(status, argv + 2, &before);
	close(status);
	while (result < 0) {
		int signal = sigwaitinfo(&all, NULL);

		if (signal == SIGCHLD)
			result = reap(child);
		else if (signal > 0 && !is_job_control(signal))
			kill(child, signal);
	}
	_exit(result);
}

_Noreturn void pause_main(void)
{
	sigset_t all;

	prctl(PR_SET_NAME, "pause", 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (;;) {
		sigwaitinfo(&all, NULL);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}
