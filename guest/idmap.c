#include "idmap.h"

#include "mount.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { LINE_BYTES = 36, NOBODY = 65534 };

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
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER, NULL, NULL, NULL, NULL);

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

uid_t idmap_outside(const struct idmap *map, uid_t uid)
{
	for (size_t i = 0; i < map->uid_count; i++)
		if (uid >= map->uids[i].inside && uid - map->uids[i].inside < map->uids[i].size)
			return map->uids[i].outside + (uid - map->uids[i].inside);
	return map->uid_count ? NOBODY : uid;
}
