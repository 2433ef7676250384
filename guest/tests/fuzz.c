/* The driver of a fuzz target: fuzz CORPUS SECONDS SEED, with AddressSanitizer watching.

   First the files of the folder CORPUS; then, for so long, what the target's grammar makes and what becomes of inputs
   that went new ways through the program. The compiler has each block report itself (-fsanitize-coverage=trace-pc); the
   map of them is shared with processes that the target starts. The input that fails is left in failed.bin. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WAYS = 1 << 14, KEPT_MAX = 4096 };

static uint8_t *ways, known[WAYS];
static bool collecting;
static uintptr_t before;

static struct { uint8_t *data; size_t size; } kept[KEPT_MAX];
static size_t kept_count;

static uint8_t current[INPUT_MAX];
static size_t current_size;
static uint64_t state;

void __sanitizer_cov_trace_pc(void);
void __asan_on_error(void);

__attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void)
{
	uintptr_t at = (uintptr_t)__builtin_return_address(0);

	if (!collecting)
		return;
	ways[(at ^ before) % WAYS] = 1;
	before = at >> 1;
}

uint32_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

static void leave_input(void)
{
	int fd = open("failed.bin", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, current, current_size) < 0)
		perror("fuzz: leave failed.bin");
	else
		fprintf(stderr, "fuzz: the input is in failed.bin\n");
	if (fd >= 0)
		close(fd);
}

void __asan_on_error(void)
{
	leave_input();
}

void check(bool truth, const char *what)
{
	if (truth)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	leave_input();
	_exit(1);
}

/* Run `current`, and keep it if it went a way that none went before. */
static void run(void)
{
	bool new_way = false;

	memset(ways, 0, WAYS);
	before = 0;
	collecting = true;
	LLVMFuzzerTestOneInput(current, current_size);
	collecting = false;
	for (size_t i = 0; i < WAYS; i++) {
		new_way |= ways[i] > known[i];
		known[i] |= ways[i];
	}
	if (!new_way || kept_count == KEPT_MAX)
		return;
	kept[kept_count].data = malloc(current_size + 1);
	memcpy(kept[kept_count].data, current, current_size);
	kept[kept_count++].size = current_size;
}

static unsigned run_corpus(const char *folder)
{
	DIR *list = opendir(folder);
	struct dirent *entry;
	unsigned runs = 0;

	check(list, "there is no such corpus");
	while ((entry = readdir(list))) {
		int fd = openat(dirfd(list), entry->d_name, O_RDONLY | O_CLOEXEC);
		ssize_t n = entry->d_name[0] == '.' ? -1 : read(fd, current, sizeof(current));

		close(fd);
		if (n < 0)
			continue;
		current_size = (size_t)n;
		run();
		runs++;
	}
	closedir(list);
	check(runs, "the corpus is empty");
	return runs;
}

static void mutate(void)
{
	static const uint8_t telling[] = { 0, 0xff, 0x80, '0', '9', '/', '.', '\n', '=', ' ' };
	size_t size = current_size;

	for (uint32_t n = next_random() % 8; n && size; n--) {
		size_t at = next_random() % size;

		switch (next_random() % 6) {
		case 0:
			current[at] = (uint8_t)next_random();
			break;
		case 1:
			current[at] ^= (uint8_t)(1u << next_random() % 8);
			break;
		case 2:
			current[at] = telling[next_random() % sizeof(telling)];
			break;
		case 3:		/* cut out */
			memmove(current + at, current + at + 1, size - at - 1);
			size--;
			break;
		case 4:		/* cut short */
			size = next_random() % 4 ? size : at;
			break;
		default:	/* a stretch again */
			memmove(current + at + (size - at) / 2, current + at, size - at - (size - at) / 2);
		}
	}
	current_size = size;
}

int main(int argc, char **argv)
{
	unsigned long long runs;
	unsigned corpus;
	time_t end;

	ways = mmap(NULL, WAYS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(argc == 4 && ways != MAP_FAILED, "usage: CORPUS SECONDS SEED");
	state = strtoull(argv[3], NULL, 10) | 1;
	runs = corpus = run_corpus(argv[1]);
	end = time(NULL) + atoi(argv[2]);
	for (; time(NULL) < end; runs++) {
		if (next_random() % 2) {
			current_size = make_input(current);
		} else {
			size_t which = next_random() % kept_count;

			memcpy(current, kept[which].data, current_size = kept[which].size);
		}
		if (next_random() % 4)
			mutate();
		run();
	}
	printf("%s: %llu inputs, %u of the corpus, %zu went new ways; nothing found\n", argv[0], runs, corpus, kept_count);
	return 0;
}
