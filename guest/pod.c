#include "pod.h"

#include "container.h"
#include "mount.h"
#include "nameserver.h"
#include "net.h"
#include "relay.h"
#include "spawn.h"

#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>

#ifndef HYPERSTART_VERSION
#define HYPERSTART_VERSION "0.1.0"
#endif

bool pod_is_set;

struct setup_args {
	const char *hostname, *entropy, *share;
	const struct json *removed, *interfaces, *routes, *rules, *nameserver, *dns, *hosts, *sysctls, *users;
	bool share_pid, resolver;
	int64_t time_ns;
};

static int set_time(int64_t time_ns, struct error *err)
{
	struct timespec now = { .tv_sec = (time_t)(time_ns / 1000000000), .tv_nsec = (long)(time_ns % 1000000000) };

	if (json_range("time_ns", time_ns, 1, INT64_MAX, err) < 0)
		return -1;
	if (testing)
		return 0;	/* the clock is the machine's */
	return clock_settime(CLOCK_REALTIME, &now) < 0 ? fail(err, errno, "set the clock") : 0;
}

/* The driver of virtio-rng has fetched bytes ahead, and its core may hold some more: in a clone they are its template's,
 * and every other clone has them too. Whoever reads /dev/hwrng first would get them. */
static int drop_stale_entropy(struct error *err)
{
	uint8_t stale[2 * 64];
	autoclose int fd = testing ? -1 : open("/dev/hwrng", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (testing || (fd < 0 && errno == ENOENT))
		return 0;
	if (fd < 0)
		return fail(err, errno, "open /dev/hwrng");
	if (read(fd, stale, sizeof(stale)) < 0 && errno != EAGAIN && errno != ENODEV)
		return fail(err, errno, "read /dev/hwrng");
	return 0;
}

/* Believed to be random: it came from the host, which could read our memory anyway. What the kernel has drawn from its
 * pool before, for each CPU and ahead of use, is void from here on: it would go on with it for a second. */
static int add_entropy(const char *text, struct error *err)
{
	struct { int entropy_bits, length; uint8_t bytes[512]; } pool;	/* rand_pool_info */
	size_t length;
	autofree uint8_t *bytes = base64_decode(text, &length, err);
	autoclose int fd = -1;

	if (!bytes)
		return -1;
	if (!length || length > sizeof(pool.bytes))
		return fail(err, EINVAL, "add %zu bytes of entropy", length);
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, errno, "open /dev/urandom");
	pool.entropy_bits = (int)length * 8;
	pool.length = (int)length;
	memcpy(pool.bytes, bytes, length);
	if (ioctl(fd, RNDADDENTROPY, &pool) < 0)
		return fail(err, errno, "add entropy");
	if (ioctl(fd, RNDRESEEDCRNG) < 0 && errno != ENODATA)
		return fail(err, errno, "reseed");
	return drop_stale_entropy(err);
}

/* A clone's device was added while the guest was stopped, by no hot-plug that a kernel hears of: it has to look. Drivers
 * have taken what was found when the write returns. */
static int mount_virtiofs(int target, const char *tag, struct error *err)
{
	if (mount_on(target, tag, "virtiofs", 0, NULL, err) == 0)
		return 0;
	if (err->number != EINVAL)	/* no such tag */
		return -1;
	if (write_file_at(AT_FDCWD, "/sys/bus/pci/rescan", "1", err) < 0)
		return -1;
	if (mount_on(target, tag, "virtiofs", 0, NULL, err) == 0)
		return 0;
	return err->number == EINVAL ? fail(err, ENODEV, "find the shared folder's device") : -1;
}

/* In a test the share is a folder beside ours. */
static int mount_share(const char *tag, struct error *err)
{
	char path[300], from[300];
	autoclose int target = -1, source = -1;
	static bool mounted;

	if (mounted || !*tag)
		return 0;
	if (format(err, path, sizeof(path), "%s/share", run_dir) < 0 || make_folders(path, err) < 0)
		return -1;
	target = open(path, O_PATH | O_CLOEXEC);
	if (target < 0)
		return fail(err, errno, "open %s", path);
	if (testing) {
		if (format(err, from, sizeof(from), "%s/../%s", run_dir, tag) < 0)
			return -1;
		source = open(from, O_PATH | O_CLOEXEC);
		if (source < 0 || bind_on(source, target, 0, 0, err) < 0)
			return source < 0 ? fail(err, errno, "open %s", from) : -1;
	} else if (mount_virtiofs(target, tag, err) < 0) {
		return -1;
	}
	mounted = true;
	return 0;
}

static int setup(const struct setup_args *a, struct error *err)
{
	if (a->time_ns && set_time(a->time_ns, err) < 0)
		return -1;
	if (a->entropy && *a->entropy && add_entropy(a->entropy, err) < 0)
		return -1;
	if ((a->hostname && names_set_hostname(a->hostname, err) < 0) || set_sysctls(a->sysctls, err) < 0 ||
	    net_remove(a->removed, err) < 0 || net_setup(a->interfaces, a->routes, a->rules, err) < 0 ||
	    nameserver_set(a->nameserver, err) < 0 || (a->resolver && relay_resolver(err) < 0) ||
	    names_set_dns(a->dns, err) < 0 ||
	    names_set_hosts(a->hosts, err) < 0 || (a->share && mount_share(a->share, err) < 0))
		return -1;
	if ((a->share_pid && spawn_share_pids(err) < 0) || containers_share_users(a->users, err) < 0)
		return -1;
	for (struct container *c = containers; c; c = c->next)
		if (names_write(c->dir, c->hostname, err) < 0)
			return -1;
	pod_is_set = true;
	return 0;
}

int op_pod_setup(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct setup_args, hostname, JSON_STRING), FIELD(struct setup_args, interfaces, JSON_ARRAY),
		FIELD(struct setup_args, routes, JSON_ARRAY), FIELD(struct setup_args, rules, JSON_ARRAY),
		FIELD(struct setup_args, dns, JSON_OBJECT),
		FIELD(struct setup_args, hosts, JSON_ARRAY), FIELD(struct setup_args, time_ns, JSON_NUMBER),
		FIELD(struct setup_args, entropy, JSON_STRING), FIELD(struct setup_args, sysctls, JSON_OBJECT),
		FIELD(struct setup_args, share_pid, JSON_BOOL), FIELD(struct setup_args, share, JSON_STRING),
		FIELD(struct setup_args, removed, JSON_ARRAY), FIELD(struct setup_args, nameserver, JSON_OBJECT),
		FIELD(struct setup_args, resolver, JSON_BOOL), FIELD(struct setup_args, users, JSON_OBJECT),
	};
	struct setup_args a = { 0 };

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0)
		return -1;
	buffer_add(result, "{}", 2);
	return setup(&a, err);
}

static uint64_t meminfo(const char *text, const char *key)
{
	const char *at = strstr(text, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

int op_info(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct utsname names;
	struct timespec up;
	char text[4096];

	(void)call;
	if (json_fields(args, NULL, 0, NULL, err) < 0)
		return -1;
	if (uname(&names) < 0 || read_file_at(AT_FDCWD, "/proc/meminfo", text, sizeof(text)) < 0)
		return fail(err, errno, "read /proc/meminfo");
	clock_gettime(CLOCK_BOOTTIME, &up);
	buffer_format(result, "{\"version\":\"" HYPERSTART_VERSION "\",\"kernel\":");
	buffer_string(result, names.release);
	buffer_format(result, ",\"uptime_ms\":%lld,\"memory_total_kib\":%llu,\"memory_available_kib\":%llu}",
		      (long long)up.tv_sec * 1000 + up.tv_nsec / 1000000,
		      (unsigned long long)meminfo(text, "MemTotal:"), (unsigned long long)meminfo(text, "MemAvailable:"));
	return 0;
}

struct time_args {
	int64_t time_ns;
};

int op_time_set(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = { NEEDED(struct time_args, time_ns, JSON_NUMBER) };
	struct time_args a = { 0 };

	(void)call;
	buffer_add(result, "{}", 2);
	return json_fields(args, fields, 1, &a, err) < 0 ? -1 : set_time(a.time_ns, err);
}

struct entropy_args {
	const char *entropy;
};

int op_entropy_add(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = { NEEDED(struct entropy_args, entropy, JSON_STRING) };
	struct entropy_args a = { 0 };

	(void)call;
	buffer_add(result, "{}", 2);
	return json_fields(args, fields, 1, &a, err) < 0 ? -1 : add_entropy(a.entropy, err);
}
