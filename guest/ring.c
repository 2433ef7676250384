#include "ring.h"

#include <stdlib.h>
#include <string.h>

enum { RING_LEAST = 4096 };

static int grow(struct ring *ring, size_t most)
{
	size_t capacity = ring->capacity ? ring->capacity * 2 : RING_LEAST;
	size_t first = ring->capacity - ring->start;
	uint8_t *bytes;

	if (capacity > most || !(bytes = malloc(capacity)))
		return -1;
	if (first > ring->length)
		first = ring->length;
	if (ring->length) {
		memcpy(bytes, ring->bytes + ring->start, first);
		memcpy(bytes + first, ring->bytes, ring->length - first);
	}
	free(ring->bytes);
	ring->bytes = bytes;
	ring->capacity = capacity;
	ring->start = 0;
	return 0;
}

/* Of one that has some. */
static uint8_t *space(struct ring *ring, size_t *room)
{
	size_t at = (ring->start + ring->length) & (ring->capacity - 1);

	*room = at >= ring->start ? ring->capacity - at : ring->start - at;
	return ring->bytes + at;
}

uint8_t *ring_space(struct ring *ring, size_t most, size_t *room)
{
	return ring->length == ring->capacity && grow(ring, most) < 0 ? NULL : space(ring, room);
}

void ring_fill(struct ring *ring, size_t length)
{
	ring->length += length;
}

int ring_add(struct ring *ring, const void *bytes, size_t length, size_t most)
{
	const uint8_t *from = bytes;

	while (ring->capacity - ring->length < length)
		if (grow(ring, most) < 0)
			return -1;
	while (length) {
		size_t room;
		uint8_t *to = space(ring, &room);

		if (room > length)
			room = length;
		memcpy(to, from, room);
		ring_fill(ring, room);
		from += room;
		length -= room;
	}
	return 0;
}

const uint8_t *ring_peek(const struct ring *ring, size_t skip, size_t *length)
{
	size_t at, rest = ring->length - skip;

	if (!rest) {
		*length = 0;
		return NULL;
	}
	at = (ring->start + skip) & (ring->capacity - 1);
	*length = ring->capacity - at < rest ? ring->capacity - at : rest;
	return ring->bytes + at;
}

void ring_drop(struct ring *ring, size_t length)
{
	ring->length -= length;
	ring->start = ring->length ? (ring->start + length) & (ring->capacity - 1) : 0;
}

void ring_free(struct ring *ring)
{
	free(ring->bytes);
	*ring = (struct ring){ 0 };
}
