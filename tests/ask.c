/* ask HOW NAME: asks 127.0.0.11 for the IPv4 addresses of a name, and prints who has answered, the error's number, and
   the addresses, in order. HOW: sendto, as musl's resolver does it, connect, as glibc's does, or tcp. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static uint8_t question[512] = { 0x12, 0x34, 1, 0, 0, 1 }, answer[65536];

static size_t write_question(const char *name)
{
	size_t at = 12;

	while (*name) {
		size_t label = strcspn(name, ".");

		question[at++] = (uint8_t)label;
		memcpy(question + at, name, label);
		at += label;
		name += label + (name[label] == '.');
	}
	memcpy(question + at, "\0\0\1\0\1", 5);
	return at + 5;
}

static ssize_t by_udp(const char *how, size_t length, struct sockaddr_in *server)
{
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	struct timeval patience = { .tv_sec = 5 };
	socklen_t size = sizeof(*server);
	ssize_t got = -1;

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!strcmp(how, "connect")) {
		if (connect(s, (void *)server, size) < 0)
			return -1;
		for (int tries = 0; tries < 12 && got < 0; tries++)
			if (send(s, question, length, 0) < 0 || (got = recv(s, answer, sizeof(answer), 0)) < 0)
				perror(how);
		return got;
	}
	for (int tries = 0; tries < 12 && got < 0; tries++) {
		struct sockaddr_in to = *server, from;

		size = sizeof(from);
		if (sendto(s, question, length, 0, (void *)&to, sizeof(to)) < 0)
			return -1;
		got = recvfrom(s, answer, sizeof(answer), 0, (void *)&from, &size);
		if (got >= 0)
			*server = from;
	}
	return got;
}

static ssize_t by_tcp(size_t length, struct sockaddr_in *server)
{
	int s = socket(AF_INET, SOCK_STREAM, 0);
	uint8_t whole[2 + sizeof(question)] = { (uint8_t)(length >> 8), (uint8_t)length }, prefix[2];

	memcpy(whole + 2, question, length);
	if (connect(s, (void *)server, sizeof(*server)) < 0 || send(s, whole, 2 + length, 0) != (ssize_t)(2 + length) ||
	    recv(s, prefix, 2, MSG_WAITALL) != 2)
		return -1;
	return recv(s, answer, (size_t)(prefix[0] << 8 | prefix[1]), MSG_WAITALL);
}

int main(int argc, char **argv)
{
	struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons(53) };
	size_t length, at;
	ssize_t got;

	if (argc != 3 || strlen(argv[2]) > 250)
		return 2;
	inet_pton(AF_INET, "127.0.0.11", &server.sin_addr);
	at = length = write_question(argv[2]);
	got = strcmp(argv[1], "tcp") ? by_udp(argv[1], length, &server) : by_tcp(length, &server);
	if (got < (ssize_t)length) {
		perror("ask");
		return 1;
	}
	printf("%s:%d %d", inet_ntoa(server.sin_addr), ntohs(server.sin_port), answer[3] & 15);
	for (int n = answer[6] << 8 | answer[7]; n && at + 16 <= (size_t)got; n--, at += 16)
		printf(" %d.%d.%d.%d", answer[at + 12], answer[at + 13], answer[at + 14], answer[at + 15]);
	printf("\n");
	return 0;
}
