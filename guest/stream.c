#include "stream.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>

enum {
	PIPE_BYTES = CREDIT,			/* what gathers while we rest or the host thinks */
	READ_BYTES = 4 * FULL_PAYLOAD,		/* at once: whole frames, no crumbs between them */
	SMALL_READ = 16384,
	FULL_READ = 1024,			/* the writer may soon wait for us: rest less */
	LEAST_REST_MS = 1,
	LINE_MS = 4,				/* for the rest of a line, after a pause, where nobody types */
	MOST_REST_MS = 8,			/* what is typed meanwhile is echoed so much later: nobody feels it */
};

struct output *outputs;
struct input *inputs;
bool inputs_due;
static struct output *queue, **queue_end = &queue;	/* of those that may have something to send */
static uint32_t count, next_id = 1;

struct output *output_find(uint32_t id)
{
	for (struct output *o = outputs; o; o = o->next)
		if (o->id == id)
			return o;
	return NULL;
}

struct input *input_find(uint32_t id)
{
	for (struct input *i = inputs; i; i = i->next)
		if (i->id == id)
			return i;
	return NULL;
}

uint32_t streams_next(void)
{
	return next_id;
}

int stream_check(uint32_t id, struct error *err)
{
	if (count >= STREAMS_MAX)
		return fail(err, EMFILE, "open stream %u", id);
	if (id < next_id && (output_find(id) || input_find(id)))
		return fail(err, EEXIST, "open stream %u", id);
	return 0;
}

static void take_number(uint32_t id)
{
	count++;
	if (id >= next_id)
		next_id = id + 1;
}

/* Control, stream 0, is sent before all others: it has no place in the queue. */
static void wake(struct output *output)
{
	if (output->queued || !output->id || !output_pending(output))
		return;
	output->queued = true;
	output->next_queued = NULL;
	*queue_end = output;
	queue_end = &output->next_queued;
}

static void unqueue(struct output *output)
{
	struct output **at = &queue;

	while (*at && *at != output)
		at = &(*at)->next_queued;
	if (!*at)
		return;
	*at = output->next_queued;
	if (queue_end == &output->next_queued)
		queue_end = at;
	output->queued = false;
}

struct output *output_first(void)
{
	return queue;
}

void output_requeue(struct output *output)
{
	unqueue(output);
	wake(output);
}

static void output_read(struct source *source, uint32_t events);
static void output_rested(struct timer *timer);

struct output *output_open(uint32_t id, int fd, struct error *err)
{
	struct output *o = stream_check(id, err) < 0 ? NULL : calloc(1, sizeof(*o));

	if (!o) {
		close_fd(&fd);
		if (!err->number)
			fail(err, ENOMEM, "open stream %u", id);
		return NULL;
	}
	*o = (struct output){ .source = { fd, 0, output_read }, .id = id, .ring_max = CREDIT, .synced = true };
	o->rest.expired = output_rested;
	fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);	/* or it stays smaller; a terminal has none */
	o->next = outputs;
	outputs = o;
	take_number(id);
	loop_watch(&o->source, EPOLLIN);
	return o;
}

void output_free(struct output *output)
{
	struct output **at = &outputs;

	if (!output)
		return;
	unqueue(output);
	loop_cancel(&output->rest);
	loop_close(&output->source);
	while (*at && *at != output)
		at = &(*at)->next;
	if (*at) {
		*at = output->next;
		count--;
	}
	ring_free(&output->ring);
	free(output);
}

static uint64_t output_end(const struct output *output)
{
	return output->base + output->ring.length;
}

static void output_ended(struct output *output)
{
	loop_cancel(&output->rest);
	loop_close(&output->source);
	output->ended = true;
	wake(output);
}

/* Read when there is room and it does not rest. */
static void output_watch(struct output *output)
{
	bool room = output->stopped || output->ring.length < output->ring_max;

	if (output->source.fd >= 0)
		loop_watch(&output->source, room && !output->resting ? EPOLLIN : 0);
}

static void output_rested(struct timer *timer)
{
	struct output *output = (struct output *)((char *)timer - offsetof(struct output, rest));

	output->resting = false;
	output_watch(output);
}

void output_hurry(struct output *output)
{
	loop_cancel(&output->rest);
	output_rested(&output->rest);
}

/* A program that writes byte by byte, or a terminal's line by line, would have us wake up for each. What comes within a
   millisecond of the last read waits for what follows: longer and longer while that is little, for less time when it is
   so much that the writer may be waiting. After a pause the first bytes go at once. */
static void output_rest(struct output *output, size_t length)
{
	uint64_t now = loop_now_ms(), before = output->rest_ms;
	bool busy = now - output->read_ms <= before + LEAST_REST_MS;

	if (!busy || length >= SMALL_READ)
		output->rest_ms = 0;
	else if (before < LEAST_REST_MS * 2 && length >= FULL_READ)
		output->rest_ms = LEAST_REST_MS;
	else if (length >= FULL_READ)
		output->rest_ms = before / 2;
	else if (before < MOST_REST_MS)
		output->rest_ms = before ? before * 2 : LEAST_REST_MS;
	if (output->rest_ms) {
		output->resting = true;
		loop_after(&output->rest, output->rest_ms);
	}
	output->read_ms = now;
}

/* Level-triggered: what is left in the pipe brings us here again. */
static void output_read(struct source *source, uint32_t events)
{
	struct output *output = (struct output *)source;	/* its first member */
	static uint8_t waste[65536];
	size_t room = sizeof(waste);
	uint8_t *to = output->stopped ? waste : ring_space(&output->ring, output->ring_max, &room);
	ssize_t n;

	(void)events;
	/* A terminal gives a line and its end apart, and who reads a terminal takes what comes at once for a line. */
	if (output->patient && !output->waited && loop_now_ms() - output->read_ms > MOST_REST_MS) {
		output->waited = output->resting = true;
		loop_after(&output->rest, LINE_MS);
		output_watch(output);
		return;
	}
	output->waited = false;
	if (!to) {	/* full: the writer waits for the host's ACK */
		loop_watch(source, 0);
		return;
	}
	n = read(source->fd, to, room < READ_BYTES ? room : READ_BYTES);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {	/* 0, or a terminal's EIO: the last writer is gone */
		output_ended(output);
		return;
	}
	if (!output->stopped)
		ring_fill(&output->ring, (size_t)n);
	if (!output->socket)
		output_rest(output, (size_t)n);
	output_watch(output);
	wake(output);
}

int output_add(struct output *output, const void *bytes, size_t length)
{
	if (ring_add(&output->ring, bytes, length, output->ring_max) < 0)
		return -1;
	wake(output);
	return 0;
}

void output_hello(struct output *output)
{
	output->synced = false;
}

static void output_drop(struct output *output, uint64_t offset)
{
	uint64_t end = output_end(output), base = offset < end ? offset : end;

	if (base > output->base) {
		ring_drop(&output->ring, (size_t)(base - output->base));
		output->base = base;
	}
	if (output->ended && offset > end)
		output->finished = true;
	output_watch(output);
	if (output->ended && !output->ring.length)
		ring_free(&output->ring);
}

void output_ack(struct output *output, uint64_t offset)
{
	if (output->stopped || offset > output->top + output->eof_top)
		return;
	output_drop(output, offset);
	if (!output->synced) {	/* the host went on from here in another life */
		output->synced = true;
		output->sent = output->base;
		output->eof_sent = output->finished;
	}
	if (output->sent < output->base)
		output->sent = output->base;
	wake(output);
}

void output_stop(struct output *output)
{
	output->stopped = true;
	output->base = output->sent = output_end(output);
	ring_free(&output->ring);
	output_watch(output);
}

void output_hang_up(struct output *output)
{
	output_stop(output);
	output_ended(output);
}

static uint64_t sendable(const struct output *output)
{
	uint64_t end = output_end(output), most = output->base + CREDIT;

	return (end < most ? end : most) - output->sent;
}

bool output_pending(const struct output *output)
{
	if (!output->synced || output->stopped || output->finished)
		return false;
	return sendable(output) || (output->ended && !output->eof_sent && output->sent == output_end(output));
}

static void copy_out(const struct output *output, uint8_t *to, size_t length)
{
	size_t skip = (size_t)(output->sent - output->base), stretch;

	while (length) {
		const uint8_t *from = ring_peek(&output->ring, skip, &stretch);

		if (stretch > length)
			stretch = length;
		memcpy(to, from, stretch);
		to += stretch;
		skip += stretch;
		length -= stretch;
	}
}

size_t output_next(struct output *output, uint8_t *to, size_t room)
{
	struct frame frame = { .kind = FRAME_EOF, .stream = output->id, .offset = output->sent };
	uint64_t length;

	if (!output_pending(output))
		return 0;
	length = sendable(output);
	if (!length) {
		output->eof_sent = output->eof_top = true;
		return frame_encode(&frame, to);
	}
	if (length > room - FRAME_EXTRA)
		length = room - FRAME_EXTRA;
	frame.kind = FRAME_DATA;
	frame.length = (uint16_t)length;
	copy_out(output, to + HEADER_BYTES, (size_t)length);
	output->sent += length;
	if (output->top < output->sent)
		output->top = output->sent;
	return frame_encode(&frame, to);
}

bool output_settled(const struct output *output)
{
	/* The EOF of an output is not acknowledged. */
	return output->stopped || (!output->ring.length && (!output->ended || output->eof_sent));
}

static void input_write(struct source *source, uint32_t events);

struct input *input_open(uint32_t id, int fd, bool tty, struct error *err)
{
	struct input *i = stream_check(id, err) < 0 ? NULL : calloc(1, sizeof(*i));

	if (!i) {
		close_fd(&fd);
		if (!err->number)
			fail(err, ENOMEM, "open stream %u", id);
		return NULL;
	}
	*i = (struct input){ .source = { fd, 0, input_write }, .id = id, .tty = tty };
	i->next = inputs;
	inputs = i;
	take_number(id);
	if (!tty)
		loop_watch(&i->source, EPOLLERR);	/* the reader may go before we write */
	return i;
}

void input_free(struct input *input)
{
	struct input **at = &inputs;

	if (!input)
		return;
	loop_close(&input->source);
	while (*at && *at != input)
		at = &(*at)->next;
	if (*at) {
		*at = input->next;
		count--;
	}
	ring_free(&input->ring);
	free(input);
}

static uint64_t received(const struct input *input)
{
	return input->consumed + input->ring.length;
}

void input_stop(struct input *input)
{
	loop_close(&input->source);
	ring_free(&input->ring);
	input->stopped = input->stop_due = true;
	inputs_due = true;
}

void input_hello(struct input *input)
{
	ring_drop(&input->ring, input->ring.length);
	if (!input->eof_consumed)
		input->eof_received = false;
	input->ack_due = !input->stopped;
	input->stop_due = input->stopped;	/* it may have been lost */
	if (input->source.fd >= 0)
		loop_watch(&input->source, input->tty ? 0 : EPOLLERR);
}

size_t input_new(const struct input *input, const struct frame *frame)
{
	uint64_t known = received(input), end = frame->offset + frame->length;

	if (input->stopped || input->eof_received || frame->offset > known || end <= known || end < frame->offset ||
	    end - input->consumed > CREDIT)
		return 0;
	return (size_t)(end - known);
}

void input_consume(struct input *input, size_t length)
{
	input->consumed += length;
	if (input->consumed - input->acked < CREDIT / 4 && input->ring.length)
		return;
	input->ack_due = true;
	inputs_due = true;
}

static void end_terminal(struct input *input)
{
	struct termios settings;

	if (tcgetattr(input->source.fd, &settings) < 0 || !(settings.c_lflag & ICANON))
		return;
	if (write(input->source.fd, &settings.c_cc[VEOF], 1) < 0)
		debug("end the terminal of stream %u: %s", input->id, strerror(errno));
}

static void consume_eof(struct input *input)
{
	if (input->tty)
		end_terminal(input);
	if (input->socket)
		shutdown(input->source.fd, SHUT_WR);
	loop_close(&input->source);
	ring_free(&input->ring);
	input->eof_consumed = input->ack_due = true;
	inputs_due = true;
}

/* Returns how much of it went, or -1: nobody reads any more, and that has been dealt with. */
static ssize_t put(struct input *input, const uint8_t *bytes, size_t length)
{
	ssize_t n = write(input->source.fd, bytes, length);

	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	input_stop(input);
	return -1;
}

static void input_write(struct source *source, uint32_t events)
{
	struct input *input = (struct input *)source;
	size_t length;

	if (!input->tty && events & (EPOLLERR | EPOLLHUP)) {	/* a socket's peer that has gone is no error */
		input_stop(input);
		return;
	}
	while (input->ring.length) {
		const uint8_t *bytes = ring_peek(&input->ring, 0, &length);
		ssize_t n = put(input, bytes, length);

		if (n < 0)
			return;
		ring_drop(&input->ring, (size_t)n);
		if (n)
			input_consume(input, (size_t)n);
		if ((size_t)n < length)
			break;
	}
	if (input->ring.length)
		loop_watch(source, EPOLLOUT);
	else if (input->eof_received)
		consume_eof(input);
	else
		loop_watch(source, input->tty ? 0 : EPOLLERR);
}

void input_data(struct input *input, const struct frame *frame)
{
	size_t length = input_new(input, frame);
	const uint8_t *bytes = frame->payload + frame->length - length;
	ssize_t n = 0;

	if (length && !input->ring.length)
		n = put(input, bytes, length);
	if (!length || n < 0)
		return;
	if (ring_add(&input->ring, bytes + n, length - (size_t)n, CREDIT) < 0)
		die("keep %zu bytes of stream %u: out of memory", length, input->id);
	if (n)
		input_consume(input, (size_t)n);
	if (input->ring.length)
		loop_watch(&input->source, EPOLLOUT);
}

void input_eof(struct input *input, const struct frame *frame)
{
	if (input->stopped || input->eof_received || frame->offset != received(input))
		return;
	input->eof_received = true;
	if (!input->ring.length)
		consume_eof(input);
}
