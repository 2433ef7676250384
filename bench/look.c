/* look NAME COUNT: asks 127.0.0.11 for a name, as often as that, one question after the other, and prints how many
   microseconds each took. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

static unsigned char question[512] = { 0, 0, 1, 0, 0, 1 }, answer[512];

static size_t write_question(const char *name)
{
	size_t at = 12, length = strlen(name);

	question[at++] = (unsigned char)length;
	memcpy(question + at, name, length);
	memcpy(question + at + length, "\0\0\1\0\1", 5);
	return at + length + 5;
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons(53) };
	struct timeval patience = { .tv_sec = 10 };
	int s = socket(AF_INET, SOCK_DGRAM, 0), count = argc == 3 ? atoi(argv[2]) : 0;
	size_t length;

	if (argc != 3 || strlen(argv[1]) > 63)
		return 2;
	inet_pton(AF_INET, "127.0.0.11", &server.sin_addr);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(s, (void *)&server, sizeof(server)) < 0)
		return 1;
	length = write_question(argv[1]);
	for (int n = 0; n < count; n++) {
		double begin = now_us();

		question[1] = (unsigned char)n;
		if (send(s, question, length, 0) < 0 || recv(s, answer, sizeof(answer), 0) < 12)
			return 1;
		if (answer[1] != question[1] || !answer[7])	/* another one's, or it has no address */
			return 1;
		printf("%.0f\n", now_us() - begin);
	}
	return 0;
}
