#include "resize.h"

#include "cgroup.h"
#include "container.h"
#include "loop.h"
#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

/* The kernel makes an added CPU known within 0.1 s, emulated; it uses added memory by itself (docs/wire.md). */
enum { CPUS_MAX = 1024, STEP_MS = 5, WAIT_MS = 10000 };
enum { ABSENT = -1, OFFLINE = 0, ONLINE = 1 };

static int64_t boot_kib;

/* The one under way. */
static struct {
	bool busy;
	struct call call;
	int64_t cpus, least_kib;
	uint64_t give_up_ms;
} asked;

static void step(struct timer *timer);
static struct timer timer = { .expired = step };

static int64_t memory_kib(void)
{
	struct sysinfo now;

	return sysinfo(&now) < 0 ? 0 : (int64_t)((uint64_t)now.totalram * now.mem_unit >> 10);
}

/* Without what could be given back. Not the total without MemAvailable: that keeps back more the more memory there is. */
static int64_t used_kib(void)
{
	static const struct { const char *key; int sign; } words[] = {
		{ "MemTotal:", 1 }, { "MemFree:", -1 }, { "\nBuffers:", -1 }, { "\nCached:", -1 },
		{ "\nShmem:", 1 }, { "SReclaimable:", -1 },
	};
	char text[4096];
	int64_t used = 0;

	if (read_file_at(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) <= 0)
		return 0;
	for (size_t i = 0; i < COUNT(words); i++) {
		const char *at = strstr(text, words[i].key);

		used += at ? words[i].sign * strtoll(at + strlen(words[i].key), NULL, 10) : 0;
	}
	return used > 0 ? used : 0;
}

void resize_boot(void)
{
	boot_kib = memory_kib();
}

/* In a test, a folder beside ours has the processors. */
static int cpu_path(int64_t cpu, char *path, size_t size, struct error *err)
{
	if (testing)
		return format(err, path, size, "%s/../cpu/cpu%lld/online", run_dir, (long long)cpu);
	return format(err, path, size, "/sys/devices/system/cpu/cpu%lld/online", (long long)cpu);
}

/* The first one is always there, and has no switch. */
static int cpu_state(int64_t cpu)
{
	char path[400], word[16];
	struct error err;

	if (cpu == 0)
		return ONLINE;
	if (cpu_path(cpu, path, sizeof(path), &err) < 0 || read_file_at(AT_FDCWD, path, word, sizeof(word)) <= 0)
		return ABSENT;
	return *word == '1' ? ONLINE : OFFLINE;
}

static int cpus_online(void)
{
	int count = 0;

	for (int64_t cpu = 0; cpu < CPUS_MAX; cpu++)
		switch (cpu_state(cpu)) {
		case ABSENT: return count;
		case ONLINE: count++;
		}
	return count;
}

static int switch_cpu(int64_t cpu, bool online, struct error *err)
{
	char path[400];

	return cpu_path(cpu, path, sizeof(path), err) < 0 ? -1
	       : write_file_at(AT_FDCWD, path, online ? "1" : "0", err);
}

/* Switch one processor, which takes up to 0.4 s, emulated: 1 if there may be more to do, 0 if not. */
static int switch_next(struct error *err)
{
	for (int64_t cpu = 1; asked.cpus && cpu < CPUS_MAX; cpu++) {
		int state = cpu_state(cpu);

		if (state == ABSENT)
			return cpu < asked.cpus;	/* it is on its way */
		if (state != (cpu < asked.cpus))
			return switch_cpu(cpu, cpu < asked.cpus, err) < 0 ? -1 : 1;
	}
	return 0;
}

static void describe(struct buffer *result)
{
	buffer_format(result, "{\"cpus\":%d,\"memory_total_kib\":%lld,\"memory_used_kib\":%lld}", cpus_online(),
		      (long long)memory_kib(), (long long)used_kib());
}

static void answer(void)
{
	struct buffer result = { 0 };

	describe(&result);
	buffer_add(&result, "", 1);
	if (!result.failed)
		reply_result(&asked.call, result.data);
	buffer_free(&result);
}

/* What has not come in time is not there: the answer says what is. */
static void step(struct timer *t)
{
	struct error err;
	int more = switch_next(&err);

	if (more < 0) {
		asked.busy = false;
		reply_error(&asked.call, &err);
		return;
	}
	if ((more || memory_kib() < asked.least_kib) && loop_now_ms() < asked.give_up_ms) {
		loop_after(t, STEP_MS);
		return;
	}
	asked.busy = false;
	cgroup_leave_room();
	answer();
}

struct resize_args {
	int64_t cpus, added_kib;
};

int op_pod_resize(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct resize_args, cpus, JSON_NUMBER), FIELD(struct resize_args, added_kib, JSON_NUMBER),
	};
	struct resize_args a = { 0 };
	struct error cancelled;

	(void)result;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || json_range("cpus", a.cpus, 0, CPUS_MAX, err) < 0 ||
	    json_range("added_kib", a.added_kib, 0, INT64_MAX >> 10, err) < 0)
		return -1;
	if (asked.busy) {	/* by a host that is gone, or thinks better of it */
		fail(&cancelled, ECANCELED, "resize the guest");
		reply_error(&asked.call, &cancelled);
	}
	asked.busy = true;
	asked.call = *call;
	asked.cpus = a.cpus;
	asked.least_kib = boot_kib + a.added_kib;
	asked.give_up_ms = loop_now_ms() + WAIT_MS;
	loop_after(&timer, 0);
	return LATER;
}

struct update_args {
	const char *id;
	const struct json *cgroup;
};

int op_container_update(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct update_args, id, JSON_STRING), NEEDED(struct update_args, cgroup, JSON_OBJECT),
	};
	struct update_args a = { 0 };
	struct limits limits;
	struct container *c;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || limits_parse(a.cgroup, &limits, err) < 0 ||
	    !(c = container_find(a.id, err)))
		return -1;
	buffer_add(result, "{}", 2);
	return cgroup_update(c->cgroup, &limits, err);
}
