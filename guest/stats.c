#include "stats.h"

#include "cgroup.h"
#include "container.h"
#include "mount.h"
#include "net.h"
#include "process.h"
#include "user.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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

int op_container_stats(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct { const char *name, *file, *key; } numbers[] = {
		{ "cpu_usec", "cpu.stat", "usage_usec" }, { "user_usec", "cpu.stat", "user_usec" },
		{ "system_usec", "cpu.stat", "system_usec" }, { "memory_bytes", "memory.current", NULL },
		{ "memory_max_bytes", "memory.max", NULL }, { "memory_inactive_file_bytes", "memory.stat", "inactive_file" },
		{ "pids", "pids.current", NULL },
	};
	char io[4096];
	struct container *c = named(args, err);

	(void)call;
	if (!c)
		return -1;
	buffer_add(result, "{", 1);
	for (size_t i = 0; i < COUNT(numbers); i++)
		buffer_format(result, "\"%s\":%llu,", numbers[i].name,
			      (unsigned long long)cgroup_number(c->cgroup, numbers[i].file, numbers[i].key));
	read_file_at(c->cgroup, "io.stat", io, sizeof(io));
	buffer_format(result, "\"io_read_bytes\":%llu,\"io_write_bytes\":%llu,\"net\":[",
		      (unsigned long long)sum_io(io, "rbytes="), (unsigned long long)sum_io(io, "wbytes="));
	net_list(result);
	buffer_add(result, "]}", 2);
	return 0;
}

struct listing {
	struct buffer *result;
	struct container *container;
	int root;
	int64_t boot_s;
	unsigned count;
};

struct process_line {
	int pid, ppid;
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

/* The number that a process has in its own pid namespace: the last of NSpid. */
static int inner_pid(int pid)
{
	char status[4096];
	const char *at;
	int number = 0, used;

	if (pid <= 0 || read_of(pid, "status", status, sizeof(status)) <= 0 || !(at = strstr(status, "\nNSpid:")))
		return 0;
	for (at += 7; sscanf(at, "%*[ \t]%d%n", &number, &used) == 1; at += used)
		;
	return number;
}

static uid_t owner(int pid)
{
	char status[4096];
	const char *at = NULL;

	if (read_of(pid, "status", status, sizeof(status)) > 0)
		at = strstr(status, "\nUid:");
	return at ? (uid_t)strtoul(at + 5, NULL, 10) : 0;
}

/* The arguments with blanks between them, or the name in brackets. */
static void read_command(int pid, struct process_line *line)
{
	int length = read_of(pid, "cmdline", line->command, sizeof(line->command));
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

static bool read_process(int pid, struct process_line *line)
{
	char text[1024];

	*line = (struct process_line){ .pid = inner_pid(pid) };
	if (!line->pid || read_of(pid, "stat", text, sizeof(text)) <= 0 || !parse_stat(text, line))
		return false;
	line->ppid = inner_pid(line->ppid) == line->ppid ? 0 : inner_pid(line->ppid);	/* 0: its parent is outside */
	read_command(pid, line);
	return true;
}

static void write_process(struct listing *l, int pid, const struct process_line *line)
{
	long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
	struct buffer *r = l->result;
	char user[64], terminal[16] = "?";

	user_name(l->root, owner(pid), user, sizeof(user));
	if (line->tty >> 8 == 136)
		snprintf(terminal, sizeof(terminal), "pts/%d", line->tty & 0xFF);
	buffer_format(r, "%s{\"pid\":%d,\"ppid\":%d,\"user\":", l->count++ ? "," : "", line->pid, line->ppid);
	buffer_string(r, user);
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

	if (l->result->length < LISTING_MAX && read_process(pid, &line))
		write_process(l, pid, &line);
}

int op_container_processes(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct container *c = named(args, err);
	struct listing l = { .result = result, .container = c };
	struct timespec now, up;

	(void)call;
	if (!c)
		return -1;
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	l.boot_s = now.tv_sec - up.tv_sec;
	l.root = c->root;
	buffer_add(result, "{\"processes\":[", 14);
	if (cgroup_each(c->cgroup, see_process, &l, err) < 0)
		return -1;
	buffer_add(result, "]}", 2);
	return 0;
}
