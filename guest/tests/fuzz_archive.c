/* The tar code in both directions. Each input is an archive that a grammar made, written below a root of its own; what
   then stands there is read as an archive, which must be sound, and can be written and read again.

   Each input has a process, as in the guest, with a file system that goes with it. */
#include "../archive.h"
#include "../tar.h"
#include "fuzz.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool complained;

static void note(const struct error *err)
{
	check(err->number && err->message[0], "a complaint without words");
	complained = true;
}

static void enter_scratch(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		check(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0, "no mount namespace can be had");
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mounts cannot be made private");
	check(mount("fuzz", "/tmp", "tmpfs", MS_NODEV, "size=64m,nr_inodes=4096") == 0, "no tmpfs can be mounted");
	check(mkdir("/tmp/outside", 0700) == 0 && mkdir("/tmp/root", 0700) == 0 && mkdir("/tmp/again", 0700) == 0,
	      "no folders can be made");
}

/* Run one part with `tar` as its stdin or stdout. */
static int go(const char *folder, int tar, enum archive_mode mode)
{
	bool write = mode == ARCHIVE_WRITE;
	struct archive a = { .path = "/", .mode = mode };
	struct error err = { 0 };
	int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), result;

	check(root >= 0 && lseek(tar, 0, SEEK_SET) == 0 && dup2(tar, write ? STDIN_FILENO : STDOUT_FILENO) >= 0,
	      "the archive cannot be handed over");
	if (mode == ARCHIVE_TREE)
		result = archive_layer(root, -1, mode, &err);
	else
		result = (write ? archive_write : archive_read)(root, &a, &err);
	check(result == 0 || err.number, "a failure without a reason");
	close(root);
	return result;
}

/* How many members a sound archive has. */
static size_t count_members(int tar)
{
	struct tar_header h;
	off_t at = 0, end = lseek(tar, 0, SEEK_END);
	size_t count = 0;

	check(end % TAR_BLOCK == 0, "an archive of half a block");
	for (;;) {
		check(pread(tar, &h, sizeof(h), at) == sizeof(h), "an archive without an end");
		at += TAR_BLOCK;
		if (!h.name[0])
			break;
		check(strtoul(h.checksum, NULL, 8) == tar_checksum(&h), "a header whose checksum is wrong");
		at += ((off_t)strtoull(h.size, NULL, 8) + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
		count += h.type != 'x';
	}
	check(at + TAR_BLOCK == end, "an archive with something behind its end");
	return count;
}

static bool is_empty(const char *folder)
{
	return rmdir(folder) == 0;
}

static void there_and_back(const uint8_t *data, size_t size)
{
	int tar = memfd_create("tar", MFD_CLOEXEC), read_tar = memfd_create("read", MFD_CLOEXEC);
	int again = memfd_create("again", MFD_CLOEXEC), tree = memfd_create("tree", MFD_CLOEXEC);

	enter_scratch();
	check(write(tar, data, size) == (ssize_t)size, "the input cannot be written");
	go("/tmp/root", tar, ARCHIVE_WRITE);
	check(is_empty("/tmp/outside"), "something was written outside of the root");
	complained = false;
	if (go("/tmp/root", read_tar, ARCHIVE_READ) < 0 || go("/tmp/root", tree, ARCHIVE_TREE) < 0)
		return;
	/* The one has the root itself, too. */
	check(complained || count_members(read_tar) == count_members(tree) + 1, "a tree with other members");
	complained = false;
	check(go("/tmp/again", read_tar, ARCHIVE_WRITE) == 0, "an archive of ours that we cannot write");
	if (complained || go("/tmp/again", again, ARCHIVE_READ) < 0)
		return;
	check(count_members(read_tar) == count_members(again), "members that went");
}

/* Mutations spoil the checksums, behind which all the rest is. Mostly they are right again. */
static void mend_checksums(uint8_t *data, size_t size)
{
	struct tar_header h;
	size_t at = 0;

	while (size - at >= sizeof(h)) {
		memcpy(&h, data + at, sizeof(h));
		if (!h.name[0] && !h.type)
			break;
		snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_checksum(&h));
		memcpy(data + at, &h, sizeof(h));
		at += sizeof(h);
		h.mode[0] = h.size[11] = 0;	/* an end for strtoull */
		at += (size_t)(strtoull(h.size, NULL, 8) % INPUT_MAX + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
		if (at > size)
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[INPUT_MAX];
	int status;
	pid_t child;

	if (size > sizeof(bytes))
		return 0;
	memcpy(bytes, data, size);
	if (size && data[size / 2] % 8 != 7)
		mend_checksums(bytes, size);
	fflush(stdout);
	child = fork();
	check(child >= 0, "no process can be had");
	if (child == 0) {
		alarm(60);	/* a loop without an end is a finding too */
		complain = note;
		there_and_back(bytes, size);
		_exit(0);
	}
	check(waitpid(child, &status, 0) == child && status == 0, "the process of this input failed");
	return 0;
}

/* ---- the grammar ---- */

static const char *const names[] = {
	"a", "b", "a/b", "a/b/c", "./", ".", "..", "", "/", "/etc/x", "../outside/x", "a/../b", "//a//b", "l", "l/x",
	"a/l/../../outside/y", "/tmp/outside/z", "\xff\xfe", "a\nb",
};
static const char *const numbers[] = {
	"0", "1", "12", "511", "512", "65536", "4294967295", "4294967296", "9223372036854775807",
	"18446744073709551616", "-1", "", "1.5", "x",
};
static const char *const keys[] = {
	"path", "linkpath", "size", "uid", "gid", "mtime", "SCHILY.xattr.user.a", "SCHILY.xattr.security.capability",
	"SCHILY.xattr.user.b", "comment", "GNU.sparse.major", "GNU.sparse.name", "",
};

static const char *one_of(const char *const *words, size_t count)
{
	static char word[8200];
	size_t length;

	if (next_random() % 16)
		return words[next_random() % count];
	length = next_random() % (next_random() % 4 ? 300 : sizeof(word));
	for (size_t i = 0; i < length; i++)
		word[i] = "ab/."[next_random() % 16 < 13 ? i % 2 : 2 + next_random() % 2];
	word[length] = 0;
	return word;
}

static void put_field(char *field, size_t size, uint64_t value)
{
	char digits[24];

	if (next_random() % 8 == 0) {	/* GNU's way with large numbers */
		field[0] = (char)0x80;
		for (size_t i = 0; i < 8 && i + 1 < size; i++)
			field[size - 1 - i] = (char)(value >> 8 * i);
		return;
	}
	snprintf(digits, sizeof(digits), "%0*llo", (int)size - 1, (unsigned long long)value);
	memcpy(field, digits, strlen(digits) < size ? strlen(digits) : size);
}

static size_t add_header(uint8_t *to, char type, const char *name, const char *link, uint64_t size)
{
	struct tar_header h = { .type = type };

	strncpy(h.name, name, sizeof(h.name) - 1);
	strncpy(h.link, link, sizeof(h.link) - 1);
	put_field(h.mode, sizeof(h.mode), next_random() % 010000);
	put_field(h.uid, sizeof(h.uid), next_random() % 3000000);
	put_field(h.gid, sizeof(h.gid), next_random() % 3000000);
	put_field(h.mtime, sizeof(h.mtime), next_random());
	put_field(h.size, sizeof(h.size), size);
	put_field(h.major_number, sizeof(h.major_number), next_random() % 300);
	put_field(h.minor_number, sizeof(h.minor_number), next_random() % 300);
	switch (next_random() % 3) {
	case 0:
		memcpy(h.magic, "ustar\0" "00", 8);
		if (next_random() % 4 == 0)
			strncpy(h.prefix, names[next_random() % COUNT(names)], sizeof(h.prefix) - 1);
		break;
	case 1:
		memcpy(h.magic, "ustar  ", 8);
		break;
	default:	/* as it was before POSIX */
		break;
	}
	snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_checksum(&h));
	memcpy(to, &h, sizeof(h));
	return sizeof(h);
}

static size_t add_content(uint8_t *to, const void *bytes, size_t size)
{
	size_t padded = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;

	memset(to, 0, padded);
	memcpy(to, bytes, size);
	return padded;
}

static size_t make_records(char *text, size_t room)
{
	size_t length = 0;

	for (uint32_t n = next_random() % 4; n; n--) {
		const char *key = keys[next_random() % COUNT(keys)];
		bool name = strstr(key, "path") || next_random() % 8 == 0;
		const char *value = name ? one_of(names, COUNT(names)) : one_of(numbers, COUNT(numbers));
		int rest = (int)(strlen(key) + strlen(value)) + 3, total = rest + 1;

		while (snprintf(NULL, 0, "%d", total) + rest != total)
			total++;
		if (length + (size_t)total + 1 > room)
			break;
		if (next_random() % 32 == 0)
			total += (int)(next_random() % 5) - 2;
		length += (size_t)sprintf(text + length, "%d %s=%s\n", total, key, value);
	}
	return length;
}

static size_t add_extended(uint8_t *to)
{
	static char text[10000];
	char type = "xxxxgLK"[next_random() % 7];
	size_t length, size;

	if (type == 'x' || type == 'g')
		length = make_records(text, sizeof(text));
	else
		length = (size_t)sprintf(text, "%s", one_of(names, COUNT(names))) + 1;
	size = add_header(to, type, "././@PaxHeader", "", length);
	return size + add_content(to + size, text, length);
}

size_t make_input(uint8_t *to)
{
	static const uint8_t content[1500] = "content";
	size_t size = 0;

	for (uint32_t n = 1 + next_random() % 6; n && size < 24000; n--) {
		char type = "00000157122246SDV"[next_random() % 17];
		size_t length = next_random() % 3 && strchr("07S", type) ? next_random() % sizeof(content) : 0;

		for (uint32_t extended = next_random() % 4; extended > 1; extended--)
			size += add_extended(to + size);
		size += add_header(to + size, next_random() % 16 ? type : 0, one_of(names, COUNT(names)),
				   one_of(names, COUNT(names)), length);
		size += add_content(to + size, content, length);
	}
	for (uint32_t zeros = next_random() % 4; zeros; zeros--) {
		memset(to + size, 0, TAR_BLOCK);
		size += TAR_BLOCK;
	}
	return size;
}
