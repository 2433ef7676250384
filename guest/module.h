/* The kernel's modules, which the initramfs has. Nothing else is ever loaded. */
#ifndef MODULE_H
#define MODULE_H

void modules_boot(void);	/* what every guest needs; while the initramfs can be seen */
/* What whoever administers the network may ask the kernel for. Again does nothing. */
void modules_for_network(void);

#endif
