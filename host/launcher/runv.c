/* The verbs with which an engine goes through a container's life, start, kill and delete, asked of hyperd without
 * Python, where that is nothing but a call: in the words that engines use, and answered by no error and no hook. The
 * call and its answer are hyperd/oci/wire.py's. */
#include "runv.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER "HYPER_RUNV_ANSWER"	/* as runv/door.py has it */
#define DOOR "/run/hyper-oci.sock"
#define ROOT "/run/runv"
#define SCHEME "unix://"
/* What a JSON string has as it is. */
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+.-"
#define NOTHING "{\"answer\":null}"
#define SOMETHING "{\"answer\":{"

enum { MAX_ID = 1024, MAX_PATH = 4096, MAX_ANSWER = 16 << 20, MAX_SIGNAL = 31 };

struct words {
	const char *root, *verb, *id, *signal;
	bool forced, everyone;
};

/* The value of a flag of that name at *i, which may be a word of its own; NULL: it is another one. */
static const char *value(const char *name, int argc, char **argv, int *i)
{
	size_t length = strlen(name);

	if (strncmp(argv[*i], name, length) != 0)
		return NULL;
	if (argv[*i][length] == '=')
		return argv[*i] + length + 1;
	return !argv[*i][length] && *i + 1 < argc ? argv[++*i] : NULL;
}

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words && strcmp(word, *words) != 0)
		words++;
	return *words;
}

/* Flags that mean nothing to these verbs are passed over; false where there is any other. */
static bool parse(int argc, char **argv, struct words *found)
{
	static const char *const verbs[] = {"start", "kill", "delete", NULL}, *const force[] = {"--force", "-f", NULL};
	static const char *const all[] = {"--all", "-a", NULL}, *const moot[] = {"--systemd-cgroup", "--debug", NULL};
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		const char *root = value("--root", argc, argv, &i);

		if (root)
			found->root = root;
		else if (!value("--log", argc, argv, &i) && !value("--log-format", argc, argv, &i) &&
			 !is_one_of(argv[i], moot))
			return false;
	}
	if (i == argc || !is_one_of(argv[i], verbs))
		return false;
	found->verb = argv[i++];
	for (; i < argc; i++) {
		if (argv[i][0] != '-' && !found->id)
			found->id = argv[i];
		else if (argv[i][0] != '-' && !found->signal && *found->verb == 'k')
			found->signal = argv[i];
		else if (*found->verb == 'd' && is_one_of(argv[i], force))
			found->forced = true;
		else if (*found->verb == 'k' && is_one_of(argv[i], all))
			found->everyone = true;
		else
			return false;
	}
	return found->id && *found->id && strlen(found->id) <= MAX_ID && !found->id[strspn(found->id, LETTERS)];
}

/* As os.path.abspath leaves it, and no JSON to be escaped. */
static bool is_plain(const char *path)
{
	size_t length = strlen(path);

	return path[0] == '/' && length > 1 && length < MAX_PATH && path[length - 1] != '/' &&
	       !path[strspn(path, LETTERS "/:@,=~")] && !strstr(path, "//") && !strstr(path, "/.");
}

static int signal_number(const char *word)
{
	if (!word || strcmp(word, "TERM") == 0 || strcmp(word, "SIGTERM") == 0)
		return 15;
	if (strcmp(word, "KILL") == 0 || strcmp(word, "SIGKILL") == 0)
		return 9;
	return word[strspn(word, "0123456789")] || strlen(word) > 2 ? 0 : atoi(word);
}

/* The call, behind its length. 0: it cannot be made here. */
static size_t describe(const struct words *words, char *call, size_t size)
{
	char more[64] = "";
	uint32_t length;
	int number;

	if (*words->verb == 'k') {
		number = signal_number(words->signal);
		if (number < 1 || number > MAX_SIGNAL)
			return 0;
		snprintf(more, sizeof more, ",\"signal\":%d,\"everyone\":%s", number, words->everyone ? "true" : "false");
	} else if (*words->verb == 'd') {
		snprintf(more, sizeof more, ",\"force\":%s", words->forced ? "true" : "false");
	}
	length = (uint32_t)snprintf(call + 4, size - 4, "{\"call\":\"%s\",\"owner\":\"%s\",\"id\":\"%s\"%s}", words->verb,
				    words->root, words->id, more);
	if (length >= size - 4)
		return 0;
	for (int i = 0; i < 4; i++)
		call[i] = (char)(length >> 8 * i);
	return 4 + length;
}

static int connected(void)
{
	const char *host = getenv("HYPER_OCI_HOST");
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	int sock;

	if (!host || !*host)
		host = DOOR;
	if (strncmp(host, SCHEME, strlen(SCHEME)) == 0)
		host += strlen(SCHEME);
	if (strlen(host) >= sizeof where.sun_path)
		return -1;
	strcpy(where.sun_path, host);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock >= 0 && connect(sock, (struct sockaddr *)&where, sizeof where) < 0) {
		close(sock);
		return -1;
	}
	return sock;
}

static bool sent(int sock, const char *bytes, size_t size)
{
	ssize_t n;

	for (; size; bytes += n, size -= (size_t)n)
		if ((n = send(sock, bytes, size, MSG_NOSIGNAL)) < 0)
			return false;
	return true;
}

static bool received(int sock, char *bytes, size_t size)
{
	ssize_t n;

	for (; size; bytes += n, size -= (size_t)n) {
		while ((n = recv(sock, bytes, size, 0)) < 0 && errno == EINTR)
			;
		if (n <= 0)
			return false;
	}
	return true;
}

/* What hyperd answers, with a zero behind; NULL when hyperd has gone before that. */
static char *answered(int sock, const char *call, size_t size, size_t *length)
{
	unsigned char head[4];
	char *answer;

	if (!sent(sock, call, size) || !received(sock, (char *)head, sizeof head))
		return NULL;
	*length = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
	if (*length > MAX_ANSWER || !(answer = malloc(*length + 1)))
		return NULL;
	if (received(sock, answer, *length)) {
		answer[*length] = '\0';
		return answer;
	}
	free(answer);
	return NULL;
}

/* Neither an error to be told nor a hook to be run. In a string, no quote would be without a backslash before it. */
static bool is_plainly_done(const char *answer)
{
	return strcmp(answer, NOTHING) == 0 || (strncmp(answer, SOMETHING, strlen(SOMETHING)) == 0 &&
						!strstr(answer, "\"poststart\":") && !strstr(answer, "\"poststop\":"));
}

/* Nothing in there: hyperd has gone. Where there is no memory for that, nobody is to ask hyperd twice. */
static void hand_over(const char *answer, size_t length)
{
	char name[16];
	int fd = memfd_create("answer", 0);

	if (fd < 0 || (answer && write(fd, answer, length) != (ssize_t)length)) {
		perror("runv: cannot keep hyperd's answer");
		exit(1);
	}
	lseek(fd, 0, SEEK_SET);
	snprintf(name, sizeof name, "%d", fd);
	setenv(ANSWER, name, 1);
}

bool runv_done(int argc, char **argv)
{
	struct words words = {.root = ROOT};
	const char *config = getenv("HYPER_CONFIG");
	char call[MAX_PATH + MAX_ID + 256], *answer;
	size_t size, length = 0;
	int sock;
	bool done;

	unsetenv(ANSWER);
	if ((config && *config) || !parse(argc, argv, &words) || !is_plain(words.root))
		return false;
	size = describe(&words, call, sizeof call);
	if (!size || (sock = connected()) < 0)
		return false;	/* Python starts a hyperd */
	answer = answered(sock, call, size, &length);
	close(sock);
	done = answer && is_plainly_done(answer);
	if (!done)
		hand_over(answer, length);
	free(answer);
	return done;
}
