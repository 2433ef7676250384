#include "mount_list.h"

#include "container.h"
#include "device.h"
#include "disk.h"
#include "mount.h"
#include "relay.h"
#include "volume.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* As the kernel's headers have them; the C libraries differ in what they declare. */
enum {
	OPEN_CLOEXEC = 1,		/* fsopen, fsmount */
	CONFIG_FLAG = 0, CONFIG_STRING = 1, CONFIG_CREATE = 6,
	READY_MAX = 8,
};

enum { BIND, DISK, POD_FILE, SOCKET, CONTAINER, DEV, DEVPTS, MQUEUE, FILE_SYSTEM };

struct mount_kind {
	const char *name, *type;	/* as the host says it; as the kernel does */
	int what;
	bool plain;			/* no link may be on the way to it: an image whose /proc is one is refused */
	bool late;
};

static const struct mount_kind kinds[] = {
	{ "disk", NULL, DISK, false, false }, { "bind", NULL, BIND, false, false }, { "pod", NULL, POD_FILE, false, false },
	{ "socket", NULL, SOCKET, false, false }, { "container", NULL, CONTAINER, true, false },
	{ "tmpfs", "tmpfs", FILE_SYSTEM, false, false }, { "dev", "tmpfs", DEV, true, false },
	{ "devpts", "devpts", DEVPTS, true, false }, { "mqueue", "mqueue", MQUEUE, true, false },
	{ "sysfs", "sysfs", FILE_SYSTEM, true, false }, { "proc", "proc", FILE_SYSTEM, true, true },
	{ "cgroup", "cgroup2", FILE_SYSTEM, true, true },
};

static const struct mount_kind *find_kind(const char *name)
{
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

/* Options */

static bool set_attribute(struct mount_spec *m, const char *word)
{
	static const struct { const char *word; uint64_t set, clear; } attributes[] = {
		{ "ro", ATTR_RDONLY, 0 }, { "rw", 0, ATTR_RDONLY },
		{ "nosuid", ATTR_NOSUID, 0 }, { "suid", 0, ATTR_NOSUID },
		{ "nodev", ATTR_NODEV, 0 }, { "dev", 0, ATTR_NODEV },
		{ "noexec", ATTR_NOEXEC, 0 }, { "exec", 0, ATTR_NOEXEC },
		{ "noatime", ATTR_NOATIME, ATTR_ATIME }, { "atime", 0, ATTR_ATIME }, { "relatime", 0, ATTR_ATIME },
		{ "strictatime", ATTR_STRICTATIME, ATTR_ATIME },
		{ "nodiratime", ATTR_NODIRATIME, 0 }, { "diratime", 0, ATTR_NODIRATIME },
		{ "nosymfollow", ATTR_NOSYMFOLLOW, 0 }, { "symfollow", 0, ATTR_NOSYMFOLLOW },
	};

	for (size_t i = 0; i < COUNT(attributes); i++)
		if (!strcmp(attributes[i].word, word)) {
			m->set = (m->set & ~attributes[i].clear) | attributes[i].set;
			m->clear = (m->clear & ~attributes[i].set) | attributes[i].clear;
			return true;
		}
	return false;
}

bool propagation_of(const char *word, unsigned long *flags)
{
	static const struct { const char *word; unsigned long flag; } known[] = {
		{ "private", MS_PRIVATE }, { "shared", MS_SHARED }, { "slave", MS_SLAVE },
		{ "unbindable", MS_UNBINDABLE },
	};
	unsigned long all = word[0] == 'r' ? MS_REC : 0;

	for (size_t i = 0; i < COUNT(known); i++)
		if (!strcmp(known[i].word, word + (all != 0))) {
			*flags = known[i].flag | all;
			return true;
		}
	return false;
}

static int add_data(struct mount_spec *m, const char *option, struct error *err)
{
	size_t used = 0, length = strlen(option) + 1;

	while (m->data[used])
		used += strlen(m->data + used) + 1;
	if (length == 1 || used + length >= sizeof(m->data))
		return fail_as(err, EINVAL, "mount a %s with option '%.32s': there is no room", m->kind->name, option);
	memcpy(m->data + used, option, length);
	m->data[used + length] = 0;
	return 0;
}

static int add_option(struct mount_spec *m, const char *word, struct error *err)
{
	if (set_attribute(m, word) || propagation_of(word, &m->propagation))
		return 0;
	if (!strcmp(m->kind->name, "tmpfs") && !strcmp(word, "tmpcopyup")) {	/* as OCI's runtimes have it */
		m->populate = true;
		return 0;
	}
	if (!m->kind->type)
		return fail_as(err, EINVAL, "mount a %s with option '%.32s': it is not known", m->kind->name, word);
	return add_data(m, word, err);
}

/* Lists */

int mounts_find(struct mount_list *list, container_finder find, struct error *err)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->specs[i].kind->what == CONTAINER && !(list->specs[i].of = find(list->specs[i].source, err)))
			return -1;
	return 0;
}

void mounts_free(struct mount_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->specs[i].source);
		free(list->specs[i].target);
	}
	free(list->specs);
	*list = (struct mount_list){ 0 };
}

void mounts_put_off_queues(struct mount_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		list->specs[i].late |= list->specs[i].kind->what == MQUEUE;
}

static int list_begin(struct mount_list *list, size_t room, struct error *err)
{
	if (room > MOUNTS_MAX)
		return fail_as(err, E2BIG, "mount %zu file systems: they are too many", room);
	list->specs = calloc(room ? room : 1, sizeof(*list->specs));
	return list->specs ? 0 : fail(err, ENOMEM, "list mounts");
}

static bool below_late(const struct mount_list *list, const char *target)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *above = list->specs[i].target;

		if (list->specs[i].late && !strncmp(target, above, strlen(above)) && target[strlen(above)] == '/')
			return true;
	}
	return false;
}

/* The next of `list`, which has room. */
static struct mount_spec *list_add(struct mount_list *list, const struct mount_kind *kind, const char *source,
				   const char *target, struct error *err)
{
	struct mount_spec *m = &list->specs[list->count];

	if (target[0] != '/') {
		fail_as(err, EINVAL, "mount on '%.100s': it is no absolute path", target);
		return NULL;
	}
	*m = (struct mount_spec){ .kind = kind, .target = strdup(target), .source = source ? strdup(source) : NULL };
	list->count++;
	if (!m->target || (source && !m->source)) {
		fail(err, ENOMEM, "list mounts");
		return NULL;
	}
	m->late = kind->late || below_late(list, target);
	return m;
}

struct mount_args {
	const char *type, *source, *target;
	bool populate, read_only;
	const struct json *options, *owner;
	int64_t size_bytes, mode;
};

static int parse_owner(const struct json *owner, struct mount_spec *m, struct error *err)
{
	struct owner_args { int64_t uid, gid, mode; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct owner_args, uid, JSON_NUMBER), NEEDED(struct owner_args, gid, JSON_NUMBER),
		NEEDED(struct owner_args, mode, JSON_NUMBER),
	};

	if ((m->kind->what == SOCKET) != (owner != NULL))
		return fail_as(err, EINVAL, "mount on %.100s: a socket has an owner, and nothing else", m->target);
	if (!owner)
		return 0;
	if (json_fields(owner, fields, COUNT(fields), &a, err) < 0 ||
	    json_range("uid", a.uid, 0, UINT32_MAX - 1, err) < 0 ||
	    json_range("gid", a.gid, 0, UINT32_MAX - 1, err) < 0 || json_range("mode", a.mode, 0, 07777, err) < 0)
		return -1;
	m->uid = (uid_t)a.uid;
	m->gid = (gid_t)a.gid;
	m->mode = (mode_t)a.mode;
	return 0;
}

static int parse_one(const struct json *json, struct mount_list *list, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct mount_args, type, JSON_STRING), NEEDED(struct mount_args, target, JSON_STRING),
		FIELD(struct mount_args, source, JSON_STRING), FIELD(struct mount_args, populate, JSON_BOOL),
		FIELD(struct mount_args, options, JSON_ARRAY), FIELD(struct mount_args, owner, JSON_OBJECT),
	};
	struct mount_args a = { 0 };
	const struct mount_kind *kind;
	struct mount_spec *m;
	bool sourced;

	if (json_fields(json, fields, COUNT(fields), &a, err) < 0 ||
	    json_all(a.options, JSON_STRING, "options", err) < 0)
		return -1;
	kind = find_kind(a.type);
	if (!kind)
		return fail_as(err, EINVAL, "mount a '%.32s': there is no such kind", a.type);
	sourced = kind->what == BIND || kind->what == DISK || kind->what == POD_FILE || kind->what == CONTAINER;
	if (sourced != (a.source != NULL))
		return fail_as(err, EINVAL, "mount on %.100s: a %s has %s source", a.target, kind->name,
			       sourced ? "a" : "no");
	m = list_add(list, kind, a.source, a.target, err);
	if (!m)
		return -1;
	if (a.populate && m->late)
		return fail_as(err, EINVAL, "fill %.100s: it is mounted anew by each first process", a.target);
	if (kind->what == DISK && m->late)
		return fail_as(err, EINVAL, "mount a disk on %.100s: it is mounted anew by each first process", a.target);
	if (kind->what == CONTAINER && m->late)
		return fail_as(err, EINVAL, "mount on %.100s what a container has there: it is not there yet", a.target);
	m->populate = a.populate;
	if (parse_owner(a.owner, m, err) < 0)
		return -1;
	for (const struct json *o = json_first(a.options); o; o = o->next)
		if (add_option(m, o->string, err) < 0)
			return -1;
	return 0;
}

int mounts_parse(const struct json *mounts, struct mount_list *list, struct error *err)
{
	if (list_begin(list, mounts->count, err) < 0)
		return -1;
	for (const struct json *j = json_first(mounts); j; j = j->next)
		if (parse_one(j, list, err) < 0)
			return -1;
	return 0;
}

/* The first hosts */

static int add_first(struct mount_list *list, const char *kind, const char *source, const char *target,
		     const char *const *options, struct error *err)
{
	struct mount_spec *m = list_add(list, find_kind(kind), source, target, err);

	if (!m)
		return -1;
	for (; *options; options++)
		if (add_option(m, *options, err) < 0)
			return -1;
	return 0;
}

/* NAME=DIGITS, for the kernel to judge the number. */
static bool is_number_option(const char *option)
{
	static const char *const names[] = { "uid=", "gid=", "nr_inodes=", "nr_blocks=" };

	for (size_t i = 0; i < COUNT(names); i++) {
		const char *digits = option + strlen(names[i]);

		if (!strncmp(option, names[i], strlen(names[i])))
			return *digits && !digits[strspn(digits, "0123456789")];
	}
	return false;
}

static int first_tmpfs(struct mount_list *list, const struct mount_args *a, struct error *err)
{
	char mode[32], size[32];
	const char *const usual[] = { "nosuid", "nodev", "noexec", mode, a->size_bytes ? size : NULL, NULL };
	struct mount_spec *m;

	if (json_all(a->options, JSON_STRING, "options", err) < 0 ||
	    json_range("mode", a->mode, 0, 07777, err) < 0 ||
	    json_range("size_bytes", a->size_bytes, 0, INT64_MAX, err) < 0)
		return -1;
	snprintf(mode, sizeof(mode), "mode=%o", (unsigned int)a->mode);
	snprintf(size, sizeof(size), "size=%lld", (long long)a->size_bytes);
	if (add_first(list, "tmpfs", NULL, a->target, usual, err) < 0)
		return -1;
	m = &list->specs[list->count - 1];
	for (const struct json *o = json_first(a->options); o; o = o->next) {
		if (set_attribute(m, o->string))
			continue;
		if (!is_number_option(o->string))
			return fail_as(err, EINVAL, "mount a tmpfs with option '%.32s': it is not known", o->string);
		if (add_data(m, o->string, err) < 0)
			return -1;
	}
	if (a->read_only)
		set_attribute(m, "ro");
	return 0;
}

static int first_own(const struct json *json, struct mount_list *list, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct mount_args, type, JSON_STRING), FIELD(struct mount_args, source, JSON_STRING),
		NEEDED(struct mount_args, target, JSON_STRING), FIELD(struct mount_args, read_only, JSON_BOOL),
		FIELD(struct mount_args, populate, JSON_BOOL), FIELD(struct mount_args, size_bytes, JSON_NUMBER),
		FIELD(struct mount_args, mode, JSON_NUMBER), FIELD(struct mount_args, options, JSON_ARRAY),
	};
	struct mount_args a = { .mode = 01777 };

	if (json_fields(json, fields, COUNT(fields), &a, err) < 0)
		return -1;
	if (!strcmp(a.type, "tmpfs"))
		return first_tmpfs(list, &a, err);
	if (strcmp(a.type, "share"))
		return fail_as(err, EINVAL, "mount a '%.32s': it is no share and no tmpfs", a.type);
	if (add_first(list, "bind", a.source ? a.source : "", a.target,
		      (const char *const[]){ a.read_only ? "ro" : NULL, NULL }, err) < 0)
		return -1;
	list->specs[list->count - 1].populate = a.populate;
	return 0;
}

int mounts_parse_first(const struct json *mounts, bool privileged, int64_t shm_bytes, struct mount_list *list,
		       struct error *err)
{
	const char *ro = privileged ? NULL : "ro";
	char shm[32];
	const struct { const char *kind, *source, *target, *options[6]; } usual[] = {
		{ "sysfs", NULL, "/sys", { "nosuid", "nodev", "noexec", ro } },
		{ "dev", NULL, "/dev", { "nosuid", "strictatime", "mode=755", "size=65536k" } },
		{ "devpts", NULL, "/dev/pts", { "nosuid", "noexec", "ptmxmode=0666", "mode=0620", "gid=5" } },
		{ "tmpfs", NULL, "/dev/shm", { "nosuid", "nodev", "noexec", "mode=1777", shm } },
		{ "mqueue", NULL, "/dev/mqueue", { "nosuid", "nodev", "noexec" } },
		{ "pod", "resolv.conf", "/etc/resolv.conf", { NULL } },
		{ "pod", "hosts", "/etc/hosts", { NULL } },
		{ "pod", "hostname", "/etc/hostname", { NULL } },
	};
	static const char *const in_proc[] = { "nosuid", "nodev", "noexec", NULL };

	snprintf(shm, sizeof(shm), "size=%lld", shm_bytes ? (long long)shm_bytes : 64ll << 20);
	if (list_begin(list, COUNT(usual) + 2 + (mounts ? mounts->count : 0), err) < 0)
		return -1;
	for (size_t i = 0; i < COUNT(usual); i++)
		if (add_first(list, usual[i].kind, usual[i].source, usual[i].target, usual[i].options, err) < 0)
			return -1;
	for (const struct json *j = json_first(mounts); j; j = j->next)
		if (first_own(j, list, err) < 0)
			return -1;
	if (add_first(list, "proc", NULL, "/proc", in_proc, err) < 0)
		return -1;
	return add_first(list, "cgroup", NULL, "/sys/fs/cgroup",
			 (const char *const[]){ "nosuid", "nodev", "noexec", ro, NULL }, err);
}

/* Making */

static int configure(int context, const struct mount_spec *m)
{
	char key[MOUNT_DATA];

	for (const char *option = m->data; *option; option += strlen(option) + 1) {
		char *value;

		strcpy(key, option);
		value = strchr(key, '=');
		if (value)
			*value++ = 0;
		if (syscall(SYS_fsconfig, context, value ? CONFIG_STRING : CONFIG_FLAG, key, value, 0) < 0)
			return -1;
	}
	return (int)syscall(SYS_fsconfig, context, CONFIG_CREATE, NULL, NULL, 0);
}

/* A file system that is mounted nowhere yet: a descriptor of its root. */
static int make_file_system(const struct mount_spec *m, bool all_devices, struct error *err)
{
	autoclose int context = (int)syscall(SYS_fsopen, m->kind->type, OPEN_CLOEXEC);
	autoclose int made = -1;
	int root;

	if (context < 0 || configure(context, m) < 0)
		return fail(err, errno, "mount %s", m->kind->name);
	made = (int)syscall(SYS_fsmount, context, OPEN_CLOEXEC, m->set);
	if (made < 0)
		return fail(err, errno, "mount %s", m->kind->name);
	if (m->kind->what == DEV && devices_fill(made, all_devices, err) < 0)
		return -1;
	root = made;
	made = -1;
	return root;
}

static struct ready {
	struct mount_spec spec;
	int root;
} ready[READY_MAX];
static size_t ready_count;

static int take_ready(const struct mount_spec *m)
{
	int root = -1;

	for (size_t i = 0; i < ready_count && root < 0; i++) {
		const struct mount_spec *r = &ready[i].spec;

		if (ready[i].root >= 0 && r->kind == m->kind && r->set == m->set &&
		    !memcmp(r->data, m->data, sizeof(r->data))) {
			root = ready[i].root;
			ready[i].root = -1;
		}
	}
	return root;
}

int mounts_stage(const struct mount_list *list, struct error *err)
{
	for (size_t i = 0; i < ready_count; i++)
		close_fd(&ready[i].root);
	ready_count = 0;
	for (size_t i = 0; i < list->count && ready_count < READY_MAX; i++) {
		const struct mount_spec *m = &list->specs[i];
		struct ready *r = &ready[ready_count];

		if (!m->kind->type || m->late)
			continue;
		r->spec = (struct mount_spec){ .kind = m->kind, .set = m->set };
		memcpy(r->spec.data, m->data, sizeof(m->data));
		r->root = make_file_system(m, false, err);
		if (r->root < 0)
			return -1;
		ready_count++;
	}
	return 0;
}

/* What was at its place is in it, too: `below` is that. */
static int copy_up(int mounted, int below, struct error *err)
{
	autoclose int to = open_plain(mounted, "", O_RDONLY | O_DIRECTORY, 0, err);

	return to < 0 ? -1 : copy_missing(below, to, err);
}

static int place(const struct container *c, int root, const struct mount_spec *m, struct container *made,
		 struct error *err)
{
	bool all_devices = m->kind->what == DEV && c->privileged;
	int found = all_devices || !made ? -1 : take_ready(m);	/* a first process is in other namespaces */
	autoclose int mounted = found >= 0 ? found : make_file_system(m, all_devices, err);
	autoclose int target = -1, below = -1;

	if (mounted < 0)
		return -1;
	if (m->populate)
		below = open_beneath(root, m->target, O_RDONLY | O_DIRECTORY, 0, err);
	if (m->populate && below < 0 && err->number != ENOENT)
		return -1;
	target = m->kind->plain ? make_plain(root, m->target, err) : make_beneath(root, m->target, true, err);
	if (target < 0 || move_on(mounted, target, err) < 0 || (below >= 0 && copy_up(mounted, below, err) < 0))
		return -1;
	if (m->kind->what != DEVPTS || !made)
		return 0;
	/* Kept: what the container does to its /dev later changes nothing for us. */
	close_fd(&made->terminals);
	made->terminals = open_plain(mounted, "", O_RDONLY | O_DIRECTORY, 0, err);
	return made->terminals < 0 ? -1 : 0;
}

/* Memory that all containers of the pod share, from the first one that wants it on. */
static int open_shm(struct error *err)
{
	static bool mounted;
	char path[300];
	int fd;

	if (format(err, path, sizeof(path), "%s/shm", run_dir) < 0 || make_folders(path, err) < 0)
		return -1;
	if (!mounted && mount("shm", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m") < 0)
		return fail(err, errno, "mount %s", path);
	mounted = true;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fail(err, errno, "open %s", path) : fd;
}

static int bind_shm(int root, const struct mount_spec *m, struct error *err)
{
	autoclose int source = open_shm(err);
	autoclose int target = source < 0 ? -1 : make_beneath(root, m->target, true, err);

	return target < 0 ? -1 : bind_on(source, target, m->set, m->clear, err);
}

static int bind_pod_file(const struct container *c, int root, const struct mount_spec *m, struct error *err)
{
	char path[500];
	autoclose int source = -1, target = -1;

	if (!strcmp(m->source, "shm"))
		return bind_shm(root, m, err);

	if (strcmp(m->source, "hosts") && strcmp(m->source, "hostname") && strcmp(m->source, "resolv.conf"))
		return fail_as(err, EINVAL, "bind '%.32s' of the pod: it has no such file", m->source);
	if (format(err, path, sizeof(path), "%s/%s", c->dir, m->source) < 0)
		return -1;
	source = open(path, O_PATH | O_CLOEXEC);
	if (source < 0)
		return fail(err, errno, "open %s", path);
	target = make_beneath(root, m->target, false, err);
	return target < 0 ? -1 : bind_on(source, target, m->set, m->clear, err);
}

static int bind_socket(const struct container *c, int root, const struct mount_spec *m, struct error *err)
{
	autoclose int source = relay_open(c, m, err);
	autoclose int target = source < 0 ? -1 : make_beneath(root, m->target, false, err);

	return target < 0 ? -1 : bind_on(source, target, m->set, m->clear, err);
}

/* What is mounted at the same place in another container, whoever else goes there later. */
static int bind_of_container(int root, const struct mount_spec *m, struct error *err)
{
	autoclose int source = open_plain(m->of->root, m->target, O_PATH | O_DIRECTORY, 0, err);
	autoclose int target = source < 0 ? -1 : make_plain(root, m->target, err);

	return target < 0 ? -1 : bind_on(source, target, m->set, m->clear, err);
}

/* `source` is its target, and what of it is wanted: "130", "130/usr/share". */
static int bind_disk(int root, const struct mount_spec *m, struct container *made, struct error *err)
{
	char *path;
	unsigned long number = strtoul(m->source, &path, 10);
	autoclose int disk = -1, source = -1, target = -1;
	struct stat status;

	if (path == m->source || (*path && *path != '/') || number > TARGETS_MAX)
		return fail_as(err, EINVAL, "mount disk '%.40s': it is no number of one", m->source);
	disk = volume_open_disk(made, (int)number, err);
	source = disk < 0 ? -1 : open_beneath(disk, path, O_PATH, 0, err);
	if (source < 0)
		return -1;
	if (fstat(source, &status) < 0)
		return fail(err, errno, "look at %.200s", path);
	target = make_beneath(root, m->target, S_ISDIR(status.st_mode), err);
	return target < 0 ? -1 : bind_on(source, target, m->set, m->clear, err);
}

/* `made`: the container, while it is being made; NULL in its first process. */
static int make_one(const struct container *c, int root, const struct mount_spec *m, struct container *made,
		    struct error *err)
{
	struct error cause;
	int result;

	if (m->kind->what == BIND)
		result = volume_bind(root, m, made, err);
	else if (m->kind->what == DISK)
		result = bind_disk(root, m, made, err);
	else if (m->kind->what == POD_FILE)
		result = bind_pod_file(c, root, m, err);
	else if (m->kind->what == SOCKET)
		result = bind_socket(c, root, m, err);
	else if (m->kind->what == CONTAINER)
		result = bind_of_container(root, m, err);
	else
		result = place(c, root, m, made, err);
	if (result < 0) {
		cause = *err;
		snprintf(err->message, sizeof(err->message), "mount on %.100s: %.200s", m->target, cause.message);
	}
	return result;
}

int mounts_make(struct container *c, struct error *err)
{
	for (size_t i = 0; i < c->mounts.count; i++) {
		const struct mount_spec *m = &c->mounts.specs[i];

		if (m->kind->what == SOCKET && relay_listen(c, m, err) < 0)
			return -1;
		if (!m->late && make_one(c, c->root, m, c, err) < 0)
			return -1;
	}
	return 0;
}

static int spread(int root, const struct mount_spec *m, struct error *err)
{
	autoclose int target = open_beneath(root, m->target, O_PATH, 0, err);

	if (target < 0 || mount_on(target, NULL, NULL, m->propagation, NULL, err) < 0)
		return fail(err, err->number, "spread mounts on %.100s", m->target);
	return 0;
}

int mounts_make_late(const struct container *c, int root, struct error *err)
{
	for (size_t i = 0; i < c->mounts.count; i++)
		if (c->mounts.specs[i].late && make_one(c, root, &c->mounts.specs[i], NULL, err) < 0)
			return -1;
	for (size_t i = 0; i < c->mounts.count; i++)
		if (c->mounts.specs[i].propagation && spread(root, &c->mounts.specs[i], err) < 0)
			return -1;
	return 0;
}
