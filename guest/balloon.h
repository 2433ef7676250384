/* The balloon: free memory goes back to the host. */
#ifndef BALLOON_H
#define BALLOON_H

/* Begin to look at how much memory is in use. Without such a device nothing happens. */
void balloon_boot(void);

#endif
