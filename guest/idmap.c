#include "idmap.h"

#include "mount.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { LINE_BYTES = 36, NOBODY = 65534, NO_SETUID_FIXUP = 1 << 2 /* a securebit */ };

static int parse_ranges(const struct json *list, struct id_range *to, size_t *count, struct error *err)
{
	struct range_args { int64_t inside, outside, size; } a;
	static const struct field fields[] = {
		NEEDED(struct range_args, inside, JSON_NUMBER), NEEDED(struct range_args, outside, JSON_NUMBER),
		NEEDED(struct range_args, size, JSON_NUMBER),
	};

	if (!list->count || list->count > ID_RANGES_MAX)
		return fail_as(err, EINVAL, "map ids by %u ranges: there may be 1 to %d", list->count, ID_RANGES_MAX);
	for (const struct json *r = json_first(list); r; r = r->next) {
		if (json_fields(r, fields, COUNT(fields), &a, err) < 0 ||
		    json_range("inside", a.inside, 0, UINT32_MAX - 1, err) < 0 ||
		    json_range("outside", a.outside, 0, UINT32_MAX - 1, err) < 0 ||
		    json_range("size", a.size, 1, UINT32_MAX, err) < 0)
			return -1;
		to[(*count)++] = (struct id_range){ (uint32_t)a.inside, (uint32_t)a.outside, (uint32_t)a.size };
	}
	return 0;
}

int idmap_parse(const struct json *json, struct idmap *map, struct error *err)
{
	struct map_args { const struct json *uids, *gids; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct map_args, uids, JSON_ARRAY), NEEDED(struct map_args, gids, JSON_ARRAY),
	};

	map->uid_count = map->gid_count = 0;
	if (!json)
		return 0;
	if (json_fields(json, fields, COUNT(fields), &a, err) < 0 ||
	    parse_ranges(a.uids, map->uids, &map->uid_count, err) < 0)
		return -1;
	return parse_ranges(a.gids, map->gids, &map->gid_count, err);
}

static int write_ranges(pid_t pid, const char *name, const struct id_range *ranges, size_t count, struct error *err)
{
	char path[64], text[ID_RANGES_MAX * LINE_BYTES];
	size_t length = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	for (size_t i = 0; i < count; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%u %u %u\n", ranges[i].inside,
					   ranges[i].outside, ranges[i].size);
	return write_file_at(AT_FDCWD, path, text, err) < 0 ? fail(err, err->number, "map ids by %s", name) : 0;
}

/* Somebody has to be in it until we hold it. */
int idmap_namespace(const struct idmap *map, struct error *err)
{
	char path[64];
	int namespace = -1;
	/* of struct clone_args; plain clone takes its arguments in another order on each architecture */
	uint64_t args[8] = { CLONE_NEWUSER };
	pid_t pid = (pid_t)syscall(SYS_clone3, args, sizeof(args));

	if (pid == 0)
		for (;;)
			pause();
	if (pid < 0)
		return fail(err, errno, "make a user namespace");
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	if (write_ranges(pid, "uid_map", map->uids, map->uid_count, err) == 0 &&
	    write_ranges(pid, "gid_map", map->gids, map->gid_count, err) == 0) {
		namespace = open(path, O_RDONLY | O_CLOEXEC);
		if (namespace < 0)
			fail(err, errno, "open %s", path);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
	return namespace;
}

static uint32_t outside(const struct id_range *ranges, size_t count, uint32_t id)
{
	for (size_t i = 0; i < count; i++)
		if (id >= ranges[i].inside && id - ranges[i].inside < ranges[i].size)
			return ranges[i].outside + (id - ranges[i].inside);
	return count ? NOBODY : id;
}

uid_t idmap_outside(const struct idmap *map, uid_t uid)
{
	return outside(map->uids, map->uid_count, uid);
}

gid_t idmap_group_outside(const struct idmap *map, gid_t gid)
{
	return outside(map->gids, map->gid_count, gid);
}

/* Not by chown: on a mount with mapped ids nobody whose own is not among them can make a file at all. */
int idmap_make_as(const struct idmap *map, struct error *err)
{
	uid_t uid = map ? idmap_outside(map, 0) : 0;
	gid_t gid = map ? idmap_group_outside(map, 0) : 0;

	if (map && prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) < 0)	/* or what we may would go */
		return fail(err, errno, "keep capabilities");
	setfsgid(gid);
	setfsuid(uid);
	if ((gid_t)setfsgid((gid_t)-1) != gid || (uid_t)setfsuid((uid_t)-1) != uid)
		return fail(err, EPERM, "make files as user %u and group %u", uid, gid);
	return !map && prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) < 0 ? fail(err, errno, "forget capabilities") : 0;
}
