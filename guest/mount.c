#include "mount.h"

#include "json.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

char run_dir[256] = "/run/hyper";

/* As the kernel's headers have them; the C libraries differ in what they declare. */
struct open_how_bytes {
	uint64_t flags, mode, resolve;
};
struct mount_attr_bytes {
	uint64_t attr_set, attr_clr, propagation, userns_fd;
};
enum {
	HOW_NO_MAGICLINKS = 0x02,
	HOW_NO_SYMLINKS = 0x04,
	HOW_BENEATH = 0x08,
	HOW_IN_ROOT = 0x10,
	TREE_CLONE = 1,
	TREE_RECURSIVE = 0x8000,	/* AT_RECURSIVE */
	TREE_EMPTY_PATH = 0x1000,	/* AT_EMPTY_PATH */
	MOVE_F_EMPTY_PATH = 0x04,
	MOVE_T_EMPTY_PATH = 0x40,
	LINKS_MAX = 40,
};

static int open_how(int root, const char *path, int flags, mode_t mode, uint64_t resolve, struct error *err)
{
	struct open_how_bytes how = { (uint64_t)flags | O_CLOEXEC, flags & O_CREAT ? mode : 0, resolve };
	int fd;

	/* EAGAIN: a rename ran against a "..", and the kernel could not be sure. */
	for (int i = 0; i < 100; i++) {
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd >= 0 ? fd : fail(err, errno, "open %.200s", path);
}

int open_beneath(int root, const char *path, int flags, mode_t mode, struct error *err)
{
	return open_how(root, *path ? path : ".", flags, mode, HOW_IN_ROOT | HOW_NO_MAGICLINKS, err);
}

int open_plain(int root, const char *path, int flags, mode_t mode, struct error *err)
{
	while (*path == '/')
		path++;
	return open_how(root, *path ? path : ".", flags, mode, HOW_BENEATH | HOW_NO_SYMLINKS, err);
}

static int make_limited(int root, const char *path, bool folder, int links, struct error *err);

/* `path` is a symlink that leads to nothing: make what it names. */
static int make_linked(int root, int parent, const char *parent_path, const char *name, bool folder, int links,
		       struct error *err)
{
	char target[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t length = readlinkat(parent, name, target, sizeof(target) - 1);

	if (length < 0)
		return fail(err, errno, "read link %.200s", name);
	target[length] = 0;
	if (target[0] == '/')
		return make_limited(root, target, folder, links + 1, err);
	if (format(err, joined, sizeof(joined), "%s/%s", parent_path, target) < 0)
		return -1;
	return make_limited(root, joined, folder, links + 1, err);
}

static int make_last(int parent, const char *name, bool folder, struct error *err)
{
	if (folder) {
		if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
			return fail(err, errno, "make folder %.200s", name);
	} else {
		int fd = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);

		if (fd < 0)
			return fail(err, errno, "make file %.200s", name);
		close(fd);
	}
	return open_plain(parent, name, O_PATH | (folder ? O_DIRECTORY : 0), 0, err);
}

static int make_limited(int root, const char *path, bool folder, int links, struct error *err)
{
	char copy[2 * PATH_MAX];
	char *slash, *name;
	autoclose int parent = -1;
	struct stat status;
	int fd = open_beneath(root, path, O_PATH | (folder ? O_DIRECTORY : 0), 0, err);

	if (fd >= 0 || err->number != ENOENT)
		return fd;
	if (links >= LINKS_MAX)
		return fail(err, ELOOP, "make %.200s", path);
	if (format(err, copy, sizeof(copy), "/%s", path) < 0)
		return -1;
	while ((slash = strrchr(copy, '/')) != copy && !slash[1])
		*slash = 0;
	name = slash + 1;
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return fail(err, ENOENT, "make %.200s", path);
	*slash = 0;
	parent = make_limited(root, copy, true, links + 1, err);
	if (parent < 0)
		return -1;
	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode))
		return make_linked(root, parent, copy, name, folder, links, err);
	return make_last(parent, name, folder, err);
}

int make_plain(int root, const char *path, struct error *err)
{
	char above[PATH_MAX];
	char *name;
	autoclose int parent = -1;

	if (format(err, above, sizeof(above), "%s", path) < 0)
		return -1;
	name = strrchr(above, '/');
	if (!name || !name[1])
		return fail_as(err, EINVAL, "make folder '%.200s': it has no name", path);
	*name++ = 0;
	parent = open_plain(root, above, O_PATH | O_DIRECTORY, 0, err);
	if (parent < 0)
		return -1;
	if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return fail(err, errno, "make folder %.200s", path);
	return open_plain(parent, name, O_PATH | O_DIRECTORY, 0, err);
}

/* Each missing folder costs one of LINKS_MAX too: that bounds the recursion. */
int make_beneath(int root, const char *path, bool folder, struct error *err)
{
	if (strlen(path) >= PATH_MAX)
		return fail(err, ENAMETOOLONG, "make %.100s", path);
	return make_limited(root, path, folder, 0, err);
}

int mount_on(int target, const char *source, const char *type, unsigned long flags, const char *data,
	     struct error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	if (mount(source, path, type, flags, data) < 0)
		return fail(err, errno, "mount %s", type);
	return 0;
}

int bare_mount(int root, struct error *err)
{
	int tree = (int)syscall(SYS_open_tree, root, "", TREE_CLONE | O_CLOEXEC | TREE_EMPTY_PATH);

	return tree < 0 ? fail(err, errno, "clone a mount") : tree;
}

int move_on(int mounted, int target, struct error *err)
{
	if (syscall(SYS_move_mount, mounted, "", target, "", MOVE_F_EMPTY_PATH | MOVE_T_EMPTY_PATH) < 0)
		return fail(err, errno, "move a mount");
	return 0;
}

int bind_on(int source, int target, uint64_t set, uint64_t clear, struct error *err)
{
	struct mount_attr_bytes attr = { .attr_set = set, .attr_clr = clear };
	autoclose int tree = (int)syscall(SYS_open_tree, source, "",
					  TREE_CLONE | O_CLOEXEC | TREE_RECURSIVE | TREE_EMPTY_PATH);

	if (tree < 0)
		return fail(err, errno, "clone a mount");
	if ((set || clear) &&
	    syscall(SYS_mount_setattr, tree, "", TREE_EMPTY_PATH | TREE_RECURSIVE, &attr, sizeof(attr)) < 0)
		return fail(err, errno, "set the attributes of a mount");
	return move_on(tree, target, err);
}

int mount_mapped(const char *path, int users, struct error *err)
{
	struct mount_attr_bytes attr = { .attr_set = ATTR_IDMAP, .userns_fd = (uint64_t)users };
	autoclose int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path, TREE_CLONE | O_CLOEXEC), target = -1;

	/* A kernel maps ids of what has no place yet. */
	if (tree < 0 || umount2(path, UMOUNT_NOFOLLOW) < 0)
		return fail(err, errno, "clone a mount");
	if (syscall(SYS_mount_setattr, tree, "", TREE_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return fail(err, errno, "map ids of what is mounted on %s", path);
	target = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return target < 0 ? fail(err, errno, "open %s", path) : move_on(tree, target, err);
}

int mount_read_only(const char *path, struct error *err)
{
	struct mount_attr_bytes attr = { .attr_set = ATTR_RDONLY };

	if (syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &attr, sizeof(attr)) < 0)
		return fail(err, errno, "make %s read-only", path);
	return 0;
}

int write_all(int fd, const void *bytes, size_t length, struct error *err)
{
	const char *from = bytes;

	while (length) {
		ssize_t n = write(fd, from, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, errno, "write %zu bytes", length);
		from += n;
		length -= (size_t)n;
	}
	return 0;
}

int write_file_at(int dir, const char *name, const char *value, struct error *err)
{
	autoclose int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);	/* closed on every return */

	if (fd < 0)
		return fail(err, errno, "open %.200s", name);
	if (write(fd, value, strlen(value)) < 0)
		return fail(err, errno, "write '%.40s' to %.200s", value, name);
	return 0;
}

ssize_t read_file_at(int dir, const char *name, char *to, size_t size)
{
	autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t length = 0;

	to[0] = 0;
	if (fd < 0)
		return -1;
	while (length < size - 1) {
		ssize_t n = read(fd, to + length, size - 1 - length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		length += (size_t)n;
	}
	to[length] = 0;
	return (ssize_t)length;
}

int make_folders(const char *path, struct error *err)
{
	char copy[PATH_MAX];

	if (format(err, copy, sizeof(copy), "%s", path) < 0)
		return -1;
	for (char *slash = strchr(copy + 1, '/'); ; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return fail(err, errno, "make folder %s", copy);
		if (!slash)
			return 0;
		*slash = '/';
	}
}

static int set_sysctl(const char *key, const char *value, struct error *err)
{
	char path[256];
	int fd, result = 0;

	if (!*key || strstr(key, "..") || *key == '/' || *key == '.')
		return fail_as(err, EINVAL, "set sysctl '%.64s': it is no name of one", key);
	if (format(err, path, sizeof(path), "/proc/sys/%s", key) < 0)
		return -1;
	if (!strchr(key, '/'))		/* with slashes, dots belong to the name of an interface */
		for (char *c = path + strlen("/proc/sys/"); *c; c++)
			if (*c == '.')
				*c = '/';
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail(err, errno, "set sysctl %.64s", key);
	if (write(fd, value, strlen(value)) < 0)
		result = fail(err, errno, "set sysctl %.64s to '%.64s'", key, value);
	close(fd);
	return result;
}

int set_sysctls(const struct json *sysctls, struct error *err)
{
	if (json_all(sysctls, JSON_STRING, "sysctls", err) < 0)
		return -1;
	for (const struct json *s = json_first(sysctls); s; s = s->next)
		if (set_sysctl(s->key, s->string, err) < 0)
			return -1;
	return 0;
}
