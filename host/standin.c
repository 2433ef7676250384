/* hyper-standin: stands on the host for a process in a virtual machine, whose arguments are its own: ps, top and docker
 * top show what runs. What is for itself is in its environment: SOCKET, KEY, and NEW_NET, NET, TERMINAL or HOLD.
 *
 * Engines know a container by a pid: this is that process. It holds the stdio that the engine gave and the network
 * namespace, hands hyperd what comes in and writes what goes out, forwards signals and the terminal's size, and ends
 * with the status of the process it stands for. It keeps count of the bytes, so that a hyperd that was killed and
 * comes back goes on where the last one was. docs/standin.md has the frames. HOLD is the other end of its stdin, a fifo
 * whose writers come and go: it has no end before hyperd says so.
 *
 * Descriptor 3 is whoever starts it: a byte goes out when the namespace is entered. When hyperd knows KEY a line comes
 * in, and with a container's mount trees: of its root file system and, each with its place behind the line, of binds.
 * Another byte goes out when they are entered.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { HELLO = 1, DATA, END, ACK, SIGNAL, RESIZE, EXIT, STOP, RELEASE };
enum { KNOWS_END = 1 };	/* HELLO's value: what this one understands beyond the first of its kind */
enum { STARTER = 3, KEY_BYTES = 32, WINDOW = 64 * 1024, RETRY_MS = 50, LOST = 255 };
enum { OUT_OF_MEMORY = 0x100, MORE_THAN_LEFT = 16 << 20 };
enum { TREES_MAX = 253, LINE_MAX_BYTES = 64 * 1024 };
enum { MOVE_FROM_FD = 4, TO_LINKED = 0x10 };	/* MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_SYMLINKS */

struct frame {	/* little-endian, as the host is */
	uint8_t kind, stream;
	uint16_t unused;
	uint32_t length;	/* of what follows */
	uint64_t value;	/* an offset, a signal, a size, a status */
};

struct hello {
	struct frame frame;
	char key[KEY_BYTES];
	uint64_t offsets[3];	/* how many bytes of stdin hyperd has, of stdout and stderr were written */
};

/* A window of one stream: bytes `begin` to `end`, counted from the stream's first. */
struct window {
	uint64_t begin, end;
	char bytes[WINDOW];
};

static struct window windows[3];
static int hyperd = -1, held = -1;	/* -1: nobody is there; nothing is */
static bool terminal, in_ended, in_told, in_stopped, out_ended[3];
static bool broken[3];	/* outputs that nobody reads any more */
static uint64_t in_sent;	/* of stdin, to this hyperd */
static int64_t status = -1;	/* that it ends with, once all is written */
static bool short_of_memory;	/* and that is why */

static void die(const char *doing)
{
	fprintf(stderr, "hyper-standin: cannot %s: %s\n", doing, strerror(errno));
	exit(1);
}

/* The next bytes of a window from `at` on that lie together. */
static size_t piece(const struct window *w, uint64_t at, char **bytes)
{
	size_t place = at % WINDOW, size = w->end - at;
	*bytes = (char *)w->bytes + place;
	return size < WINDOW - place ? size : WINDOW - place;
}

static void leave(void)
{
	close(hyperd);
	hyperd = -1;
}

/* Whole, or the connection is lost; hyperd reads all that comes. */
static void tell(const struct frame *frame, const void *payload)
{
	const void *parts[2] = {frame, payload};
	size_t sizes[2] = {sizeof *frame, frame->length};

	for (int i = 0; i < 2; i++)
		for (size_t done = 0; hyperd >= 0 && done < sizes[i];) {
			ssize_t n = send(hyperd, (const char *)parts[i] + done, sizes[i] - done, MSG_NOSIGNAL);
			if (n > 0)
				done += (size_t)n;
			else if (n < 0 && errno != EINTR)
				leave();
		}
}

static void tell_value(uint8_t kind, uint8_t stream, uint64_t value)
{
	struct frame frame = {.kind = kind, .stream = stream, .value = value};
	tell(&frame, NULL);
}

static void tell_size(void)
{
	struct winsize size;
	if (terminal && ioctl(0, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
		tell_value(RESIZE, 0, (uint64_t)size.ws_row << 16 | size.ws_col);
}

static void greet(const char *path, const char *key)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct hello hello = {.frame = {.kind = HELLO, .value = KNOWS_END, .length = sizeof hello - sizeof hello.frame}};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (connect(s, (struct sockaddr *)&address, sizeof address) < 0) {
		close(s);
		return;
	}
	hyperd = s;
	memcpy(hello.key, key, KEY_BYTES);
	for (int i = 0; i < 3; i++)
		hello.offsets[i] = windows[i].begin;
	in_sent = windows[0].begin;
	in_told = false;
	tell(&hello.frame, hello.key);
	for (int i = 1; i < 3; i++)
		if (broken[i])
			tell_value(STOP, (uint8_t)i, 0);
	tell_size();
}

static bool receive(void *to, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = recv(hyperd, (char *)to + done, size - done, 0);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return false;
	}
	return true;
}

/* Bytes of an output stream, of which some may have come before. False: more than there is room for. */
static bool take(struct window *w, uint64_t offset, uint32_t length)
{
	char skipped[4096];
	char *at;

	if (offset > w->end || length > WINDOW || offset + length > w->begin + WINDOW)
		return false;
	for (uint64_t had = w->end - offset < length ? w->end - offset : length; had;) {
		size_t n = had < sizeof skipped ? had : sizeof skipped;
		if (!receive(skipped, n))
			return false;
		had -= n, offset += n, length -= (uint32_t)n;
	}
	while (length) {
		size_t place = w->end % WINDOW, n = length < WINDOW - place ? length : WINDOW - place;
		at = w->bytes + place;
		if (!receive(at, n))
			return false;
		w->end += n, length -= (uint32_t)n;
	}
	return true;
}

/* Nobody reads it: whoever writes in the machine is to know. */
static void break_off(int stream)
{
	struct window *w = &windows[stream];

	w->begin = w->end;
	if (!broken[stream] && hyperd >= 0)
		tell_value(STOP, (uint8_t)stream, 0);
	broken[stream] = true;
}

static bool hear_data(int stream, uint64_t offset, uint32_t length)
{
	struct window *w = &windows[stream];

	if (!take(w, offset, length))
		return false;
	if (broken[stream]) {
		w->begin = w->end;
		tell_value(ACK, (uint8_t)stream, w->begin);
	}
	return true;
}

static bool hear(void)
{
	struct frame frame;

	if (!receive(&frame, sizeof frame))
		return false;
	switch (frame.kind) {
	case DATA:
		return (frame.stream == 1 || frame.stream == 2) && hear_data(frame.stream, frame.value, frame.length);
	case END:
		if ((frame.stream != 1 && frame.stream != 2) || frame.value != windows[frame.stream].end)
			return false;
		return out_ended[frame.stream] = true;
	case ACK:
		if (frame.value > windows[0].end)
			return false;
		if (frame.value > windows[0].begin)
			windows[0].begin = frame.value;
		if (in_sent < windows[0].begin)
			in_sent = windows[0].begin;
		return true;
	case STOP:
		in_stopped = true;
		windows[0].begin = in_sent = windows[0].end;
		return true;
	case RELEASE:
		if (held >= 0)
			close(held);
		held = -1;
		return true;
	case EXIT:
		status = (int64_t)(frame.value & 0xff);
		short_of_memory = frame.value & OUT_OF_MEMORY;
		return true;
	}
	return false;
}

static void read_stdin(void)
{
	struct window *w = &windows[0];
	size_t place = w->end % WINDOW, room = WINDOW - (w->end - w->begin);
	ssize_t n = read(0, w->bytes + place, room < WINDOW - place ? room : WINDOW - place);

	if (n > 0)
		w->end += (uint64_t)n;
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		in_ended = true;
}

static void send_stdin(void)
{
	struct window *w = &windows[0];

	while (hyperd >= 0 && in_sent < w->end) {
		char *bytes;
		struct frame frame = {.kind = DATA, .value = in_sent};
		frame.length = (uint32_t)piece(w, in_sent, &bytes);
		tell(&frame, bytes);
		in_sent += frame.length;
	}
	if (in_ended && !in_told && hyperd >= 0 && in_sent == w->end) {
		in_told = true;
		tell_value(END, 0, w->end);
	}
}

static void write_out(int stream, int fd)
{
	struct window *w = &windows[stream];
	char *bytes;
	size_t size = piece(w, w->begin, &bytes);
	ssize_t n = write(fd, bytes, size);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0 && (errno == EPIPE || errno == EIO))
		break_off(stream);
	else
		w->begin += n < 0 ? size : (size_t)n;	/* a full disk: the process goes on */
	if (hyperd >= 0)
		tell_value(ACK, (uint8_t)stream, w->begin);
}

/* Its process has closed a stream: whoever reads it sees the end. `nowhere` takes its place among the descriptors. */
static void end_out(int stream, int *out, int nowhere)
{
	if (*out != stream)
		close(*out);
	dup2(nowhere, stream);
	*out = -1;
}

/* A description of our own, so that O_NONBLOCK is nobody else's; a file's is left, with the place that it is at. */
static int own(int fd)
{
	char path[32];
	struct stat st;

	if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return fd;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int opened = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return opened < 0 ? fd : opened;
}

static int signals(void)
{
	sigset_t all;
	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		die("block signals");
	return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void forward(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof info) == sizeof info)
		if (info.ssi_signo == SIGWINCH)
			tell_size();
		else if (terminal && info.ssi_code == SI_KERNEL && (info.ssi_signo == SIGHUP || info.ssi_signo == SIGCONT))
			break_off(1);	/* hung up: so is the one in the machine, and who is at that hears of it there */
		else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGPIPE && hyperd >= 0)
			tell_value(SIGNAL, 0, info.ssi_signo);
}

static void enter(void)
{
	const char *net = getenv("NET"), *hold = getenv("HOLD");

	if (getenv("NEW_NET") && unshare(CLONE_NEWNET) < 0)
		die("make a network namespace");
	if (net && setns(atoi(net), CLONE_NEWNET) < 0)
		die("enter the network namespace");
	if (net)
		close(atoi(net));
	if (hold)
		held = atoi(hold);
	terminal = getenv("TERMINAL");
	syscall(SYS_close_range, STARTER + 1, ~0U, 0);	/* what the engine had open: it may wait for the end of a pipe */
	setsid();
	if (terminal) {
		struct termios raw;
		if (ioctl(0, TIOCSCTTY, 0) < 0 || tcgetattr(0, &raw) < 0)
			die("use the terminal");
		cfmakeraw(&raw);	/* the one in the machine does what terminals do */
		tcsetattr(0, TCSANOW, &raw);
	}
}

/* The mount namespace is one of our own, with the container's files and no other: engines copy files by way of the pid.
 * Where we are stays a folder of the host, for hyperd's socket is in there. */
static void enter_root(const int *trees, int count, const char *places, const char *end)
{
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (here < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("make a mount namespace");
	if (syscall(SYS_move_mount, trees[0], "", AT_FDCWD, "/proc", MOVE_FROM_FD) < 0 || fchdir(trees[0]) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		die("enter the root file system");
	for (int i = 1; i < count && places < end; i++, places += strlen(places) + 1)	/* its links lead to no other root */
		if (syscall(SYS_move_mount, trees[i], "", AT_FDCWD, places, MOVE_FROM_FD | TO_LINKED) < 0 &&
		    errno != ENOENT && errno != ENOTDIR)	/* it is below what only the machine has there */
			die("mount a bind");
	if (fchdir(here) < 0)
		die("go to the socket");
	close(here);
	for (int i = 0; i < count; i++)
		close(trees[i]);
}

static void wait_for_starter(void)
{
	static char line[LINE_MAX_BYTES + 1];
	static union { char bytes[CMSG_SPACE(TREES_MAX * sizeof(int))]; struct cmsghdr aligned; } control;
	struct iovec part = {line, LINE_MAX_BYTES};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				 .msg_controllen = sizeof control};
	ssize_t length;

	if (write(STARTER, "\n", 1) != 1 || (length = recvmsg(STARTER, &message, MSG_CMSG_CLOEXEC)) < 1)
		exit(1);	/* whoever started us has given up */
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	if (rights && rights->cmsg_type == SCM_RIGHTS)
		enter_root((int *)CMSG_DATA(rights), (int)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int)), line + 1,
			   line + length);
	if (write(STARTER, "\n", 1) != 1)
		exit(1);
	close(STARTER);
}

static bool written(void)
{
	return windows[1].begin == windows[1].end && windows[2].begin == windows[2].end;
}

/* Engines are told by the control group that we are in, where a process ends for lack of memory: hyperd has left little
 * there. */
static void run_out_of_memory(void)
{
	pid_t child = fork();

	if (child == 0) {
		void *bytes = mmap(NULL, MORE_THAN_LEFT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (bytes != MAP_FAILED)
			memset(bytes, 1, MORE_THAN_LEFT);
		_exit(0);
	}
	if (child > 0)
		waitpid(child, NULL, 0);
}

/* By its folder, which is where we go: it is reached from another root, too. */
static const char *reach(char *path)
{
	char *name = strrchr(path, '/');

	if (!name)
		return path;
	*name = 0;
	if (chdir(*path ? path : "/") < 0)
		die("go to the socket");
	*name = '/';
	return name + 1;
}

int main(int argc, char **argv)
{
	char *path = getenv("SOCKET"), *key = getenv("KEY");

	if (argc < 1 || !path || !key || strlen(key) != KEY_BYTES) {
		fprintf(stderr, "hyper-standin: started by runv, not by hand\n");
		return 1;
	}
	const char *last = strrchr(argv[0], '/'), *name = reach(path);
	prctl(PR_SET_NAME, last ? last + 1 : argv[0]);
	enter();
	int caught = signals(), out[3] = {0, own(1), own(2)}, nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (nowhere < 0)
		die("open /dev/null");
	wait_for_starter();
	prctl(PR_SET_DUMPABLE, 0);	/* its memory is what people type */
	while (status < 0 || !written()) {
		if (hyperd < 0 && status < 0)
			greet(name, key);
		send_stdin();
		bool room = windows[0].end - windows[0].begin < WINDOW;
		struct pollfd polled[] = {
			{.fd = caught, .events = POLLIN},
			{.fd = hyperd, .events = POLLIN},
			{.fd = in_ended || in_stopped || !room ? -1 : 0, .events = POLLIN},
			{.fd = windows[1].begin == windows[1].end ? -1 : out[1], .events = POLLOUT},
			{.fd = windows[2].begin == windows[2].end ? -1 : out[2], .events = POLLOUT},
		};
		if (poll(polled, 5, hyperd < 0 ? RETRY_MS : -1) < 0 && errno != EINTR)
			return LOST;
		if (polled[0].revents)
			forward(caught);
		if (hyperd >= 0 && polled[1].revents && !hear())
			leave();
		if (polled[2].revents)
			read_stdin();
		for (int stream = 1; stream < 3; stream++)
			if (polled[2 + stream].revents)
				write_out(stream, out[stream]);
		for (int stream = 1; stream < 3; stream++)
			if (out_ended[stream] && out[stream] >= 0 && windows[stream].begin == windows[stream].end)
				end_out(stream, &out[stream], nowhere);
	}
	if (short_of_memory)
		run_out_of_memory();
	return (int)status;
}
