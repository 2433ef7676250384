/* The balloon's driver tells the host which pages are free, and the host takes their memory back (the kernel's free page
   reporting). The driver gets its device only when more memory is in use than right after the boot: it looks at what the
   kernel keeps of each free page, and for those that nobody has ever used that costs a clone up to 30 MiB. */
#include "balloon.h"

#include "error.h"
#include "loop.h"
#include "mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#define DRIVER "/sys/bus/virtio/drivers/virtio_balloon"

enum { LOOK_MS = 4000 };

static const uint64_t used_bytes = 64u << 20;

static char device[64];
static uint64_t most_free;

static uint64_t free_bytes(void)
{
	struct sysinfo info;

	return sysinfo(&info) < 0 ? 0 : (uint64_t)info.freeram * info.mem_unit;
}

static bool tell_driver(const char *what)
{
	char path[100];
	struct error err;

	snprintf(path, sizeof(path), DRIVER "/%s", what);
	if (write_file_at(AT_FDCWD, path, device, &err) == 0)
		return true;
	debug("%s", err.message);
	return false;
}

static void look(struct timer *timer)
{
	uint64_t now = free_bytes();

	if (now > most_free)
		most_free = now;
	if (most_free - now < used_bytes)
		loop_after(timer, LOOK_MS);
	else
		tell_driver("bind");
}

static bool find_device(void)
{
	DIR *dir = opendir(DRIVER);
	struct dirent *entry;

	while (dir && !*device && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "virtio", 6))
			snprintf(device, sizeof(device), "%.63s", entry->d_name);
	if (dir)
		closedir(dir);
	return *device;
}

void balloon_boot(void)
{
	static struct timer timer = { .expired = look };

	if (!find_device() || !tell_driver("unbind"))
		return;
	most_free = free_bytes();
	loop_after(&timer, LOOK_MS);
}
