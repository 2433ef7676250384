/*
 * A program of the tests that asks the kernel for one thing of a file and says "ok" or why not.
 *
 *   chmod|create|regular MODE PATH      an octal MODE; regular: by mknod
 *   char|fifo|tmpfile PATH
 *   capability PATH                     gives a program capabilities
 *   set NAME PATH, get NAME PATH        an extended attribute, its value "v"
 *   watch FOLDER                        says "ok", then the name in each event of inotify, as something is made there
 *   append TEXT PATH                    to a file that is there
 *   grab PATH                           makes a file as soon as it may, and has it open for writing until stdin ends
 *   try|wait|hold KIND PATH             a lock, KIND is flock, posix or ofd; hold keeps it until stdin ends,
 *                                       wait waits for it
 *   mmap PATH, exchange PATH, direct PATH, holes PATH
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char every_capability[20] = "\1\0\0\2\377\377\377\377";	/* revision 2, effective, permitted */

static int say(long result)
{
	puts(result < 0 ? strerror(errno) : "ok");
	fflush(stdout);
	return result < 0;
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
	int fd = open(path, O_RDWR | O_CREAT, 0666), failed;
	char byte;

	if (fd < 0)
		return say(-1);
	failed = say(lock(kind, fd, !strcmp(verb, "wait")));
	if (!failed && !strcmp(verb, "hold"))
		while (read(0, &byte, 1) > 0)
			;
	return failed;
}

static int watch(const char *path)
{
	static char bytes[4096] __attribute__((aligned(8)));
	int fd = inotify_init();

	if (say(inotify_add_watch(fd, path, IN_CREATE)))
		return 1;
	while (read(fd, bytes, sizeof(bytes)) > 0) {
		puts(((struct inotify_event *)bytes)->name);
		fflush(stdout);
	}
	return 1;
}

static int grab(const char *path)
{
	int fd;
	char byte;

	do
		fd = open(path, O_WRONLY | O_CREAT, 0666);
	while (fd < 0 && (errno == ENOENT || errno == EROFS));
	if (say(fd))
		return 1;
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}

static int append(const char *text, const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	return say(fd < 0 ? -1 : write(fd, text, strlen(text)));
}

static long mapped(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0644);
	char *bytes = MAP_FAILED, read_back[3] = "";

	if (fd >= 0 && ftruncate(fd, 8192) == 0)
		bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return -1;
	memcpy(bytes + 4096, "by", 2);
	if (msync(bytes, 8192, MS_SYNC) < 0 || pread(fd, read_back, 2, 4096) != 2)
		return -1;
	errno = EIO;
	return strcmp(read_back, "by") ? -1 : 0;
}

static long exchange(const char *path)
{
	char other[4096];

	snprintf(other, sizeof(other), "%s.other", path);
	if (open(path, O_CREAT | O_RDWR, 0644) < 0 || open(other, O_CREAT | O_RDWR, 0644) < 0)
		return -1;
	return syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2);
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

int main(int argc, char **argv)
{
	const char *verb = argv[1], *path = argv[argc - 1];
	unsigned int mode = argc > 3 ? (unsigned int)strtoul(argv[2], NULL, 8) : 0;
	char value[8];

	umask(0);
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
	if (!strcmp(verb, "watch"))
		return watch(path);
	if (!strcmp(verb, "capability"))
		return say(setxattr(path, "security.capability", every_capability, sizeof(every_capability), 0));
	if (!strcmp(verb, "set"))
		return say(setxattr(path, argv[2], "v", 1, 0));
	if (!strcmp(verb, "get"))
		return say(getxattr(path, argv[2], value, sizeof(value)));
	if (!strcmp(verb, "append"))
		return append(argv[2], path);
	if (!strcmp(verb, "grab"))
		return grab(path);
	if (!strcmp(verb, "mmap"))
		return say(mapped(path));
	if (!strcmp(verb, "exchange"))
		return say(exchange(path));
	if (!strcmp(verb, "direct"))
		return say(direct(path));
	if (!strcmp(verb, "holes"))
		return say(holes(path));
	return locks(verb, argv[2], path);
}
