/* What a fuzz target gives and gets. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { INPUT_MAX = 131072 };

/* The target: */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t make_input(uint8_t *to);			/* a valid or nearly valid one, at most INPUT_MAX / 2 bytes */

/* The driver: */
uint32_t next_random(void);
void check(bool truth, const char *what);	/* ends all when it is not so */

#endif
