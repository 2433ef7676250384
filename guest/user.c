#include "user.h"

#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 1 << 20, COLUMNS = 7 };

/* The whole of a file of the container: regular and bounded, or NULL as if it were empty. In a shared folder each
   question goes to the host: what the open has told is not asked once more, and one read that is short is the end. */
static char *read_database(int root, const char *path)
{
	struct error err;
	struct statx status;
	autoclose int fd = open_beneath(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &err);
	char *text;
	ssize_t length;

	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0 ||
	    !S_ISREG(status.stx_mode) || !(text = malloc(FILE_MAX + 1)))
		return NULL;
	length = read(fd, text, FILE_MAX);
	text[length > 0 ? length : 0] = 0;
	return text;
}

/* The next line, cut at its colons; the number of its columns, -1 at the end. */
static int next_line(char **at, char *columns[COLUMNS])
{
	char *line = *at;
	size_t length;
	int count = 0;

	if (!line || !*line)
		return -1;
	length = strcspn(line, "\n");
	*at = line + length + (line[length] != 0);
	line[length] = 0;
	while (line && count < COLUMNS) {
		columns[count++] = line;
		line = strchr(line, ':');
		if (line)
			*line++ = 0;
	}
	return count;
}

static bool parse_id(const char *text, uint32_t *id)
{
	unsigned long long value;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || *end || value >= UINT32_MAX)	/* (uid_t)-1 means "none" */
		return false;
	*id = (uint32_t)value;
	return true;
}

/* Fill the identity from the user's line. Returns whether there is one; name gets the login name. */
static bool find_user(int root, const char *user, struct identity *identity, char *name, size_t size)
{
	autofree char *text = read_database(root, "/etc/passwd");
	char *at = text, *columns[COLUMNS];
	uint32_t wanted = 0, uid, gid;
	bool numeric = parse_id(user, &wanted);
	int count;

	while ((count = next_line(&at, columns)) >= 0) {
		if (count < 4 || !parse_id(columns[2], &uid) || !parse_id(columns[3], &gid))
			continue;
		if (strcmp(columns[0], user) && !(numeric && uid == wanted))
			continue;
		identity->uid = uid;
		identity->gid = gid;
		snprintf(name, size, "%s", columns[0]);
		if (count >= 6 && columns[5][0])
			snprintf(identity->home, sizeof(identity->home), "%s", columns[5]);
		return true;
	}
	return false;
}

static bool find_group(int root, const char *group, gid_t *gid)
{
	autofree char *text = read_database(root, "/etc/group");
	char *at = text, *columns[COLUMNS];
	uint32_t id;
	int count;

	while ((count = next_line(&at, columns)) >= 0)
		if (count >= 3 && !strcmp(columns[0], group) && parse_id(columns[2], &id)) {
			*gid = id;
			return true;
		}
	return false;
}

int user_add_group(struct identity *identity, gid_t gid, struct error *err)
{
	for (size_t i = 0; i < identity->groups_count; i++)
		if (identity->groups[i] == gid)
			return 0;
	if (identity->groups_count == GROUPS_MAX)
		return fail_as(err, E2BIG, "join groups: there are more than %d", GROUPS_MAX);
	identity->groups[identity->groups_count++] = gid;
	return 0;
}

int user_add_named_group(int root, const char *group, struct identity *identity, struct error *err)
{
	gid_t gid;

	if (!find_group(root, group, &gid))
		return fail_as(err, EINVAL, "find group %.200s: /etc/group names none", group);
	return user_add_group(identity, gid, err);
}

static bool is_member(char *members, const char *name)
{
	for (char *rest = members, *one; (one = strsep(&rest, ",")); )
		if (!strcmp(one, name))
			return true;
	return false;
}

static int add_memberships(int root, const char *name, struct identity *identity, struct error *err)
{
	autofree char *text = read_database(root, "/etc/group");
	char *at = text, *columns[COLUMNS];
	uint32_t id;
	int count;

	while ((count = next_line(&at, columns)) >= 0)
		if (count >= 4 && parse_id(columns[2], &id) && is_member(columns[3], name) &&
		    user_add_group(identity, id, err) < 0)
			return -1;
	return 0;
}

int user_find(int root, const char *user, enum memberships which, struct identity *identity, struct error *err)
{
	char copy[256], name[256] = "", *group;
	uint32_t id;

	*identity = (struct identity){ .home = "/" };
	if (format(err, copy, sizeof(copy), "%s", *user ? user : "0") < 0)
		return -1;
	group = strchr(copy, ':');
	if (group)
		*group++ = 0;
	if (!find_user(root, *copy ? copy : "0", identity, name, sizeof(name))) {
		if (!parse_id(*copy ? copy : "0", &id))
			return fail_as(err, EINVAL, "find user %.200s: /etc/passwd names none", copy);
		identity->uid = id;
	}
	if (group && *group) {
		if (parse_id(group, &id))
			identity->gid = id;
		else if (!find_group(root, group, &identity->gid))
			return fail_as(err, EINVAL, "find group %.200s: /etc/group names none", group);
	}
	/* A program that gives its first group up, as a setgid one does, would else be outside of it: files that the
	   group may not read would be open to it as to others. */
	if (user_add_group(identity, identity->gid, err) < 0)
		return -1;
	if (which == MEMBERSHIPS_USUAL && (!group || !*group))
		which = MEMBERSHIPS_MERGE;
	return *name && which == MEMBERSHIPS_MERGE ? add_memberships(root, name, identity, err) : 0;
}

void user_name(int root, uid_t uid, char *name, size_t size)
{
	struct identity identity;
	char digits[16];

	snprintf(digits, sizeof(digits), "%u", uid);
	if (root < 0 || !find_user(root, digits, &identity, name, size))
		snprintf(name, size, "%s", digits);
}
