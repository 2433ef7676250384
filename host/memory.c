/*
 * hyper-memory.so: loaded into a QEMU whose guest is a clone. Its RAM is a private mapping of a template's file, which is
 * sealed, and mostly holes: what the template's guest had never touched.
 *
 * The kernel fills a hole of such a file when somebody writes to his mapping of it, and then copies the page: each page
 * would be paid twice, once for ever. So holes are mapped as memory of nobody's file. (Small ones are not: a process has
 * a limited number of mappings.)
 *
 * QEMU gives memory that its guest does not need back in two steps (ram_block_discard_range): it punches a hole into the
 * file behind it, then drops its mapping. A sealed file has no hole punched, and needs none, for what is the clone's own
 * is not in it; QEMU takes the refusal for a failure, and goes no further. So here it is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE };

static const off64_t piece = 2 << 20;	/* of RAM: what a guest's kernel gives back at once, too */

static int is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals > 0 && (seals & F_SEAL_WRITE);
}

/* Memory of nobody's file instead of the holes of `fd` from `begin` to `end`, which is mapped at `at`. 0, or -1. */
static int fill_holes(char *at, int prot, int flags, int fd, off64_t begin, off64_t end)
{
	for (off64_t hole = begin, data; hole < end; hole = data) {
		hole = lseek64(fd, hole, SEEK_HOLE);
		if (hole < 0 || hole >= end)
			break;
		data = lseek64(fd, hole, SEEK_DATA);
		if (data < 0 || data > end)
			data = end;
		off64_t from = (hole + piece - 1) & ~(piece - 1), to = data & ~(piece - 1);
		if (from < to && syscall(SYS_mmap, at + (from - begin), to - from, prot,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0) == -1)
			return -1;
	}
	return 0;
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	void *at = (void *)syscall(SYS_mmap, address, length, prot, flags, fd, offset);

	if (at == MAP_FAILED || fd < 0 || (flags & MAP_TYPE) != MAP_PRIVATE || !is_sealed(fd))
		return at;
	/* as without this library, a page of 4 KiB at a time: a guest that has touched one is not given 512 */
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
		return MAP_FAILED;
	return fill_holes(at, prot, flags & MAP_NORESERVE, fd, offset, offset + (off64_t)length) < 0 ? MAP_FAILED : at;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	long result = syscall(SYS_fallocate, fd, mode, offset, length);

	return result < 0 && errno == EPERM && mode == PUNCH && is_sealed(fd) ? 0 : (int)result;
}
