/* The channel: the port's descriptor, HELLO, sessions, and what is sent next. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "json.h"
#include "stream.h"

enum { VSOCK_PORT = 1 };	/* lib/vsock.py knows it */

/* Takes a line of control from the host, which it may change; NULL: one that was longer than 1 MiB. */
typedef void channel_request(char *line, size_t length);

void channel_open(int fd, channel_request *request);	/* a virtio-serial port */
void channel_open_terminal(int fd, channel_request *request);	/* a raw one */
void channel_listen(const char *path, channel_request *request);	/* tests: a socket, a connection at a time */
void channel_listen_vsock(channel_request *request);	/* the same at VSOCK_PORT, for root of the host alone */

void channel_pump(void);			/* send what can be sent now; never waits */
bool channel_settled(void);			/* nobody listens, or the host has all that we have to say */

/* One line of control to the host. `session` is channel_session() when it was asked for; another one: dropped. */
void channel_say(uint64_t session, struct buffer *line);
uint64_t channel_session(void);			/* counts sessions; 0: there was none yet */
extern void (*session_begun)(void);	/* called when another one begins; NULL: nobody waits for it */

#endif
