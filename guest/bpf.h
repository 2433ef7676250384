/* Small programs for the kernel to run, written instruction by instruction. */
#ifndef BPF_H
#define BPF_H

#include "error.h"

#include <linux/bpf.h>
#include <linux/bpf_common.h>
#include <stdint.h>

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })

struct program {
	struct bpf_insn insns[1024];
	uint32_t length;
};

void emit(struct program *p, struct bpf_insn insn);
/* The word of `map` to register `to`. */
void emit_read(struct program *p, int map, uint8_t to);
void emit_return(struct program *p, int value);

/* A descriptor, or -1. `attached`: where it is going to be, for those types that want to know it, else 0. */
int bpf_load(const struct program *p, uint32_t type, uint32_t attached, struct error *err);
/* `flags`: BPF_F_ALLOW_MULTI, or 0: it takes the place of the one that is there. */
int bpf_attach(int group, int program, uint32_t where, uint32_t flags, struct error *err);
/* A word that we write and programs read, and in `map` what they name it by (`emit_read`): a change of it is seen
   whole, and needs no new program. NULL on failure. */
_Atomic uint64_t *bpf_word(int *map, struct error *err);

#endif
