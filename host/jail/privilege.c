#include "privilege.h"

#include "error.h"

#include <grp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void drop_capabilities(uint64_t keep)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("set no_new_privs");
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			die("drop capability %d", cap);
}

/* Groups first, while we may; leaving user 0 clears the permitted and effective capabilities. */
void become(long uid)
{
	if (setgroups(0, NULL) < 0 || setresgid((gid_t)uid, (gid_t)uid, (gid_t)uid) < 0 ||
	    setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid) < 0)
		die("become user %ld", uid);
}

static int ascending(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void close_others(int *keep, int count)
{
	int from = 3;
	qsort(keep, (size_t)count, sizeof *keep, ascending);
	for (int i = 0; i < count; i++) {
		if (keep[i] > from)
			syscall(SYS_close_range, (unsigned)from, (unsigned)keep[i] - 1, 0);
		if (keep[i] >= from)
			from = keep[i] + 1;
	}
	syscall(SYS_close_range, (unsigned)from, ~0U, 0);
}
