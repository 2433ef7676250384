/* PROGRAM's side: from the keeper's child to exec, with less and less of the host. */
#ifndef PROGRAM_H
#define PROGRAM_H

/* Wait for a byte on `go`, then become PROGRAM, whose stdout is `out` and whose stderr is `log`. */
__attribute__((noreturn)) void run_program(char **argv, int go, int out, int log);

#endif
