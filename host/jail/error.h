/* The end of a process of ours that cannot go on. */
#ifndef ERROR_H
#define ERROR_H

extern int report_fd;	/* whoever waits for PROGRAM to run reads complaints here; at first it is our stderr */

/* Write FORMAT, and why errno says, to report_fd, and exit with 1. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

#endif
