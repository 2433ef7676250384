#include "names.h"

#include "mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

char pod_hostname[HOSTNAME_BYTES];
static struct buffer resolv_conf, hosts;

/* Written in place: containers have the inode mounted. */
static int write_file(const char *dir, const char *name, const char *text, size_t length, struct error *err)
{
	char path[500];
	autoclose int fd = -1;

	if (format(err, path, sizeof(path), "%s/%s", dir, name) < 0)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return fail(err, errno, "open %s", path);
	return write_all(fd, text, length, err);
}

/* `hosts`, and the container's own name. */
static int write_hosts(const char *dir, const char *hostname, struct error *err)
{
	size_t label = strcspn(hostname, ".");
	struct buffer text = { 0 };
	int result;

	buffer_add(&text, hosts.data, hosts.length);
	if (hostname[label])
		buffer_format(&text, "127.0.1.1\t%s %.*s\n", hostname, (int)label, hostname);
	else if (*hostname)
		buffer_format(&text, "127.0.1.1\t%s\n", hostname);
	result = text.failed ? fail(err, ENOMEM, "write hosts") : write_file(dir, "hosts", text.data, text.length, err);
	buffer_free(&text);
	return result;
}

int names_write(const char *dir, const char *hostname, struct error *err)
{
	char line[HOSTNAME_BYTES + 1];
	int length = snprintf(line, sizeof(line), "%s\n", *hostname ? hostname : pod_hostname);

	if (write_hosts(dir, hostname, err) < 0 || write_file(dir, "hostname", line, (size_t)length, err) < 0)
		return -1;
	return write_file(dir, "resolv.conf", resolv_conf.data, resolv_conf.length, err);
}

static bool has_space(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text <= ' ')
			return true;
	return false;
}

/* Words with blanks between; with nothing before them they are a row of hosts, which has a tab behind the address. */
static int write_words(struct buffer *to, const char *before, const struct json *words, bool one_line, struct error *err)
{
	if (json_all(words, JSON_STRING, before, err) < 0)
		return -1;
	for (const struct json *w = json_first(words), *last = NULL; w; last = w, w = w->next) {
		bool head = !one_line || w == words->first;

		if (!*w->string || has_space(w->string))
			return fail(err, EINVAL, "write %s '%.64s'", before, w->string);
		if (head)
			buffer_add(to, before, strlen(before));
		if (*before || !head)
			buffer_add(to, !*before && last == json_first(words) ? "\t" : " ", 1);
		buffer_add(to, w->string, strlen(w->string));
		if (!one_line || !w->next)
			buffer_add(to, "\n", 1);
	}
	return 0;
}

struct dns {
	const struct json *nameservers, *search, *options;
};

int names_set_dns(const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		FIELD(struct dns, nameservers, JSON_ARRAY), FIELD(struct dns, search, JSON_ARRAY),
		FIELD(struct dns, options, JSON_ARRAY),
	};
	struct dns dns = { 0 };

	if (!json)
		return 0;
	resolv_conf.length = 0;
	if (json_fields(json, fields, COUNT(fields), &dns, err) < 0 ||
	    write_words(&resolv_conf, "nameserver", dns.nameservers, false, err) < 0 ||
	    write_words(&resolv_conf, "search", dns.search, true, err) < 0)
		return -1;
	return write_words(&resolv_conf, "options", dns.options, true, err);
}

int names_set_hosts(const struct json *lines, struct error *err)
{
	if (!lines)
		return 0;
	hosts.length = 0;
	if (json_all(lines, JSON_ARRAY, "hosts", err) < 0)
		return -1;
	for (const struct json *l = json_first(lines); l; l = l->next)
		if (write_words(&hosts, "", l, true, err) < 0)
			return -1;
	return 0;
}

int names_set_hostname(const char *name, struct error *err)
{
	if (!*name || strlen(name) >= HOSTNAME_BYTES || has_space(name))
		return fail(err, EINVAL, "name the pod's host '%.80s'", name);
	if (sethostname(name, strlen(name)) < 0)
		return fail(err, errno, "set the hostname");
	strcpy(pod_hostname, name);
	return 0;
}

