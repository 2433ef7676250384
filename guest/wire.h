/* Frames <-> bytes (docs/wire.md, section 1). Pure: it is fed bytes, no descriptor is known here. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FRAME_HELLO = 1,
	FRAME_DATA = 2,
	FRAME_ACK = 3,
	FRAME_EOF = 4,
	FRAME_STOP = 5,

	HEADER_BYTES = 16,
	PAYLOAD_MAX = 32768,
	FRAME_EXTRA = HEADER_BYTES + 1,		/* header and end byte */
	FRAME_MAX = PAYLOAD_MAX + FRAME_EXTRA,
	FRAME_END = 0xA5,

	WRITE_BYTES = 32768,			/* the port takes no more in one write */
	FULL_PAYLOAD = WRITE_BYTES - FRAME_EXTRA,	/* of a frame that fills one */
};

#define HELLO_STREAM 0x48595052u	/* HYPR */
#define CREDIT 262144			/* unacknowledged bytes of one stream */

struct frame {
	uint8_t kind;
	uint16_t length;
	uint32_t stream;
	uint64_t offset;
	const uint8_t *payload;		/* in the decoder's buffer: valid until its next call */
};

/* Bytes that have come and are no frame yet. */
struct decoder {
	bool lost;			/* only HELLO is accepted */
	size_t start, end;
	uint8_t bytes[4 * FRAME_MAX];
};

void decoder_open(struct decoder *decoder);
/* Room for new bytes, at least one frame's; then say how many were put there. */
uint8_t *decoder_space(struct decoder *decoder, size_t *room);
void decoder_fill(struct decoder *decoder, size_t length);
/* The next whole frame, or false: more bytes are needed. */
bool decoder_next(struct decoder *decoder, struct frame *frame);

/* Write a frame of frame->length + FRAME_EXTRA bytes to `to` and return that; payload NULL: it is there already. */
size_t frame_encode(const struct frame *frame, uint8_t *to);

#endif
