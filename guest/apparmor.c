#include "apparmor.h"

#include "json.h"
#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define SECURITY "/sys/kernel/security"

enum { POLICY_MAX = 512 << 10, PROFILE_MAX = 255 };

bool apparmor_is_on(void)
{
	char enabled[4];

	/* In a test the kernel is the host's, whose policy we leave alone. */
	return !testing &&
	       read_file_at(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", enabled, sizeof(enabled)) > 0 &&
	       *enabled == 'Y';
}

/* Only now: no other guest needs that file system. */
static int open_policy(struct error *err)
{
	int fd = open(SECURITY "/apparmor/.replace", O_WRONLY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		if (mount("securityfs", SECURITY, "securityfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
			return fail(err, errno, "mount " SECURITY);
		fd = open(SECURITY "/apparmor/.replace", O_WRONLY | O_CLOEXEC);
	}
	return fd < 0 ? fail(err, errno, "load AppArmor profiles") : fd;
}

int op_apparmor_load(const struct call *call, const struct json *args, struct buffer *result, struct error *err)
{
	struct load_args { const char *policy; } a = { 0 };
	static const struct field fields[] = { NEEDED(struct load_args, policy, JSON_STRING) };
	autofree uint8_t *policy = NULL;
	autoclose int fd = -1;
	size_t length;

	(void)call;
	if (json_fields(args, fields, 1, &a, err) < 0)
		return -1;
	if (!apparmor_is_on())
		return fail(err, EOPNOTSUPP, "load AppArmor profiles");
	policy = base64_decode(a.policy, &length, err);
	if (!policy)
		return -1;
	if (!length || length > POLICY_MAX)
		return fail(err, EINVAL, "load AppArmor profiles of %zu bytes", length);
	fd = open_policy(err);
	if (fd < 0)
		return -1;
	if (write(fd, policy, length) != (ssize_t)length)	/* as a whole, or it is none */
		return fail(err, errno, "load AppArmor profiles of %zu bytes", length);
	buffer_add(result, "{}", 2);
	return 0;
}

int apparmor_confine(const char *profile, struct error *err)
{
	char words[sizeof("exec ") + PROFILE_MAX];
	autoclose int fd = -1;

	if (!*profile)
		return 0;
	if (!apparmor_is_on())
		return fail(err, EOPNOTSUPP, "confine a process by AppArmor profile %.100s", profile);
	if (format(err, words, sizeof(words), "exec %s", profile) < 0)
		return -1;
	fd = open("/proc/self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, words, strlen(words)) < 0)
		return fail(err, errno, "confine a process by AppArmor profile %.100s", profile);
	return 0;
}
