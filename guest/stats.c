#include "stats.h"

#include "cgroup.h"
#include "container.h"
#include "mount.h"
#include "net.h"
#include "process.h"
#include "spawn.h"
#include "user.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
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
		{ "system_usec", "cpu.stat", "system_usec" }, { "cpu_periods", "cpu.stat", "nr_periods" },
		{ "cpu_throttled_periods", "cpu.stat", "nr_throttled" }, { "cpu_throttled_usec", "cpu.stat", "throttled_usec" },
		{ "memory_bytes", "memory.current", NULL }, { "memory_max_bytes", "memory.max", NULL },
		{ "memory_inactive_file_bytes", "memory.stat", "inactive_file" }, { "memory_anon_bytes", "memory.stat", "anon" },
		{ "memory_file_bytes", "memory.stat", "file" }, { "memory_mapped_bytes", "memory.stat", "file_mapped" },
		{ "page_faults", "memory.stat", "pgfault" }, { "major_page_faults", "memory.stat", "pgmajfault" },
		{ "pids", "pids.current", NULL }, { "oom_kills", "memory.events", "oom_kill" },
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
	buffer_format(result, "\"io_read_bytes\":%llu,\"io_write_bytes\":%llu,\"io_reads\":%llu,\"io_writes\":%llu,\"net\":[",
		      (unsigned long long)sum_io(io, "rbytes="), (unsigned long long)sum_io(io, "wbytes="),
		      (unsigned long long)sum_io(io, "rios="), (unsigned long long)sum_io(io, "wios="));
	net_list(result);
	buffer_add(result, "]}", 2);
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

/* A process that forks holds what guards its arguments, and in a crowd it does not come to let go of it: a helper reads
   them, and when it does not come to an end another one reads the names alone. */
enum { QUERY_MS = 3000, NAMES_MS = 6500, QUERIES_MAX = 8 };	/* the host waits 10 s */
enum { OUT_FD = 1, GROUP_FD = 3, ROOT_FD = 4 };		/* of the helper, as spawn_arrange has them */

struct query {
	struct source answer;
	struct timer timer;
	struct call call;
	char id[ID_BYTES];	/* of the container */
	struct buffer text;
	int pidfd;
	bool names_only;
};

struct helper {
	int group, root, out;
	bool names_only;
};

static unsigned query_count;

static int list_main(const void *data)
{
	const struct helper *helper = data;
	const int stdio[3] = { -1, helper->out, -1 };
	struct buffer result = { 0 };
	struct listing l = { .result = &result, .root = ROOT_FD, .names_only = helper->names_only };
	struct timespec now, up;
	struct error err;

	setpriority(PRIO_PROCESS, 0, -20);	/* as we who wait for it */
	if (spawn_arrange(stdio, helper->group, helper->root, &err) < 0)
		return 1;
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	l.boot_s = now.tv_sec - up.tv_sec;
	buffer_add(&result, "{\"processes\":[", 14);
	if (cgroup_each(GROUP_FD, see_process, &l, &err) < 0)
		return 1;
	buffer_add(&result, "]}", 3);	/* its zero too: a whole answer ends so */
	return result.failed || write_all(OUT_FD, result.data, result.length, &err) < 0;
}

static int ask(struct query *q, struct error *err)
{
	struct container *c = container_find(q->id, err);
	struct helper helper;
	int ends[2], pid;

	if (!c)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(err, errno, "make a pipe");
	helper = (struct helper){ c->cgroup, c->root, ends[1], q->names_only };
	pid = spawn_helper(list_main, &helper, &q->pidfd, err);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -1;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	q->answer.fd = ends[0];
	loop_watch(&q->answer, EPOLLIN);
	loop_after(&q->timer, q->names_only ? NAMES_MS : QUERY_MS);
	return 0;
}

static void end_helper(struct query *q)
{
	syscall(SYS_pidfd_send_signal, q->pidfd, SIGKILL, NULL, 0);
	close_fd(&q->pidfd);
	loop_close(&q->answer);
	loop_cancel(&q->timer);
	buffer_free(&q->text);
	q->text = (struct buffer){ 0 };
}

static void end_query(struct query *q)
{
	end_helper(q);
	query_count--;
	free(q);
}

static void answer_ready(struct source *source, uint32_t events)
{
	struct query *q = (struct query *)((char *)source - offsetof(struct query, answer));
	char part[16384];
	struct error err;
	ssize_t n = read(source->fd, part, sizeof(part));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		buffer_add(&q->text, part, (size_t)n);
		return;
	}
	if (!q->text.failed && q->text.length && !q->text.data[q->text.length - 1]) {
		reply_result(&q->call, q->text.data);
	} else {
		fail(&err, EIO, "list the processes of container %s", q->id);
		reply_error(&q->call, &err);
	}
	end_query(q);
}

static void query_late(struct timer *timer)
{
	struct query *q = (struct query *)((char *)timer - offsetof(struct query, timer));
	struct error err;

	end_helper(q);
	if (q->names_only) {
		fail(&err, ETIMEDOUT, "list the processes of container %s", q->id);
	} else {
		q->names_only = true;
		if (ask(q, &err) == 0)
			return;
	}
	reply_error(&q->call, &err);
	end_query(q);
}

int op_container_processes(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct container *c = named(args, err);
	struct query *q;

	(void)result;
	if (!c)
		return -1;
	if (query_count == QUERIES_MAX || !(q = calloc(1, sizeof(*q))))
		return fail(err, EAGAIN, "list the processes of container %s", c->id);
	*q = (struct query){ .answer = { -1, 0, answer_ready }, .timer = { .expired = query_late }, .call = *call,
			     .pidfd = -1 };
	strcpy(q->id, c->id);
	query_count++;
	if (ask(q, err) == 0)
		return LATER;
	end_query(q);
	return -1;
}
