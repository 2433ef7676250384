/* The filters of system calls that PROGRAM runs under, beside those that it sets itself. */
#ifndef FILTER_H
#define FILTER_H

/* Of a tap, which PROGRAM inherits, it may use what a NIC needs. One that it made persistent would outlive the virtual
   machine, and nobody's business is another's name or owner. */
void guard_tap(void);

/* PROGRAM can give no file the setuid or setgid bit. Folders are not told from files: a filter sees neither. The setgid
   bit that a folder inherits is the kernel's. */
void refuse_setid(void);

#endif
