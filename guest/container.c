#include "container.h"

#include "cgroup.h"
#include "device.h"
#include "disk.h"
#include "fill.h"
#include "mount.h"
#include "relay.h"
#include "rootfs.h"

#include <fcntl.h>
#include <string.h>

struct container *containers;
void (*container_left)(struct container *);

int check_id(const char *what, const char *id, struct error *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t length = strlen(id);

	if (!length || length >= ID_BYTES || strspn(id, letters) != length || strchr("_.-", id[0]))
		return fail_as(err, EINVAL, "name a %s '%.64s': use 1 to 64 of [a-zA-Z0-9_.-]", what, id);
	return 0;
}

struct container *container_find(const char *id, struct error *err)
{
	for (struct container *c = containers; c; c = c->next)
		if (!strcmp(c->id, id))
			return c;
	fail(err, ENOENT, "find container %.64s", id);
	return NULL;
}

void containers_list(struct buffer *result)
{
	for (struct container *c = containers; c; c = c->next)
		buffer_format(result, "%s{\"id\":\"%s\",\"created\":%s}", c == containers ? "" : ",", c->id,
			      c->filling ? "false" : "true");
}

struct create_args {
	const char *id, *hostname, *pid_of, *ipc_of, *propagation;
	const struct json *rootfs, *mounts, *all_mounts, *devices, *files, *cgroup, *sysctls, *masked_paths, *readonly_paths;
	const struct json *time_offsets, *device_rules, *users;
	bool read_only, privileged, own_ipc;
	int64_t shm_bytes;
};

static int parse_create(const struct json *args, struct create_args *a, struct rootfs_spec *rootfs, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct create_args, id, JSON_STRING), NEEDED(struct create_args, rootfs, JSON_OBJECT),
		FIELD(struct create_args, hostname, JSON_STRING), FIELD(struct create_args, mounts, JSON_ARRAY),
		FIELD(struct create_args, all_mounts, JSON_ARRAY), FIELD(struct create_args, devices, JSON_ARRAY),
		FIELD(struct create_args, files, JSON_ARRAY), FIELD(struct create_args, cgroup, JSON_OBJECT),
		FIELD(struct create_args, sysctls, JSON_OBJECT), NEEDED(struct create_args, masked_paths, JSON_ARRAY),
		NEEDED(struct create_args, readonly_paths, JSON_ARRAY), FIELD(struct create_args, read_only, JSON_BOOL),
		FIELD(struct create_args, privileged, JSON_BOOL), FIELD(struct create_args, shm_bytes, JSON_NUMBER),
		FIELD(struct create_args, pid_of, JSON_STRING), FIELD(struct create_args, ipc_of, JSON_STRING),
		FIELD(struct create_args, own_ipc, JSON_BOOL), FIELD(struct create_args, time_offsets, JSON_OBJECT),
		FIELD(struct create_args, device_rules, JSON_ARRAY), FIELD(struct create_args, propagation, JSON_STRING),
		FIELD(struct create_args, users, JSON_OBJECT),
	};
	static const struct field kinds[] = {
		FIELD(struct rootfs_spec, lower, JSON_OBJECT), FIELD(struct rootfs_spec, upper, JSON_OBJECT),
		FIELD(struct rootfs_spec, folder, JSON_STRING), FIELD(struct rootfs_spec, over, JSON_STRING),
		FIELD(struct rootfs_spec, lowers, JSON_ARRAY),
	};

	if (json_fields(args, fields, COUNT(fields), a, err) < 0 || check_id("container", a->id, err) < 0 ||
	    json_fields(a->rootfs, kinds, COUNT(kinds), rootfs, err) < 0 ||
	    json_range("shm_bytes", a->shm_bytes, 0, INT64_MAX, err) < 0)
		return -1;
	if (a->hostname && strlen(a->hostname) >= HOSTNAME_BYTES)
		return fail_as(err, EINVAL, "name a host '%.80s': it is too long", a->hostname);
	if (a->all_mounts && (a->mounts || a->shm_bytes))
		return fail_as(err, EINVAL, "list all mounts, and some beside them");
	rootfs->devices = a->devices;
	rootfs->files = a->files;
	return 0;
}

static int parse_mounts(const struct create_args *a, struct mount_list *list, struct error *err)
{
	if (a->all_mounts)
		return mounts_parse(a->all_mounts, list, err);
	return mounts_parse_first(a->mounts, a->privileged, a->shm_bytes, list, err);
}

/* Another container, which need not be there before it is joined. */
static int keep_other(const char *id, char kept[ID_BYTES], struct error *err)
{
	if (!id || !*id)
		return 0;
	if (check_id("container", id, err) < 0)
		return -1;
	strcpy(kept, id);
	return 0;
}

/* Listed: it has a time namespace, whose clocks may be the guest's. */
static int choose_time(struct container *c, const struct json *offsets, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct container, monotonic_ns, JSON_NUMBER), FIELD(struct container, boottime_ns, JSON_NUMBER),
	};

	c->own_time = offsets != NULL;
	return offsets ? json_fields(offsets, fields, COUNT(fields), c, err) : 0;
}

static struct idmap pod_ids;
static int pod_users = -1;

int containers_share_users(const struct json *users, struct error *err)
{
	struct idmap ids = { 0 };

	if (idmap_parse(users, &ids, err) < 0 || !ids.uid_count)
		return users ? -1 : 0;
	if (pod_users >= 0 && !memcmp(&ids, &pod_ids, sizeof(ids)))
		return 0;
	if (pod_users >= 0 || containers)
		return fail(err, EBUSY, "choose the user namespace of a pod that has containers, or one");
	pod_users = idmap_namespace(&ids, err);
	if (pod_users < 0)
		return -1;
	pod_ids = ids;
	return 0;
}

static int choose_users(struct container *c, const struct json *users, struct error *err)
{
	if (idmap_parse(users, &c->ids, err) < 0)
		return -1;
	if (users || pod_users < 0)
		return users && (c->users = idmap_namespace(&c->ids, err)) < 0 ? -1 : 0;
	c->ids = pod_ids;
	c->of_pod = true;
	c->users = fcntl(pod_users, F_DUPFD_CLOEXEC, 0);
	return c->users < 0 ? fail(err, errno, "keep a user namespace open") : 0;
}

static int choose_namespaces(struct container *c, const struct create_args *a, struct error *err)
{
	if (keep_other(a->pid_of, c->pid_of, err) < 0 || keep_other(a->ipc_of, c->ipc_of, err) < 0 ||
	    choose_time(c, a->time_offsets, err) < 0 || choose_users(c, a->users, err) < 0)
		return -1;
	if (a->propagation && !propagation_of(a->propagation, &c->propagation))
		return fail_as(err, EINVAL, "spread mounts of the root '%.20s': there is no such way", a->propagation);
	if (*c->ipc_of && a->own_ipc)
		return fail_as(err, EINVAL, "create container %s: its IPC namespace is its own, and that of %s", a->id, c->ipc_of);
	c->own_ipc = a->own_ipc;
	if (c->own_ipc || *c->ipc_of)
		mounts_put_off_queues(&c->mounts);
	return 0;
}

static int keep_paths(const struct json *paths, char **to, size_t *count, struct error *err)
{
	if (json_all(paths, JSON_STRING, "paths", err) < 0)
		return -1;
	if (paths->count > PATHS_MAX)
		return fail_as(err, E2BIG, "hide %u paths: they are too many", paths->count);
	for (const struct json *p = json_first(paths); p; p = p->next)
		if (!(to[(*count)++] = strdup(p->string)))
			return fail(err, ENOMEM, "keep a path");
	return 0;
}

static int hide_paths(struct container *c, const struct create_args *a, struct error *err)
{
	if (keep_paths(a->masked_paths, c->masked, &c->masked_count, err) < 0)
		return -1;
	return keep_paths(a->readonly_paths, c->readonly, &c->readonly_count, err);
}

static void container_free(struct container *c)
{
	for (size_t i = 0; i < c->masked_count; i++)
		free(c->masked[i]);
	for (size_t i = 0; i < c->readonly_count; i++)
		free(c->readonly[i]);
	mounts_free(&c->mounts);
	close_fd(&c->users);
	free(c);
}

static void end_processes(struct container *c)
{
	if (c->has_cgroup)
		cgroup_remove(c->number);
	c->has_cgroup = false;
	close_fd(&c->cgroup);
}

void container_unmount(struct container *c)
{
	end_processes(c);
	rootfs_unmake(c);
}

static int make_cgroup(struct container *c, struct error *err)
{
	c->cgroup = cgroup_create(c->number, c->privileged, err);
	c->has_cgroup = c->cgroup >= 0;
	return c->has_cgroup ? 0 : -1;
}

/* Without rules what is listed may be used. */
static int parse_rules(const struct create_args *a, struct device_rule *rules, size_t *count, struct error *err)
{
	return a->device_rules ? device_rules_parse(a->device_rules, rules, count, err) :
				 devices_parse(a->devices, rules, count, err);
}

static int build(struct container *c, const struct create_args *a, const struct rootfs_spec *rootfs, struct error *err)
{
	struct limits limits;
	struct device_rule rules[DEVICES_MAX];
	size_t rule_count;

	if (limits_parse(a->cgroup, &limits, err) < 0 || hide_paths(c, a, err) < 0 ||
	    devices_disks(a->devices, c->disks, &c->disk_count, err) < 0 || parse_rules(a, rules, &rule_count, err) < 0 || parse_mounts(a, &c->mounts, err) < 0 ||
	    choose_namespaces(c, a, err) < 0)
		return -1;
	if ((!c->has_cgroup && make_cgroup(c, err) < 0) || cgroup_limit(c->cgroup, &limits, err) < 0)
		return -1;
	if (rule_count && !c->privileged && cgroup_rule_devices(c->cgroup, rules, rule_count, err) < 0)
		return -1;
	if (mounts_find(&c->mounts, container_find, err) < 0 || rootfs_make(c, rootfs, err) < 0)
		return -1;
	return set_sysctls(a->sysctls, err) < 0 ? -1 : fill_begin(c, err);
}

static struct container *container_new(struct error *err)
{
	static unsigned numbers;
	struct container *c = calloc(1, sizeof(*c));

	if (!c) {
		fail(err, ENOMEM, "create a container");
		return NULL;
	}
	c->root = c->terminals = c->cgroup = c->users = c->lower_target = c->upper_target = -1;
	c->number = ++numbers;
	if (format(err, c->dir, sizeof(c->dir), "%s/c/%u", run_dir, c->number) == 0)
		return c;
	free(c);
	return NULL;
}

static struct container *staged;
static struct mount_list usual;		/* what the host has had staged */

static int stage_group(struct error *err)
{
	struct container *c = container_new(err);

	if (!c)
		return -1;
	if (make_cgroup(c, err) < 0) {
		container_free(c);
		return -1;
	}
	staged = c;
	return 0;
}

int container_stage(struct error *err)
{
	if (!staged && stage_group(err) < 0)
		return -1;
	return mounts_stage(&usual, err);
}

static int usual_mounts(const struct json *mounts, struct error *err)
{
	mounts_free(&usual);
	return mounts ? mounts_parse(mounts, &usual, err) : mounts_parse_first(NULL, false, 0, &usual, err);
}

int op_stage(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct stage_args { const struct json *targets, *mounts; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct stage_args, targets, JSON_ARRAY), FIELD(struct stage_args, mounts, JSON_ARRAY),
	};

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || disks_scan(a.targets, err) < 0 ||
	    usual_mounts(a.mounts, err) < 0 || container_stage(err) < 0)
		return -1;
	buffer_add(result, "{}", 2);
	return 0;
}

/* The one that is staged has the cgroup of one without privileges. */
static struct container *container_begin(const struct create_args *a, struct error *err)
{
	struct container *c = a->privileged ? NULL : staged;

	if (c)
		staged = NULL;
	else if (!(c = container_new(err)))
		return NULL;
	c->read_only = a->read_only;
	c->privileged = a->privileged;
	strcpy(c->id, a->id);
	if (a->hostname && strcmp(a->hostname, pod_hostname))
		strcpy(c->hostname, a->hostname);
	return c;
}

static void filled(struct container *c, const struct error *err)
{
	if (!err) {
		reply_result(&c->creator, "{}");
	} else {
		reply_error(&c->creator, err);
		container_remove(c);
	}
}

/* The container that another one is to go on from: nothing runs in it any more. */
static struct container *find_from(const char *id, struct error *err)
{
	struct container *from = container_find(id, err);

	if (!from)
		return NULL;
	if (!from->layered)
		fail_as(err, EINVAL, "go on from %s: it has written to its root itself", id);
	else if (from->below >= BELOW_MAX)
		fail_as(err, E2BIG, "go on from %s: it is the end of %u containers", id, from->below + 1);
	else if (from->first || from->filling)
		fail(err, EBUSY, "go on from %s", id);
	else
		return from;
	return NULL;
}

int op_container_create(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct create_args a = { 0 };
	struct rootfs_spec rootfs = { 0 };
	struct container *c;
	int made;

	if (parse_create(args, &a, &rootfs, err) < 0)
		return -1;
	if (container_find(a.id, err))
		return fail(err, EEXIST, "create container %s", a.id);
	if (rootfs.over && *rootfs.over && !(rootfs.from = find_from(rootfs.over, err)))
		return -1;
	c = container_begin(&a, err);
	if (!c)
		return -1;
	c->filled = filled;
	c->creator = *call;
	if (rootfs.from) {
		container_left(rootfs.from);
		end_processes(rootfs.from);
	}
	made = build(c, &a, &rootfs, err);
	if (rootfs.from)
		container_remove(rootfs.from);
	if (made < 0) {
		fill_stop(c);
		relay_close(c);
		container_unmount(c);
		container_free(c);
		return -1;
	}
	c->next = containers;
	containers = c;
	if (c->filling)
		return LATER;
	buffer_add(result, "{}", 2);
	return 0;
}

void container_remove(struct container *container)
{
	struct error later;

	if (container->filling) {
		fail(&later, ECANCELED, "create container %s", container->id);
		reply_error(&container->creator, &later);
	}
	fill_stop(container);
	relay_close(container);
	container_unmount(container);
	for (struct container **at = &containers; *at; at = &(*at)->next)
		if (*at == container) {
			*at = container->next;
			break;
		}
	container_free(container);
	if (container_stage(&later) < 0)	/* the next one will do it itself */
		debug("%s", later.message);
}

int op_container_freeze(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct freeze_args { const char *id; bool frozen; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct freeze_args, id, JSON_STRING), NEEDED(struct freeze_args, frozen, JSON_BOOL),
	};
	struct container *c;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || !(c = container_find(a.id, err)))
		return -1;
	buffer_add(result, "{}", 2);
	return cgroup_freeze(c->cgroup, a.frozen, err);
}
