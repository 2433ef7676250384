/* The event loop: sources of readiness, and one list of timers. One thread; nothing here blocks but loop_run. */
#ifndef LOOP_H
#define LOOP_H

#include <stdint.h>
#include <sys/epoll.h>

struct source {
	int fd;				/* -1: none */
	uint32_t events;		/* what epoll has been told; 0 = it is not listed */
	void (*ready)(struct source *source, uint32_t events);
};

struct timer {
	uint64_t due_ms;		/* of loop_now_ms(); 0 = not set */
	void (*expired)(struct timer *timer);
	struct timer *next;
};

void loop_open(void);
uint64_t loop_now_ms(void);
/* Watch source->fd for `events` (EPOLLERR is meant by EPOLLERR alone); 0 stops watching. */
void loop_watch(struct source *source, uint32_t events);
/* Stop watching and close the fd: the source may be freed after this, even while its batch is handled. */
void loop_close(struct source *source);
void loop_after(struct timer *timer, uint64_t ms);
void loop_cancel(struct timer *timer);
_Noreturn void loop_run(void (*idle)(void));	/* idle: called after each batch of events */

#endif
