/*
 * A program of the tests that asks the kernel for one thing of a file and says "ok" or why not.
 *
 *   file|fifo|char|tmpfile NAME         makes one
 *   chmod|create|regular MODE NAME      an octal MODE; regular: by mknod
 *   mode MODE NAME, chown ID NAME, owner ID NAME, link NAME, links COUNT NAME, size BYTES NAME
 *   set ATTRIBUTE NAME, get ATTRIBUTE NAME; acl NAME, capability NAME
 *   append TEXT NAME                    to a file that is there
 *   put|replace TEXT NAME, has TEXT NAME, remove NAME
 *   mmap NAME, exchange NAME, direct NAME, holes NAME
 *   try|wait KIND NAME                  a lock, KIND is flock, posix or ofd; wait waits for it
 *   queue KIND NAME                     tries, says "taken" if it is, and waits
 *   write NAME, connect NAME            to a pipe, to a socket, that somebody has open
 *   rewrite NAME                        makes its folder's read-only mount a writable one; "writable" if it is
 *
 * These say "ok" when they are at it, and end with stdin:
 *   hold KIND NAME, open NAME, listen NAME
 *   grab NAME                           has a file open for writing, as soon as it may be made
 *   appends COUNT NAME                  then appends lines of 8 bytes
 *   mapping NAME                        maps a file with "old" in it, and says in the end whether it has "new"
 * watch FOLDER says "ok", then the name in each event of inotify, as something is made there; "end" is its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char every_capability[20] = "\1\0\0\2\377\377\377\377";	/* revision 2, effective, permitted */
static const struct {
	uint32_t version;
	struct {
		uint16_t tag, permissions;
		uint32_t id;
	} entries[5];
} acl = { 2, { { 1, 6, -1 }, { 2, 4, 1234 }, { 4, 4, -1 }, { 16, 4, -1 }, { 32, 4, -1 } } };	/* user 1234 may read */

static int say(long result)
{
	puts(result < 0 ? strerror(errno) : "ok");
	fflush(stdout);
	return result < 0;
}

/* "ok" if it is so, else what is instead. */
static int say_if(int so, const char *instead)
{
	puts(so ? "ok" : instead);
	fflush(stdout);
	return !so;
}

static int stay_on(void)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
	return 0;
}

/* Say that `result` is there, and wait for the end of stdin. */
static int stay(long result)
{
	return say(result) || stay_on();
}

static int lock(const char *kind, int fd, int wait)
{
	struct flock whole = { .l_type = F_WRLCK };

	if (!strcmp(kind, "flock"))
		return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
	if (!strcmp(kind, "posix"))
		return fcntl(fd, wait ? F_SETLKW : F_SETLK, &whole);
	return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &whole);
}

static int locks(const char *verb, const char *kind, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0666);

	if (fd < 0)
		return say(-1);
	if (!strcmp(verb, "hold"))
		return stay(lock(kind, fd, 0));
	if (!strcmp(verb, "queue")) {
		if (lock(kind, fd, 0) == 0)
			return say(0);
		if (errno != EAGAIN)
			return say(-1);
		puts("taken");
		fflush(stdout);
	}
	return say(lock(kind, fd, strcmp(verb, "try")));
}

static int watch(const char *path)
{
	static char bytes[4096] __attribute__((aligned(8)));
	int fd = inotify_init();
	ssize_t length;

	if (say(inotify_add_watch(fd, path, IN_CREATE)))
		return 1;
	while ((length = read(fd, bytes, sizeof(bytes))) > 0)
		for (char *at = bytes; at < bytes + length;) {
			struct inotify_event *event = (struct inotify_event *)at;

			if (!strcmp(event->name, "end"))
				return 0;
			puts(event->name);
			fflush(stdout);
			at += sizeof(*event) + event->len;
		}
	return 1;
}

static int grab(const char *path)
{
	int fd;

	do
		fd = open(path, O_WRONLY | O_CREAT, 0666);
	while (fd < 0 && (errno == ENOENT || errno == EROFS));
	return stay(fd);
}

static int append(const char *text, const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	return say(fd < 0 ? -1 : write(fd, text, strlen(text)));
}

static int appends(long count, const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);

	if (stay(fd))
		return 1;
	while (count-- > 0)
		if (write(fd, "a line.\n", 8) != 8)
			return say(-1);
	return say(0);
}

static long put(const char *text, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0666);

	return fd < 0 ? -1 : pwrite(fd, text, strlen(text), 0);
}

static long replace(const char *text, const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.new", path);
	return put(text, other) < 0 ? -1 : rename(other, path);
}

static int has(const char *text, const char *path)
{
	static char bytes[1 << 16];
	int fd = open(path, O_RDONLY);
	ssize_t length = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));

	return length < 0 ? say(-1) : say_if(memmem(bytes, (size_t)length, text, strlen(text)) != NULL, "other bytes");
}

static char *map(const char *path, int prot)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);

	return fd < 0 || ftruncate(fd, 8192) < 0 ? MAP_FAILED : mmap(NULL, 8192, prot, MAP_SHARED, fd, 0);
}

static long mapped(const char *path)
{
	char *bytes = map(path, PROT_READ | PROT_WRITE);

	if (bytes == MAP_FAILED)
		return -1;
	memcpy(bytes + 4096, "by", 2);
	return msync(bytes, 8192, MS_SYNC);
}

static int mapping(const char *path)
{
	volatile char *bytes = map(path, PROT_READ);

	if (bytes == MAP_FAILED)
		return say(-1);
	return say_if(bytes[0] == 'o', "other bytes") || stay_on() || say_if(bytes[0] == 'n', "old bytes");
}

static long exchange(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.other", path);
	if (open(path, O_CREAT | O_RDWR, 0644) < 0 || open(other, O_CREAT | O_RDWR, 0644) < 0)
		return -1;
	return syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2);
}

static long link_other(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.other", path);
	return link(path, other);
}

static long direct(const char *path)
{
	static char block[4096] __attribute__((aligned(4096)));
	int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0644);

	return fd < 0 ? -1 : write(fd, block, sizeof(block));
}

static long holes(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);

	return fd < 0 || fallocate(fd, 0, 0, 1 << 20) < 0 ? -1 : fallocate(fd, 3, 4096, 4096);
}

static long socket_at(const char *path, int (*what)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
	return fd < 0 || what(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? -1 : fd;
}

static long listening(const char *path)
{
	long fd = socket_at(path, bind);

	return fd < 0 ? -1 : listen((int)fd, 1);
}

static long to_pipe(const char *path)
{
	int fd = open(path, O_WRONLY | O_NONBLOCK);

	return fd < 0 ? -1 : write(fd, "x", 1);
}

static int rewrite(const char *path)
{
	if (open(path, O_WRONLY | O_CREAT, 0666) >= 0)
		return say_if(0, "writable from the start");
	mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND, NULL);
	if (open(path, O_WRONLY | O_CREAT, 0666) >= 0)
		return say_if(0, "writable");
	return errno == EROFS ? say(0) : say(-1);
}

/* Whether `path` is as `word` says. */
static int is(const char *verb, const char *word, const char *path)
{
	struct stat found;
	char instead[32];
	int so;

	if (stat(path, &found) < 0)
		return say(-1);
	if (!strcmp(verb, "mode")) {
		so = (found.st_mode & 07777) == strtoul(word, NULL, 8);
		snprintf(instead, sizeof(instead), "%o", found.st_mode & 07777);
	} else if (!strcmp(verb, "owner")) {
		so = found.st_uid == strtoul(word, NULL, 10) && found.st_gid == found.st_uid;
		snprintf(instead, sizeof(instead), "%u:%u", found.st_uid, found.st_gid);
	} else if (!strcmp(verb, "links")) {
		so = found.st_nlink == strtoul(word, NULL, 10);
		snprintf(instead, sizeof(instead), "%lu", (unsigned long)found.st_nlink);
	} else {
		so = found.st_size == strtol(word, NULL, 10);
		snprintf(instead, sizeof(instead), "%ld", (long)found.st_size);
	}
	return say_if(so, instead);
}

int main(int argc, char **argv)
{
	const char *verb = argv[1], *word = argv[2], *path = argv[argc - 1];
	unsigned int mode = argc > 3 ? (unsigned int)strtoul(word, NULL, 8) : 0;
	unsigned int number = argc > 3 ? (unsigned int)strtoul(word, NULL, 10) : 0;
	char value[64];

	umask(0);
	if (!strcmp(verb, "file"))
		return say(open(path, O_CREAT | O_RDWR, 0666));
	if (!strcmp(verb, "chmod"))
		return say(chmod(path, mode));
	if (!strcmp(verb, "create"))
		return say(open(path, O_CREAT | O_EXCL | O_WRONLY, mode));
	if (!strcmp(verb, "regular"))
		return say(mknod(path, S_IFREG | mode, 0));
	if (!strcmp(verb, "char"))
		return say(mknod(path, S_IFCHR | 0666, 0x103));
	if (!strcmp(verb, "fifo"))
		return say(mkfifo(path, 0666));
	if (!strcmp(verb, "tmpfile"))
		return say(open(path, O_TMPFILE | O_RDWR, 0600));
	if (!strcmp(verb, "chown"))
		return say(chown(path, number, number));
	if (!strcmp(verb, "link"))
		return say(link_other(path));
	if (!strcmp(verb, "mode") || !strcmp(verb, "owner") || !strcmp(verb, "links") || !strcmp(verb, "size"))
		return is(verb, word, path);
	if (!strcmp(verb, "watch"))
		return watch(path);
	if (!strcmp(verb, "capability"))
		return say(setxattr(path, "security.capability", every_capability, sizeof(every_capability), 0));
	if (!strcmp(verb, "acl"))
		return say(setxattr(path, "system.posix_acl_access", &acl, sizeof(acl), 0));
	if (!strcmp(verb, "set"))
		return say(setxattr(path, word, "v", 1, 0));
	if (!strcmp(verb, "get"))
		return say(getxattr(path, word, value, sizeof(value)));
	if (!strcmp(verb, "append"))
		return append(word, path);
	if (!strcmp(verb, "grab"))
		return grab(path);
	if (!strcmp(verb, "appends"))
		return appends(number, path);
	if (!strcmp(verb, "put"))
		return say(put(word, path));
	if (!strcmp(verb, "replace"))
		return say(replace(word, path));
	if (!strcmp(verb, "remove"))
		return say(unlink(path));
	if (!strcmp(verb, "has"))
		return has(word, path);
	if (!strcmp(verb, "mmap"))
		return say(mapped(path));
	if (!strcmp(verb, "mapping"))
		return mapping(path);
	if (!strcmp(verb, "exchange"))
		return say(exchange(path));
	if (!strcmp(verb, "direct"))
		return say(direct(path));
	if (!strcmp(verb, "holes"))
		return say(holes(path));
	if (!strcmp(verb, "open"))
		return stay(open(path, O_RDWR));
	if (!strcmp(verb, "write"))
		return say(to_pipe(path));
	if (!strcmp(verb, "listen"))
		return stay(listening(path));
	if (!strcmp(verb, "connect"))
		return say(socket_at(path, connect));
	if (!strcmp(verb, "rewrite"))
		return rewrite(path);
	return locks(verb, word, path);
}
