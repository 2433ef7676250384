#include "nameserver.h"

#include "bpf.h"
#include "cgroup.h"

#include <arpa/inet.h>
#include <fcntl.h>

/* No process of ours passes questions on, and no packet filter: what a socket in a container's cgroup is about to send to
   the one address goes to the other, and what comes from there has come from where it was sent to. */

struct place {
	uint32_t address;	/* both as in packets */
	uint16_t port;
};

struct nameserver_args {
	const char *address;
	int64_t port;
};

struct hook {
	uint32_t where;
	bool back;
	int program;
};

static struct hook hooks[] = {
	{ BPF_CGROUP_INET4_CONNECT, false, -1 },
	{ BPF_CGROUP_UDP4_SENDMSG, false, -1 },		/* by sockets that are not connected, as musl's resolver has them */
	{ BPF_CGROUP_UDP4_RECVMSG, true, -1 },
};

static void write_program(struct program *p, struct place from, struct place to)
{
	enum { ADDRESS = offsetof(struct bpf_sock_addr, user_ip4), PORT = offsetof(struct bpf_sock_addr, user_port) };

	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, ADDRESS, 0));
	emit(p, INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_3, BPF_REG_1, PORT, 0));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, (int32_t)from.address));	/* not sign-extended */
	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_X, BPF_REG_2, BPF_REG_4, 5, 0));
	emit(p, INSN(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_3, 0, 4, from.port));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, (int32_t)to.address));
	emit(p, INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_1, BPF_REG_2, ADDRESS, 0));
	emit(p, INSN(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, to.port));
	emit(p, INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_1, BPF_REG_3, PORT, 0));
	emit_return(p, 1);
}

/* The new one first, then the old one goes: questions are never without a way. */
static int set_hook(int group, struct hook *hook, struct place inside, struct place outside, struct error *err)
{
	struct program program = { .length = 0 };
	autoclose int loaded = -1;

	write_program(&program, hook->back ? outside : inside, hook->back ? inside : outside);
	loaded = bpf_load(&program, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hook->where, err);
	if (loaded < 0 || bpf_attach(group, loaded, hook->where, BPF_F_ALLOW_MULTI, err) < 0)
		return -1;
	if (hook->program >= 0 && bpf_detach(group, hook->program, hook->where, err) < 0)
		return -1;
	close_fd(&hook->program);
	hook->program = loaded;
	loaded = -1;
	return 0;
}

static int lead_to(struct place outside, struct error *err)
{
	static struct place now;
	struct place inside = { htonl(RESOLVER_ADDRESS), htons(53) };
	autoclose int group = -1;

	if (outside.address == now.address && outside.port == now.port)
		return 0;
	group = open(cgroup_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0)
		return fail(err, errno, "open cgroup %s", cgroup_dir);
	for (size_t i = 0; i < COUNT(hooks); i++)
		if (set_hook(group, &hooks[i], inside, outside, err) < 0)
			return -1;
	now = outside;
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
