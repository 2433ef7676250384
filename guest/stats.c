#include "stats.h"

#include "cgroup.h"
#include "container.h"
#include "mount.h"
#include "net.h"
#include "process.h"
#include "query.h"
#include "user.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <time.h>

enum { LISTING_MAX = (1 << 20) - 16384 };	/* of an answer's megabyte; one more line fits in behind it */

struct stats_args {
	const char *id;
};

static struct container *named(const struct json *args, struct error *err)
{
	static const struct field fields[] = { NEEDED(struct stats_args, id, JSON_STRING) };
	struct stats_args a = { 0 };

	return json_fields(args, fields, 1, &a, err) < 0 ? NULL : container_find(a.id, err);
}

/* The sum over all devices of "key=NUMBER" in io.stat. */
static uint64_t sum_io(const char *text, const char *key)
{
	uint64_t sum = 0;

	for (const char *at = text; (at = strstr(at, key)); at += strlen(key))
		sum += strtoull(at + strlen(key), NULL, 10);
	return sum;
}

struct number {
	const char *name, *key;		/* key NULL: the file is the number */
	bool may_lack;			/* some kernels count less: what is not there is not said */
};

/* A container's groups are read file by file, for each reading has the kernel add up what all processors have counted. */
static void add_file(struct buffer *result, int group, const char *file, const struct number *numbers, size_t count)
{
	char text[CGROUP_FILE_BYTES] = "";
	bool there = read_file_at(group, file, text, sizeof(text)) > 0;

	for (size_t i = 0; i < count; i++) {
		int64_t value = there ? cgroup_value(text, numbers[i].key) : -1;

		if (value >= 0 || !numbers[i].may_lack)
			buffer_format(result, "\"%s\":%lld,", numbers[i].name, value < 0 ? 0LL : (long long)value);
	}
}

/* Swap of the guest's, of which its cgroup may leave it less. Without any, kernels need not count it. */
static void add_swap(struct buffer *result, int group)
{
	static const struct number used = { "memory_swap_bytes", NULL, true };
	struct sysinfo now = { .mem_unit = 1 };
	uint64_t all = sysinfo(&now) == 0 ? (uint64_t)now.totalswap * now.mem_unit : 0, most = all;
	char text[32];

	if (read_file_at(group, "memory.swap.max", text, sizeof(text)) > 0 && strncmp(text, "max", 3)) {
		most = strtoull(text, NULL, 10);
		most = most < all ? most : all;
	}
	buffer_format(result, "\"swap_max_bytes\":%llu,", (unsigned long long)most);
	if (all)
		add_file(result, group, "memory.swap.current", &used, 1);
	else
		buffer_format(result, "\"memory_swap_bytes\":0,");
}

/* Its own limit, or that of all containers together, whichever is less; 0: none. */
static uint64_t pids_max(int group)
{
	uint64_t own = cgroup_number(group, "pids.max", NULL), of_all = cgroup_number(group, "../pids.max", NULL);

	return !own || (of_all && of_all < own) ? of_all : own;
}

/* All that is counted for it alone. */
static void add_usage(struct buffer *result, const struct container *c)
{
	static const struct number of_cpu[] = {
		{ "cpu_usec", "usage_usec", false }, { "user_usec", "user_usec", false },
		{ "system_usec", "system_usec", false }, { "cpu_periods", "nr_periods", false },
		{ "cpu_throttled_periods", "nr_throttled", false }, { "cpu_throttled_usec", "throttled_usec", false },
	}, of_memory[] = {
		{ "memory_inactive_file_bytes", "inactive_file", false }, { "memory_anon_bytes", "anon", false },
		{ "memory_file_bytes", "file", false }, { "memory_mapped_bytes", "file_mapped", false },
		{ "page_faults", "pgfault", false }, { "major_page_faults", "pgmajfault", false },
		{ "memory_kernel_bytes", "kernel", true },
	}, of_events[] = { { "oom_kills", "oom_kill", false }, { "memory_max_hits", "max", true } },
	now = { "memory_bytes", NULL, false }, most = { "memory_max_bytes", NULL, false },
	peak = { "memory_peak_bytes", NULL, true }, pids = { "pids", NULL, false };
	char io[4096];

	add_file(result, c->cgroup, "cpu.stat", of_cpu, COUNT(of_cpu));
	add_file(result, c->cgroup, "memory.stat", of_memory, COUNT(of_memory));
	add_file(result, c->cgroup, "memory.events", of_events, COUNT(of_events));
	add_file(result, c->cgroup, "memory.current", &now, 1);
	add_file(result, c->cgroup, "memory.max", &most, 1);
	add_file(result, c->cgroup, "memory.peak", &peak, 1);
	add_file(result, c->cgroup, "pids.current", &pids, 1);
	add_swap(result, c->cgroup);
	buffer_format(result, "\"pids_max\":%llu,", (unsigned long long)pids_max(c->cgroup));
	read_file_at(c->cgroup, "io.stat", io, sizeof(io));
	buffer_format(result, "\"io_read_bytes\":%llu,\"io_write_bytes\":%llu,\"io_reads\":%llu,\"io_writes\":%llu",
		      (unsigned long long)sum_io(io, "rbytes="), (unsigned long long)sum_io(io, "wbytes="),
		      (unsigned long long)sum_io(io, "rios="), (unsigned long long)sum_io(io, "wios="));
}

/* The interfaces are the pod's, and so the same for all of its containers: the last of what is told. */
static void add_net(struct buffer *result)
{
	buffer_add(result, ",\"net\":[", 8);
	net_list(result);
	buffer_add(result, "]}", 2);
}

int op_container_stats(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct container *c = named(args, err);

	(void)call;
	if (!c)
		return -1;
	buffer_add(result, "{", 1);
	add_usage(result, c);
	add_net(result);
	return 0;
}

int op_pod_stats(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	(void)call;
	if (json_fields(args, NULL, 0, NULL, err) < 0)
		return -1;
	buffer_add(result, "{\"containers\":[", 15);
	for (const struct container *c = containers; c; c = c->next) {
		buffer_format(result, "%s{\"id\":\"%s\",", c == containers ? "" : ",", c->id);
		add_usage(result, c);
		buffer_add(result, "}", 1);
	}
	buffer_add(result, "]", 1);
	add_net(result);
	return 0;
}

struct listing {
	struct buffer *result;
	int root;
	bool names_only;
	int64_t boot_s;
	unsigned count;
	uid_t known;		/* whose name is `user`, if that is not "" */
	char user[64];
};

struct process_line {
	int pid, ppid;
	uid_t owner;
	char state;
	long long utime, stime, start;
	unsigned long long vsize;
	long long rss;
	int tty;
	char command[1024];
};

/* The columns behind the command's name, which may hold anything: from its last ")". */
static bool parse_stat(const char *text, struct process_line *line)
{
	const char *behind = strrchr(text, ')');

	return behind && sscanf(behind + 1, " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %lld %lld %*d %*d %*d %*d %*d %*d"
				" %lld %llu %lld", &line->state, &line->ppid, &line->tty, &line->utime, &line->stime,
				&line->start, &line->vsize, &line->rss) == 8;
}

static int read_of(int pid, const char *file, char *to, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	return (int)read_file_at(AT_FDCWD, path, to, size);
}

/* The number that a process has in its own pid namespace, the last of NSpid, and whose it is. 0: it is gone. */
static int inner_pid(int pid, uid_t *owner)
{
	char status[4096];
	const char *at, *uid;
	int number = 0, used;

	if (pid <= 0 || read_of(pid, "status", status, sizeof(status)) <= 0 || !(uid = strstr(status, "\nUid:")) ||
	    !(at = strstr(uid, "\nNSpid:")))
		return 0;
	*owner = (uid_t)strtoul(uid + 5, NULL, 10);
	for (at += 7; sscanf(at, "%*[ \t]%d%n", &number, &used) == 1; at += used)
		;
	return number;
}

/* The arguments with blanks between them, or the name in brackets. */
static void read_command(int pid, bool name_only, struct process_line *line)
{
	int length = name_only ? 0 : read_of(pid, "cmdline", line->command, sizeof(line->command));
	char name[64];

	while (length > 0 && !line->command[length - 1])
		length--;
	for (int i = 0; i < length; i++)
		if (!line->command[i])
			line->command[i] = ' ';
	if (length > 0)
		return;
	read_of(pid, "comm", name, sizeof(name));
	name[strcspn(name, "\n")] = 0;
	snprintf(line->command, sizeof(line->command), "[%s]", name);
}

static bool read_process(int pid, bool name_only, struct process_line *line)
{
	char text[1024];
	uid_t ignored;
	int parent;

	*line = (struct process_line){ .pid = 0 };
	line->pid = inner_pid(pid, &line->owner);
	if (!line->pid || read_of(pid, "stat", text, sizeof(text)) <= 0 || !parse_stat(text, line))
		return false;
	parent = inner_pid(line->ppid, &ignored);
	line->ppid = parent == line->ppid ? 0 : parent;		/* 0: its parent is outside */
	read_command(pid, name_only, line);
	return true;
}

static const char *user_of(struct listing *l, uid_t uid)
{
	if (!*l->user || uid != l->known)
		user_name(l->root, uid, l->user, sizeof(l->user));
	l->known = uid;
	return l->user;
}

static void write_process(struct listing *l, const struct process_line *line)
{
	long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
	struct buffer *r = l->result;
	char terminal[16] = "?";

	if (line->tty >> 8 == 136)
		snprintf(terminal, sizeof(terminal), "pts/%d", line->tty & 0xFF);
	buffer_format(r, "%s{\"pid\":%d,\"ppid\":%d,\"user\":", l->count++ ? "," : "", line->pid, line->ppid);
	buffer_string(r, user_of(l, line->owner));
	buffer_format(r, ",\"vsize_kib\":%llu,\"rss_kib\":%lld,\"state\":\"%c\",\"start_s\":%lld,\"cpu_ms\":%lld,\"tty\":\"%s\"",
		      line->vsize / 1024, line->rss * page / 1024, line->state, (long long)l->boot_s + line->start / ticks,
		      (line->utime + line->stime) * 1000 / ticks, terminal);
	buffer_add(r, ",\"command\":", 11);
	buffer_string(r, line->command);
	buffer_add(r, "}", 1);
}

static void see_process(int pid, void *data)
{
	struct listing *l = data;
	struct process_line line;

	if (l->result->length < LISTING_MAX && read_process(pid, l->names_only, &line))
		write_process(l, &line);
}

/* A process that forks holds what guards its arguments, and in a crowd it does not come to let go of it: in a hurry the
   names alone are read. */
static int list_processes(int group, int root, bool hurry, struct buffer *result)
{
	struct listing l = { .result = result, .root = root, .names_only = hurry };
	struct timespec now, up;
	struct error err;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	l.boot_s = now.tv_sec - up.tv_sec;
	buffer_add(result, "{\"processes\":[", 14);
	if (cgroup_each_below(group, see_process, &l, &err) < 0)
		return -1;
	buffer_add(result, "]}", 2);
	return 0;
}

struct open_files {
	unsigned long long descriptors, sockets;
};

static void see_files(int pid, void *data)
{
	struct open_files *seen = data;
	char path[64], target[16];
	const struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		seen->descriptors++;
		if (readlinkat(dirfd(dir), entry->d_name, target, sizeof(target)) > 8 && !memcmp(target, "socket:[", 8))
			seen->sockets++;
	}
	if (dir)
		closedir(dir);
}

/* Its file system may be the host's, who answers or not, and descriptors may be as many as the container likes: in a
   hurry they are not counted, for a part of them would be told as all. */
static int count_files(int group, int root, bool hurry, struct buffer *result)
{
	struct open_files seen = { 0 };
	struct statvfs of_root;
	struct error err;
	bool counted = !hurry && cgroup_each_below(group, see_files, &seen, &err) >= 0;

	buffer_add(result, "{", 1);
	if (fstatvfs(root, &of_root) == 0) {
		buffer_format(result, "\"fs_bytes\":%llu", (unsigned long long)of_root.f_blocks * of_root.f_frsize);
		if (of_root.f_files)
			buffer_format(result, ",\"fs_inodes\":%llu,\"fs_inodes_free\":%llu",
				      (unsigned long long)of_root.f_files, (unsigned long long)of_root.f_ffree);
	}
	if (counted)
		buffer_format(result, "%s\"descriptors\":%llu,\"sockets\":%llu", result->length > 1 ? "," : "",
			      seen.descriptors, seen.sockets);
	buffer_add(result, "}", 1);
	return 0;
}

int op_container_processes(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct container *c = named(args, err);

	(void)result;
	return c ? query_begin(call, c, list_processes, "list the processes", err) : -1;
}

int op_container_files(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct container *c = named(args, err);

	(void)result;
	return c ? query_begin(call, c, count_files, "count the files", err) : -1;
}
