#include "query.h"

#include "loop.h"
#include "mount.h"
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { FIRST_MS = 3000, HURRY_MS = 6500, QUERIES_MAX = 8 };	/* the host waits 10 s */
enum { OUT_FD = 1, GROUP_FD = 3, ROOT_FD = 4 };			/* of the helper, as spawn_arrange has them */

struct query {
	struct source answer;
	struct timer timer;
	struct call call;
	char id[ID_BYTES];	/* of the container */
	struct buffer text;
	int pidfd;
	query_body *body;
	const char *verb;
	bool hurry;
};

struct helper {
	int group, root, out;
	query_body *body;
	bool hurry;
};

static unsigned query_count;

static int helper_main(const void *data)
{
	const struct helper *helper = data;
	const int stdio[3] = { -1, helper->out, -1 };
	struct buffer result = { 0 };
	struct error err;

	setpriority(PRIO_PROCESS, 0, -20);	/* as we who wait for it */
	if (spawn_arrange(stdio, helper->group, helper->root, &err) < 0 ||
	    helper->body(GROUP_FD, ROOT_FD, helper->hurry, &result) < 0)
		return 1;
	buffer_add(&result, "", 1);	/* its zero too: a whole answer ends so */
	return result.failed || write_all(OUT_FD, result.data, result.length, &err) < 0;
}

static int ask(struct query *q, struct error *err)
{
	struct container *c = container_find(q->id, err);
	struct helper helper;
	int ends[2], pid;

	if (!c)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(err, errno, "make a pipe");
	helper = (struct helper){ c->cgroup, c->root, ends[1], q->body, q->hurry };
	pid = spawn_helper(helper_main, &helper, &q->pidfd, err);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -1;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	q->answer.fd = ends[0];
	loop_watch(&q->answer, EPOLLIN);
	loop_after(&q->timer, q->hurry ? HURRY_MS : FIRST_MS);
	return 0;
}

static void end_helper(struct query *q)
{
	syscall(SYS_pidfd_send_signal, q->pidfd, SIGKILL, NULL, 0);
	close_fd(&q->pidfd);
	loop_close(&q->answer);
	loop_cancel(&q->timer);
	buffer_free(&q->text);
	q->text = (struct buffer){ 0 };
}

static void end_query(struct query *q)
{
	end_helper(q);
	query_count--;
	free(q);
}

static void answer_ready(struct source *source, uint32_t events)
{
	struct query *q = (struct query *)((char *)source - offsetof(struct query, answer));
	char part[16384];
	struct error err;
	ssize_t n = read(source->fd, part, sizeof(part));

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		buffer_add(&q->text, part, (size_t)n);
		return;
	}
	if (!q->text.failed && q->text.length && !q->text.data[q->text.length - 1]) {
		reply_result(&q->call, q->text.data);
	} else {
		fail(&err, EIO, "%s of container %s", q->verb, q->id);
		reply_error(&q->call, &err);
	}
	end_query(q);
}

static void query_late(struct timer *timer)
{
	struct query *q = (struct query *)((char *)timer - offsetof(struct query, timer));
	struct error err;

	end_helper(q);
	if (q->hurry) {
		fail(&err, ETIMEDOUT, "%s of container %s", q->verb, q->id);
	} else {
		q->hurry = true;
		if (ask(q, &err) == 0)
			return;
	}
	reply_error(&q->call, &err);
	end_query(q);
}

int query_begin(const struct call *call, const struct container *c, query_body *body, const char *verb,
		struct error *err)
{
	struct query *q;

	if (query_count == QUERIES_MAX || !(q = calloc(1, sizeof(*q))))
		return fail(err, EAGAIN, "%s of container %s", verb, c->id);
	*q = (struct query){ .answer = { -1, 0, answer_ready }, .timer = { .expired = query_late }, .call = *call,
			     .pidfd = -1, .body = body, .verb = verb };
	strcpy(q->id, c->id);
	query_count++;
	if (ask(q, err) == 0)
		return LATER;
	end_query(q);
	return -1;
}
