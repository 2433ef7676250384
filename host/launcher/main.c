/* Starts a command of ours quickly: python3 -I -S skips site, every .pth file and the user's environment, which
 * is half of what a short command would cost. Installed as each of our commands; runs what it is called as. */
#include "runv.h"

#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCRIPT "hypercontainer/launch.py"
#define COMMANDS {"hyperctl", "hyperd", "runv", "containerd-shim-hyper-v2", "frakti"}
#define SITE "lib/python3*/*-packages"

static int first(const char *prefix, const char *pattern, char *found)
{
	char path[2 * PATH_MAX];
	glob_t g;

	snprintf(path, sizeof path, "%s/%s", prefix, pattern);
	if (glob(path, 0, NULL, &g) != 0)
		return 0;
	snprintf(found, PATH_MAX, "%s", g.gl_pathv[0]);
	globfree(&g);
	return 1;
}

/* An editable install has a file of one line instead of the package: the folder that the package is in. */
static int find_script(const char *prefix, char *script)
{
	char pth[PATH_MAX], root[PATH_MAX] = "";

	if (first(prefix, SITE "/" SCRIPT, script))
		return 1;
	if (!first(prefix, SITE "/*hypercontainer.pth", pth))
		return 0;
	FILE *f = fopen(pth, "re");
	if (f && fgets(root, sizeof root, f))
		root[strcspn(root, "\r\n")] = '\0';
	if (f)
		fclose(f);
	return root[0] == '/' && snprintf(script, PATH_MAX, "%s/" SCRIPT, root) < PATH_MAX && access(script, R_OK) == 0;
}

static int is_command(const char *name)
{
	static const char *const commands[] = COMMANDS;

	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(name, commands[i]) == 0)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	char self[PATH_MAX], prefix[PATH_MAX], program[2 * PATH_MAX], python[2 * PATH_MAX], script[PATH_MAX];
	char **args = calloc((size_t)argc + 6, sizeof *args);
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (!args || n < 0) {
		perror("hypercontainer: /proc/self/exe");
		return 125;
	}
	self[n] = '\0';
	snprintf(prefix, sizeof prefix, "%s", self);
	dirname(dirname(prefix));	/* both cut the string in place: the path is absolute */
	const char *name = argc > 0 ? basename(argv[0]) : "";
	if (!is_command(name))
		name = basename(self);
	if (strcmp(name, "runv") == 0 && runv_done(argc, argv))
		return 0;
	snprintf(program, sizeof program, "%s/bin/%s", prefix, name);
	if (!find_script(prefix, script)) {
		fprintf(stderr, "%s: cannot find " SCRIPT " in %s/" SITE ": install the package again\n", name, prefix);
		return 125;
	}
	snprintf(python, sizeof python, "%s/bin/python3", prefix);
	if (access(python, X_OK) != 0)
		strcpy(python, "/usr/bin/python3");
	char *head[] = {python, "-I", "-S", script, program};
	memcpy(args, head, sizeof head);
	for (int i = 1; i < argc; i++)
		args[4 + i] = argv[i];
	execv(python, args);
	fprintf(stderr, "%s: cannot execute %s: %s\n", name, python, strerror(errno));
	return 125;
}
