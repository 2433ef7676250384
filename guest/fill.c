#include "fill.h"

#include "loop.h"
#include "mount.h"
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

enum { OUT_FD = 1, CONTENT_FD = 3, VOLUME_FD = 4 };	/* of the process, as spawn_arrange has them */

struct fill {
	struct container *container;
	struct source said;	/* a struct error, its number 0 for none */
	int pidfd;
};

struct work {
	const struct unfilled *what;
	int out;
};

static int fill_main(const void *data)
{
	const struct work *work = data;
	const int stdio[3] = { -1, work->out, -1 };
	struct error err = { 0 }, cause;

	if (spawn_arrange(stdio, work->what->content, work->what->volume, &err) < 0)
		return 1;
	/* One that is mounted at two places has been filled for the first. */
	if (copy_is_due(VOLUME_FD) && copy_missing(CONTENT_FD, VOLUME_FD, &err) < 0) {
		cause = err;
		snprintf(err.message, sizeof(err.message), "mount on %.100s: %.200s", work->what->target, cause.message);
	}
	return write_all(OUT_FD, &err, sizeof(err), &cause) < 0;
}

static void forget(struct fill *f)
{
	f->container->filling = NULL;
	syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
	close_fd(&f->pidfd);
	loop_close(&f->said);
	free(f);
}

static void drop_unfilled(struct container *c)
{
	struct unfilled *u = c->unfilled;

	c->unfilled = u->next;
	close_fd(&u->content);
	close_fd(&u->volume);
	free(u);
}

void fill_stop(struct container *c)
{
	if (c->filling)
		forget(c->filling);
	for (; c->unfilled; drop_unfilled(c))
		if (c->unfilled->marked)
			unlinkat(c->unfilled->volume, COPY_UNFINISHED, AT_REMOVEDIR);
}

static void said_ready(struct source *source, uint32_t events)
{
	struct fill *f = (struct fill *)((char *)source - offsetof(struct fill, said));
	struct container *c = f->container;
	struct error err;
	ssize_t n = read(source->fd, &err, sizeof(err));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != (ssize_t)sizeof(err))
		fail(&err, EIO, "fill a volume");
	err.message[sizeof(err.message) - 1] = 0;
	forget(f);
	if (err.number || fill_begin(c, &err) < 0)
		c->filled(c, &err);
	else if (!c->filling)
		c->filled(c, NULL);
}

int fill_begin(struct container *c, struct error *err)
{
	struct work work = { .what = c->unfilled };
	struct fill *f;
	int ends[2], pid;

	if (!c->unfilled)
		return 0;
	if (!(f = calloc(1, sizeof(*f))))
		return fail(err, ENOMEM, "fill a volume");
	if (pipe2(ends, O_CLOEXEC) < 0) {
		free(f);
		return fail(err, errno, "make a pipe");
	}
	work.out = ends[1];
	pid = spawn_helper(fill_main, &work, &f->pidfd, err);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		free(f);
		return -1;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	f->container = c;
	f->said = (struct source){ ends[0], 0, said_ready };
	c->filling = f;
	drop_unfilled(c);
	loop_watch(&f->said, EPOLLIN);
	return 0;
}
