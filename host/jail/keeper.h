/* The keeper: PROGRAM's parent, a daemon that outlives whoever called us. */
#ifndef KEEPER_H
#define KEEPER_H

/* Start PROGRAM and stay with it to its end; complaints go to `report`, which is closed once it runs. */
__attribute__((noreturn)) void keep(char **argv, int report);

#endif
