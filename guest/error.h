/* Errors that a caller can be told, and the few things that every file needs. */
#ifndef ERROR_H
#define ERROR_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

struct error {
	int number;		/* errno */
	char message[320];	/* what we were doing to what, and why it failed */
	bool exec;		/* the command itself could not be run: all before it was done */
};

/* Fill *err with "FORMAT: strerror(number)" and return -1. */
int fail(struct error *err, int number, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same where errno's own words explain nothing: FORMAT says why. */
int fail_as(struct error *err, int number, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The end: say it on the console, then power the guest off (in a test: exit 1). */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Power the guest off, all that was written to disk first. */
void end_machine(void);
extern bool ends_by_reset;	/* nothing here powers a machine off; told to, the kernel would stand still forever */

/* One line on the console if the kernel command line has hyper.debug. */
void debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool debugging;
extern bool testing;		/* --test: an ordinary process, folders for disks, a socket for the port */

static inline void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static inline void free_pointer(void *pointer)
{
	free(*(void **)pointer);
}

#define autoclose __attribute__((cleanup(close_fd)))	/* closed on every return */
#define autofree __attribute__((cleanup(free_pointer)))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* snprintf that refuses to cut: 0, or -1 with *err = ENAMETOOLONG. */
int format(struct error *err, char *to, size_t size, const char *how, ...) __attribute__((format(printf, 4, 5)));

#endif
