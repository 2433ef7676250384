/* The ids that a container has in its user namespace, and which those are outside. */
#ifndef IDMAP_H
#define IDMAP_H

#include "json.h"

#include <sys/types.h>

enum { ID_RANGES_MAX = 64 };

struct id_range {
	uint32_t inside, outside, size;
};

struct idmap {
	struct id_range uids[ID_RANGES_MAX], gids[ID_RANGES_MAX];
	size_t uid_count, gid_count;	/* uid_count 0: there is no such namespace */
};

int idmap_parse(const struct json *json, struct idmap *map, struct error *err);
/* A user namespace with these ids, that lasts as long as the descriptor. */
int idmap_namespace(const struct idmap *map, struct error *err);
/* Which user or group that is outside; 65534: none. */
uid_t idmap_outside(const struct idmap *map, uid_t uid);
gid_t idmap_group_outside(const struct idmap *map, gid_t gid);
/* Files that this process makes from here on belong to root as it is inside, and it may all that it may; NULL: to ours. */
int idmap_make_as(const struct idmap *map, struct error *err);

#endif
