/* Control messages: one table from op to handler (docs/wire.md, section 4). */
#ifndef RPC_H
#define RPC_H

#include "json.h"

/* Who asked: kept by those who answer later. */
struct call {
	uint64_t session;
	int64_t id;
};

enum { LATER = 1 };		/* what a handler returns that will call rpc_answer or rpc_error itself */

void rpc_session(void);		/* a new session has begun: its ids begin anew */
void rpc_request(char *text, size_t length);
void rpc_refuse(int number, const char *why);	/* something that is no request */
void rpc_answer(const struct call *call, const char *result);	/* a JSON object */
void rpc_error(const struct call *call, const struct error *err);
void rpc_exit_event(const char *process, int status, bool oom);

#endif
