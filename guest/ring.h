/* Bytes first in, first out, in memory that grows on demand up to a bound. */
#ifndef RING_H
#define RING_H

#include <stddef.h>
#include <stdint.h>

struct ring {
	uint8_t *bytes;
	size_t capacity, start, length;		/* capacity: a power of two, or 0 */
};

/* The free stretch behind the last byte, at most *room long; NULL when it may not grow to hold a byte more. */
uint8_t *ring_space(struct ring *ring, size_t most, size_t *room);
void ring_fill(struct ring *ring, size_t length);
int ring_add(struct ring *ring, const void *bytes, size_t length, size_t most);	/* all, or -1 */
/* The stretch that begins `skip` bytes behind the first. */
const uint8_t *ring_peek(const struct ring *ring, size_t skip, size_t *length);
void ring_drop(struct ring *ring, size_t length);
void ring_free(struct ring *ring);

#endif
