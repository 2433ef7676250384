#include "ops.h"

#include "apparmor.h"
#include "archive.h"
#include "channel.h"
#include "container.h"
#include "pod.h"
#include "power.h"
#include "process.h"
#include "relay.h"
#include "resize.h"
#include "scratch.h"
#include "stats.h"

#include <string.h>

enum { UNDER_WAY_MAX = 64 };

typedef int handler(const struct call *call, const struct json *args, struct buffer *result, struct error *err);

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

/* What concerns containers and their processes. */

static int op_list(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	(void)call;
	if (no_arguments(args, err) < 0)
		return -1;
	buffer_format(result, "{\"pod\":%s,\"containers\":[", pod_is_set ? "true" : "false");
	containers_list(result);
	buffer_add(result, "],\"processes\":[", 15);
	processes_list(result);
	buffer_format(result, "],\"next_stream\":%u}", streams_next());
	return 0;
}

static int op_container_remove(const struct call *call, const struct json *args, struct buffer *result,
			       struct error *err)
{
	struct remove_args { const char *id; } a = { 0 };
	static const struct field fields[] = { NEEDED(struct remove_args, id, JSON_STRING) };
	struct container *c;

	(void)call;
	if (json_fields(args, fields, 1, &a, err) < 0 || !(c = container_find(a.id, err)))
		return -1;
	processes_drop(c);
	container_remove(c);
	buffer_add(result, "{}", 2);
	return 0;
}

static int op_container_rename(const struct call *call, const struct json *args, struct buffer *result,
			       struct error *err)
{
	struct rename_args { const char *id, *to; } a = { 0 };
	static const struct field fields[] = {
		NEEDED(struct rename_args, id, JSON_STRING), NEEDED(struct rename_args, to, JSON_STRING),
	};
	struct container *c;

	(void)call;
	if (json_fields(args, fields, COUNT(fields), &a, err) < 0 || check_id("container", a.to, err) < 0 ||
	    !(c = container_find(a.id, err)))
		return -1;
	if (container_find(a.to, err))
		return fail(err, EEXIST, "rename container %s to %s", a.id, a.to);
	if (processes_rename(c, a.id, a.to, err) < 0)
		return -1;
	strcpy(c->id, a.to);
	buffer_add(result, "{}", 2);
	return 0;
}

static const struct op {
	const char *name;
	handler *handle;
	bool starts;		/* something that the guest's end would have to wait for */
} ops[] = {
	{ "ping", op_ping, false },
	{ "info", op_info, false },
	{ "list", op_list, false },
	{ "pod.setup", op_pod_setup, false },
	{ "pod.resize", op_pod_resize, false },
	{ "pod.stats", op_pod_stats, false },
	{ "container.create", op_container_create, false },
	{ "container.remove", op_container_remove, false },
	{ "container.rename", op_container_rename, false },
	{ "container.freeze", op_container_freeze, false },
	{ "container.update", op_container_update, false },
	{ "container.stats", op_container_stats, false },
	{ "container.processes", op_container_processes, false },
	{ "container.files", op_container_files, false },
	{ "stage", op_stage, false },
	{ "disk.stage", op_disk_stage, false },
	{ "process.start", op_process_start, true },
	{ "process.archive", op_process_archive, true },
	{ "process.checkpoint", op_process_checkpoint, true },
	{ "process.signal", op_process_signal, false },
	{ "process.resize", op_process_resize, false },
	{ "process.hang_up", op_process_hang_up, false },
	{ "process.release", op_process_release, false },
	{ "process.forget", op_process_forget, false },
	{ "socket.watch", op_socket_watch, false },
	{ "socket.accept", op_socket_accept, false },
	{ "socket.connect", op_socket_connect, false },
	{ "socket.close", op_socket_close, false },
	{ "time.set", op_time_set, false },
	{ "entropy.add", op_entropy_add, false },
	{ "apparmor.load", op_apparmor_load, false },
	{ "poweroff", op_poweroff, false },
};

struct request {
	int64_t id;
	const char *op;
	const struct json *args;
};

static const struct op *find_op(const char *name, struct error *err)
{
	for (size_t i = 0; i < COUNT(ops); i++)
		if (!strcmp(ops[i].name, name))
			return &ops[i];
	fail(err, ENOSYS, "do '%.64s'", name);
	return NULL;
}

/* Within a session they rise, from 1. */
static int check_call_id(const struct call *call, struct error *err)
{
	static struct call last;

	if (call->session != last.session)
		last = (struct call){ call->session, 0 };
	if (call->id <= last.id)
		return fail(err, EINVAL, "accept id %lld after %lld", (long long)call->id, (long long)last.id);
	last.id = call->id;
	return 0;
}

static int run(const struct call *call, const struct request *request, unsigned due, struct buffer *result,
	       struct error *err)
{
	static const struct json nothing = { .type = JSON_OBJECT };
	const struct op *op;

	if (check_call_id(call, err) < 0)
		return -1;
	if (due > UNDER_WAY_MAX)
		return fail(err, EAGAIN, "begin a request: %u are under way", due - 1);
	if (!(op = find_op(request->op, err)) || (op->starts && power_check(err) < 0))
		return -1;
	return op->handle(call, request->args ? request->args : &nothing, result, err);
}

static void serve(const struct request *request)
{
	struct call call = { channel_session(), request->id };
	struct buffer result = { 0 };
	struct error err = { 0 };
	int outcome = run(&call, request, reply_due(&call), &result, &err);

	if (outcome == 0 && (buffer_add(&result, "", 1), result.failed))
		outcome = fail(&err, ENOMEM, "write the answer to %.64s", request->op);
	if (outcome == 0)
		reply_result(&call, result.data);
	else if (outcome < 0)
		reply_error(&call, &err);
	buffer_free(&result);
}

void ops_request(char *line, size_t length)
{
	static const struct field fields[] = {
		NEEDED(struct request, id, JSON_NUMBER),
		NEEDED(struct request, op, JSON_STRING),
		FIELD(struct request, args, JSON_OBJECT),
	};
	struct request request = { 0 };
	struct error err;
	autofree struct json *values = line ? json_parse(line, length, &err) : NULL;

	if (!line)
		reply_unread(E2BIG, "a request may have 1 MiB");
	else if (!values || json_fields(values, fields, COUNT(fields), &request, &err) < 0)
		reply_unread(err.number, err.message);
	else
		serve(&request);
}
