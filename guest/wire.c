#include "wire.h"

#include <string.h>

static uint32_t get32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(uint8_t *b, uint32_t value)
{
	b[0] = (uint8_t)(value >> 24);
	b[1] = (uint8_t)(value >> 16);
	b[2] = (uint8_t)(value >> 8);
	b[3] = (uint8_t)value;
}

size_t frame_encode(const struct frame *frame, uint8_t *to)
{
	to[0] = frame->kind;
	to[1] = 0;
	to[2] = (uint8_t)(frame->length >> 8);
	to[3] = (uint8_t)frame->length;
	put32(to + 4, frame->stream);
	put32(to + 8, (uint32_t)(frame->offset >> 32));
	put32(to + 12, (uint32_t)frame->offset);
	if (frame->length && frame->payload)
		memcpy(to + HEADER_BYTES, frame->payload, frame->length);
	to[HEADER_BYTES + frame->length] = FRAME_END;
	return (size_t)frame->length + FRAME_EXTRA;
}

void decoder_open(struct decoder *decoder)
{
	decoder->lost = true;
	decoder->start = decoder->end = 0;
}

uint8_t *decoder_space(struct decoder *decoder, size_t *room)
{
	size_t have = decoder->end - decoder->start;

	if (!have)
		decoder->start = decoder->end = 0;
	else if (sizeof(decoder->bytes) - decoder->end < FRAME_MAX) {
		memmove(decoder->bytes, decoder->bytes + decoder->start, have);
		decoder->start = 0;
		decoder->end = have;
	}
	*room = sizeof(decoder->bytes) - decoder->end;
	return decoder->bytes + decoder->end;
}

void decoder_fill(struct decoder *decoder, size_t length)
{
	decoder->end += length;
}

static void parse_header(const uint8_t *b, struct frame *frame)
{
	frame->kind = b[0];
	frame->length = (uint16_t)(b[2] << 8 | b[3]);
	frame->stream = get32(b + 4);
	frame->offset = (uint64_t)get32(b + 8) << 32 | get32(b + 12);
	frame->payload = b + HEADER_BYTES;
}

static bool header_is_sound(const uint8_t *b, const struct frame *frame)
{
	if (frame->kind < FRAME_HELLO || frame->kind > FRAME_STOP || b[1] || frame->length > PAYLOAD_MAX)
		return false;
	return frame->kind <= FRAME_DATA || !frame->length;
}

/* Skip what cannot be the beginning of a frame: zeros; when lost, all but HELLO's first eight bytes. */
static void skip(struct decoder *d)
{
	if (!d->lost) {
		while (d->start < d->end && !d->bytes[d->start])
			d->start++;
		return;
	}
	for (; d->start < d->end; d->start++) {
		const uint8_t *b = d->bytes + d->start;
		size_t have = d->end - d->start;

		if (b[0] != FRAME_HELLO)
			continue;
		if (have < HEADER_BYTES)	/* it may be one: wait for the rest */
			return;
		if (!b[1] && (b[2] << 8 | b[3]) <= PAYLOAD_MAX && get32(b + 4) == HELLO_STREAM)
			return;
	}
}

bool decoder_next(struct decoder *d, struct frame *frame)
{
	for (;;) {
		const uint8_t *b;
		size_t have, whole;

		skip(d);
		b = d->bytes + d->start;
		have = d->end - d->start;
		if (have < HEADER_BYTES)
			return false;
		parse_header(b, frame);
		if (!header_is_sound(b, frame)) {
			d->lost = true;
			d->start++;
			continue;
		}
		whole = (size_t)frame->length + FRAME_EXTRA;
		if (have < whole)
			return false;
		/* Dropped whole: what is inside a frame that was cut short may be anyone's bytes. */
		d->start += whole;
		if (b[whole - 1] != FRAME_END) {
			d->lost = true;
			continue;
		}
		if (frame->kind == FRAME_HELLO && frame->stream == HELLO_STREAM)
			d->lost = false;
		return true;
	}
}
