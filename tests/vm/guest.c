/*
 * A guest for the tests of the driver: PID 1 that obeys lines on the agent's port, or a word on the kernel's command
 * line (t.panic, t.exit, t.silent, t.flood). Nothing of hyperstart is needed, or in the way.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char reply[16384];

static void say(const char *text)
{
	snprintf(reply, sizeof reply, "%s\n", text);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	say(fd >= 0 && write(fd, text, strlen(text)) >= 0 && (fsync(fd) == 0 || errno == EINVAL) ? "ok" : strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void get(const char *path)
{
	char text[512] = "";
	int fd = open(path, O_RDONLY);
	say(fd >= 0 && read(fd, text, sizeof text - 1) >= 0 ? text : strerror(errno));
	reply[strcspn(reply, "\n")] = 0;
	strcat(reply, "\n");
	if (fd >= 0)
		close(fd);
}

static void scan(const char *target)
{
	char text[32];
	snprintf(text, sizeof text, "0 %s 0", target);
	put("/sys/class/scsi_host/host0/scan", text);
}

/* A disk is listed a moment before it can be opened. */
static int answers(const char *name)
{
	char path[300];
	snprintf(path, sizeof path, "/dev/%s", name);
	int fd = open(path, O_RDONLY);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* "sda=0:0:3:0 ..." */
static void list_disks(void)
{
	DIR *dir = opendir("/sys/block");
	struct dirent *entry;
	size_t used = 0;
	reply[0] = 0;
	while (dir && (entry = readdir(dir))) {
		char path[300], link[512];
		snprintf(path, sizeof path, "/sys/block/%s/device", entry->d_name);
		ssize_t n = strncmp(entry->d_name, "sd", 2) ? -1 : readlink(path, link, sizeof link - 1);
		if (n <= 0 || !answers(entry->d_name))
			continue;
		link[n] = 0;
		used += (size_t)snprintf(reply + used, sizeof reply - used, "%s=%s ", entry->d_name, strrchr(link, '/') + 1);
	}
	if (dir)
		closedir(dir);
	strcat(reply, "\n");
}

static void list_share(void)
{
	struct dirent *entry;
	size_t used = 0;
	mkdir("/share", 0755);
	if (mount("hyper", "/share", "virtiofs", 0, NULL) < 0 && errno != EBUSY)
		return say(strerror(errno));
	DIR *dir = opendir("/share");
	reply[0] = 0;
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			used += (size_t)snprintf(reply + used, sizeof reply - used, "%s ", entry->d_name);
	if (dir)
		closedir(dir);
	strcat(reply, "\n");
}

static void obey(char *line)
{
	char *rest = strchr(line, ' ');
	if (rest)
		*rest++ = 0;
	else
		rest = "";
	if (!strcmp(line, "ping"))
		say("pong");
	else if (!strcmp(line, "get"))
		get(rest);
	else if (!strcmp(line, "scribble"))
		put(rest, "a hostile guest was here");
	else if (!strcmp(line, "scan"))
		scan(rest);
	else if (!strcmp(line, "disks"))
		list_disks();
	else if (!strcmp(line, "share"))
		list_share();
	else if (!strcmp(line, "mknod"))
		say(mknod(rest, S_IFCHR | 0666, 0x103) == 0 ? "ok" : strerror(errno));
	else if (!strcmp(line, "touch"))
		say(mknod(rest, S_IFREG | 0644, 0) == 0 && chown(rest, 1234, 5678) == 0 ? "ok" : strerror(errno));
	else if (!strcmp(line, "detach")) {
		char path[300];
		snprintf(path, sizeof path, "/sys/block/%s/device/delete", rest);
		put(path, "1");
	} else if (!strcmp(line, "panic"))
		put("/proc/sysrq-trigger", "c");
	else if (!strcmp(line, "reset"))
		reboot(RB_AUTOBOOT);
	else if (!strcmp(line, "poweroff"))
		reboot(RB_POWER_OFF);
	else
		say("what?");
}

static void load_modules(void)
{
	char name[256], path[300];
	FILE *order = fopen("/modules/order", "r");
	while (order && fgets(name, sizeof name, order)) {
		name[strcspn(name, "\n")] = 0;
		char *parameters = name + strcspn(name, " ");
		if (*parameters)
			*parameters++ = 0;
		snprintf(path, sizeof path, "/modules/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (syscall(SYS_finit_module, fd, parameters, 0) < 0)
			printf("cannot load %s: %s\n", name, strerror(errno));
		close(fd);
	}
}

static int open_port(void)
{
	struct dirent *entry;
	for (;;) {	/* until the host's bound for silence, if there is none */
		DIR *dir = opendir("/sys/class/virtio-ports");
		while (dir && (entry = readdir(dir))) {
			char path[300], name[32] = "";
			snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
			int fd = open(path, O_RDONLY);
			ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof name - 1);
			close(fd);
			if (n > 0 && !strncmp(name, "hyper.agent", 11)) {
				snprintf(path, sizeof path, "/dev/%s", entry->d_name);
				return open(path, O_RDWR);
			}
		}
		if (dir)
			closedir(dir);
		usleep(1000);
	}
}

static void serve(int port)
{
	char line[256];
	size_t used = 0;
	for (;;) {
		char byte;
		if (read(port, &byte, 1) != 1) {
			usleep(2000);	/* nobody is connected */
		} else if (byte != '\n') {
			line[used] = byte;
			used += used < sizeof line - 1;
		} else {
			line[used] = 0;
			used = 0;
			obey(line);
			(void)!write(port, reply, strlen(reply));
		}
	}
}

int main(void)
{
	char words[4096] = "";
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	int fd = open("/proc/cmdline", O_RDONLY);
	(void)!read(fd, words, sizeof words - 1);
	puts("the guest of the tests is up");
	load_modules();
	if (strstr(words, "t.panic"))
		put("/proc/sysrq-trigger", "c");
	if (strstr(words, "t.exit"))
		return 3;
	if (strstr(words, "t.silent"))
		for (;;)
			pause();
	if (strstr(words, "t.flood"))
		for (;;)
			printf("%0500d\033[2J\n", 7);
	serve(open_port());
}
