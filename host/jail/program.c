#include "program.h"

#include "error.h"
#include "filter.h"
#include "options.h"
#include "privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Make the folders above `path`, which is relative to the new root and was named by our caller, not by a guest. */
static void make_parents(const char *path)
{
	char part[PATH_MAX];
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			die("mkdir %s in the jail", part);
	}
}

static void bind_read_only(const char *pair)
{
	char source[PATH_MAX];
	struct stat st;
	const char *dest = split(pair, source);
	if (stat(source, &st) < 0)
		die("%s", source);
	make_parents(dest);
	if (S_ISDIR(st.st_mode) ? mkdir(dest, 0755) < 0 : mknod(dest, S_IFREG | 0444, 0) < 0)
		die("make %s in the jail", dest);
	if (mount(source, dest, NULL, MS_BIND, NULL) < 0)
		die("bind %s", source);
	if (mount(NULL, dest, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
		die("make %s read-only", source);
}

static void make_device(const char *path, unsigned major_number, unsigned minor_number)
{
	if (mknod(path, S_IFCHR | 0600, makedev(major_number, minor_number)) < 0)
		die("mknod %s in the jail", path);
	if (opt.uid > 0 && chown(path, (uid_t)opt.uid, (gid_t)opt.uid) < 0)
		die("chown %s in the jail", path);
}

/* A file, with the attributes that our caller has given its mount. */
static void place(const char *pair)
{
	char number[PATH_MAX];
	const char *dest = split(pair, number);
	int fd = atoi(number);
	make_parents(dest);
	if (mknod(dest, S_IFREG | 0444, 0) < 0)
		die("make %s in the jail", dest);
	if (syscall(SYS_move_mount, fd, "", AT_FDCWD, dest, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		die("mount %s in the jail", dest);
	close(fd);
}

static void make_home(void)
{
	char data[80];
	const char *dest = opt.home + 1;
	make_parents(dest);
	snprintf(data, sizeof data, "mode=0700,size=64k,nr_inodes=16,uid=%ld,gid=%ld", opt.uid, opt.uid);
	if (mkdir(dest, 0755) < 0)
		die("mkdir %s in the jail", dest);
	if (mount("home", dest, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, opt.uid > 0 ? data : NULL) < 0)
		die("mount a tmpfs on %s in the jail", dest);
}

/* A root of a few read-only things. Nodes of our own instead of the host's: no group of the host is needed then. */
static void enter_root(void)
{
	/* Nothing that we mount here may show up in the host's namespace. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("make mounts private");
	if (mount("jail", opt.root, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k,nr_inodes=128") < 0)
		die("mount a tmpfs on %s", opt.root);
	if (chdir(opt.root) < 0)
		die("chdir %s", opt.root);
	umask(0);
	for (int i = 0; i < opt.binds.count; i++)
		bind_read_only(opt.binds.items[i]);
	for (int i = 0; i < opt.mounts.count; i++)
		place(opt.mounts.items[i]);
	if (opt.home)
		make_home();
	for (int i = 0; i < opt.links.count; i++) {
		char text[PATH_MAX];
		const char *dest = split(opt.links.items[i], text);
		make_parents(dest);
		if (symlink(text, dest) < 0)
			die("link %s in the jail", dest);
	}
	if (mkdir("dev", 0755) < 0)
		die("mkdir dev in the jail");
	make_device("dev/null", 1, 3);
	make_device("dev/urandom", 1, 9);
	if (opt.kvm)
		make_device("dev/kvm", 10, 232);
	if (opt.vsock)
		make_device("dev/vhost-vsock", 10, 241);
	if (opt.proc && (mkdir("proc", 0555) < 0 || mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC |
							   MS_RDONLY, "subset=pid") < 0))
		die("mount proc in the jail");
	/* The old root is stacked below the new one and then dropped: no descriptor or path leads there any more. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		die("pivot_root");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC, NULL) < 0)
		die("make the jail's root read-only");
}

static void lower_limit(int resource, rlim_t value)
{
	struct rlimit limit;
	if (getrlimit(resource, &limit) < 0)
		die("getrlimit");
	if (limit.rlim_max > value)	/* never up: that would need CAP_SYS_RESOURCE */
		limit.rlim_max = value;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	if (setrlimit(resource, &limit) < 0)
		die("setrlimit");
}

static void limit_resources(void)
{
	struct rlimit files;
	lower_limit(RLIMIT_CORE, 0);	/* a core would hold the guest's memory */
	if (opt.uid > 0)
		lower_limit(RLIMIT_NPROC, 512);	/* the user is this program's alone */
	if (opt.fsize) {
		lower_limit(RLIMIT_FSIZE, opt.fsize);
		signal(SIGXFSZ, SIG_IGN);	/* an error of one write is no reason to end a virtual machine */
	}
	if (!opt.nofile)
		return;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		die("getrlimit");
	files.rlim_cur = opt.nofile < files.rlim_max ? opt.nofile : files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		die("setrlimit");
}

/* What PROGRAM inherits; the pipe for complaints stays until exec closes it. */
static void hand_over_files(void)
{
	int keep[2 * MAX_LIST + 1], count = opt.fd_count;
	for (int i = 0; i < count; i++)
		if (fcntl(keep[i] = opt.fds[i], F_SETFD, 0) < 0)
			die("descriptor %d", keep[i]);
	for (int i = 0; i < opt.mounts.count; i++)	/* until it has its place */
		keep[count++] = atoi(opt.mounts.items[i]);
	keep[count++] = report_fd;
	close_others(keep, count);
}

void run_program(char **argv, int go, int out, int log)
{
	char preload[PATH_MAX], home[PATH_MAX], *environment[] = { NULL, NULL, NULL };	/* our caller's is none of its business */
	char byte, **next = environment;

	if (opt.preload) {
		snprintf(preload, sizeof preload, "LD_PRELOAD=%s", opt.preload);
		*next++ = preload;
	}
	if (opt.home) {
		snprintf(home, sizeof home, "HOME=%s", opt.home);
		*next++ = home;
	}
	if (read(go, &byte, 1) != 1)
		_exit(1);	/* the keeper died: so do we, before anything has happened */
	if (dup2(out, 1) < 0 || dup2(log, 2) < 0)
		die("stdio");
	hand_over_files();
	if (sethostname("jail", 4) < 0)
		die("sethostname");
	if (opt.root)
		enter_root();
	close(0);
	/* the jail's own: not even this one is of the host's file system */
	if ((opt.in < 0 ? open("/dev/null", O_RDONLY) : dup(opt.in)) != 0)
		die("stdin");
	limit_resources();
	drop_capabilities(opt.caps);
	if (opt.uid > 0)
		become(opt.uid);
	guard_tap();
	if (opt.no_setid)
		refuse_setid();
	execve(argv[0], argv, environment);
	die("exec %s", argv[0]);
}
