#include "bpf.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void emit(struct program *p, struct bpf_insn insn)
{
	p->insns[p->length++] = insn;
}

void emit_read(struct program *p, int map, uint8_t to)
{
	emit(p, INSN(BPF_LD | BPF_IMM | BPF_DW, to, BPF_PSEUDO_MAP_VALUE, 0, map));	/* its address, of two instructions */
	emit(p, INSN(0, 0, 0, 0, 0));
	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_DW, to, to, 0, 0));
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

_Atomic uint64_t *bpf_word(int *map, struct error *err)
{
	union bpf_attr create = { 0 };
	void *word;

	create.map_type = BPF_MAP_TYPE_ARRAY;
	create.key_size = sizeof(uint32_t);
	create.value_size = sizeof(uint64_t);
	create.max_entries = 1;
	create.map_flags = BPF_F_MMAPABLE;
	*map = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &create, sizeof(create));
	if (*map < 0) {
		fail(err, errno, "make a map for programs in the kernel");
		return NULL;
	}
	word = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, *map, 0);
	if (word == MAP_FAILED) {
		fail(err, errno, "map a word of programs in the kernel");
		close_fd(map);
		return NULL;
	}
	return word;
}
