#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>

bool debugging;
bool testing;
bool ends_by_reset;

static void __attribute__((format(printf, 3, 0)))
fill(struct error *err, int number, const char *format, va_list args)
{
	err->number = number;
	err->exec = false;
	vsnprintf(err->message, sizeof(err->message), format, args);
}

int fail(struct error *err, int number, const char *format, ...)
{
	va_list args;
	size_t length;

	va_start(args, format);
	fill(err, number, format, args);
	va_end(args);
	length = strlen(err->message);
	snprintf(err->message + length, sizeof(err->message) - length, ": %s", strerror(number));
	return -1;
}

int fail_as(struct error *err, int number, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill(err, number, format, args);
	va_end(args);
	return -1;
}

int format(struct error *err, char *to, size_t size, const char *how, ...)
{
	va_list args;
	int length;

	va_start(args, how);
	length = vsnprintf(to, size, how, args);
	va_end(args);
	if (length < 0 || (size_t)length >= size)
		return fail(err, ENAMETOOLONG, "compose %.100s", to);
	return 0;
}

void debug(const char *format, ...)
{
	char line[400];
	va_list args;
	int length;

	if (!debugging)
		return;
	length = snprintf(line, sizeof(line), "hyperstart: ");
	va_start(args, format);
	length += vsnprintf(line + length, sizeof(line) - (size_t)length - 1, format, args);
	va_end(args);
	if ((size_t)length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)length) < 0)
		return;
}

void end_machine(void)
{
	sync();
	if (!ends_by_reset)
		reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
}

_Noreturn void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	dprintf(STDERR_FILENO, "hyperstart: cannot ");
	vdprintf(STDERR_FILENO, format, args);
	dprintf(STDERR_FILENO, "\n");
	va_end(args);
	if (!testing && getpid() == 1)
		end_machine();
	_exit(1);
}
