#include "nameserver.h"

#include "bpf.h"
#include "cgroup.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>

/* No process of ours passes questions on, and no packet filter: what a socket in a container's cgroup is about to send to
   the one address goes to the other, and what comes from there has come from where it was sent to. */

struct place {
	uint32_t address;	/* both as in packets */
	uint16_t port;
};

enum { DNS_PORT = 53 };

struct nameserver_args {
	const char *address;
	int64_t port;
};

static const struct {
	uint32_t where;
	bool back;
} hooks[] = {
	{ BPF_CGROUP_INET4_CONNECT, false },
	{ BPF_CGROUP_UDP4_SENDMSG, false },		/* by sockets that are not connected, as musl's resolver has them */
	{ BPF_CGROUP_UDP4_RECVMSG, true },
};

/* The word of `map` is the outside place, the port above the address: 0 is nowhere. */
static void write_program(struct program *p, bool back, int map)
{
	enum { ADDRESS = offsetof(struct bpf_sock_addr, user_ip4), PORT = offsetof(struct bpf_sock_addr, user_port) };
	enum { IS_ADDRESS = BPF_REG_2, IS_PORT = BPF_REG_3, INSIDE = BPF_REG_4, DNS = BPF_REG_5, OUTSIDE = BPF_REG_6,
	       OUTSIDE_PORT = BPF_REG_7 };
	uint8_t from = back ? OUTSIDE : INSIDE, from_port = back ? OUTSIDE_PORT : DNS;
	uint8_t to = back ? INSIDE : OUTSIDE, to_port = back ? DNS : OUTSIDE_PORT;

	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, IS_ADDRESS, BPF_REG_1, ADDRESS, 0));
	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, IS_PORT, BPF_REG_1, PORT, 0));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_K, INSIDE, 0, 0, (int32_t)htonl(RESOLVER_ADDRESS)));	/* not sign-extended */
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_K, DNS, 0, 0, htons(DNS_PORT)));
	emit_read(p, map, OUTSIDE);
	emit(p, INSN(BPF_ALU64 | BPF_MOV | BPF_X, OUTSIDE_PORT, OUTSIDE, 0, 0));
	emit(p, INSN(BPF_ALU64 | BPF_RSH | BPF_K, OUTSIDE_PORT, 0, 0, 32));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_X, OUTSIDE, OUTSIDE, 0, 0));	/* the lower half */
	emit(p, INSN(BPF_JMP | BPF_JEQ | BPF_K, OUTSIDE, 0, 4, 0));
	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_X, IS_ADDRESS, from, 3, 0));
	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_X, IS_PORT, from_port, 2, 0));
	emit(p, INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_1, to, ADDRESS, 0));
	emit(p, INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_1, to_port, PORT, 0));
	emit_return(p, 1);
}

static int set_hooks(int map, struct error *err)
{
	autoclose int group = open(cgroup_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (group < 0)
		return fail(err, errno, "open cgroup %s", cgroup_dir);
	for (size_t i = 0; i < COUNT(hooks); i++) {
		struct program program = { .length = 0 };
		autoclose int loaded = -1;

		write_program(&program, hooks[i].back, map);
		loaded = bpf_load(&program, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hooks[i].where, err);
		if (loaded < 0 || bpf_attach(group, loaded, hooks[i].where, BPF_F_ALLOW_MULTI, err) < 0)
			return -1;
	}
	return 0;
}

/* The programs are loaded once: the kernel takes its time to be sure that one is harmless. */
static int lead_to(struct place outside, struct error *err)
{
	static _Atomic uint64_t *word;
	autoclose int map = -1;

	if (!word) {
		_Atomic uint64_t *made = bpf_word(&map, err);

		if (!made)
			return -1;
		if (set_hooks(map, err) < 0) {
			munmap(made, sizeof(*made));
			return -1;
		}
		word = made;
	}
	*word = (uint64_t)outside.port << 32 | outside.address;
	return 0;
}

int nameserver_here(uint16_t port, struct error *err)
{
	return lead_to((struct place){ htonl(RESOLVER_ADDRESS), htons(port) }, err);
}

int nameserver_set(const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct nameserver_args, address, JSON_STRING), NEEDED(struct nameserver_args, port, JSON_NUMBER),
	};
	struct nameserver_args a = { 0 };
	struct place outside;

	if (!json)
		return 0;
	if (json_fields(json, fields, COUNT(fields), &a, err) < 0 || json_range("port", a.port, 1, 65535, err) < 0)
		return -1;
	outside.port = htons((uint16_t)a.port);
	if (inet_pton(AF_INET, a.address, &outside.address) != 1)
		return fail_as(err, EINVAL, "ask '%.64s' for names: it is no address of IPv4", a.address);
	return lead_to(outside, err);
}
