#include "error.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int report_fd = 2;

void die(const char *format, ...)
{
	char text[PIPE_BUF];
	va_list args;
	int error = errno;

	va_start(args, format);
	int n = vsnprintf(text, sizeof text - 80, format, args);
	va_end(args);
	if (n < 0 || n > (int)sizeof text - 80)
		n = (int)strnlen(text, sizeof text - 80);
	n += snprintf(text + n, sizeof text - (size_t)n, ": %s\n", strerror(error));
	(void)!write(report_fd, text, (size_t)n);
	_exit(1);
}
