/* What a guest's hostile process does, by its first argument. */
#include <string.h>
#include <unistd.h>

static void fork_on(void)
{
	for (;;)
		fork();
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "fork"))
		fork_on();
	return 2;
}
