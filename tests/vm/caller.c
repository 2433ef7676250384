/* Who connects to a unix socket in a container.

   caller PATH             stdin goes there, what comes back to stdout, each to its own end
   caller PATH open        the same, but for the end of stdin, which nobody hears of
   caller PATH many N      N connections at a time; each says a word and hears it again, or has met its end: counts both
   caller PATH hold        says "connected", waits for the end, says "ended" */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int call(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0 || connect(fd, (void *)&address, sizeof(address)) < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static void say(int fd, const char *bytes, ssize_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, bytes, (size_t)length);

		if (n < 0) {
			perror("write");
			exit(1);
		}
		bytes += n;
		length -= n;
	}
}

static int copy(int fd, int ends)
{
	static char bytes[65536];
	pid_t child = fork();
	ssize_t n;

	if (!child) {
		while ((n = read(0, bytes, sizeof(bytes))) > 0)
			say(fd, bytes, n);
		if (ends)
			shutdown(fd, SHUT_WR);
		_exit(0);
	}
	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		say(1, bytes, n);
	return n < 0;
}

static int many(const char *path, int count)
{
	int *fds = calloc((size_t)count, sizeof(*fds)), heard = 0;
	char bytes[16];

	for (int i = 0; i < count; i++)
		fds[i] = call(path);
	for (int i = 0; i < count; i++) {
		if (write(fds[i], "word", 4) == 4 && read(fds[i], bytes, sizeof(bytes)) == 4 && !memcmp(bytes, "word", 4))
			heard++;
	}
	printf("%d heard, %d ended\n", heard, count - heard);
	return 0;
}

int main(int argc, char **argv)
{
	char byte;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[2], "many"))
		return many(argv[1], atoi(argv[3]));
	if (argc < 2)
		return 2;
	fd = call(argv[1]);
	if (argc == 2 || !strcmp(argv[2], "open"))
		return copy(fd, argc == 2);
	puts("connected");
	while (read(fd, &byte, 1) > 0)
		;
	puts("ended");
	return 0;
}
