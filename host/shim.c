/* hyper-shim HYPERD SOCKET: holds containerd's connections for a pod, which hyperd serves.
 *
 * containerd takes a connection that breaks for a dead shim, and kills what it stood for. So this process has them, and
 * passes ttrpc's frames on to hyperd as they are, under numbers of its own. It keeps each request that has no answer:
 * when hyperd was killed and comes back, it is given them again, with a flag that says so. Outputs that a hyperd is about
 * to hand over it keeps open meanwhile: whoever reads a fifo takes the death of its last writer for the end. docs/shim.md
 * has the rules.
 *
 * Descriptor 0 is a frame that it says first to each hyperd: who it is. Descriptor 3 listens on SOCKET.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { END = 0, REQUEST = 1, RESPONSE = 2, HOLD = 4, AGAIN = 0x80 };
enum { LISTENING = 3, CALLERS = 64, RETRY_MS = 50, MAX_MESSAGE = 4 << 20, MAX_KEPT = 16 << 20, MAX_GREETING = 64 << 10, MAX_HELD = 32 };

struct header {	/* big-endian */
	uint32_t length, stream;
	uint8_t kind, flags;
} __attribute__((packed));

struct request {
	struct request *next;
	int caller;
	uint32_t stream, number;	/* the caller's, and ours */
	bool sent;	/* to some hyperd */
	size_t size;
	struct header frame[];	/* and the message, `size` bytes in all */
};

static int callers[CALLERS], hyperd = -1;	/* -1: nobody is there */
static struct request *requests;	/* in the order in which they came */
static size_t kept;
static uint32_t last = 1;	/* 1 is the greeting's */
static char greeting[MAX_GREETING];
static size_t greeting_size;
static int held[MAX_HELD], holds;

static bool send_all(int fd, const void *from, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = send(fd, (const char *)from + done, size - done, MSG_NOSIGNAL);
		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			return false;
	}
	return true;
}

static bool receive(int fd, void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = recv(fd, (char *)to + done, size - done, 0);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return false;
	}
	return true;
}

/* The next frame, which is the caller's to free, in a request; NULL: nobody is there any more, or it is too long. */
static struct request *take(int fd)
{
	struct header header;

	if (!receive(fd, &header, sizeof header) || ntohl(header.length) > MAX_MESSAGE)
		return NULL;
	size_t size = sizeof header + ntohl(header.length);
	struct request *r = calloc(1, sizeof *r + size);
	if (!r)
		return NULL;
	r->size = size;
	r->frame[0] = header;
	if (receive(fd, r->frame + 1, size - sizeof header))
		return r;
	free(r);
	return NULL;
}

static void leave(void)
{
	close(hyperd);
	hyperd = -1;
}

static void pass(struct request *r)
{
	if (r->sent)
		r->frame[0].flags |= AGAIN;
	r->sent = true;
	if (!send_all(hyperd, r->frame, r->size))
		leave();
}

static void greet(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (connect(s, (struct sockaddr *)&address, sizeof address) < 0 || !send_all(s, greeting, greeting_size)) {
		close(s);
		return;
	}
	hyperd = s;
	for (struct request *r = requests; r && hyperd >= 0; r = r->next)
		pass(r);
}

static void forget(struct request **at)
{
	struct request *r = *at;

	*at = r->next;
	kept -= r->size;
	free(r);
}

/* A caller has gone: nobody waits for its answers. */
static void drop(int caller)
{
	close(callers[caller]);
	callers[caller] = -1;
	for (struct request **at = &requests; *at;)
		if ((*at)->caller == caller)
			forget(at);
		else
			at = &(*at)->next;
}

static bool ask(int caller)
{
	struct request *r = take(callers[caller]), **end = &requests;

	if (!r)
		return false;
	if (r->frame[0].kind != REQUEST || kept + r->size > MAX_KEPT) {
		free(r);
		return false;
	}
	kept += r->size;
	r->caller = caller;
	r->stream = r->frame[0].stream;
	r->number = r->frame[0].stream = htonl(last += 2);
	r->frame[0].flags = 0;
	while (*end)
		end = &(*end)->next;
	*end = r;
	if (hyperd >= 0)
		pass(r);
	return true;
}

/* Both ends of fifos, each path with a 0 behind it; without any: let go of all. What is no fifo is left to hyperd. */
static void hold(struct request *r)
{
	char *path = (char *)(r->frame + 1), *end = (char *)r->frame + r->size;

	if (path == end)
		while (holds)
			close(held[--holds]);
	for (char *stop; path < end && (stop = memchr(path, 0, (size_t)(end - path))); path = stop + 1) {
		int fd = holds < MAX_HELD ? open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
		if (fd >= 0)
			held[holds++] = fd;
	}
	if (!send_all(hyperd, r->frame, r->size))
		leave();
}

/* False: that was the end, on hyperd's word. */
static bool answer(void)
{
	struct request *r = take(hyperd);

	if (!r) {
		leave();
		return true;
	}
	if (r->frame[0].kind == HOLD) {
		hold(r);
		free(r);
		return true;
	}
	bool on = r->frame[0].kind != END;
	for (struct request **at = &requests; on && *at; at = &(*at)->next)
		if ((*at)->number == r->frame[0].stream) {
			int caller = (*at)->caller;
			r->frame[0].stream = (*at)->stream;
			forget(at);
			if (!send_all(callers[caller], r->frame, r->size))
				drop(caller);
			break;
		}
	free(r);
	return on;
}

static void welcome(void)
{
	int fd = accept4(LISTENING, NULL, NULL, SOCK_CLOEXEC);

	for (int i = 0; i < CALLERS && fd >= 0; i++)
		if (callers[i] < 0) {
			callers[i] = fd;
			return;
		}
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "hyper-shim: started by containerd-shim-hyper-v2, not by hand\n");
		return 1;
	}
	for (ssize_t n; (n = read(0, greeting + greeting_size, sizeof greeting - greeting_size)) > 0;)
		greeting_size += (size_t)n;
	for (int i = 0; i < CALLERS; i++)
		callers[i] = -1;
	signal(SIGHUP, SIG_IGN);
	do {
		if (hyperd < 0)
			greet(argv[1]);
		struct pollfd polled[CALLERS + 2] = {{.fd = LISTENING, .events = POLLIN}, {.fd = hyperd, .events = POLLIN}};
		for (int i = 0; i < CALLERS; i++)
			polled[2 + i] = (struct pollfd){.fd = callers[i], .events = POLLIN};
		if (poll(polled, CALLERS + 2, hyperd < 0 ? RETRY_MS : -1) < 0)
			continue;
		for (int i = 0; i < CALLERS; i++)
			if (callers[i] >= 0 && polled[2 + i].fd == callers[i] && polled[2 + i].revents && !ask(i))
				drop(i);
		if (polled[0].revents)
			welcome();
		if (hyperd >= 0 && polled[1].fd == hyperd && polled[1].revents && !answer())
			break;
	} while (true);
	unlink(argv[2]);
	return 0;
}
