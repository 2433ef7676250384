#include "options.h"

#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct options opt = { .uid = -1, .lock = -1, .in = -1, .from = -1, .to = -1 };

static void usage(const char *what)
{
	errno = EINVAL;
	die("hyper-jail: option %s", what);
}

static void append(struct list *list, const char *item)
{
	if (list->count == MAX_LIST)
		usage("given too often");
	list->items[list->count++] = item;
}

static unsigned long number(const char *text, int base, unsigned long max)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, base);
	if (errno || end == text || *end || text[0] == '-' || value > max)
		usage(text);
	return value;
}

static void inherit(int fd)
{
	if (opt.fd_count == MAX_LIST)
		usage("--fd given too often");
	opt.fds[opt.fd_count++] = fd;
}

static void copy_option(const char *pair)
{
	char from[16];
	const char *equals = strchr(pair, '=');
	if (!equals || equals - pair >= (int)sizeof from)
		usage(pair);
	memcpy(from, pair, (size_t)(equals - pair));
	from[equals - pair] = 0;
	opt.from = (int)number(from, 10, INT_MAX);
	opt.to = (int)number(equals + 1, 10, INT_MAX);
}

static void take(const char *option, const char *value)
{
	if (!strcmp(option, "--name"))
		opt.name = value;
	else if (!strcmp(option, "--root"))
		opt.root = value;
	else if (!strcmp(option, "--bind"))
		append(&opt.binds, value);
	else if (!strcmp(option, "--mount"))
		append(&opt.mounts, value);
	else if (!strcmp(option, "--home"))
		opt.home = value;
	else if (!strcmp(option, "--link"))
		append(&opt.links, value);
	else if (!strcmp(option, "--cgroup"))
		append(&opt.cgroups, value);
	else if (!strcmp(option, "--preload"))
		opt.preload = value;
	else if (!strcmp(option, "--uid"))
		opt.uid = (long)number(value, 10, INT_MAX);
	else if (!strcmp(option, "--caps"))
		opt.caps = number(value, 16, ULONG_MAX);
	else if (!strcmp(option, "--nofile"))
		opt.nofile = number(value, 10, INT_MAX);
	else if (!strcmp(option, "--fsize"))
		opt.fsize = number(value, 10, ULONG_MAX);
	else if (!strcmp(option, "--copy"))
		copy_option(value);
	else if (!strcmp(option, "--lock"))
		inherit(opt.lock = (int)number(value, 10, INT_MAX));
	else if (!strcmp(option, "--stdin"))
		inherit(opt.in = (int)number(value, 10, INT_MAX));
	else if (!strcmp(option, "--fd"))
		inherit((int)number(value, 10, INT_MAX));
	else
		usage(option);
}

/* An option that takes no value, or NULL. */
static bool *flag_of(const char *option)
{
	if (!strcmp(option, "--kvm"))
		return &opt.kvm;
	if (!strcmp(option, "--vsock"))
		return &opt.vsock;
	if (!strcmp(option, "--proc"))
		return &opt.proc;
	return strcmp(option, "--no-setid") ? NULL : &opt.no_setid;
}

char **parse(int argc, char **argv)
{
	int i = 1;
	while (i < argc && strcmp(argv[i], "--")) {
		bool *flag = flag_of(argv[i]);
		if (flag) {
			*flag = true;
			i++;
			continue;
		}
		if (i + 1 >= argc)
			usage(argv[i]);
		take(argv[i], argv[i + 1]);
		i += 2;
	}
	if (i + 1 >= argc || !opt.name || strchr(opt.name, '/') || opt.uid == 0)
		usage("is missing or wrong: --name, --uid or PROGRAM");
	return argv + i + 1;
}

const char *split(const char *pair, char source[PATH_MAX])
{
	const char *equals = strrchr(pair, '=');
	if (!equals || equals - pair >= PATH_MAX || equals[1] != '/')
		usage(pair);
	memcpy(source, pair, (size_t)(equals - pair));
	source[equals - pair] = 0;
	return equals + 2;
}
