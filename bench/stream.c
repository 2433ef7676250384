/* stream PORT: takes connections, and says to each how many bytes it sent when it has ended.
   stream ADDRESS PORT BYTES: sends as many there, and prints what is said and the microseconds until then. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char data[1 << 16];

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int receive(struct sockaddr_in *at)
{
	int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listening, (void *)at, sizeof(*at)) < 0 || listen(listening, 1) < 0)
		return 1;
	for (;;) {
		int s = accept(listening, NULL, NULL);
		long long bytes = 0;
		ssize_t n;

		while ((n = read(s, data, sizeof(data))) > 0)
			bytes += n;
		dprintf(s, "%lld", bytes);
		close(s);
	}
}

static int send_to(struct sockaddr_in *at, long long bytes)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	double begin;
	ssize_t n;

	if (connect(s, (void *)at, sizeof(*at)) < 0)
		return 1;
	begin = now_us();
	for (; bytes > 0; bytes -= n)
		if ((n = write(s, data, bytes < (long long)sizeof(data) ? (size_t)bytes : sizeof(data))) < 0)
			return 1;
	shutdown(s, SHUT_WR);
	if ((n = read(s, data, sizeof(data) - 1)) <= 0)
		return 1;
	data[n] = 0;
	printf("%s %.0f\n", data, now_us() - begin);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET };

	if (argc == 2) {
		at.sin_port = htons((unsigned short)atoi(argv[1]));
		return receive(&at);
	}
	if (argc != 4 || inet_pton(AF_INET, argv[1], &at.sin_addr) != 1)
		return 2;
	at.sin_port = htons((unsigned short)atoi(argv[2]));
	return send_to(&at, atoll(argv[3]));
}
