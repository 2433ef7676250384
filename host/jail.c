/*
 * hyper-jail: start one program (QEMU, virtiofsd) with as little of the host as it needs, and keep its last words.
 *
 *   hyper-jail OPTION... -- PROGRAM ARG...
 *
 *   --name NAME          prefix of the files below, in the current directory:
 *                        NAME.pid     two lines "PID START-TIME": the keeper, then PROGRAM; there before PROGRAM runs
 *                        NAME.status  "exit N" or "signal N", when PROGRAM has ended
 *                        NAME.log     its stderr, NAME.out its stdout; bounded, what came before is in *.old
 *   --fd N               PROGRAM inherits descriptor N; all others but 0, 1 and 2 are closed
 *   --lock N             the keeper and PROGRAM inherit descriptor N: a flock on it is held as long as either lives
 *   --cgroup DIR         join that cgroup
 *   --root DIR           PROGRAM's root is a new tmpfs, mounted over the folder DIR in its own mount namespace ...
 *   --bind SOURCE=DEST   ... that holds SOURCE, read-only, at DEST,
 *   --link TEXT=DEST     ... the symbolic link DEST to TEXT,
 *   --kvm                ... and /dev/kvm,
 *   --proc               ... and a /proc that knows nothing but PROGRAM's own processes
 *   --uid N              PROGRAM and the keeper run as user and group N, in no other group, without capabilities
 *   --caps MASK          (hexadecimal) the capabilities that PROGRAM's bounding set keeps: it stays root
 *   --no-setid           PROGRAM can give no file the setuid or setgid bit
 *   --preload FILE       PROGRAM's linker loads that library before all others
 *   --nofile N           soft limit of open files, never above the hard one
 *   --fsize N            PROGRAM can make no file larger than N bytes: it is told EFBIG
 *   --copy FROM=TO       before PROGRAM runs, what the file in memory FROM holds is copied to TO, both descriptors:
 *                        its holes stay holes, and the memory that TO takes is the cgroup's
 *
 *   hyper-jail --tsc-khz     prints how fast this machine's time stamp counter goes, which an emulated guest reads; 0 if
 *                            it has none
 *
 * Three processes: this one ends with status 0 once PROGRAM runs, or 1 after saying on stderr why it does not. The
 * keeper is a daemon that outlives it and whoever called it: it writes PROGRAM's output and status to the files
 * above. PROGRAM is PID 1 of a PID namespace: killed, it takes everything it started along.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LIST = 64, LOG_BYTES = 256 * 1024 };

struct list {
	const char *items[MAX_LIST];
	int count;
};

static struct {
	const char *name, *root, *preload;
	struct list binds, links, cgroups;
	int fds[MAX_LIST], fd_count;
	int lock;		/* -1: none */
	int from, to;		/* of --copy; -1: none */
	long uid;		/* -1: stay who we are */
	uint64_t caps;
	rlim_t nofile, fsize;	/* 0: leave it */
	bool kvm, proc, no_setid;
} opt = { .uid = -1, .lock = -1, .from = -1, .to = -1 };

static int report_fd = 2;	/* whoever waits for PROGRAM to run reads complaints here */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
	char text[PIPE_BUF];
	va_list args;
	int error = errno;

	va_start(args, format);
	int n = vsnprintf(text, sizeof text - 80, format, args);
	va_end(args);
	if (n < 0 || n > (int)sizeof text - 80)
		n = (int)strnlen(text, sizeof text - 80);
	n += snprintf(text + n, sizeof text - (size_t)n, ": %s\n", strerror(error));
	(void)!write(report_fd, text, (size_t)n);
	_exit(1);
}

/* ---- options ---- */

static void usage(const char *what)
{
	errno = EINVAL;
	die("hyper-jail: option %s", what);
}

static void append(struct list *list, const char *item)
{
	if (list->count == MAX_LIST)
		usage("given too often");
	list->items[list->count++] = item;
}

static unsigned long number(const char *text, int base, unsigned long max)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, base);
	if (errno || end == text || *end || text[0] == '-' || value > max)
		usage(text);
	return value;
}

static void inherit(int fd)
{
	if (opt.fd_count == MAX_LIST)
		usage("--fd given too often");
	opt.fds[opt.fd_count++] = fd;
}

static void copy_option(const char *pair)
{
	char from[16];
	const char *equals = strchr(pair, '=');
	if (!equals || equals - pair >= (int)sizeof from)
		usage(pair);
	memcpy(from, pair, (size_t)(equals - pair));
	from[equals - pair] = 0;
	opt.from = (int)number(from, 10, INT_MAX);
	opt.to = (int)number(equals + 1, 10, INT_MAX);
}

static void take(const char *option, const char *value)
{
	if (!strcmp(option, "--name"))
		opt.name = value;
	else if (!strcmp(option, "--root"))
		opt.root = value;
	else if (!strcmp(option, "--bind"))
		append(&opt.binds, value);
	else if (!strcmp(option, "--link"))
		append(&opt.links, value);
	else if (!strcmp(option, "--cgroup"))
		append(&opt.cgroups, value);
	else if (!strcmp(option, "--preload"))
		opt.preload = value;
	else if (!strcmp(option, "--uid"))
		opt.uid = (long)number(value, 10, INT_MAX);
	else if (!strcmp(option, "--caps"))
		opt.caps = number(value, 16, ULONG_MAX);
	else if (!strcmp(option, "--nofile"))
		opt.nofile = number(value, 10, INT_MAX);
	else if (!strcmp(option, "--fsize"))
		opt.fsize = number(value, 10, ULONG_MAX);
	else if (!strcmp(option, "--copy"))
		copy_option(value);
	else if (!strcmp(option, "--lock"))
		inherit(opt.lock = (int)number(value, 10, INT_MAX));
	else if (!strcmp(option, "--fd"))
		inherit((int)number(value, 10, INT_MAX));
	else
		usage(option);
}

/* An option that takes no value, or NULL. */
static bool *flag_of(const char *option)
{
	if (!strcmp(option, "--kvm"))
		return &opt.kvm;
	if (!strcmp(option, "--proc"))
		return &opt.proc;
	return strcmp(option, "--no-setid") ? NULL : &opt.no_setid;
}

/* Returns PROGRAM's argv. */
static char **parse(int argc, char **argv)
{
	int i = 1;
	while (i < argc && strcmp(argv[i], "--")) {
		bool *flag = flag_of(argv[i]);
		if (flag) {
			*flag = true;
			i++;
			continue;
		}
		if (i + 1 >= argc)
			usage(argv[i]);
		take(argv[i], argv[i + 1]);
		i += 2;
	}
	if (i + 1 >= argc || !opt.name || strchr(opt.name, '/') || opt.uid == 0)
		usage("is missing or wrong: --name, --uid or PROGRAM");
	return argv + i + 1;
}

/* ---- PROGRAM's side ---- */

/* The part of "SOURCE=DEST" after '='; SOURCE is copied to `source`. DEST is below the new root: no leading slash. */
static const char *split(const char *pair, char source[PATH_MAX])
{
	const char *equals = strrchr(pair, '=');
	if (!equals || equals - pair >= PATH_MAX || equals[1] != '/')
		usage(pair);
	memcpy(source, pair, (size_t)(equals - pair));
	source[equals - pair] = 0;
	return equals + 2;
}

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

/* From here no exec gives anything back: not setuid files, not file capabilities. */
static void drop_capabilities(uint64_t keep)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("set no_new_privs");
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			die("drop capability %d", cap);
}

/* Groups first, while we may; leaving user 0 clears the permitted and effective capabilities. */
static void become(long uid)
{
	if (setgroups(0, NULL) < 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) < 0 ||
	    setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0)
		die("become user %ld", uid);
}

static int ascending(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Close every descriptor from 3 up that is not in `keep`, which gets sorted. */
static void close_others(int *keep, int count)
{
	int from = 3;
	qsort(keep, (size_t)count, sizeof *keep, ascending);
	for (int i = 0; i < count; i++) {
		if (keep[i] > from)
			syscall(SYS_close_range, (unsigned)from, (unsigned)keep[i] - 1, 0);
		if (keep[i] >= from)
			from = keep[i] + 1;
	}
	syscall(SYS_close_range, (unsigned)from, ~0U, 0);
}

/* What PROGRAM inherits; the pipe for complaints stays until exec closes it. */
static void hand_over_files(void)
{
	int keep[MAX_LIST + 1];
	for (int i = 0; i < opt.fd_count; i++)
		if (fcntl(keep[i] = opt.fds[i], F_SETFD, 0) < 0)
			die("descriptor %d", keep[i]);
	keep[opt.fd_count] = report_fd;
	close_others(keep, opt.fd_count + 1);
}

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif

#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n))	/* its low half: little endian */
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define REFUSE(number) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (number))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* System call NR sets the mode that is its argument N. */
#define SETS_MODE(nr, n) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 4), LOAD(ARGUMENT(n)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1), REFUSE(EPERM), ALLOW
/* NR does so where its argument N, the flags, asks for a new file; the mode follows them. */
#define MAY_CREATE(nr, n) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 6), LOAD(ARGUMENT(n)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | (O_TMPFILE & ~O_DIRECTORY), 0, 3), LOAD(ARGUMENT((n) + 1)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1), REFUSE(EPERM), ALLOW
/* NR does the same where no filter can look. */
#define UNSEEN(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), REFUSE(ENOSYS)

enum { X32 = 0x40000000, IO_URING_SETUP = 425, OPENAT2 = 437, FCHMODAT2 = 452 };	/* newer than some headers */

/* How each filter begins: no call by another table of numbers gets past it. */
#define NATIVE_CALLS_ONLY \
	LOAD(offsetof(struct seccomp_data, arch)), \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0), REFUSE(ENOSYS), \
	LOAD(offsetof(struct seccomp_data, nr)), \
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1), REFUSE(ENOSYS)
/* What has been loaded may be VALUE. */
#define PERMIT(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1), ALLOW
/* And what follows is for what has these bits of its TYPE. */
#define ONLY(mask, type) \
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (mask)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (type), 1, 0), ALLOW

static void load_filter(struct sock_filter *filter, size_t count)
{
	struct sock_fprog program = { (unsigned short)count, filter };
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		die("load the filter");
}

/* Of a tap, which QEMU inherits, it may use what a NIC needs. One that it made persistent would outlive the virtual
   machine, and nobody's business is another's name or owner. */
static void guard_tap(void)
{
	enum { FIRST_OF_TUN = 200 };	/* the lower numbers of this type are the terminals' */
	static struct sock_filter filter[] = {
		NATIVE_CALLS_ONLY,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0), ALLOW,
		LOAD(ARGUMENT(1)),
		PERMIT(TUNGETFEATURES), PERMIT(TUNGETIFF), PERMIT(TUNSETOFFLOAD), PERMIT(TUNSETSNDBUF),
		PERMIT(TUNGETVNETHDRSZ), PERMIT(TUNSETVNETHDRSZ), PERMIT(TUNSETVNETLE), PERMIT(TUNSETVNETBE),
		ONLY(0xff00, 'T' << 8),
		LOAD(ARGUMENT(1)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST_OF_TUN, 0, 1), REFUSE(EPERM),
		ALLOW,
	};
	load_filter(filter, sizeof filter / sizeof *filter);
}

/* Folders are not told from files: a filter sees neither. The setgid bit that a folder inherits is the kernel's. */
static void refuse_setid(void)
{
	static struct sock_filter filter[] = {
		NATIVE_CALLS_ONLY,
		UNSEEN(IO_URING_SETUP), UNSEEN(OPENAT2), UNSEEN(FCHMODAT2),
#ifdef SYS_chmod
		SETS_MODE(SYS_chmod, 1), SETS_MODE(SYS_mknod, 1), SETS_MODE(SYS_creat, 1), MAY_CREATE(SYS_open, 1),
#endif
		SETS_MODE(SYS_fchmod, 1), SETS_MODE(SYS_fchmodat, 2), SETS_MODE(SYS_mknodat, 2), MAY_CREATE(SYS_openat, 2),
		ALLOW,
	};
	load_filter(filter, sizeof filter / sizeof *filter);
}

__attribute__((noreturn)) static void run_program(char **argv, int go, int out, int log)
{
	char preload[PATH_MAX], *environment[] = { NULL, NULL };	/* our caller's is none of its business */
	char byte;

	if (opt.preload) {
		snprintf(preload, sizeof preload, "LD_PRELOAD=%s", opt.preload);
		environment[0] = preload;
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
	if (open("/dev/null", O_RDONLY) != 0)	/* the jail's own: not even this one is of the host's file system */
		die("open /dev/null");
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

/* ---- the keeper ---- */

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
	return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
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

__attribute__((noreturn)) static void keep(char **argv, int report)
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

/* ---- the time stamp counter ---- */

#ifdef __x86_64__
struct moment {
	uint64_t ticks, ns;
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Of many readings the one that nothing came between: a busy machine interrupts some of them for milliseconds. */
static struct moment look(void)
{
	struct moment best = { 0 };
	uint64_t shortest = UINT64_MAX;
	for (int i = 0; i < 200; i++) {
		uint64_t before = __builtin_ia32_rdtsc(), ns = now_ns(), after = __builtin_ia32_rdtsc();
		if (after - before < shortest) {
			shortest = after - before;
			best = (struct moment){ before + shortest / 2, ns };
		}
	}
	return best;
}

static uint64_t tsc_khz(void)
{
	struct moment begin = look();
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	struct moment end = look();
	return (end.ticks - begin.ticks) * 1000000 / (end.ns - begin.ns);
}
#else
static uint64_t tsc_khz(void)
{
	return 0;
}
#endif

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--tsc-khz"))
		return printf("%llu\n", (unsigned long long)tsc_khz()) < 0;
	int report[2];
	char text[PIPE_BUF];
	size_t have = 0;
	ssize_t n;
	char **program = parse(argc, argv);
	if (pipe2(report, O_CLOEXEC) < 0)
		die("pipe");
	pid_t keeper = fork();
	if (keeper < 0)
		die("fork");
	if (!keeper) {
		close(report[0]);
		keep(program, report[1]);
	}
	close(report[1]);
	/* The pipe's other ends go with exec's success, or with a complaint. */
	while (have < sizeof text && ((n = read(report[0], text + have, sizeof text - have)) > 0 || (n < 0 && errno == EINTR)))
		have += n > 0 ? (size_t)n : 0;
	(void)!write(2, text, have);
	return have ? 1 : 0;
}
