/* What a guest's hostile process does, by its first argument. */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fork_on(void)
{
	for (;;)
		fork();
}

/* Is anybody there who listens to virtual machines? A port that nobody has is refused by somebody. */
static int call_host(void)
{
	struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1024 };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		return printf("no socket: %s\n", strerror(errno)) < 0;
	if (connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0 && (errno == ENODEV || errno == ENETUNREACH))
		return printf("nobody: %s\n", strerror(errno)) < 0;
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "fork"))
		fork_on();
	if (argc == 2 && !strcmp(argv[1], "vsock"))
		return call_host();
	return 2;
}
