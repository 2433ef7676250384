/* The channel: the port's descriptor, HELLO, sessions, and what is sent next. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "json.h"
#include "stream.h"

void channel_open(int fd);			/* a virtio-serial port */
void channel_listen(const char *path);		/* tests: a unix socket, one connection at a time */

void channel_wake(struct output *output);	/* it may have something to send */
void channel_forget(struct output *output);
void channel_answer(void);			/* some input has an ACK or STOP to send */
void channel_pump(void);			/* send what can be sent now; never waits */
bool channel_settled(void);			/* nobody listens, or the host has all that we have to say */

/* One line of control to the host. `session` is channel_session() when it was asked for; another one: dropped. */
void channel_say(uint64_t session, struct buffer *line);
uint64_t channel_session(void);			/* counts sessions; 0: there was none yet */

#endif
