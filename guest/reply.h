/* Answers to requests, and events: what the host is told on the control stream (docs/wire.md, section 4). */
#ifndef REPLY_H
#define REPLY_H

#include "json.h"

/* Who asked: kept by those who answer later. */
struct call {
	uint64_t session;
	int64_t id;
};

enum { LATER = 1 };		/* what an op returns that will call one of the next two itself */

void reply_result(const struct call *call, const char *result);	/* a JSON object */
void reply_error(const struct call *call, const struct error *err);
void reply_unread(int number, const char *why);	/* to something that is no request, or has no id that could be read */
/* This call will be answered. Returns how many of its session have no answer yet, with this one. */
unsigned reply_due(const struct call *call);

void tell_connection(const char *container, const char *target);
void tell_exit(const char *process, int status, bool oom);

#endif
