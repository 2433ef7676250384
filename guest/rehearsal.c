/* What guests rehearse with: a program that does what most programs with a C library do as they begin, says a word, and
   stays until nobody has anything to say to it. What the kernel is asked for here for the first time, an emulator has
   translated before somebody waits for it. What fails is left out: no one needs what comes of it. */
#include "spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { PAGE = 4096, ROOM = 16 * PAGE, RSEQ_BYTES = 32, RSEQ_MARK = 0x53053053 };

static void touch(volatile char *pages, size_t length, bool written)
{
	for (size_t at = 0; at < length; at += PAGE) {
		char byte = pages[at];

		if (written)
			pages[at] = byte;
	}
}

static void begin_as_libraries_do(void)
{
	static _Alignas(RSEQ_BYTES) char rseq[RSEQ_BYTES];
	char text[256];
	char *end = (char *)syscall(SYS_brk, 0);

	if (syscall(SYS_brk, end + ROOM) == (long)(end + ROOM))
		touch(end, ROOM, true);
	syscall(SYS_set_robust_list, NULL, 24);
	if (syscall(SYS_rseq, rseq, RSEQ_BYTES, 0, RSEQ_MARK) == 0)
		syscall(SYS_rseq, rseq, RSEQ_BYTES, 1, RSEQ_MARK);
	syscall(SYS_getrandom, text, 8, 1);
	prctl(PR_GET_NAME, text);
	if (readlink("/proc/self/exe", text, sizeof(text)) < 0 || getcwd(text, sizeof(text)) == NULL)
		debug("rehearse: %s", strerror(errno));
}

/* As a loader of programs and libraries does: all of the file, a part of which is written, and a part written no more. */
static void map_program(void)
{
	autoclose int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat status;
	char *pages;

	if (fd < 0 || fstat(fd, &status) < 0 || status.st_size < 4 * PAGE)
		return;
	pages = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (pages == MAP_FAILED)
		return;
	touch(pages, (size_t)status.st_size, false);
	touch(pages, 2 * PAGE, true);
	mprotect(pages, PAGE, PROT_READ);
	munmap(pages + PAGE, 2 * PAGE);
	munmap(pages, (size_t)status.st_size);
}

static void use_files(void)
{
	static const char path[] = "/tmp/rehearsal";
	DIR *root = opendir("/");
	autoclose int fd = -1;
	char text[256] = "";

	while (root && readdir(root))
		;
	if (root)
		closedir(root);
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text)) < 0)
		debug("rehearse: %s", strerror(errno));
	close_fd(&fd);
	if (access("/etc/absent", F_OK) == 0 || (mkdir("/tmp", 0777) < 0 && errno != EEXIST))
		return;
	fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd >= 0 && write(fd, text, sizeof(text)) > 0 && lseek(fd, 0, SEEK_SET) == 0 && read(fd, text, sizeof(text)) > 0)
		ftruncate(fd, 0);
	unlink(path);
}

static void *say_word(void *pipe)
{
	write(*(int *)pipe, "", 1);
	return NULL;
}

/* A thread and a process, as shells and servers begin one. */
static void have_helpers(void)
{
	int ends[2], status;
	pthread_t thread;
	char word;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	if (pthread_create(&thread, NULL, say_word, &ends[1]) == 0)
		pthread_join(thread, NULL);
	child = fork();
	if (child == 0) {
		say_word(&ends[1]);
		_exit(0);
	}
	close_fd(&ends[1]);
	while (read(ends[0], &word, 1) > 0)
		;
	close_fd(&ends[0]);
	if (child > 0)
		waitpid(child, &status, 0);
}

int rehearsal_main(void)
{
	char waste[64];

	begin_as_libraries_do();
	map_program();
	use_files();
	have_helpers();
	if (puts("ready") < 0 || fflush(stdout))
		return 1;
	while (read(STDIN_FILENO, waste, sizeof(waste)) > 0)
		;
	return 0;
}
