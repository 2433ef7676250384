#include "stdstreams.h"

#include "spawn.h"

#include <fcntl.h>
#include <sys/ioctl.h>

enum { PIPE_BYTES = 262144 };

struct streams_args {
	int64_t id[3];
};

int stdstreams_parse(const struct json *json, bool tty, uint32_t streams[3], struct error *err)
{
	static const struct field fields[] = {
		{ "stdin", JSON_NUMBER, 0, false }, { "stdout", JSON_NUMBER, sizeof(int64_t), false },
		{ "stderr", JSON_NUMBER, 2 * sizeof(int64_t), false },
	};
	struct streams_args a = { 0 };

	if (json && json_fields(json, fields, COUNT(fields), &a, err) < 0)
		return -1;
	for (int i = 0; i < 3; i++) {
		if (json_range("stream", a.id[i], 0, HELLO_STREAM - 1, err) < 0)
			return -1;
		for (int j = 0; j < i; j++)
			if (a.id[i] && a.id[i] == a.id[j])
				return fail(err, EINVAL, "use stream %lld twice", (long long)a.id[i]);
		streams[i] = (uint32_t)a.id[i];
		if (streams[i] && stream_check(streams[i], err) < 0)
			return -1;
	}
	return tty && streams[2] ? fail(err, EINVAL, "give a terminal's process a stderr") : 0;
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int stdstreams_pipe(struct process *p, int index, int *theirs, struct error *err)
{
	int ends[2], ours;

	if (!p->streams[index]) {
		*theirs = open("/dev/null", (index ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
		return *theirs < 0 ? fail(err, errno, "open /dev/null") : 0;
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail(err, errno, "make a pipe");
	fcntl(ends[0], F_SETPIPE_SZ, PIPE_BYTES);	/* fewer turns between us and the process; best effort */
	ours = ends[index == 0];
	*theirs = ends[index != 0];
	if (set_nonblocking(ours) < 0) {
		close(ours);
		return fail(err, errno, "make a pipe");
	}
	if (index == 0)
		return input_open(p->streams[0], ours, false, err) ? 0 : -1;
	return output_open(p->streams[index], ours, err) ? 0 : -1;
}

int terminal_resize(int master, int64_t rows, int64_t columns, struct error *err)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

	if (json_range("rows", rows, 0, 65535, err) < 0 || json_range("columns", columns, 0, 65535, err) < 0)
		return -1;
	return ioctl(master, TIOCSWINSZ, &size) < 0 ? fail(err, errno, "set the window's size") : 0;
}

static int open_terminal(struct process *p, struct spawn *s, int64_t rows, int64_t columns, struct error *err)
{
	int unlock = 0, slave, in, out;
	struct output *output;

	p->terminal = openat(p->container->terminals, "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (p->terminal < 0 || ioctl(p->terminal, TIOCSPTLCK, &unlock) < 0 ||
	    ioctl(p->terminal, TIOCGPTN, &s->terminal) < 0)
		return fail(err, errno, "open a terminal");
	slave = ioctl(p->terminal, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return fail(err, errno, "open a terminal");
	s->stdio[0] = slave;
	s->stdio[1] = fcntl(slave, F_DUPFD_CLOEXEC, 0);
	s->stdio[2] = fcntl(slave, F_DUPFD_CLOEXEC, 0);
	if (s->stdio[1] < 0 || s->stdio[2] < 0 || terminal_resize(p->terminal, rows, columns, err) < 0)
		return fail(err, errno, "open a terminal");
	in = fcntl(p->terminal, F_DUPFD_CLOEXEC, 0);	/* epoll wants a descriptor a direction */
	out = fcntl(p->terminal, F_DUPFD_CLOEXEC, 0);
	if (!p->streams[0])
		close_fd(&in);
	else if (!input_open(p->streams[0], in, true, err))
		return close_fd(&out), -1;
	if (!p->streams[1])
		close_fd(&out);
	else if (!(output = output_open(p->streams[1], out, err)))
		return -1;
	else
		output->patient = !p->streams[0];
	return 0;
}

int stdstreams_open(struct process *p, struct spawn *s, int64_t rows, int64_t columns, struct error *err)
{
	if (p->tty)
		return open_terminal(p, s, rows, columns, err);
	for (int i = 0; i < 3; i++)
		if (stdstreams_pipe(p, i, &s->stdio[i], err) < 0)
			return -1;
	return 0;
}
