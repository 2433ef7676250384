#include "relay.h"

#include "channel.h"
#include "mount.h"
#include "nameserver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { BACKLOG = 128, NAME_BYTES = 32, QUESTION_MAX = 4096, CONNECT_MS = 100 };

struct listener {
	struct listener *next;
	struct container *container;	/* NULL: the pod's own */
	const struct mount_spec *spec;
	const char *target;
	bool datagrams;
	struct source source;		/* watched while the host wants to know, and has not been told */
	bool told;			/* that somebody waits */
};

/* Both streams are of one socket, each with a descriptor of its own: epoll wants one a direction. */
struct connection {
	struct connection *next;
	struct container *container;
	uint32_t input, output;
};

/* A question that came by UDP, which the host sees as a connection: both are TCP's, two bytes of length before each. */
struct question {
	struct source source;		/* our end of that */
	int from;			/* the socket that it came to */
	struct sockaddr_in client;
	size_t length;			/* of what there is of the answer */
	uint8_t answer[2 + 65535];
};

static struct listener *listeners;
static struct connection *connections;
static uint64_t watcher;		/* the session whose host wants to be told */

static void watch(struct listener *l)
{
	loop_watch(&l->source, watcher && watcher == channel_session() && !l->told ? EPOLLIN : 0);
}

static const char *owner(const struct listener *l)
{
	return l->container ? l->container->id : "";
}

static void knock(struct source *source, uint32_t events)
{
	struct listener *l = (struct listener *)((char *)source - offsetof(struct listener, source));

	(void)events;
	l->told = true;
	watch(l);
	tell_connection(owner(l), l->target);
}

/* Listening */

static void name_socket(const struct container *c, const struct mount_spec *spec, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "socket-%zu", (size_t)(spec - c->mounts.specs));
}

/* A path may be longer than an address: the folder is named by its descriptor. */
static int bind_in(int socket, int dir, const char *name, const struct mount_spec *spec, struct error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
	if (bind(socket, (void *)&address, sizeof(address)) < 0 ||
	    fchownat(dir, name, spec->uid, spec->gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(dir, name, spec->mode, 0) < 0 ||
	    listen(socket, BACKLOG) < 0)
		return fail(err, errno, "make a socket");
	return 0;
}

int relay_listen(struct container *c, const struct mount_spec *spec, struct error *err)
{
	autoclose int dir = open(c->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct listener *l = dir < 0 ? NULL : calloc(1, sizeof(*l));
	char name[NAME_BYTES];

	if (!l)
		return fail(err, errno, "make a socket");
	*l = (struct listener){ .next = listeners, .container = c, .spec = spec,
				  .target = spec->target, .source = { -1, 0, knock } };
	listeners = l;		/* relay_close has it from here on */
	name_socket(c, spec, name);
	l->source.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->source.fd < 0)
		return fail(err, errno, "make a socket");
	if (bind_in(l->source.fd, dir, name, spec, err) < 0)
		return -1;
	watch(l);
	return 0;
}

int relay_open(const struct container *c, const struct mount_spec *spec, struct error *err)
{
	char name[NAME_BYTES];
	autoclose int dir = open(c->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	name_socket(c, spec, name);
	return dir < 0 ? fail(err, errno, "open %s", c->dir) : open_plain(dir, name, O_PATH, 0, err);
}

static struct listener *find_listener(const char *container, const char *target, struct error *err)
{
	for (struct listener *l = listeners; l; l = l->next)
		if (!strcmp(owner(l), container) && !strcmp(l->target, target))
			return l;
	fail(err, ENOENT, "find a socket at %.100s in container %.64s", target, container);
	return NULL;
}

/* Names */

/* Of the first one the kernel chooses the port, which no process of a container misses: they see port 53 alone. */
static int listen_for_questions(const char *target, uint16_t *port, struct error *err)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = *port,
				       .sin_addr.s_addr = htonl(RESOLVER_ADDRESS) };
	socklen_t length = sizeof(address);
	struct listener *l = calloc(1, sizeof(*l));
	bool datagrams = !strcmp(target, "udp");
	int type = (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
	autoclose int fd = l ? socket(AF_INET, type, 0) : -1;

	if (fd < 0 || bind(fd, (void *)&address, length) < 0 || getsockname(fd, (void *)&address, &length) < 0 ||
	    (!datagrams && listen(fd, BACKLOG) < 0)) {
		fail(err, errno, "listen for questions of names");
		free(l);
		return -1;
	}
	*port = address.sin_port;
	*l = (struct listener){ .next = listeners, .target = target, .datagrams = datagrams, .source = { fd, 0, knock } };
	fd = -1;
	listeners = l;
	watch(l);
	return 0;
}

int relay_resolver(struct error *err)
{
	static uint16_t port;

	if (!port && (listen_for_questions("udp", &port, err) < 0 || listen_for_questions("tcp", &port, err) < 0))
		return -1;
	return nameserver_here(ntohs(port), err);
}

static void answered(struct source *source, uint32_t events)
{
	struct question *q = (struct question *)((char *)source - offsetof(struct question, source));
	ssize_t n = read(q->source.fd, q->answer + q->length, sizeof(q->answer) - q->length);
	size_t whole;

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	q->length += n > 0 ? (size_t)n : 0;
	whole = q->length < 2 ? sizeof(q->answer) : 2 + (size_t)(q->answer[0] << 8 | q->answer[1]);
	if (n > 0 && q->length < whole)
		return;
	if (q->length >= whole)		/* whoever asked may be gone: then nobody hears it */
		sendto(q->from, q->answer + 2, whole - 2, MSG_DONTWAIT, (void *)&q->client, sizeof(q->client));
	loop_close(&q->source);
	free(q);
}

/* Take the next question as a connection would be: the host's end of it, or -1 and errno. */
static int take_question(int from)
{
	uint8_t text[2 + QUESTION_MAX];
	struct question *q;
	socklen_t size = sizeof(q->client);
	struct sockaddr_in client;
	ssize_t n = recvfrom(from, text + 2, QUESTION_MAX, MSG_DONTWAIT | MSG_TRUNC, (void *)&client, &size);
	int ends[2];

	if (n < 0)
		return -1;
	if (n > QUESTION_MAX) {
		errno = EMSGSIZE;
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	text[0] = (uint8_t)(n >> 8);
	text[1] = (uint8_t)n;
	q = calloc(1, sizeof(*q));
	if (!q || write(ends[0], text, 2 + (size_t)n) != 2 + n) {
		free(q);
		close(ends[0]);
		close(ends[1]);
		errno = ENOMEM;
		return -1;
	}
	shutdown(ends[0], SHUT_WR);
	q->source = (struct source){ ends[0], 0, answered };
	q->from = from;
	q->client = client;
	loop_watch(&q->source, EPOLLIN);
	return ends[1];
}

/* Connections */

static void disconnect(struct connection **at)
{
	struct connection *c = *at;

	*at = c->next;
	input_free(input_find(c->input));
	output_free(output_find(c->output));
	free(c);
}

static void disconnect_all(const struct container *of)
{
	for (struct connection **at = &connections; *at; )
		if (!of || (*at)->container == of)
			disconnect(at);
		else
			at = &(*at)->next;
}

static int connect_streams(struct container *c, int fd, uint32_t in, uint32_t out, struct error *err)
{
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct connection *made = calloc(1, sizeof(*made));
	struct input *input;
	struct output *output;

	if (again < 0 || !made) {
		fail(err, again < 0 ? errno : ENOMEM, "take a connection");
		close(fd);
		close_fd(&again);
		free(made);
		return -1;
	}
	input = input_open(in, fd, false, err);
	output = input ? output_open(out, again, err) : NULL;
	if (!input)
		close_fd(&again);
	if (!output) {
		input_free(input);
		free(made);
		return -1;
	}
	input->socket = output->socket = true;
	*made = (struct connection){ .next = connections, .container = c, .input = in, .output = out };
	connections = made;
	return 0;
}

void relay_close(struct container *container)
{
	char path[500], name[NAME_BYTES];

	disconnect_all(container);
	for (struct listener **at = &listeners; *at; ) {
		struct listener *l = *at;

		if (l->container != container) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		loop_close(&l->source);
		name_socket(container, l->spec, name);
		snprintf(path, sizeof(path), "%s/%s", container->dir, name);
		unlink(path);
		free(l);
	}
}

bool relay_settled(void)
{
	for (struct listener *l = listeners; l; l = l->next)
		if (l->told && l->container)
			return false;
	for (struct connection *c = connections; c; c = c->next) {
		if (!c->container)
			continue;	/* a question: it has nothing to say that is missed */
		const struct output *output = output_find(c->output);

		if (!output->ended || !output_settled(output))
			return false;
	}
	return true;
}

/* The host's ends of the connections have gone with the process that had them. */
static void session_begins(void)
{
	disconnect_all(NULL);
	for (struct listener *l = listeners; l; l = l->next) {
		l->told = false;
		watch(l);
	}
}

void relay_boot(void)
{
	session_begun = session_begins;
}

/* Requests */

int op_socket_watch(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	if (json_fields(args, NULL, 0, NULL, err) < 0)
		return -1;
	watcher = call->session;
	for (struct listener *l = listeners; l; l = l->next)
		watch(l);
	buffer_add(result, "{}", 2);
	return 0;
}

struct accept_args {
	const char *container, *target;
	int64_t input, output;
};

static int parse_accept(const struct json *args, struct accept_args *a, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct accept_args, container, JSON_STRING), NEEDED(struct accept_args, target, JSON_STRING),
		FIELD(struct accept_args, input, JSON_NUMBER), FIELD(struct accept_args, output, JSON_NUMBER),
	};

	if (json_fields(args, fields, COUNT(fields), a, err) < 0 ||
	    json_range("input", a->input, 0, HELLO_STREAM - 1, err) < 0 ||
	    json_range("output", a->output, 0, HELLO_STREAM - 1, err) < 0)
		return -1;
	if (!a->input != !a->output || (a->input && a->input == a->output))
		return fail_as(err, EINVAL, "take a connection: it has two streams, or none");
	return 0;
}

/* Who listens on our own loopback answers at once, or has a queue that is full: that goes on without us. */
static int connect_here(const struct sockaddr *address, socklen_t length)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), failure = 0;
	struct pollfd answer = { .fd = fd, .events = POLLOUT };
	socklen_t size = sizeof(failure);

	if (fd < 0)
		return -1;
	if (connect(fd, address, length) < 0) {
		failure = errno;
		if (failure == EINPROGRESS && (poll(&answer, 1, CONNECT_MS) <= 0 ||
					       getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0))
			failure = 0;
	}
	if (!failure)
		return fd;
	close(fd);
	errno = failure;
	return -1;
}

int op_socket_connect(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct connect_args { int64_t port, input, output; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct connect_args, port, JSON_NUMBER), NEEDED(struct connect_args, input, JSON_NUMBER),
		NEEDED(struct connect_args, output, JSON_NUMBER),
	};
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || json_range("port", a.port, 1, 65535, err) < 0 ||
	    json_range("input", a.input, 1, HELLO_STREAM - 1, err) < 0 ||
	    json_range("output", a.output, 1, HELLO_STREAM - 1, err) < 0)
		return -1;
	if (a.input == a.output)
		return fail_as(err, EINVAL, "connect to port %lld: it has two streams", (long long)a.port);
	four.sin_port = six.sin6_port = htons((uint16_t)a.port);
	fd = connect_here((const void *)&four, sizeof(four));
	if (fd < 0 && errno == ECONNREFUSED) {
		fd = connect_here((const void *)&six, sizeof(six));
		if (fd < 0)
			errno = ECONNREFUSED;	/* and not that there is no IPv6 */
	}
	if (fd < 0)
		return fail(err, errno, "connect to port %lld", (long long)a.port);
	buffer_add(result, "{}", 2);
	return connect_streams(NULL, fd, (uint32_t)a.input, (uint32_t)a.output, err);
}

/* Whatever becomes of it, whoever has waited longest waits no more. */
int op_socket_accept(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct accept_args a = { .container = "" };
	struct listener *l;
	int fd;

	(void)call;
	if (parse_accept(args, &a, err) < 0 || !(l = find_listener(a.container, a.target, err)))
		return -1;
	fd = l->datagrams ? take_question(l->source.fd)
			  : accept4(l->source.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		fail(err, errno, "take a connection to %.100s", a.target);
	l->told = false;
	watch(l);
	if (fd < 0)
		return -1;
	buffer_add(result, "{}", 2);
	if (a.input)
		return connect_streams(l->container, fd, (uint32_t)a.input, (uint32_t)a.output, err);
	close(fd);
	return 0;
}

int op_socket_close(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct close_args { int64_t input; } a = { 0 };
	static const struct field fields[] = { NEEDED(struct close_args, input, JSON_NUMBER) };

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0)
		return -1;
	for (struct connection **at = &connections; *at; at = &(*at)->next)
		if ((*at)->input == a.input) {
			disconnect(at);
			buffer_add(result, "{}", 2);
			return 0;
		}
	return fail(err, ENOENT, "find a connection with stream %lld", (long long)a.input);
}
