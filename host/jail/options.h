/* What hyper-jail was asked for: see main.c. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

enum { MAX_LIST = 64 };

struct list {
	const char *items[MAX_LIST];
	int count;
};

extern struct options {
	const char *name, *root, *preload, *home;
	struct list binds, links, cgroups, mounts;
	int fds[MAX_LIST], fd_count;
	int lock;		/* -1: none */
	int in;			/* what is its stdin; -1: nothing */
	int from, to;		/* of --copy; -1: none */
	long uid;		/* -1: stay who we are */
	uint64_t caps;
	rlim_t nofile, fsize;	/* 0: leave it */
	bool kvm, vsock, proc, no_setid;
} opt;

char **parse(int argc, char **argv);	/* to opt; returns PROGRAM's argv */

/* The part of "SOURCE=DEST" after '='; SOURCE is copied to `source`. DEST is below the new root: no leading slash. */
const char *split(const char *pair, char source[PATH_MAX]);

#endif
