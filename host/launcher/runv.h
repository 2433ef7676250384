#ifndef RUNV_H
#define RUNV_H

#include <stdbool.h>

/* Whether all is done that `runv` was asked for. If not, Python does it; what hyperd has answered by then it finds in the
 * descriptor that ANSWER names. */
bool runv_done(int argc, char **argv);

#endif
