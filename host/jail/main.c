/*
 * hyper-jail: start one program (QEMU, virtiofsd) with as little of the host as it needs, and keep its last words.
 *
 *   hyper-jail OPTION... -- PROGRAM ARG...
 *
 *   --name NAME          prefix of the files below, in the current directory:
 *                        NAME.pid     two lines "PID START-TIME": the keeper, then PROGRAM; there before PROGRAM runs
 *                        NAME.status  "exit N" or "signal N", when PROGRAM has ended
 *                        NAME.log     its stderr, NAME.out its stdout; bounded, what came before is in *.old
 *   --fd N               PROGRAM inherits descriptor N; all others but 0, 1 and 2 are closed
 *   --stdin N            ... and N is its stdin, which else is empty
 *   --lock N             the keeper and PROGRAM inherit descriptor N: a flock on it is held as long as either lives
 *   --cgroup DIR         join that cgroup
 *   --root DIR           PROGRAM's root is a new tmpfs, mounted over the folder DIR in its own mount namespace ...
 *   --bind SOURCE=DEST   ... that holds SOURCE, read-only, at DEST,
 *   --link TEXT=DEST     ... the symbolic link DEST to TEXT,
 *   --mount N=DEST       ... what is mounted nowhere and open at descriptor N, at DEST,
 *   --home DEST          ... DEST, an empty folder of its own of a few files, which HOME names,
 *   --kvm                ... and /dev/kvm,
 *   --vsock              ... and /dev/vhost-vsock,
 *   --proc               ... and a /proc that knows nothing but PROGRAM's own processes
 *   --uid N              PROGRAM and the keeper run as user and group N, in no other group, without capabilities
 *   --caps MASK          (hexadecimal) the capabilities that PROGRAM's bounding set keeps: it stays root
 *   --no-setid           PROGRAM can give no file the setuid or setgid bit
 *   --preload FILE       PROGRAM's linker loads that library before all others
 *   --nofile N           soft limit of open files, never above the hard one
 *   --fsize N            PROGRAM can make no file larger than N bytes: it is told EFBIG
 *   --copy FROM=TO       before PROGRAM runs, what the file in memory FROM holds is copied to TO, both descriptors:
 *                        its holes stay holes, and the memory that TO takes is the cgroup's
 *
 * Three processes: this one ends with status 0 once PROGRAM runs, or 1 after saying on stderr why it does not. The
 * keeper is a daemon that outlives it and whoever called it: it writes PROGRAM's output and status to the files
 * above. PROGRAM is PID 1 of a PID namespace: killed, it takes everything it started along.
 */
#include "error.h"
#include "keeper.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int report[2];
	char text[PIPE_BUF];
	size_t have = 0;
	ssize_t n;
	char **program = parse(argc, argv);
	if (pipe2(report, O_CLOEXEC) < 0)
		die("pipe");
	pid_t keeper = fork();
	if (keeper < 0)
		die("fork");
	if (!keeper) {
		close(report[0]);
		keep(program, report[1]);
	}
	close(report[1]);
	/* The pipe's other ends go with exec's success, or with a complaint. */
	while (have < sizeof text && ((n = read(report[0], text + have, sizeof text - have)) > 0 || (n < 0 && errno == EINTR)))
		have += n > 0 ? (size_t)n : 0;
	(void)!write(2, text, have);
	return have ? 1 : 0;
}
