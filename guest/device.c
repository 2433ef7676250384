#include "device.h"

#include "disk.h"
#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { ALL_ACCESS = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE };

static int make_usual_device(int dev, const char *name, unsigned int major_number, unsigned int minor_number,
		       struct error *err)
{
	if (mknodat(dev, name, S_IFCHR | 0666, makedev(major_number, minor_number)) < 0 ||
	    fchmodat(dev, name, 0666, 0) < 0)
		return fail(err, errno, "make device %s", name);
	return 0;
}

static int make_usual(int dev, struct error *err)
{
	static const struct { const char *name; unsigned int major_number, minor_number; } devices[] = {
		{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 },
		{ "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
	};
	static const char *const links[][2] = {
		{ "/proc/self/fd", "fd" }, { "/proc/self/fd/0", "stdin" }, { "/proc/self/fd/1", "stdout" },
		{ "/proc/self/fd/2", "stderr" }, { "pts/ptmx", "ptmx" },
	};

	for (size_t i = 0; i < COUNT(devices); i++)
		if (make_usual_device(dev, devices[i].name, devices[i].major_number, devices[i].minor_number, err) < 0)
			return -1;
	for (size_t i = 0; i < COUNT(links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]) < 0)
			return fail(err, errno, "make link /dev/%s", links[i][1]);
	return symlinkat("/proc/kcore", dev, "core") < 0 ? fail(err, errno, "make link /dev/core") : 0;
}

/* The guest's other devices, as nodes of its own: in a shared devtmpfs the container could take ours away. */
static int add_all_devices(int dev, struct error *err)
{
	DIR *list = opendir("/dev");
	struct dirent *entry;
	struct stat status;
	int result = 0;

	if (!list)
		return fail(err, errno, "read /dev");
	while (result == 0 && (entry = readdir(list))) {
		if (fstatat(dirfd(list), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !(S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)))
			continue;
		if (mknodat(dev, entry->d_name, status.st_mode, status.st_rdev) < 0 && errno != EEXIST)
			result = fail(err, errno, "make device %s", entry->d_name);
	}
	closedir(list);
	return result;
}

int devices_fill(int dev, bool all, struct error *err)
{
	if (make_usual(dev, err) < 0)
		return -1;
	return all ? add_all_devices(dev, err) : 0;
}

struct device_args {
	const char *path, *type;
	int64_t major_number, minor_number, mode, uid, gid, target;
};

/* The kernel numbers disks as it finds them. */
static int number_disk(struct device_args *a, struct error *err)
{
	struct stat status;
	char path[64];

	if (disk_scan((int)a->target, err) < 0 || disk_wait((int)a->target, path, sizeof(path), err) < 0)
		return -1;
	if (stat(path, &status) < 0)
		return fail(err, errno, "find %s", path);
	a->major_number = major(status.st_rdev);
	a->minor_number = minor(status.st_rdev);
	return 0;
}

static int parse_device(const struct json *json, struct device_args *a, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct device_args, path, JSON_STRING), NEEDED(struct device_args, type, JSON_STRING),
		{ "major", JSON_NUMBER, offsetof(struct device_args, major_number), true },
		{ "minor", JSON_NUMBER, offsetof(struct device_args, minor_number), true },
		FIELD(struct device_args, mode, JSON_NUMBER), FIELD(struct device_args, uid, JSON_NUMBER),
		FIELD(struct device_args, gid, JSON_NUMBER), FIELD(struct device_args, target, JSON_NUMBER),
	};

	*a = (struct device_args){ .mode = 0666, .target = -1 };
	if (json_fields(json, fields, COUNT(fields), a, err) < 0 ||
	    json_range("major", a->major_number, 0, 4095, err) < 0 ||
	    json_range("minor", a->minor_number, 0, 1048575, err) < 0 ||
	    json_range("mode", a->mode, 0, 0777, err) < 0 ||
	    json_range("target", a->target, -1, TARGETS_MAX, err) < 0 ||
	    json_range("uid", a->uid, 0, UINT32_MAX - 1, err) < 0 ||
	    json_range("gid", a->gid, 0, UINT32_MAX - 1, err) < 0)
		return -1;
	if (strcmp(a->type, "c") && strcmp(a->type, "b"))
		return fail_as(err, EINVAL, "make device %.100s of type '%.8s': it is none of c and b", a->path, a->type);
	if (a->path[0] != '/')
		return fail_as(err, EINVAL, "make device '%.100s': it is no absolute path", a->path);
	return a->target < 0 ? 0 : number_disk(a, err);
}

int devices_disks(const struct json *devices, unsigned char *targets, unsigned *count, struct error *err)
{
	struct device_args a;

	for (const struct json *d = json_first(devices); d && *count < DEVICES_MAX; d = d->next) {
		if (parse_device(d, &a, err) < 0)
			return -1;
		if (a.target >= 0)
			targets[(*count)++] = (unsigned char)a.target;
	}
	return 0;
}

int devices_parse(const struct json *devices, struct device_rule *to, size_t *count, struct error *err)
{
	struct device_args a;

	*count = 0;
	if (devices && devices->count > DEVICES_MAX)
		return fail_as(err, E2BIG, "make %u devices: there may be %d", devices->count, DEVICES_MAX);
	for (const struct json *d = json_first(devices); d; d = d->next) {
		if (parse_device(d, &a, err) < 0)
			return -1;
		to[(*count)++] = (struct device_rule){
			true, a.type[0], a.major_number, a.minor_number, ALL_ACCESS,
		};
	}
	return 0;
}

struct rule_args {
	const char *type, *access;
	int64_t major_number, minor_number;
	bool allow;
};

static int parse_access(const char *letters, unsigned *access, struct error *err)
{
	for (const char *l = letters; *l; l++) {
		if (!strchr("rwm", *l))
			return fail_as(err, EINVAL, "rule devices: access '%.8s' is none of r, w and m", letters);
		*access |= *l == 'r' ? BPF_DEVCG_ACC_READ : *l == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
	}
	return 0;
}

static int parse_rule(const struct json *json, struct device_rule *to, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct rule_args, type, JSON_STRING), NEEDED(struct rule_args, access, JSON_STRING),
		{ "major", JSON_NUMBER, offsetof(struct rule_args, major_number), false },
		{ "minor", JSON_NUMBER, offsetof(struct rule_args, minor_number), false },
		FIELD(struct rule_args, allow, JSON_BOOL),
	};
	struct rule_args a = { .major_number = -1, .minor_number = -1 };

	if (json_fields(json, fields, COUNT(fields), &a, err) < 0 ||
	    json_range("major", a.major_number, -1, 4095, err) < 0 ||
	    json_range("minor", a.minor_number, -1, 1048575, err) < 0)
		return -1;
	if (!a.type[0] || a.type[1] || !strchr("abc", a.type[0]))
		return fail_as(err, EINVAL, "rule devices of type '%.8s': it is none of a, b and c", a.type);
	*to = (struct device_rule){ a.allow, a.type[0], a.major_number, a.minor_number, 0 };
	return parse_access(a.access, &to->access, err);
}

int device_rules_parse(const struct json *rules, struct device_rule *to, size_t *count, struct error *err)
{
	*count = 0;
	if (rules->count > DEVICES_MAX)
		return fail_as(err, E2BIG, "rule devices %u times: there may be %d", rules->count, DEVICES_MAX);
	for (const struct json *r = json_first(rules); r; r = r->next)
		if (parse_rule(r, &to[(*count)++], err) < 0)
			return -1;
	return 0;
}

static int make_node(int folder, const char *name, const struct device_args *a)
{
	mode_t kind = a->type[0] == 'b' ? S_IFBLK : S_IFCHR;
	dev_t number = makedev((unsigned int)a->major_number, (unsigned int)a->minor_number);

	return mknodat(folder, name, kind | 0600, number) < 0 ||
		fchownat(folder, name, (uid_t)a->uid, (gid_t)a->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -1 :
		fchmodat(folder, name, (mode_t)a->mode, 0);
}

/* A folder of the host takes no nodes: one of ours, in `dir`, is mounted on a file in there. */
static int bind_node(int root, const char *dir, const struct device_args *a, struct error *err)
{
	autoclose int ours = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	autoclose int target = make_beneath(root, a->path, false, err);
	autoclose int node = -1;
	int result;

	if (target < 0)
		return -1;
	if (make_node(ours, "device", a) < 0 || (node = openat(ours, "device", O_PATH | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return fail(err, errno, "make device %.200s", a->path);
	result = bind_on(node, target, 0, ATTR_NODEV, err);
	unlinkat(ours, "device", 0);	/* not before: what has no name is mounted nowhere */
	return result;
}

/* One that an image has at its place, or the usual /dev, goes. */
static int make_device(int root, const char *dir, const struct device_args *a, struct error *err)
{
	char above[PATH_MAX];
	char *name;
	autoclose int parent = -1;

	if (format(err, above, sizeof(above), "%s", a->path) < 0)
		return -1;
	name = strrchr(above, '/');
	*name++ = 0;
	parent = make_beneath(root, above, true, err);
	if (parent < 0)
		return -1;
	unlinkat(parent, name, 0);
	if (make_node(parent, name, a) < 0)
		return errno == EPERM ? bind_node(root, dir, a, err) :
			fail(err, errno, "make device %.200s", a->path);
	return 0;
}

int devices_make(int root, const char *dir, const struct json *devices, struct error *err)
{
	struct device_args a;

	for (const struct json *d = json_first(devices); d; d = d->next)
		if (parse_device(d, &a, err) < 0 || make_device(root, dir, &a, err) < 0)
			return -1;
	return 0;
}
