#include "reply.h"

#include "channel.h"

#include <string.h>

static uint64_t session;	/* whose calls are counted */
static unsigned due;

unsigned reply_due(const struct call *call)
{
	if (call->session != session)
		due = 0;
	session = call->session;
	return ++due;
}

static void replied(const struct call *call)
{
	if (call->session == session && due)
		due--;
}

static void say_error(const struct call *call, const struct error *err)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"id\":%lld,\"error\":{\"errno\":%d,\"message\":", (long long)call->id, err->number);
	buffer_string(&text, err->message);
	buffer_format(&text, "%s}}", err->exec ? ",\"exec\":true" : "");
	channel_say(call->session, &text);
}

void reply_error(const struct call *call, const struct error *err)
{
	say_error(call, err);
	replied(call);
}

void reply_result(const struct call *call, const char *result)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"id\":%lld,\"result\":", (long long)call->id);
	buffer_add(&text, result, strlen(result));
	buffer_add(&text, "}", 1);
	channel_say(call->session, &text);
	replied(call);
}

void reply_unread(int number, const char *why)
{
	struct call call = { .session = channel_session() };
	struct error err;

	fail(&err, number, "read a request: %s", why);
	say_error(&call, &err);
}

void tell_exit(const char *process, int status, bool oom)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"event\":\"exit\",\"process\":\"%s\",\"status\":%d,\"oom\":%s}", process, status,
		      oom ? "true" : "false");
	channel_say(channel_session(), &text);
}

void tell_connection(const char *container, const char *target)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"event\":\"connection\",");
	if (*container)
		buffer_format(&text, "\"container\":\"%s\",", container);
	buffer_format(&text, "\"target\":");
	buffer_string(&text, target);
	buffer_add(&text, "}", 1);
	channel_say(channel_session(), &text);
}
