/* Checkpoints of a container's processes, made and gone on from by CRIU, which the host lends us in the share. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "process.h"

struct checkpoint {
	const struct container *container;
	const char *program, *images, *work;	/* folders of the share: CRIU and all that it needs, pictures, its log */
	const struct json *flags;		/* of CRIU's, beside ours */
	bool changes;				/* to dump: what it has changed of its image, too, of the same moment */
	char group[300];			/* ... of its cgroup, which is frozen */
	int pid;				/* of the first process, to dump */
	char pipes[3][64];			/* its stdio, as /proc has it, to dump; "": none */
	int stdio[3];				/* CRIU's own; to restore: what takes their place */
	int status;				/* to restore: where to say why it does not come to CRIU */
	char pid_file[480];			/* to restore: who it is then */
};

int checkpoint_parse(const struct json *json, struct checkpoint *to, struct error *err);
/* Bodies of helpers, which become CRIU. */
int checkpoint_dump(const void *data);
int checkpoint_restore(const void *data);
/* Whom CRIU has made, once it has ended with 0; and the file is gone. */
int checkpoint_pid(const struct container *container, struct error *err);
int checkpoint_name_pid_file(const struct container *container, char *to, size_t size, struct error *err);

#endif
