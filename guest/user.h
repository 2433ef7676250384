/* Users and groups by the files of a container's root. */
#ifndef USER_H
#define USER_H

#include "error.h"

#include <limits.h>
#include <sys/types.h>

enum { GROUPS_MAX = 256 };

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	size_t groups_count;
	char home[PATH_MAX];
};

/* Whether the groups count that /etc/group has a user in: usual: where `user` names no group. */
enum memberships { MEMBERSHIPS_USUAL, MEMBERSHIPS_MERGE, MEMBERSHIPS_STRICT };

/* `user` is "name|uid[:group|gid]" or ""; names are looked up in /etc/passwd and /etc/group beneath `root`. */
int user_find(int root, const char *user, enum memberships which, struct identity *identity, struct error *err);
int user_add_group(struct identity *identity, gid_t gid, struct error *err);
int user_add_named_group(int root, const char *group, struct identity *identity, struct error *err);
/* The name of `uid`, or its digits. */
void user_name(int root, uid_t uid, char *name, size_t size);

#endif
