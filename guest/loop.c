#include "loop.h"

#include "error.h"

#include <string.h>
#include <time.h>

static int epoll_fd = -1;
static struct epoll_event batch[64];
static int batch_length;
static struct timer *timers;

void loop_open(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("open epoll: %s", strerror(errno));
}

uint64_t loop_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void loop_watch(struct source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };
	int op = !events ? EPOLL_CTL_DEL : source->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (source->fd < 0 || source->events == events)
		return;
	if (epoll_ctl(epoll_fd, op, source->fd, &event) < 0)
		die("watch descriptor %d: %s", source->fd, strerror(errno));
	source->events = events;
}

void loop_close(struct source *source)
{
	if (source->fd < 0)
		return;
	loop_watch(source, 0);
	close(source->fd);
	source->fd = -1;
	for (int i = 0; i < batch_length; i++)
		if (batch[i].data.ptr == source)
			batch[i].data.ptr = NULL;
}

void loop_after(struct timer *timer, uint64_t ms)
{
	loop_cancel(timer);
	timer->due_ms = loop_now_ms() + ms;
	timer->next = timers;
	timers = timer;
}

void loop_cancel(struct timer *timer)
{
	for (struct timer **at = &timers; *at; at = &(*at)->next)
		if (*at == timer) {
			*at = timer->next;
			break;
		}
	timer->due_ms = 0;
}

static int wait_ms(void)
{
	uint64_t now = loop_now_ms(), least = UINT64_MAX;

	for (struct timer *t = timers; t; t = t->next)
		if (t->due_ms < least)
			least = t->due_ms;
	if (least == UINT64_MAX)
		return -1;
	if (least <= now)
		return 0;
	return least - now > 60000 ? 60000 : (int)(least - now);
}

static void run_timers(void)
{
	uint64_t now = loop_now_ms();

again:
	for (struct timer *t = timers; t; t = t->next)
		if (t->due_ms <= now) {
			loop_cancel(t);
			t->expired(t);
			goto again;	/* the list may be another one now */
		}
}

_Noreturn void loop_run(void (*idle)(void))
{
	for (;;) {
		int n = epoll_wait(epoll_fd, batch, COUNT(batch), wait_ms());

		if (n < 0 && errno != EINTR)
			die("wait for events: %s", strerror(errno));
		batch_length = n < 0 ? 0 : n;
		for (int i = 0; i < batch_length; i++) {
			struct source *source = batch[i].data.ptr;

			if (source)
				source->ready(source, batch[i].events);
		}
		batch_length = 0;
		if (timers)
			run_timers();
		idle();
	}
}
