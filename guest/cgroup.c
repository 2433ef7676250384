#include "cgroup.h"

#include "bpf.h"
#include "loop.h"
#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>

enum { WAIT_MS = 5000, FREEZE_MS = 500, OUR_THREADS = 256, STACK_BYTES = 16384 };

char cgroup_dir[256] = "/sys/fs/cgroup";

/* Files of controllers only: a group's own, cgroup.…, are ours. */
static int check_unified(const struct json *unified, struct error *err)
{
	if (json_all(unified, JSON_STRING, "unified", err) < 0)
		return -1;
	for (const struct json *u = json_first(unified); u; u = u->next)
		if (strchr(u->key, '/') || !strchr(u->key, '.') || u->key[0] == '.' || !strncmp(u->key, "cgroup.", 7))
			return fail_as(err, EINVAL, "set %.64s: it is no limit of a cgroup", u->key);
	return 0;
}

int limits_parse(const struct json *json, struct limits *limits, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct limits, memory_bytes, JSON_NUMBER), FIELD(struct limits, cpu_quota_us, JSON_NUMBER),
		FIELD(struct limits, cpu_period_us, JSON_NUMBER), FIELD(struct limits, cpu_shares, JSON_NUMBER),
		FIELD(struct limits, pids, JSON_NUMBER),
		FIELD(struct limits, unified, JSON_OBJECT),
	};

	*limits = (struct limits){ 0 };
	if (!json)
		return 0;
	if (json_fields(json, fields, COUNT(fields), limits, err) < 0 ||
	    json_range("memory_bytes", limits->memory_bytes, 0, INT64_MAX, err) < 0 ||
	    json_range("cpu_quota_us", limits->cpu_quota_us, 0, INT64_MAX, err) < 0 ||
	    json_range("cpu_period_us", limits->cpu_period_us, 0, 1000000, err) < 0 ||
	    json_range("cpu_shares", limits->cpu_shares, 0, 262144, err) < 0 ||
	    check_unified(limits->unified, err) < 0)
		return -1;
	return json_range("pids", limits->pids, 0, INT32_MAX, err);
}

static void hand_down(void)
{
	static const char *const controllers[] = { "+memory", "+cpu", "+pids", "+io", "+cpuset", "+hugetlb" };
	char path[300];
	struct error err;

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", cgroup_dir);
	for (size_t i = 0; i < COUNT(controllers); i++)		/* one by one: a kernel may lack some */
		if (write_file_at(AT_FDCWD, path, controllers[i], &err) < 0)
			debug("%s", err.message);
}

/* The kernel has room for so many threads, by the memory that it began with: an eighth of it is their stacks'. Some are
   its own, and we must be able to fork however many the containers want. */
void cgroup_leave_room(void)
{
	static const char file[] = "/proc/sys/kernel/threads-max";
	char path[300], text[32] = "";
	struct sysinfo now;
	struct error err;
	long most, fitting = 0;

	if (testing)
		return;		/* it is no guest's kernel */
	if (sysinfo(&now) == 0)
		fitting = (long)((uint64_t)now.totalram * now.mem_unit / 8 / STACK_BYTES);
	read_file_at(AT_FDCWD, file, text, sizeof(text));
	most = strtol(text, NULL, 10);
	snprintf(text, sizeof(text), "%ld", fitting);
	if (fitting > most && write_file_at(AT_FDCWD, file, text, &err) == 0)
		most = fitting;
	snprintf(path, sizeof(path), "%s/pids.max", cgroup_dir);
	snprintf(text, sizeof(text), "%ld", most > 2 * OUR_THREADS ? most - OUR_THREADS : most / 2);
	if (most <= 0 || write_file_at(AT_FDCWD, path, text, &err) < 0)
		debug("limit the containers' processes");
}

/* Who wakes up takes the processor from a container as long as he has used less than his share. A worker of the kernel
   carries the bytes of a terminal: with an equal share it did so line by line, which took three quarters of the time
   that a program needs to write them. With a tenth (and all that no container wants) it carries dozens of lines at once;
   what needs less than that is as prompt as it was, and between containers nothing changes. */
static void prefer_containers(void)
{
	char path[300];
	struct error err;

	snprintf(path, sizeof(path), "%s/cpu.weight", cgroup_dir);
	if (write_file_at(AT_FDCWD, path, "1000", &err) < 0)
		debug("%s", err.message);
}

void cgroup_boot(void)
{
	hand_down();
	if (testing)
		return;		/* it is the test's own group already */
	strcat(cgroup_dir, "/containers");
	if (mkdir(cgroup_dir, 0755) < 0)
		die("make cgroup %s: %s", cgroup_dir, strerror(errno));
	prefer_containers();
	cgroup_leave_room();
	hand_down();
}

static int group_path(unsigned number, char *path, size_t size, struct error *err)
{
	return format(err, path, size, "%s/c-%u", cgroup_dir, number);
}

/* What is not `limited` need not be said to a kernel that has no such limit. */
static int set_limit(int group, const char *file, const char *value, bool limited, struct error *err)
{
	if (write_file_at(group, file, value, err) == 0 || (err->number == ENOENT && !limited))
		return 0;
	return err->number == ENOENT ? fail(err, EOPNOTSUPP, "set %s", file) : -1;
}

static int set_number(int group, const char *file, int64_t number, struct error *err)
{
	char value[32];

	snprintf(value, sizeof(value), "%lld", (long long)number);
	return set_limit(group, file, number ? value : "max", number != 0, err);
}

static int set_memory(int group, const struct limits *limits, struct error *err)
{
	struct error ignored;

	if (set_number(group, "memory.max", limits->memory_bytes, err) < 0)
		return -1;
	write_file_at(group, "memory.swap.max", limits->memory_bytes ? "0" : "max", &ignored);
	return 0;
}

static int set_cpu(int group, const struct limits *limits, struct error *err)
{
	long long period = limits->cpu_period_us ? limits->cpu_period_us : 100000;
	char value[64];

	snprintf(value, sizeof(value), "max %lld", period);
	if (limits->cpu_quota_us)
		snprintf(value, sizeof(value), "%lld %lld", (long long)limits->cpu_quota_us, period);
	return set_limit(group, "cpu.max", value, limits->cpu_quota_us != 0, err);
}

/* 2..262144 of cgroup v1 on 1..10000 of v2, as other runtimes map it; 100 is the kernel's own. */
static int set_weight(int group, const struct limits *limits, struct error *err)
{
	int64_t shares = limits->cpu_shares;
	char value[32];

	snprintf(value, sizeof(value), "%lld",
		 (long long)(!shares ? 100 : 1 + (shares < 2 ? 0 : (shares - 2) * 9999 / 262142)));
	return set_limit(group, "cpu.weight", value, shares != 0, err);
}

/* A new group has no limits. */
static int set_limits(int group, const struct limits *limits, bool is_new, struct error *err)
{
	if ((limits->memory_bytes || !is_new) && set_memory(group, limits, err) < 0)
		return -1;
	if ((limits->cpu_quota_us || !is_new) && set_cpu(group, limits, err) < 0)
		return -1;
	if ((limits->cpu_shares || !is_new) && set_weight(group, limits, err) < 0)
		return -1;
	if ((limits->pids || !is_new) && set_number(group, "pids.max", limits->pids, err) < 0)
		return -1;
	for (const struct json *u = json_first(limits->unified); u; u = u->next)
		if (set_limit(group, u->key, u->string, true, err) < 0)
			return -1;
	return 0;
}

int cgroup_limit(int group, const struct limits *limits, struct error *err)
{
	return set_limits(group, limits, true, err);
}

/* The kernel would kill until it fits. */
int cgroup_update(int group, const struct limits *limits, struct error *err)
{
	uint64_t used = cgroup_number(group, "memory.current", NULL);
	uint64_t cache = cgroup_number(group, "memory.stat", "inactive_file") +
			 cgroup_number(group, "memory.stat", "active_file");

	if (limits->memory_bytes && used > cache && used - cache > (uint64_t)limits->memory_bytes)
		return fail(err, EBUSY, "limit memory to %lld bytes of which %llu are in use",
			    (long long)limits->memory_bytes, (unsigned long long)(used - cache));
	return set_limits(group, limits, false, err);
}

/* Devices: 'm' may be made, the usual ones may be used, all else is refused but by rules. */

/* r2 type, r3 access, r4 major, r5 minor; minor -1: any. */
static void allow_device(struct program *p, int major, int minor)
{
	int after = minor < 0 ? 2 : 3;

	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, (int16_t)(after + 1), BPF_DEVCG_DEV_CHAR));
	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, (int16_t)after, major));
	if (minor >= 0)
		emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 2, minor));
	emit_return(p, 1);
}

/* r3: what is left of the access. The rules are read from the last one on: who allows takes away what it allows, who
   denies any of what is left ends it. */
static void emit_rule(struct program *p, const struct device_rule *r)
{
	bool any = r->type == 'a', major = !any && r->major_number >= 0, minor = !any && r->minor_number >= 0;
	int after = (!any) + major + minor + (r->allow ? 4 : 5);

	if (!any)
		emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, (int16_t)--after,
			     r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR));
	if (major)
		emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, (int16_t)--after, (int)r->major_number));
	if (minor)
		emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, (int16_t)--after, (int)r->minor_number));
	if (r->allow) {
		emit(p, INSN(BPF_ALU | BPF_AND | BPF_K, BPF_REG_3, 0, 0, (int)(~r->access & 7)));
		emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, 2, 0));
	} else {
		emit(p, INSN(BPF_ALU | BPF_MOV | BPF_X, BPF_REG_0, BPF_REG_3, 0, 0));
		emit(p, INSN(BPF_ALU | BPF_AND | BPF_K, BPF_REG_0, 0, 0, (int)r->access));
		emit(p, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 2, 0));
	}
	emit_return(p, r->allow);
}

static void write_program(struct program *p, const struct device_rule *rules, size_t count)
{
	static const int devices[][2] = {
		{ 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 },	/* null zero full random urandom */
		{ 5, 0 }, { 5, 1 }, { 5, 2 }, { 136, -1 },		/* tty console ptmx pts */
	};
	enum { TYPE = offsetof(struct bpf_cgroup_dev_ctx, access_type), MAJOR = offsetof(struct bpf_cgroup_dev_ctx, major),
	       MINOR = offsetof(struct bpf_cgroup_dev_ctx, minor) };

	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, TYPE, 0));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0));
	emit(p, INSN(BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xFFFF));
	emit(p, INSN(BPF_ALU | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16));
	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, MAJOR, 0));
	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, MINOR, 0));
	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, 2, BPF_DEVCG_ACC_MKNOD));
	emit_return(p, 1);
	for (size_t i = 0; i < COUNT(devices); i++)
		allow_device(p, devices[i][0], devices[i][1]);
	for (size_t i = count; i-- > 0; )
		emit_rule(p, &rules[i]);
	emit_return(p, 0);
}

/* The last one is kept: the kernel takes its time to be sure that a program is harmless, and the containers of one engine
   have the same rules. */
int cgroup_rule_devices(int group, const struct device_rule *rules, size_t count, struct error *err)
{
	static struct program last;
	static int filter = -1;
	struct program wanted = { .length = 0 };

	write_program(&wanted, rules, count);
	if (filter < 0 || wanted.length != last.length ||
	    memcmp(wanted.insns, last.insns, wanted.length * sizeof(*wanted.insns))) {
		int loaded = bpf_load(&wanted, BPF_PROG_TYPE_CGROUP_DEVICE, 0, err);

		if (loaded < 0)
			return -1;
		close_fd(&filter);
		filter = loaded;
		last = wanted;
	}
	return bpf_attach(group, filter, BPF_CGROUP_DEVICE, 0, err);
}

/* Loaded once. */
static int limit_devices(int group, struct error *err)
{
	static int filter = -1;

	if (filter < 0) {
		struct program usual = { .length = 0 };

		write_program(&usual, NULL, 0);
		filter = bpf_load(&usual, BPF_PROG_TYPE_CGROUP_DEVICE, 0, err);
	}
	return filter < 0 ? -1 : bpf_attach(group, filter, BPF_CGROUP_DEVICE, 0, err);
}

int cgroup_create(unsigned number, bool all_devices, struct error *err)
{
	char path[400];
	int group;

	if (group_path(number, path, sizeof(path), err) < 0)
		return -1;
	if (mkdir(path, 0755) < 0)
		return fail(err, errno, "make cgroup %s", path);
	group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0) {
		fail(err, errno, "open cgroup %s", path);
		rmdir(path);
		return -1;
	}
	if (all_devices || limit_devices(group, err) == 0)
		return group;
	close(group);
	rmdir(path);
	return -1;
}

/* Wait until `key` in cgroup.events is `value`. */
static bool wait_for(int group, const char *key, uint64_t value, uint64_t most_ms)
{
	autoclose int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	uint64_t until = loop_now_ms() + most_ms;

	while (cgroup_number(group, "cgroup.events", key) != value) {
		struct pollfd change = { .fd = fd, .events = POLLPRI };
		char discard[256];

		if (fd < 0 || loop_now_ms() > until)
			return false;
		poll(&change, 1, 20);
		if (pread(fd, discard, sizeof(discard), 0) < 0)
			return false;
	}
	return true;
}

static void kill_one(int pid, void *data)
{
	(void)data;
	kill(pid, SIGKILL);
}

/* Not by cgroup.kill: after that, newer kernels kill whatever is cloned into the group (they compare a counter of
   it with one of the parent's group), and a container may be started again. What is frozen cannot fork away. */
int cgroup_kill(int group, struct error *err)
{
	struct error ignored;
	int count;

	if (write_file_at(group, "cgroup.freeze", "1", err) < 0)
		return -1;
	wait_for(group, "frozen", 1, FREEZE_MS);
	count = cgroup_each(group, kill_one, NULL, err);
	write_file_at(group, "cgroup.freeze", "0", &ignored);
	return count < 0 ? -1 : 0;
}

int cgroup_freeze(int group, bool frozen, struct error *err)
{
	if (write_file_at(group, "cgroup.freeze", frozen ? "1" : "0", err) < 0)
		return -1;
	return wait_for(group, "frozen", frozen, WAIT_MS) ? 0 : fail(err, ETIMEDOUT, "freeze a cgroup");
}

/* Groups that the container made in its own come first. */
static int remove_below(int dir, const char *name, int depth)
{
	autoclose int group = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char list[8192];
	ssize_t n;

	if (group < 0 || depth > 32)
		return -1;
	while ((n = syscall(SYS_getdents64, group, list, sizeof(list))) > 0)
		for (ssize_t at = 0; at < n; ) {
			struct { uint64_t ino, off; uint16_t length; uint8_t type; char name[]; } *entry;

			entry = (void *)(list + at);
			at += entry->length;
			if (entry->type == 4 && entry->name[0] != '.')		/* DT_DIR */
				remove_below(group, entry->name, depth + 1);
		}
	return unlinkat(dir, name, AT_REMOVEDIR);
}

void cgroup_remove(unsigned number)
{
	char path[400];
	struct error err;
	autoclose int group = -1;

	if (group_path(number, path, sizeof(path), &err) < 0)
		return;
	group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0)
		return;
	if (write_file_at(group, "cgroup.kill", "1", &err) < 0 || write_file_at(group, "cgroup.freeze", "0", &err) < 0)
		debug("%s", err.message);
	if (!wait_for(group, "populated", 0, WAIT_MS))
		debug("processes of cgroup %s do not end", path);
	if (remove_below(AT_FDCWD, path, 0) < 0)
		debug("remove cgroup %s: %s", path, strerror(errno));
}

int64_t cgroup_value(const char *text, const char *key)
{
	size_t length = key ? strlen(key) : 0;

	if (!key)
		return strtoll(text, NULL, 10);		/* "max" is 0: no limit */
	for (const char *at = text; at && *at; at = at ? at + 1 : NULL) {
		if (!strncmp(at, key, length) && at[length] == ' ')
			return strtoll(at + length + 1, NULL, 10);
		at = strchr(at, '\n');
	}
	return -1;
}

uint64_t cgroup_number(int group, const char *file, const char *key)
{
	char text[CGROUP_FILE_BYTES];
	int64_t found = read_file_at(group, file, text, sizeof(text)) > 0 ? cgroup_value(text, key) : -1;

	return found < 0 ? 0 : (uint64_t)found;
}

uint64_t cgroup_oom_kills(int group)
{
	return cgroup_number(group, "memory.events", "oom_kill");
}

int cgroup_each(int group, void (*visit)(int pid, void *data), void *data, struct error *err)
{
	int fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	int pid, count = 0;

	if (!file) {
		close_fd(&fd);
		return fail(err, errno, "read cgroup.procs");
	}
	for (; fscanf(file, "%d", &pid) == 1; count++)
		if (pid > 0)
			visit(pid, data);
	fclose(file);
	return count;
}

static int each_below(int group, void (*visit)(int pid, void *data), void *data, int depth, struct error *err)
{
	int copy = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = cgroup_each(group, visit, data, err);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;

	if (!dir)
		close_fd(&copy);
	while (dir && depth < 32 && (entry = readdir(dir))) {
		autoclose int below = -1;
		struct error ignored;
		int more;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		below = openat(group, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		more = below < 0 ? 0 : each_below(below, visit, data, depth + 1, &ignored);
		count += count < 0 || more < 0 ? 0 : more;	/* or it was removed just now */
	}
	if (dir)
		closedir(dir);
	return count;
}

int cgroup_each_below(int group, void (*visit)(int pid, void *data), void *data, struct error *err)
{
	return each_below(group, visit, data, 0, err);
}
