/* Control messages: one table from op to what does it (docs/wire.md, section 4). */
#ifndef OPS_H
#define OPS_H

#include <stddef.h>

/* One line of control from the host, which is changed; NULL: it was longer than a request may be. */
void ops_request(char *line, size_t length);

#endif
