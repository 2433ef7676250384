/* Streams of bytes between the host and descriptors of ours (docs/wire.md, section 3). */
#ifndef STREAM_H
#define STREAM_H

#include "error.h"
#include "loop.h"
#include "ring.h"
#include "wire.h"

enum { STREAMS_MAX = 3072 };

/* Guest to host. Every byte stays in `ring` until the host has acknowledged it. */
struct output {
	struct source source;		/* what is read; fd -1: nothing more will come of it */
	uint32_t id;
	struct ring ring;
	size_t ring_max;
	uint64_t base;			/* offset of the ring's first byte: all before is acknowledged */
	uint64_t sent;			/* offset of the next byte to send */
	uint64_t top;			/* the highest `sent` ever: an ACK beyond is no ACK */
	bool synced;			/* the ACK that follows HELLO has come */
	bool ended;			/* the length is known: base + ring.length */
	bool eof_sent, eof_top;		/* as sent and top, for the place of EOF */
	bool finished;			/* EOF is acknowledged */
	bool stopped;			/* the host reads no more: all is thrown away */
	bool socket;			/* of somebody who may wait for an answer to each word: it never rests */
	bool resting;			/* many small writes: let them gather in the pipe for a moment */
	struct timer rest;
	bool patient, waited;		/* nobody types at this terminal: rest before the first read, too */
	uint64_t rest_ms;		/* how long it rested last; 0: it does not write without a pause */
	uint64_t read_ms;		/* when it was read last */
	bool queued;
	struct output *next_queued;
	struct output *next;		/* of all */
};

/* Host to guest. What was received and not consumed yet is forgotten at HELLO: the host has it still. */
struct input {
	struct source source;		/* what is written to */
	uint32_t id;
	bool tty;			/* EOF becomes the terminal's end-of-file character */
	bool socket;			/* its other direction may go on after EOF */
	struct ring ring;
	uint64_t consumed;		/* offset of the ring's first byte */
	uint64_t acked;			/* the last `consumed` that the host was told */
	bool eof_received, eof_consumed;
	bool stopped;			/* nobody reads */
	bool stop_due, ack_due;		/* frames to send */
	struct input *next;		/* of all */
};

/* A stream on `fd`, which it owns from now on (also when it fails). NULL with *err = EEXIST, EMFILE … */
struct output *output_open(uint32_t id, int fd, struct error *err);
struct input *input_open(uint32_t id, int fd, bool tty, struct error *err);
void output_free(struct output *output);
void input_free(struct input *input);

void output_hello(struct output *output);		/* the host begins anew */
void output_ack(struct output *output, uint64_t offset);
void output_stop(struct output *output);
void output_hang_up(struct output *output);		/* ... and who writes meets a broken pipe */
bool output_pending(const struct output *output);	/* has something that may be sent now */
/* Write the next frame, of at most `room` bytes, to `to`. Its length; 0: there is nothing to send. */
size_t output_next(struct output *output, uint8_t *to, size_t room);
void output_hurry(struct output *output);	/* its process has ended: no more rest */
int output_add(struct output *output, const void *bytes, size_t length);	/* for streams without a descriptor */
bool output_settled(const struct output *output);	/* the host has all of it */

void input_hello(struct input *input);
void input_data(struct input *input, const struct frame *frame);
void input_eof(struct input *input, const struct frame *frame);
void input_stop(struct input *input);			/* nobody will read */
/* How many bytes at the end of this DATA are new, in order and within the credit. */
size_t input_new(const struct input *input, const struct frame *frame);
void input_consume(struct input *input, size_t length);	/* and decide whether that is to be acknowledged */

struct output *output_find(uint32_t id);
struct input *input_find(uint32_t id);
extern struct output *outputs;
extern struct input *inputs;
extern bool inputs_due;					/* some have an ACK or STOP to send */
/* Outputs that have something to send take turns: the next one, and its turn is over. */
struct output *output_first(void);
void output_requeue(struct output *output);
uint32_t streams_next(void);				/* a number that was never used */
int stream_check(uint32_t id, struct error *err);	/* may a new stream have it? */

#endif
