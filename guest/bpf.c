#include "bpf.h"

#include <sys/syscall.h>
#include <unistd.h>

void emit(struct program *p, struct bpf_insn insn)
{
	p->insns[p->length++] = insn;
}

void emit_return(struct program *p, int value)
{
	emit(p, INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, value));
	emit(p, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

int bpf_load(const struct program *p, uint32_t type, uint32_t attached, struct error *err)
{
	union bpf_attr load = { 0 };
	int fd;

	load.prog_type = type;
	load.expected_attach_type = attached;
	load.insns = (uint64_t)(uintptr_t)p->insns;
	load.insn_cnt = p->length;
	load.license = (uint64_t)(uintptr_t)"Apache-2.0";
	fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));		/* close-on-exec by itself */
	return fd >= 0 ? fd : fail(err, errno, "load a program into the kernel");
}

int bpf_attach(int group, int program, uint32_t where, uint32_t flags, struct error *err)
{
	union bpf_attr attach = { 0 };

	attach.target_fd = (uint32_t)group;
	attach.attach_bpf_fd = (uint32_t)program;
	attach.attach_type = where;
	attach.attach_flags = flags;
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0)
		return fail(err, errno, "attach a program to a cgroup");
	return 0;
}

int bpf_detach(int group, int program, uint32_t where, struct error *err)
{
	union bpf_attr detach = { 0 };

	detach.target_fd = (uint32_t)group;
	detach.attach_bpf_fd = (uint32_t)program;
	detach.attach_type = where;
	if (syscall(SYS_bpf, BPF_PROG_DETACH, &detach, sizeof(detach)) < 0)
		return fail(err, errno, "detach a program from a cgroup");
	return 0;
}
