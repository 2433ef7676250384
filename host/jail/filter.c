#include "filter.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define NATIVE_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define NATIVE_ARCH AUDIT_ARCH_S390X
#endif

#define LOW_HALF (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0)
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n) + LOW_HALF)
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define REFUSE(number) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (number))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* System call NR sets the mode that is its argument N. */
#define SETS_MODE(nr, n) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 4), LOAD(ARGUMENT(n)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1), REFUSE(EPERM), ALLOW
/* NR does so where its argument N, the flags, asks for a new file; the mode follows them. */
#define MAY_CREATE(nr, n) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 6), LOAD(ARGUMENT(n)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | (O_TMPFILE & ~O_DIRECTORY), 0, 3), LOAD(ARGUMENT((n) + 1)), \
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1), REFUSE(EPERM), ALLOW
/* NR does the same where no filter can look. */
#define UNSEEN(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), REFUSE(ENOSYS)

enum { X32 = 0x40000000, IO_URING_SETUP = 425, OPENAT2 = 437, FCHMODAT2 = 452 };	/* newer than some headers */

/* How each filter begins: no call by another table of numbers gets past it. */
#define NATIVE_CALLS_ONLY \
	LOAD(offsetof(struct seccomp_data, arch)), \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0), REFUSE(ENOSYS), \
	LOAD(offsetof(struct seccomp_data, nr)), \
	BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1), REFUSE(ENOSYS)
/* What has been loaded may be VALUE. */
#define PERMIT(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1), ALLOW
/* And what follows is for what has these bits of its TYPE. */
#define ONLY(mask, type) \
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (mask)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (type), 1, 0), ALLOW

static void load_filter(struct sock_filter *filter, size_t count)
{
	struct sock_fprog program = { (unsigned short)count, filter };
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		die("load the filter");
}

void guard_tap(void)
{
	enum { FIRST_OF_TUN = 200 };	/* the lower numbers of this type are the terminals' */
	static struct sock_filter filter[] = {
		NATIVE_CALLS_ONLY,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0), ALLOW,
		LOAD(ARGUMENT(1)),
		PERMIT(TUNGETFEATURES), PERMIT(TUNGETIFF), PERMIT(TUNSETOFFLOAD), PERMIT(TUNSETSNDBUF),
		PERMIT(TUNGETVNETHDRSZ), PERMIT(TUNSETVNETHDRSZ), PERMIT(TUNSETVNETLE), PERMIT(TUNSETVNETBE),
		ONLY(0xff00, 'T' << 8),
		LOAD(ARGUMENT(1)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST_OF_TUN, 0, 1), REFUSE(EPERM),
		ALLOW,
	};
	load_filter(filter, sizeof filter / sizeof *filter);
}

void refuse_setid(void)
{
	static struct sock_filter filter[] = {
		NATIVE_CALLS_ONLY,
		UNSEEN(IO_URING_SETUP), UNSEEN(OPENAT2), UNSEEN(FCHMODAT2),
#ifdef SYS_chmod
		SETS_MODE(SYS_chmod, 1), SETS_MODE(SYS_mknod, 1), SETS_MODE(SYS_creat, 1), MAY_CREATE(SYS_open, 1),
#endif
		SETS_MODE(SYS_fchmod, 1), SETS_MODE(SYS_fchmodat, 2), SETS_MODE(SYS_mknodat, 2), MAY_CREATE(SYS_openat, 2),
		ALLOW,
	};
	load_filter(filter, sizeof filter / sizeof *filter);
}
