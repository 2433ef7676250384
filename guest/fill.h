/* New volumes get what the image has at their places: as much as that may be, so by processes of their own. */
#ifndef FILL_H
#define FILL_H

#include "container.h"

/* Begin to fill what is unfilled, one after the other. If there is anything (container->filling), container->filled is
   called later: with what went wrong, or NULL. */
int fill_begin(struct container *container, struct error *err);
/* End all of it, begun or not; nothing is called. */
void fill_stop(struct container *container);

#endif
