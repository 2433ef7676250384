/*
 * who: what a process knows of itself and of its machine, as its very first act. On standard output, NAME VALUE a line.
 * who stay: the same, and it stays until it is killed.
 * who clock: its clocks on one line, for each line that it reads.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 16, CPUS = 64 };

static void hex(const char *name, const void *from, size_t length)
{
	const unsigned char *bytes = from;

	printf("%s ", name);
	for (size_t i = 0; i < length; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

static void file(const char *name, const char *path)
{
	char text[128] = "";
	int fd = open(path, O_RDONLY);
	ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

	text[length < 0 ? 0 : length] = 0;
	text[strcspn(text, "\n")] = 0;
	printf("%s %s\n", name, text);
	close(fd);
}

static long long now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (long long)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* In nanoseconds, in the order in which they are read: monotonic, since boot, of the world. */
static void clocks(void)
{
	long long monotonic = now_ns(CLOCK_MONOTONIC), boottime = now_ns(CLOCK_BOOTTIME);

	printf("clocks %lld %lld %lld\n", monotonic, boottime, now_ns(CLOCK_REALTIME));
	fflush(stdout);
}

/* Each CPU has a generator of its own. */
static void each_cpu(void)
{
	unsigned char bytes[BYTES];
	char name[32];

	for (int cpu = 0; cpu < CPUS; cpu++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof set, &set) < 0)
			return;
		if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != sizeof bytes)
			exit(1);
		snprintf(name, sizeof name, "cpu%d", cpu);
		hex(name, bytes, sizeof bytes);
	}
}

static int answer(void)
{
	char line[16];

	while (fgets(line, sizeof line, stdin))
		clocks();
	return 0;
}

int main(int argc, char **argv)
{
	unsigned char first[BYTES], second[BYTES];
	int fd;

	if (getrandom(first, sizeof first, GRND_NONBLOCK) != sizeof first)
		return 1;
	fd = open("/dev/urandom", O_RDONLY);
	if (fd < 0 || read(fd, second, sizeof second) != sizeof second)
		return 1;
	if (argc > 1 && !strcmp(argv[1], "clock"))
		return answer();
	clocks();
	hex("getrandom", first, sizeof first);
	hex("urandom", second, sizeof second);
	hex("at_random", (void *)getauxval(AT_RANDOM), BYTES);
	printf("stack %p\n", (void *)&argc);
	printf("vdso %p\n", (void *)getauxval(AT_SYSINFO_EHDR));
	printf("mapping %p\n", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	printf("break %p\n", sbrk(0));
	each_cpu();
	file("boot_id", "/proc/sys/kernel/random/boot_id");
	file("uuid", "/proc/sys/kernel/random/uuid");
	file("hostname", "/proc/sys/kernel/hostname");
	printf("environment %s\n", getenv("HOSTNAME"));
	file("mac", "/sys/class/net/eth0/address");
	file("machine_id", "/etc/machine-id");
	file("product_uuid", "/sys/class/dmi/id/product_uuid");
	fflush(stdout);
	if (argc > 1)
		pause();
	return 0;
}
