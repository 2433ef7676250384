#include "keeper.h"

#include "error.h"
#include "options.h"
#include "privilege.h"
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOG_BYTES = 256 * 1024 };

struct log {
	int pipe, file, old;
	off_t size;
};

static int create(const char *suffix)
{
	char path[NAME_MAX];
	snprintf(path, sizeof path, "%s.%s", opt.name, suffix);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		die("create %s", path);
	return fd;
}

/* Returns the end of the pipe to write to. */
static int open_log(struct log *log, const char *suffix, const char *old_suffix)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
		die("pipe");
	log->pipe = ends[0];
	log->file = create(suffix);
	log->old = create(old_suffix);
	log->size = 0;
	return ends[1];
}

/* Move what the file holds to the old one, whose words are forgotten. */
static void rotate(struct log *log)
{
	char buffer[16384];
	ssize_t n;
	(void)!ftruncate(log->old, 0);
	for (off_t at = 0; (n = pread(log->file, buffer, sizeof buffer, at)) > 0; at += n)
		if (pwrite(log->old, buffer, (size_t)n, at) != n)
			break;	/* disk full: the newest words matter more */
	(void)!ftruncate(log->file, 0);
	log->size = 0;
}

/* Take what has come. False at the end of the pipe. */
static bool drain(struct log *log)
{
	char buffer[16384];
	ssize_t n = read(log->pipe, buffer, sizeof buffer);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	if (log->size + n > LOG_BYTES)
		rotate(log);
	ssize_t written = pwrite(log->file, buffer, (size_t)n, log->size);
	log->size += written > 0 ? written : 0;
	return true;
}

/* Start time of a process, in clock ticks since boot: field 22 of its stat, 20 after the name's parenthesis. */
static unsigned long long start_time(pid_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		die("read %s", path);
	close(fd);
	text[n] = 0;
	char *field = strrchr(text, ')');
	for (int i = 0; field && i < 20; i++)
		field = strchr(field + 1, ' ');
	if (!field)
		die("understand %s", path);
	return strtoull(field, NULL, 10);
}

static void write_pids(int fd, pid_t program)
{
	char text[128];
	int n = snprintf(text, sizeof text, "%d %llu\n%d %llu\n", (int)getpid(), start_time(getpid()),
			 (int)program, start_time(program));
	if (write(fd, text, (size_t)n) != n)	/* one call: readers find all of it or nothing */
		die("write %s.pid", opt.name);
	close(fd);
}

static void write_status(int fd, int status)
{
	char text[32];
	int n = WIFSIGNALED(status) ? snprintf(text, sizeof text, "signal %d\n", WTERMSIG(status))
				    : snprintf(text, sizeof text, "exit %d\n", WEXITSTATUS(status));
	(void)!write(fd, text, (size_t)n);
}

/* Join before PROGRAM exists, so that it is born inside: one process at a time, which "0" means. */
static void join_cgroups(void)
{
	for (int i = 0; i < opt.cgroups.count; i++) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s/cgroup.procs", opt.cgroups.items[i]);
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			die("join %s", opt.cgroups.items[i]);
		close(fd);
	}
}

/* Others may be copying from the same open file: its position is everybody's, and nobody relies on it. */
static void copy_memory(void)
{
	off_t at = 0, to, end;
	while ((at = lseek(opt.from, at, SEEK_DATA)) >= 0) {
		if ((end = lseek(opt.from, at, SEEK_HOLE)) < 0)
			break;
		for (to = at; at < end;) {
			ssize_t n = copy_file_range(opt.from, &at, opt.to, &to, (size_t)(end - at), 0);
			if (n == 0)
				errno = ENODATA;	/* it was cut short */
			if (n <= 0)
				die("copy the guest's memory");
		}
	}
	if (errno != ENXIO)	/* no more data */
		die("look for the guest's memory");
}

/* New namespaces: it sees no process, mount, address or host name of ours; pid is the host's number for it. */
static pid_t clone_program(void)
{
	unsigned long flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET;
	if (!opt.root)
		flags &= ~(unsigned long)CLONE_NEWNS;	/* virtiofsd makes its own, a slave of the host's */
#ifdef __s390x__	/* where it takes the stack first */
	return (pid_t)syscall(SYS_clone, NULL, flags | SIGCHLD, NULL, NULL, NULL);
#else
	return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
#endif
}

static void watch(pid_t program, struct log *out, struct log *log, int status_fd)
{
	int status, pidfd = (int)syscall(SYS_pidfd_open, program, 0);
	struct pollfd polls[] = { { pidfd, POLLIN, 0 }, { out->pipe, POLLIN, 0 }, { log->pipe, POLLIN, 0 } };
	if (pidfd < 0)
		die("pidfd_open");
	while (!(polls[0].revents & POLLIN)) {
		if (poll(polls, 3, -1) < 0 && errno != EINTR)
			break;
		if (polls[1].revents && !drain(out))
			polls[1].fd = -1;
		if (polls[2].revents && !drain(log))
			polls[2].fd = -1;
	}
	/* What is left in the pipes fits in them: 64 KiB each, four reads. */
	for (int i = 0; i < 5; i++) {
		drain(out);
		drain(log);
	}
	waitpid(program, &status, 0);
	write_status(status_fd, status);
}

/* The rest of the keeper's life needs its logs and the lock: no other file, no folder, no privilege. */
static void retire(struct log *out, struct log *log, int status_fd)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)	/* our caller's stdio must see its end */
		if (null < 0 || dup2(null, fd) < 0)
			die("stdio");
	int keep[] = { status_fd, opt.lock, out->pipe, out->file, out->old, log->pipe, log->file, log->old };
	close_others(keep, sizeof keep / sizeof *keep);
	report_fd = status_fd;
	if (chdir("/") < 0)
		die("chdir /");
	drop_capabilities(0);
	if (opt.uid > 0)
		become(opt.uid);
	if (syscall(SYS_capset, &header, none) < 0)
		die("drop capabilities");
}

void keep(char **argv, int report)
{
	struct log out, log;
	int go[2];
	report_fd = report;
	setsid();	/* no terminal's Ctrl-C, no end of our caller's session reaches the virtual machine */
	signal(SIGPIPE, SIG_IGN);
	int pid_fd = create("pid"), status_fd = create("status");
	int out_end = open_log(&out, "out", "out.old"), log_end = open_log(&log, "log", "log.old");
	join_cgroups();
	if (opt.from >= 0)
		copy_memory();
	if (pipe2(go, O_CLOEXEC) < 0)
		die("pipe");
	pid_t program = clone_program();
	if (program < 0)
		die("clone");
	if (!program) {
		close(go[1]);
		signal(SIGPIPE, SIG_DFL);
		run_program(argv, go[0], out_end, log_end);
	}
	write_pids(pid_fd, program);
	if (write(go[1], "g", 1) != 1)
		die("start");
	retire(&out, &log, status_fd);
	watch(program, &out, &log, status_fd);
	_exit(0);
}
