#include "pod.h"

#include "mount.h"
#include "net.h"
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

struct pod pod = { .processes = -1 };
static struct buffer resolv_conf, hosts;

/* Written in place: containers have the inode mounted. */
static int write_file(const struct container *c, const char *name, const char *text, size_t length, struct error *err)
{
	char path[500];
	autoclose int fd = -1;

	if (format(err, path, sizeof(path), "%s/%s", c->dir, name) < 0)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return fail(err, errno, "open %s", path);
	return write_all(fd, text, length, err);
}

int pod_files_write(const struct container *c, struct error *err)
{
	const char *name = *c->hostname ? c->hostname : pod.hostname;
	size_t label = strcspn(c->hostname, ".");
	struct buffer text = { 0 };
	int result;

	buffer_add(&text, hosts.data, hosts.length);
	if (*c->hostname && c->hostname[label])
		buffer_format(&text, "127.0.1.1\t%s %.*s\n", c->hostname, (int)label, c->hostname);
	else if (*c->hostname)
		buffer_format(&text, "127.0.1.1\t%s\n", c->hostname);
	result = text.failed ? fail(err, ENOMEM, "write hosts") : write_file(c, "hosts", text.data, text.length, err);
	buffer_free(&text);
	buffer_format(&text, "%s\n", name);
	if (result == 0)
		result = text.failed ? fail(err, ENOMEM, "write hostname") :
				       write_file(c, "hostname", text.data, text.length, err);
	buffer_free(&text);
	return result < 0 ? -1 : write_file(c, "resolv.conf", resolv_conf.data, resolv_conf.length, err);
}

struct setup_args {
	const char *hostname, *entropy, *share;
	const struct json *interfaces, *routes, *dns, *hosts, *sysctls;
	bool share_pid;
	int64_t time_ns;
};

static bool has_space(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ')
			return true;
	return false;
}

static int write_words(struct buffer *to, const char *before, const struct json *words, bool one_line, struct error *err)
{
	if (json_all(words, JSON_STRING, before, err) < 0)
		return -1;
	for (const struct json *w = json_first(words); w; w = w->next) {
		bool head = !one_line || w == words->first;

		if (!*w->string || has_space(w->string))
			return fail(err, EINVAL, "write %s '%.64s'", before, w->string);
		if (head)
			buffer_add(to, before, strlen(before));
		buffer_add(to, *before || !head ? " " : "", *before || !head);
		buffer_add(to, w->string, strlen(w->string));
		if (!one_line || !w->next)
			buffer_add(to, "\n", 1);
	}
	return 0;
}

struct dns {
	const struct json *nameservers, *search, *options;
};

static int write_dns(const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct dns, nameservers, JSON_ARRAY), FIELD(struct dns, search, JSON_ARRAY),
		FIELD(struct dns, options, JSON_ARRAY),
	};
	struct dns dns = { 0 };

	if (!json)
		return 0;
	resolv_conf.length = 0;
	if (json_fields(json, fields, COUNT(fields), &dns, err) < 0 ||
	    write_words(&resolv_conf, "nameserver", dns.nameservers, false, err) < 0 ||
	    write_words(&resolv_conf, "search", dns.search, true, err) < 0)
		return -1;
	return write_words(&resolv_conf, "options", dns.options, true, err);
}

static int write_hosts(const struct json *lines, struct error *err)
{
	if (!lines)
		return 0;
	hosts.length = 0;
	if (json_all(lines, JSON_ARRAY, "hosts", err) < 0)
		return -1;
	for (const struct json *l = json_first(lines); l; l = l->next)
		if (write_words(&hosts, "", l, true, err) < 0)
			return -1;
	return 0;
}

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
		if (source < 0 || bind_on(source, target, false, err) < 0)
			return source < 0 ? fail(err, errno, "open %s", from) : -1;
	} else if (mount_virtiofs(target, tag, err) < 0) {
		return -1;
	}
	mounted = true;
	return 0;
}

static int set_hostname(const char *name, struct error *err)
{
	if (!*name || strlen(name) >= HOSTNAME_BYTES || has_space(name))
		return fail(err, EINVAL, "name the pod's host '%.80s'", name);
	if (sethostname(name, strlen(name)) < 0)
		return fail(err, errno, "set the hostname");
	strcpy(pod.hostname, name);
	return 0;
}

static int setup(const struct setup_args *a, struct error *err)
{
	if (a->time_ns && set_time(a->time_ns, err) < 0)
		return -1;
	if (a->entropy && *a->entropy && add_entropy(a->entropy, err) < 0)
		return -1;
	if ((a->hostname && set_hostname(a->hostname, err) < 0) || set_sysctls(a->sysctls, err) < 0 ||
	    net_setup(a->interfaces, a->routes, err) < 0 || write_dns(a->dns, err) < 0 ||
	    write_hosts(a->hosts, err) < 0 || (a->share && mount_share(a->share, err) < 0))
		return -1;
	if (a->share_pid && pod.processes < 0 && (pod.processes = spawn_pause(err)) < 0)
		return -1;
	pod.share_pid = pod.processes >= 0;
	for (struct container *c = containers; c; c = c->next)
		if (pod_files_write(c, err) < 0)
			return -1;
	pod.set = true;
	return 0;
}

int op_pod_setup(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct setup_args, hostname, JSON_STRING), FIELD(struct setup_args, interfaces, JSON_ARRAY),
		FIELD(struct setup_args, routes, JSON_ARRAY), FIELD(struct setup_args, dns, JSON_OBJECT),
		FIELD(struct setup_args, hosts, JSON_ARRAY), FIELD(struct setup_args, time_ns, JSON_NUMBER),
		FIELD(struct setup_args, entropy, JSON_STRING), FIELD(struct setup_args, sysctls, JSON_OBJECT),
		FIELD(struct setup_args, share_pid, JSON_BOOL), FIELD(struct setup_args, share, JSON_STRING),
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
