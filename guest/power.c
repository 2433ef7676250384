#include "power.h"

#include "channel.h"
#include "cgroup.h"
#include "container.h"
#include "process.h"
#include "relay.h"

#include <signal.h>

enum { KILL_MS = 5000, FLUSH_MS = 2000, FLUSH_STEP_MS = 5 };

static enum { UP, TERMINATING, KILLING, FLUSHING } state;
static struct call asked;
static uint64_t give_up_ms;

static void expired(struct timer *timer);
static struct timer timer = { .expired = expired };

int power_check(struct error *err)
{
	return state == UP ? 0 : fail(err, ESHUTDOWN, "start anything");
}

static _Noreturn void off(void)
{
	if (testing)
		_exit(0);
	end_machine();
	die("power off");
}

/* All is dead: what they wrote to disk and to us has to arrive. */
static void flush(void)
{
	state = FLUSHING;
	for (struct container *c = containers; c; c = c->next)
		container_unmount(c);
	reply_result(&asked, "{}");
	give_up_ms = loop_now_ms() + FLUSH_MS;
	loop_after(&timer, FLUSH_STEP_MS);
}

static void kill_all(void)
{
	struct error err;

	state = KILLING;
	for (struct container *c = containers; c; c = c->next)
		if (cgroup_kill(c->cgroup, &err) < 0)
			debug("%s", err.message);
	processes_signal(SIGKILL);
	loop_after(&timer, KILL_MS);
}

static void expired(struct timer *t)
{
	(void)t;
	if (state == TERMINATING)
		kill_all();
	else if (state == KILLING)
		flush();	/* stuck in the kernel: nothing more can be done for them */
	else if ((channel_settled() && relay_settled()) || loop_now_ms() >= give_up_ms)
		off();
	else
		loop_after(&timer, FLUSH_STEP_MS);
}

static void flush_if_all_ended(void)
{
	if ((state == TERMINATING || state == KILLING) && !processes_running()) {
		loop_cancel(&timer);
		flush();
	}
}

struct poweroff_args {
	int64_t timeout_ms;
};

int op_poweroff(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	static const struct field fields[] = { FIELD(struct poweroff_args, timeout_ms, JSON_NUMBER) };
	struct poweroff_args a = { .timeout_ms = 10000 };

	(void)result;
	if (json_fields(args, fields, 1, &a, err) < 0 || json_range("timeout_ms", a.timeout_ms, 0, 86400000, err) < 0 ||
	    power_check(err) < 0)
		return -1;
	asked = *call;
	state = TERMINATING;
	processes_signal(SIGTERM);
	loop_after(&timer, (uint64_t)a.timeout_ms);
	process_ended = flush_if_all_ended;
	flush_if_all_ended();
	return LATER;
}
