#include "channel.h"

#include "apparmor.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
	VERSION = 1,
	LINE_MAX_BYTES = 1 << 20,
	CONTROL_MAX = 4 << 20,		/* of answers and events that wait for the host */
	CONTROL_GATE = 1 << 20,		/* with more of them no request is begun */
	CHUNK_LEAST = 2048,		/* smaller pieces of DATA are not worth squeezing in */
	NUDGE_MS = 200,
};

/* What hosts cannot expect of every hyperstart, for they may meet an older one: docs/wire.md, section 5. */
static const char features[] =
	"[\"archive.errno\",\"routes\",\"mounts\",\"devices\",\"capability-sets\",\"umask\",\"unified\",\"interfaces\","
	"\"layers\",\"rootfs\",\"nameserver\",\"group-names\",\"sockets\",\"archive.user\",\"over\",\"lowers\",\"namespaces\",\"scheduling\",\"resolver\","
	"\"time\",\"start-hooks\",\"device-rules\",\"propagation\",\"users\",\"hang-up\",\"hold\",\"checkpoint\",\"routing\",\"connect\","
	"\"memberships\",\"pod-shm\",\"disk-devices\",\"disk-mounts\",\"files\",\"pod-users\",\"checkpoint.changes\","
	"\"disk.stage\",\"pod.stats\"";
static const char confines[] = ",\"apparmor\"";	/* one that only some kernels let us have */

static void link_ready(struct source *source, uint32_t events);
static void link_accept(struct source *source, uint32_t events);

static struct source port = { -1, 0, link_ready };
static struct source listener = { -1, 0, link_accept };
static bool writable;
static struct decoder decoder;

static bool greeted;			/* HELLO was answered on this connection */
static bool hello_due;
static uint64_t nonce;
static char asked[33], session[33];	/* named in the last HELLO; the one that runs */
static uint64_t session_number;
void (*session_begun)(void);
static bool resumed;

static channel_request *take_request;
static struct output control_out = { .source.fd = -1, .ring_max = CONTROL_MAX };
static struct input control_in = { .source.fd = -1 };
static char *line;			/* the request that is being received */
static size_t line_length, line_capacity;
static bool line_too_long;

/* Of a terminal. What its other end cannot pass on at once may stay there until more is said, though there is room again
 * (QEMU's consoles of Xen): a while after anything was, a word of no use is. */
static bool nudges;

static uint8_t staging[WRITE_BYTES];
static size_t staged, staged_from;

uint64_t channel_session(void)
{
	return session_number;
}

/* Connections */

static void link_down(void)
{
	greeted = hello_due = false;
	loop_close(&port);
	decoder_open(&decoder);
	loop_watch(&listener, EPOLLIN);
}

static void link_up(int fd)
{
	decoder_open(&decoder);
	port.fd = fd;
	writable = true;
	loop_watch(&port, EPOLLIN | EPOLLOUT | EPOLLET);
}

void channel_open(int fd, channel_request *request)
{
	take_request = request;
	link_up(fd);
}

static bool has_all(void)
{
	bool all = output_settled(&control_out);

	for (struct output *o = outputs; all && o; o = o->next)
		all = output_settled(o);
	return all;
}

/* Whatever was said last, an acknowledgement again goes after it. */
static void nudge(struct timer *timer)
{
	bool again = !has_all();

	if (port.fd < 0 || !greeted)
		return;
	control_in.ack_due = inputs_due = true;
	channel_pump();
	loop_cancel(timer);
	if (again)
		loop_after(timer, NUDGE_MS);
}

static struct timer nudging = { .expired = nudge };

void channel_open_terminal(int fd, channel_request *request)
{
	nudges = true;
	channel_open(fd, request);
}

/* A vsock is anybody's who is on the host: root alone has the ports below 1024 there. */
static bool is_host(const struct sockaddr *peer)
{
	const struct sockaddr_vm *vm = (const void *)peer;

	return peer->sa_family != AF_VSOCK || (vm->svm_cid == VMADDR_CID_HOST && vm->svm_port < 1024);
}

static void link_accept(struct source *source, uint32_t events)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t size = sizeof(peer);
	int fd = accept4(source->fd, (void *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	if (!is_host((void *)&peer)) {
		close(fd);
		return;
	}
	loop_watch(&listener, 0);	/* as QEMU does: the next one waits */
	link_up(fd);
}

static void listen_at(const struct sockaddr *address, socklen_t size, const char *name, channel_request *request)
{
	take_request = request;
	listener.fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener.fd < 0 || bind(listener.fd, address, size) < 0 || listen(listener.fd, 8) < 0)
		die("listen on %s: %s", name, strerror(errno));
	loop_watch(&listener, EPOLLIN);
}

void channel_listen(const char *path, channel_request *request)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		die("listen on %s: the path is too long", path);
	strcpy(address.sun_path, path);
	listen_at((void *)&address, sizeof(address), path, request);
}

void channel_listen_vsock(channel_request *request)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VSOCK_PORT };

	listen_at((void *)&address, sizeof(address), "a vsock", request);
}

/* Sending */

static bool stage(const struct frame *frame)
{
	if ((size_t)frame->length + FRAME_EXTRA > sizeof(staging) - staged)
		return false;
	staged += frame_encode(frame, staging + staged);
	return true;
}

static bool stage_hello(void)
{
	char text[128 + sizeof(features) + sizeof(confines)];
	struct frame frame = { .kind = FRAME_HELLO, .stream = HELLO_STREAM, .offset = nonce };
	int length = snprintf(text, sizeof(text),
			      "{\"version\":%d,\"session\":\"%s\",\"resumed\":%s,\"features\":%s%s]}", VERSION, asked,
			      resumed ? "true" : "false", features, apparmor_is_on() ? confines : "");

	frame.payload = (const uint8_t *)text;
	frame.length = (uint16_t)length;
	return stage(&frame);
}

static bool stage_answers_of(struct input *input)
{
	struct frame frame = { .kind = FRAME_ACK, .stream = input->id };

	frame.offset = input->consumed + input->eof_consumed;
	if (input->ack_due) {
		if (!stage(&frame))
			return false;
		input->acked = input->consumed;
		input->ack_due = false;
	}
	frame.kind = FRAME_STOP;
	if (input->stop_due && stage(&frame))
		input->stop_due = false;
	return !input->stop_due;
}

static bool stage_answers(void)
{
	if (!stage_answers_of(&control_in))
		return false;
	for (struct input *i = inputs; i; i = i->next)
		if ((i->ack_due || i->stop_due) && !stage_answers_of(i))
			return false;
	inputs_due = false;
	return true;
}

/* One frame of this stream. False: there is nothing, or not enough room for it. */
static bool stage_output(struct output *output)
{
	size_t room = sizeof(staging) - staged, length;

	length = room < FRAME_EXTRA + CHUNK_LEAST ? 0 : output_next(output, staging + staged, room);
	staged += length;
	return length;
}

static void fill_staging(void)
{
	staged = staged_from = 0;
	if (hello_due)
		hello_due = !stage_hello();
	if (!greeted || (inputs_due && !stage_answers()))
		return;
	while (stage_output(&control_out))
		;
	for (struct output *o; (o = output_first()); output_requeue(o))
		if (!stage_output(o) && output_pending(o))
			return;
}

void channel_pump(void)
{
	while (port.fd >= 0 && writable) {
		ssize_t n;

		if (staged_from == staged)
			fill_staging();
		if (staged_from == staged)
			return;
		n = write(port.fd, staging + staged_from, staged - staged_from);
		if (n > 0)
			staged_from += (size_t)n;
		else if (n < 0 && errno == EINTR)
			continue;
		else
			writable = false;	/* full, or the host is away: the next edge tells */
		if (nudges && !nudging.due_ms)
			loop_after(&nudging, NUDGE_MS);
	}
}

bool channel_settled(void)
{
	if (!greeted)
		return true;
	if (hello_due || staged != staged_from || !output_settled(&control_out))
		return false;
	for (struct output *o = outputs; o; o = o->next)
		if (o->synced && !output_settled(o))
			return false;
	return true;
}

void channel_say(uint64_t to, struct buffer *text)
{
	buffer_add(text, "\n", 1);
	if (text->failed)
		debug("drop an answer: out of memory");
	else if (to && to == session_number && output_add(&control_out, text->data, text->length) < 0)
		debug("drop an answer of %zu bytes: the host takes none", text->length);
	buffer_free(text);
}

/* Receiving */

static bool is_session(const char *text)
{
	return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

static void begin_session(const char *name)
{
	strcpy(session, name);
	session_number++;
	ring_free(&control_out.ring);
	control_out.base = control_out.sent = control_out.top = 0;
	ring_free(&control_in.ring);
	control_in.consumed = control_in.acked = 0;
	line_length = 0;
	line_too_long = false;
	if (session_begun)
		session_begun();
}

struct hello {
	int64_t version;
	const char *session;
};

static int parse_hello(const struct frame *frame, char *text, struct hello *hello, struct json **values,
		       struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct hello, version, JSON_NUMBER), NEEDED(struct hello, session, JSON_STRING),
	};

	memcpy(text, frame->payload, frame->length);
	*values = json_parse(text, frame->length, err);
	if (!*values)
		return -1;
	return json_fields(*values, fields, COUNT(fields), hello, err);
}

static void hello(const struct frame *frame)
{
	static char text[PAYLOAD_MAX + 1];
	struct hello hello = { 0 };
	autofree struct json *values = NULL;
	struct error err;

	if (parse_hello(frame, text, &hello, &values, &err) < 0 || !is_session(hello.session)) {
		debug("ignore a HELLO");
		decoder.lost = true;
		return;
	}
	staged = staged_from = 0;	/* half a frame may have gone: the host skips to our HELLO */
	hello_due = true;
	nonce = frame->offset;
	strcpy(asked, hello.session);
	greeted = hello.version == VERSION;
	resumed = greeted && session_number && !strcmp(session, asked);
	if (!greeted) {
		decoder.lost = true;	/* it is told our version, and not listened to */
		return;
	}
	if (!resumed)
		begin_session(hello.session);
	output_hello(&control_out);
	input_hello(&control_in);
	for (struct output *o = outputs; o; o = o->next)
		output_hello(o);
	for (struct input *i = inputs; i; i = i->next)
		input_hello(i);
	inputs_due = true;
}

static void request(void)
{
	if (line_too_long || line_length)
		take_request(line_too_long ? NULL : line, line_length);
	line_length = 0;
	line_too_long = false;
}

/* line[line_length] stays writable: the parser needs it. */
static void line_add(const uint8_t *bytes, size_t length)
{
	if (line_too_long || length > LINE_MAX_BYTES - line_length) {
		line_too_long = true;
		return;
	}
	if (line_length + length >= line_capacity) {
		size_t capacity = line_capacity ? line_capacity : 4096;
		char *bigger;

		while (capacity <= line_length + length)
			capacity *= 2;
		bigger = realloc(line, capacity);
		if (!bigger) {
			line_too_long = true;
			return;
		}
		line = bigger;
		line_capacity = capacity;
	}
	memcpy(line + line_length, bytes, length);
	line_length += length;
}

static void control_run(void)
{
	while (control_in.ring.length && control_out.ring.length < CONTROL_GATE) {
		size_t length;
		const uint8_t *bytes = ring_peek(&control_in.ring, 0, &length);
		const uint8_t *newline = memchr(bytes, '\n', length);
		uint64_t before = session_number;

		if (newline)
			length = (size_t)(newline - bytes);
		line_add(bytes, length);
		length += newline != NULL;
		ring_drop(&control_in.ring, length);
		input_consume(&control_in, length);
		if (newline)
			request();
		if (before != session_number)
			return;
	}
}

static void control_data(const struct frame *frame)
{
	size_t length = input_new(&control_in, frame);

	if (ring_add(&control_in.ring, frame->payload + frame->length - length, length, CREDIT) < 0)
		die("keep a request: out of memory");
	control_run();
}

static void dispatch(const struct frame *frame)
{
	struct output *output = frame->stream ? output_find(frame->stream) : &control_out;
	struct input *input = frame->stream ? input_find(frame->stream) : &control_in;

	if (frame->kind == FRAME_HELLO && frame->stream == HELLO_STREAM)
		hello(frame);
	else if (!greeted)
		return;
	else if (frame->kind == FRAME_DATA && input == &control_in)
		control_data(frame);
	else if (frame->kind == FRAME_DATA && input)
		input_data(input, frame);
	else if (frame->kind == FRAME_EOF && input && frame->stream)
		input_eof(input, frame);
	else if (frame->kind == FRAME_STOP && output && frame->stream)
		output_stop(output);
	else if (frame->kind == FRAME_ACK && output)
		output_ack(output, frame->offset);
	if (frame->kind == FRAME_ACK && output == &control_out)
		control_run();		/* there may be room for answers again */
}

/* Edge-triggered: read until there is nothing. A virtio port whose host is away says HUP and reads 0, and means
   nothing by it: the kernel learns of hosts that come and go later than of their bytes, so the next host's HELLO may
   have been read by then. HELLO alone begins a connection; what is written to nobody is sent again after it. */
static void link_ready(struct source *source, uint32_t events)
{
	struct frame frame;
	ssize_t n;

	if (events & EPOLLOUT)
		writable = true;
	do {
		size_t room;
		uint8_t *to = decoder_space(&decoder, &room);

		n = read(source->fd, to, room);
		if (n > 0) {
			decoder_fill(&decoder, (size_t)n);
			while (decoder_next(&decoder, &frame))
				dispatch(&frame);
			channel_pump();
		}
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (listener.fd >= 0 && (n == 0 || (n < 0 && errno != EAGAIN)))
		link_down();
}
