#include "rpc.h"

#include "archive.h"
#include "channel.h"
#include "container.h"
#include "pod.h"
#include "power.h"
#include "process.h"
#include "resize.h"
#include "stats.h"

#include <string.h>

enum { UNDER_WAY_MAX = 64 };

typedef int handler(const struct call *call, const struct json *args, struct buffer *result, struct error *err);

static int64_t last_id;
static unsigned under_way;

static int no_arguments(const struct json *args, struct error *err)
{
	return json_fields(args, NULL, 0, NULL, err);
}

static int op_ping(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	(void)call;
	buffer_add(result, "{}", 2);
	return no_arguments(args, err);
}

static int op_list(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	(void)call;
	if (no_arguments(args, err) < 0)
		return -1;
	buffer_format(result, "{\"pod\":%s,\"containers\":[", pod.set ? "true" : "false");
	containers_list(result);
	buffer_add(result, "],\"processes\":[", 15);
	processes_list(result);
	buffer_format(result, "],\"next_stream\":%u}", streams_next());
	return 0;
}

static const struct {
	const char *name;
	handler *handle;
} ops[] = {
	{ "ping", op_ping },
	{ "info", op_info },
	{ "list", op_list },
	{ "pod.setup", op_pod_setup },
	{ "pod.resize", op_pod_resize },
	{ "container.create", op_container_create },
	{ "container.remove", op_container_remove },
	{ "container.rename", op_container_rename },
	{ "container.freeze", op_container_freeze },
	{ "container.update", op_container_update },
	{ "container.stats", op_container_stats },
	{ "container.processes", op_container_processes },
	{ "stage", op_stage },
	{ "process.start", op_process_start },
	{ "process.archive", op_process_archive },
	{ "process.signal", op_process_signal },
	{ "process.resize", op_process_resize },
	{ "process.forget", op_process_forget },
	{ "time.set", op_time_set },
	{ "entropy.add", op_entropy_add },
	{ "poweroff", op_poweroff },
};

void rpc_session(void)
{
	last_id = 0;
	under_way = 0;
}

static void answered(const struct call *call)
{
	if (call->session == channel_session() && under_way)
		under_way--;
}

static void say_error(const struct call *call, const struct error *err)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"id\":%lld,\"error\":{\"errno\":%d,\"message\":", (long long)call->id, err->number);
	buffer_string(&text, err->message);
	buffer_format(&text, "%s}}", err->exec ? ",\"exec\":true" : "");
	channel_say(call->session, &text);
}

void rpc_error(const struct call *call, const struct error *err)
{
	say_error(call, err);
	answered(call);
}

void rpc_answer(const struct call *call, const char *result)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"id\":%lld,\"result\":", (long long)call->id);
	buffer_add(&text, result, strlen(result));
	buffer_add(&text, "}", 1);
	channel_say(call->session, &text);
	answered(call);
}

void rpc_exit_event(const char *process, int status, bool oom)
{
	struct buffer text = { 0 };

	buffer_format(&text, "{\"event\":\"exit\",\"process\":\"%s\",\"status\":%d,\"oom\":%s}", process, status,
		      oom ? "true" : "false");
	channel_say(channel_session(), &text);
}

void rpc_refuse(int number, const char *why)
{
	struct call call = { .session = channel_session() };
	struct error err;

	fail(&err, number, "read a request: %s", why);
	say_error(&call, &err);
}

struct request {
	int64_t id;
	const char *op;
	const struct json *args;
};

static handler *find_op(const char *name, struct error *err)
{
	for (size_t i = 0; i < COUNT(ops); i++)
		if (!strcmp(ops[i].name, name))
			return ops[i].handle;
	fail(err, ENOSYS, "do '%.64s'", name);
	return NULL;
}

static int check_request(const struct request *request, struct error *err)
{
	if (request->id <= last_id)
		return fail(err, EINVAL, "accept id %lld after %lld", (long long)request->id, (long long)last_id);
	last_id = request->id;
	if (under_way > UNDER_WAY_MAX)
		return fail(err, EAGAIN, "begin a request: %u are under way", under_way);
	return 0;
}

static int run(const struct call *call, const struct request *request, struct buffer *result, struct error *err)
{
	static const struct json nothing = { .type = JSON_OBJECT };
	handler *handle;

	if (check_request(request, err) < 0 || !(handle = find_op(request->op, err)))
		return -1;
	return handle(call, request->args ? request->args : &nothing, result, err);
}

static void serve(const struct request *request)
{
	struct call call = { channel_session(), request->id };
	struct buffer result = { 0 };
	struct error err = { 0 };
	int outcome;

	under_way++;		/* this one counts: 64 may wait for their answers beside it */
	outcome = run(&call, request, &result, &err);
	if (outcome == 0 && (buffer_add(&result, "", 1), result.failed))
		outcome = fail(&err, ENOMEM, "write the answer to %.64s", request->op);
	if (outcome == 0)
		rpc_answer(&call, result.data);
	else if (outcome < 0)
		rpc_error(&call, &err);
	buffer_free(&result);
}

void rpc_request(char *text, size_t length)
{
	static const struct field fields[] = {
		NEEDED(struct request, id, JSON_NUMBER),
		NEEDED(struct request, op, JSON_STRING),
		FIELD(struct request, args, JSON_OBJECT),
	};
	struct request request = { 0 };
	struct error err;
	autofree struct json *values = json_parse(text, length, &err);

	if (!values || json_fields(values, fields, COUNT(fields), &request, &err) < 0)
		rpc_refuse(err.number, err.message);
	else
		serve(&request);
}
