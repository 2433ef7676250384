#include "module.h"

#include "error.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static int folder = -1;		/* in the initramfs, where no path leads once its root is left */

static void load(const char *name, const char *parameters)
{
	autoclose int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, parameters, 0) < 0 && errno != EEXIST))
		debug("load %s: %s", name, strerror(errno));	/* this machine may lack the device */
	unlinkat(folder, name, 0);	/* the memory of the initramfs is memory of the guest */
}

static void load_all(const char *list)
{
	int fd = openat(folder, list, O_RDONLY | O_CLOEXEC);
	FILE *order = fd < 0 ? NULL : fdopen(fd, "r");
	char name[512];

	while (order && fgets(name, sizeof(name), order)) {
		char *parameters = name;

		name[strcspn(name, "\n")] = 0;
		strsep(&parameters, " ");
		if (*name && !strchr(name, '/'))
			load(name, parameters ? parameters : "");
	}
	if (order)
		fclose(order);
}

void modules_boot(void)
{
	folder = open("/modules", O_PATH | O_DIRECTORY | O_CLOEXEC);
	load_all("order");
}

void modules_for_network(void)
{
	load_all("network");
	close_fd(&folder);
}
