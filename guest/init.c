/* PID 1 of the guest: what has to be there before a host can talk to us. */
#include "balloon.h"
#include "cgroup.h"
#include "channel.h"
#include "disk.h"
#include "loop.h"
#include "module.h"
#include "mount.h"
#include "net.h"
#include "ops.h"
#include "privilege.h"
#include "process.h"
#include "relay.h"
#include "resize.h"
#include "spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#define PORT_NAME "hyper.agent"

/* Words of the kernel's command line: docs/wire.md */
#define TERMINAL "hyper.agent="
#define DISKS "hyper.disks="
#define VSOCK "hyper.agent=vsock"
#define RESET "hyper.off=reboot"

enum { PORT_WAIT_MS = 30000 };

/* The terminal that is the host's channel, on a VMM without ports that have names; "": the port is. */
static char terminal[64];
static bool on_vsock;	/* it is a vsock */

static void mount_or_die(const char *type, const char *path, unsigned long flags, const char *data)
{
	if ((mkdir(path, 0755) < 0 && errno != EEXIST) || mount(type, path, type, flags, data) < 0)
		die("mount %s: %s", path, strerror(errno));
}

/* The initramfs is no mount that can be left: containers pivot away from a tmpfs on top of it. */
static void enter_new_root(void)
{
	mount_or_die("tmpfs", "/root", MS_NOSUID | MS_NODEV, "mode=755,size=16m");
	mount_or_die("proc", "/root/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("sysfs", "/root/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_or_die("devtmpfs", "/root/dev", MS_NOSUID, "mode=755");
	mount_or_die("tmpfs", "/root/run", MS_NOSUID | MS_NODEV, "mode=755");
}

static void leave_initramfs(void)
{
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		die("enter the new root: %s", strerror(errno));
	mount_or_die("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static void read_command_line(void)
{
	char text[4096];

	if (read_file_at(AT_FDCWD, "/root/proc/cmdline", text, sizeof(text)) < 0)
		return;
	for (char *rest = text, *word; (word = strsep(&rest, " \n")); ) {
		if (!strcmp(word, "hyper.debug"))
			debugging = true;
		if (!strcmp(word, RESET))
			ends_by_reset = true;
		if (!strcmp(word, VSOCK))
			on_vsock = true;
		else if (!strncmp(word, TERMINAL, strlen(TERMINAL)))
			snprintf(terminal, sizeof(terminal), "/dev/%.40s", word + strlen(TERMINAL));
		if (!strncmp(word, DISKS, strlen(DISKS)))
			disk_boot(word + strlen(DISKS));
	}
}

/* The port's number is the VMM's choice: sysfs says which one has our name. */
static int find_port(void)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	char path[400], name[64];
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		if (read_file_at(AT_FDCWD, path, name, sizeof(name)) <= 0)
			continue;
		name[strcspn(name, "\n")] = 0;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		if (!strcmp(name, PORT_NAME))
			fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* A terminal as a pipe of bytes: nothing is echoed, awaited or taken for a signal. */
static int open_terminal(void)
{
	int fd = open(terminal, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct termios raw;

	if (fd < 0)
		return -1;
	if (tcgetattr(fd, &raw) < 0)
		die("use %s: %s", terminal, strerror(errno));
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL;
	if (tcsetattr(fd, TCSANOW, &raw) < 0)
		die("use %s: %s", terminal, strerror(errno));
	return fd;
}

static void open_port(void)
{
	uint64_t until = loop_now_ms() + PORT_WAIT_MS;
	int fd;

	if (on_vsock) {
		channel_listen_vsock(ops_request);
		return;
	}
	while ((fd = *terminal ? open_terminal() : find_port()) < 0) {
		if (loop_now_ms() > until)
			die("find %s", *terminal ? terminal : "the port " PORT_NAME);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	if (*terminal)
		channel_open_terminal(fd, ops_request);
	else
		channel_open(fd, ops_request);
}

static void protect_ourselves(void)
{
	struct error err;

	if (write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", "-1000", &err) < 0)
		debug("%s", err.message);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!testing && setpriority(PRIO_PROCESS, 0, -20) < 0)	/* whatever runs here: we answer */
		debug("set our priority: %s", strerror(errno));
	signal(SIGPIPE, SIG_IGN);
	umask(022);
}

static _Noreturn void serve(void)
{
	struct error err;
	char path[300];

	snprintf(path, sizeof(path), "%s/c", run_dir);
	if (make_folders(path, &err) < 0)
		die("%s", err.message);
	limits_boot();
	cgroup_boot();
	net_boot();
	spawn_boot();
	process_boot();
	relay_boot();
	resize_boot();
	loop_run(channel_pump);
}

static _Noreturn void boot(void)
{
	enter_new_root();
	read_command_line();
	modules_boot();
	leave_initramfs();
	protect_ourselves();
	loop_open();
	open_port();
	balloon_boot();
	debug("ready");
	serve();
}

/* --test SOCKET DIR: the same as an ordinary process, in namespaces of its own; nothing of the machine changes. */

static void find_cgroups(void)
{
	FILE *mounts = fopen("/proc/mounts", "re");
	char line[1024], path[512], type[64];

	*cgroup_dir = 0;
	while (mounts && fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%*s %511s %63s", path, type) == 2 && !strcmp(type, "cgroup2"))
			snprintf(cgroup_dir, sizeof(cgroup_dir), "%.200s/hyperstart-%d", path, getpid());
	if (mounts)
		fclose(mounts);
	if (!*cgroup_dir || mkdir(cgroup_dir, 0755) < 0)
		die("make cgroup %s: %s", cgroup_dir, strerror(errno));
}

static pid_t tested;

static void pass_on(int signal)
{
	kill(tested, signal == SIGTERM ? SIGKILL : signal);
}

/* The outer half: wait for the inner one, then remove the cgroups. Groups left by a killed one are empty by then. */
static _Noreturn void watch_over(const sigset_t *before)
{
	char path[800];
	int status = 0;
	DIR *dir;
	struct dirent *entry;

	signal(SIGTERM, pass_on);
	sigprocmask(SIG_SETMASK, before, NULL);
	while (waitpid(tested, &status, 0) < 0 && errno == EINTR)
		;
	for (int i = 0; i < 100 && rmdir(cgroup_dir) < 0 && errno != ENOENT; i++) {
		dir = opendir(cgroup_dir);
		while (dir && (entry = readdir(dir))) {
			snprintf(path, sizeof(path), "%s/%s", cgroup_dir, entry->d_name);
			if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
				rmdir(path);
		}
		if (dir)
			closedir(dir);
		usleep(10000);
	}
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static _Noreturn void test(const char *socket, const char *dir)
{
	struct error err;
	sigset_t term, before;

	testing = debugging = true;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);		/* until there is somebody to pass it on to */
	find_cgroups();
	if (format(&err, run_dir, sizeof(run_dir), "%s/run", dir) < 0 || make_folders(run_dir, &err) < 0)
		die("%s", err.message);
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID) < 0)
		die("make namespaces: %s", strerror(errno));
	tested = fork();
	if (tested > 0)
		watch_over(&before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (tested < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("make mounts private: %s", strerror(errno));
	mount_or_die("proc", "/proc", 0, NULL);
	mount_or_die("tmpfs", run_dir, 0, NULL);
	protect_ourselves();
	loop_open();
	channel_listen(socket, ops_request);
	serve();
}

int main(int argc, char **argv)
{
	if (argc >= 3 && !strcmp(argv[0], REAPER_NAME))
		reaper_main(argv);
	if (argc >= 1 && !strcmp(argv[0], PAUSE_NAME))
		pause_main();
	if (argc == 2 && !strcmp(argv[1], "--rehearse"))
		return rehearsal_main();
	if (argc == 4 && !strcmp(argv[1], "--test"))
		test(argv[2], argv[3]);
	if (getpid() != 1)
		die("run: this is PID 1 of a virtual machine (or: --test SOCKET DIR)");
	boot();
}
