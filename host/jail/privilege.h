/* Giving up what PROGRAM and the keeper have no use for. */
#ifndef PRIVILEGE_H
#define PRIVILEGE_H

#include <stdint.h>

void drop_capabilities(uint64_t keep);	/* and no exec gives anything back: not setuid files, not file capabilities */
void become(long uid);			/* that user and group, in no other */
void close_others(int *keep, int count);	/* every descriptor from 3 up that is not in `keep`, which gets sorted */

#endif
