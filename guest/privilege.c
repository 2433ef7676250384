#include "privilege.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const char *const capability_names[] = {
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
};

static const struct { const char *name; int resource; } rlimit_names[] = {
	{ "AS", RLIMIT_AS }, { "CORE", RLIMIT_CORE }, { "CPU", RLIMIT_CPU }, { "DATA", RLIMIT_DATA },
	{ "FSIZE", RLIMIT_FSIZE }, { "LOCKS", 10 }, { "MEMLOCK", RLIMIT_MEMLOCK }, { "MSGQUEUE", 12 },
	{ "NICE", 13 }, { "NOFILE", RLIMIT_NOFILE }, { "NPROC", RLIMIT_NPROC }, { "RSS", RLIMIT_RSS },
	{ "RTPRIO", 14 }, { "RTTIME", 15 }, { "SIGPENDING", 11 }, { "STACK", RLIMIT_STACK },
};

static int parse_capability(const char *name, uint64_t *set, struct error *err)
{
	for (size_t i = 0; !strncmp(name, "CAP_", 4) && i < COUNT(capability_names); i++)
		if (!strcmp(name + 4, capability_names[i])) {
			*set |= 1ull << i;
			return 0;
		}
	return fail_as(err, EINVAL, "grant capability '%.40s': there is none of that name", name);
}

struct rlimit_args {
	const char *type;
	int64_t soft, hard;
};

/* A negative number is "unlimited". */
static int parse_rlimit(const struct json *json, struct privileges *p, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct rlimit_args, type, JSON_STRING), NEEDED(struct rlimit_args, soft, JSON_NUMBER),
		NEEDED(struct rlimit_args, hard, JSON_NUMBER),
	};
	struct rlimit_args a = { 0 };

	if (json_fields(json, fields, COUNT(fields), &a, err) < 0)
		return -1;
	if (p->rlimits_count == RLIMITS_MAX)
		return fail_as(err, E2BIG, "set limits: there are more than %d", RLIMITS_MAX);
	for (size_t i = 0; !strncmp(a.type, "RLIMIT_", 7) && i < COUNT(rlimit_names); i++)
		if (!strcmp(a.type + 7, rlimit_names[i].name)) {
			p->rlimits[p->rlimits_count].resource = rlimit_names[i].resource;
			p->rlimits[p->rlimits_count].soft = a.soft < 0 ? UINT64_MAX : (uint64_t)a.soft;
			p->rlimits[p->rlimits_count++].hard = a.hard < 0 ? UINT64_MAX : (uint64_t)a.hard;
			return 0;
		}
	return fail_as(err, EINVAL, "set limit '%.40s': there is none of that name", a.type);
}

static int parse_seccomp(const char *text, struct privileges *p, struct error *err)
{
	size_t length;

	if (!text || !*text)
		return 0;
	p->seccomp = base64_decode(text, &length, err);
	if (!p->seccomp)
		return -1;
	p->seccomp_length = length / sizeof(struct sock_filter);
	if (length % sizeof(struct sock_filter) || !length || p->seccomp_length > SECCOMP_MAX) {
		free(p->seccomp);
		p->seccomp = NULL;
		return fail(err, EINVAL, "load a seccomp filter of %zu bytes", length);
	}
	return 0;
}

static int parse_set(const struct json *names, uint64_t *set, struct error *err)
{
	if (json_all(names, JSON_STRING, "capabilities", err) < 0)
		return -1;
	for (const struct json *name = json_first(names); name; name = name->next)
		if (parse_capability(name->string, set, err) < 0)
			return -1;
	return 0;
}

int capabilities_parse(const struct json *capabilities, const struct json *sets, struct capabilities *to,
		       struct error *err)
{
	struct set_args { const struct json *bounding, *effective, *permitted, *inheritable, *ambient; } a = { 0 };
	static const struct field fields[] = {
		FIELD(struct set_args, bounding, JSON_ARRAY), FIELD(struct set_args, effective, JSON_ARRAY),
		FIELD(struct set_args, permitted, JSON_ARRAY), FIELD(struct set_args, inheritable, JSON_ARRAY),
		FIELD(struct set_args, ambient, JSON_ARRAY),
	};

	*to = (struct capabilities){ 0 };
	if (!sets) {
		if (parse_set(capabilities, &to->bounding, err) < 0)
			return -1;
		to->effective = to->permitted = to->bounding;
		return 0;
	}
	if (capabilities)
		return fail_as(err, EINVAL, "grant capabilities twice");
	if (json_fields(sets, fields, COUNT(fields), &a, err) < 0 || parse_set(a.bounding, &to->bounding, err) < 0 ||
	    parse_set(a.effective, &to->effective, err) < 0 || parse_set(a.permitted, &to->permitted, err) < 0 ||
	    parse_set(a.inheritable, &to->inheritable, err) < 0)
		return -1;
	return parse_set(a.ambient, &to->ambient, err);
}

int privileges_parse(const struct json *rlimits, const char *seccomp, struct privileges *p, struct error *err)
{
	for (const struct json *r = json_first(rlimits); r; r = r->next)
		if (parse_rlimit(r, p, err) < 0)
			return -1;
	return parse_seccomp(seccomp, p, err);
}

int scheduling_parse(const struct json *json, struct scheduling *s, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct scheduling, policy, JSON_NUMBER), FIELD(struct scheduling, nice, JSON_NUMBER),
		FIELD(struct scheduling, priority, JSON_NUMBER), FIELD(struct scheduling, flags, JSON_NUMBER),
		FIELD(struct scheduling, runtime_ns, JSON_NUMBER), FIELD(struct scheduling, deadline_ns, JSON_NUMBER),
		FIELD(struct scheduling, period_ns, JSON_NUMBER), FIELD(struct scheduling, io_priority, JSON_NUMBER),
		FIELD(struct scheduling, personality, JSON_NUMBER),
	};

	*s = (struct scheduling){ .policy = -1 };
	if (!json)
		return 0;
	if (json_fields(json, fields, COUNT(fields), s, err) < 0 || json_range("policy", s->policy, -1, 99, err) < 0 ||
	    json_range("nice", s->nice, -20, 19, err) < 0 || json_range("priority", s->priority, 0, 99, err) < 0 ||
	    json_range("flags", s->flags, 0, UINT32_MAX, err) < 0 ||
	    json_range("runtime_ns", s->runtime_ns, 0, INT64_MAX, err) < 0 ||
	    json_range("deadline_ns", s->deadline_ns, 0, INT64_MAX, err) < 0 ||
	    json_range("period_ns", s->period_ns, 0, INT64_MAX, err) < 0 ||
	    json_range("io_priority", s->io_priority, 0, UINT16_MAX, err) < 0)
		return -1;
	return json_range("personality", s->personality, 0, INT32_MAX, err);
}

static int get_permitted(uint64_t *set, struct error *err)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return fail(err, errno, "read our capabilities");
	*set = (uint64_t)data[1].permitted << 32 | data[0].permitted;
	return 0;
}

static int set_capabilities(const struct capabilities *c, uint64_t more, uint64_t have, struct error *err)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	uint64_t effective = (c->effective | more) & have, permitted = (c->permitted | more) & have;
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)c->inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(c->inheritable >> 32) },
	};

	return syscall(SYS_capset, &header, data) < 0 ? fail(err, errno, "set capabilities") : 0;
}

/* What is ambient must be permitted and inheritable: the kernel refuses the rest. */
static int set_ambient(uint64_t set, struct error *err)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return fail(err, errno, "clear ambient capabilities");
	for (unsigned long i = 0; i < 64; i++)
		if (set & 1ull << i && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return fail(err, errno, "make capability %lu ambient", i);
	return 0;
}

static int drop_bounding(uint64_t keep, struct error *err)
{
	/* The kernel may know more of them than we do. */
	for (unsigned long i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
		if (!(i < 64 && keep & 1ull << i) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			return fail(err, errno, "drop capability %lu", i);
	return 0;
}

static int switch_user(const struct identity *identity, struct error *err)
{
	if (setgroups(identity->groups_count, identity->groups) < 0)
		return fail(err, errno, "join %zu groups", identity->groups_count);
	if (setresgid(identity->gid, identity->gid, identity->gid) < 0)
		return fail(err, errno, "become group %u", identity->gid);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ||
	    setresuid(identity->uid, identity->uid, identity->uid) < 0 || prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return fail(err, errno, "become user %u", identity->uid);
	return 0;
}

/* As docker's service has them: all open files that a kernel allows to begin with. */
static void usual_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int set_rlimits(const struct privileges *p, struct error *err)
{
	usual_files();
	for (size_t i = 0; i < p->rlimits_count; i++) {
		struct { uint64_t soft, hard; } limit = { p->rlimits[i].soft, p->rlimits[i].hard };

		if (syscall(SYS_prlimit64, 0, p->rlimits[i].resource, &limit, NULL) < 0)
			return fail(err, errno, "set limit %d to %llu:%llu", p->rlimits[i].resource,
				    (unsigned long long)limit.soft, (unsigned long long)limit.hard);
	}
	return 0;
}

/* While we may all. */
static int set_scheduling(const struct scheduling *s, struct error *err)
{
	struct {	/* the kernel's sched_attr, as the C libraries do not declare it */
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {
		sizeof(attr), (uint32_t)s->policy, (uint64_t)s->flags, (int32_t)s->nice, (uint32_t)s->priority,
		(uint64_t)s->runtime_ns, (uint64_t)s->deadline_ns, (uint64_t)s->period_ns,
	};

	if (s->policy >= 0 && syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
		return fail(err, errno, "schedule by policy %d", (int)s->policy);
	if (s->io_priority && syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, (int)s->io_priority) < 0)
		return fail(err, errno, "set I/O priority %d", (int)s->io_priority);
	if (s->personality && syscall(SYS_personality, (unsigned long)s->personality) < 0)
		return fail(err, errno, "set personality %d", (int)s->personality);
	return 0;
}

static int install_filter(const struct privileges *p, struct error *err)
{
	struct sock_fprog program = { (unsigned short)p->seccomp_length, (void *)p->seccomp };

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return fail(err, errno, "load a seccomp filter of %zu instructions", p->seccomp_length);
	return 0;
}

/* The last of what only the guest's root may do is done: from here on we are somebody in it. */
static int enter_users(int users, struct error *err)
{
	if (users >= 0 && setns(users, CLONE_NEWUSER) < 0)
		return fail(err, errno, "enter a user namespace");
	return 0;
}

int privileges_drop(const struct privileges *p, const struct identity *identity, const char *cwd, int users,
		    struct error *err)
{
	/* Without no_new_privs a filter may be loaded by CAP_SYS_ADMIN only: that goes last. */
	uint64_t loader = p->seccomp && !p->no_new_privs ? 1ull << CAP_SYS_ADMIN : 0;
	const struct capabilities *granted = &p->capabilities;
	uint64_t have = 0;
	bool entered = chdir(cwd) == 0;

	umask(p->umask);
	if (set_scheduling(&p->scheduling, err) < 0 || set_rlimits(p, err) < 0 || enter_users(users, err) < 0 || get_permitted(&have, err) < 0 ||
	    drop_bounding(granted->bounding, err) < 0 || switch_user(identity, err) < 0)
		return -1;
	if (set_capabilities(granted, loader, have, err) < 0 || set_ambient(granted->ambient, err) < 0)
		return -1;
	if (!entered && chdir(cwd) < 0)		/* root may be the one that cannot: a share that squashes it */
		return fail(err, errno, "enter %.200s", cwd);
	if (p->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(err, errno, "set no_new_privs");
	if (p->seccomp && install_filter(p, err) < 0)
		return -1;
	return loader & ~(granted->permitted & granted->effective) ? set_capabilities(granted, 0, have, err) : 0;
}

void limits_boot(void)
{
	struct rlimit ours = { 65536, 1048576 }, unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_NPROC, &unlimited);	/* cgroups count processes; the kernel's own limit follows from the memory */

	if (setrlimit(RLIMIT_NOFILE, &ours) < 0 && getrlimit(RLIMIT_NOFILE, &ours) == 0) {
		ours.rlim_cur = ours.rlim_max;
		setrlimit(RLIMIT_NOFILE, &ours);
	}
}
