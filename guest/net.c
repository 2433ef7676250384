#include "net.h"

#include "loop.h"
#include "mount.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
	LINK_WAIT_MS = 2000, REPLY_MAX = 32768, LINKS_MAX = 64,
	HOPS_MAX = 8, METRICS_MAX = 16,		/* of a route: what a message has room for */
	NEIGHBOURS_MAX = 128,
};

/* A request is built in this, attribute by attribute. */
struct message {
	struct nlmsghdr header;
	char rest[512];
};

struct address {
	uint8_t family, prefix;
	uint8_t bytes[16];
};

struct link {
	int index;
	char name[IF_NAMESIZE];
	uint8_t mac[6];
	bool up;
	struct rtnl_link_stats64 counters;
};

static void *begin(struct message *m, int type, int flags, size_t body)
{
	memset(m, 0, sizeof(*m));
	m->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	m->header.nlmsg_type = (uint16_t)type;
	m->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return NLMSG_DATA(&m->header);
}

static void attribute(struct message *m, int type, const void *data, size_t length)
{
	struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(m->header.nlmsg_len));

	a->rta_type = (uint16_t)type;
	a->rta_len = (uint16_t)RTA_LENGTH(length);
	memcpy(RTA_DATA(a), data, length);
	m->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

/* `groups`: of what the kernel tells unasked, RTMGRP_… */
static int open_netlink(uint32_t groups, struct error *err)
{
	struct sockaddr_nl own = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0) {
		fail(err, errno, "bind netlink");
		close(fd);
		return -1;
	}
	return fd >= 0 ? fd : fail(err, errno, "open netlink");
}

/* Send, and hand each message of the answer to visit. Returns 0, or -1 with errno of the kernel's refusal. */
static int ask(struct message *m, void (*visit)(const struct nlmsghdr *, void *), void *data)
{
	static char reply[REPLY_MAX];
	struct error err;
	autoclose int fd = open_netlink(0, &err);
	ssize_t n = fd < 0 ? -1 : send(fd, m, m->header.nlmsg_len, 0);

	while (n >= 0 && (n = recv(fd, reply, sizeof(reply), 0)) > 0) {
		uint32_t left = (uint32_t)n;

		for (struct nlmsghdr *h = (void *)reply; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_ERROR) {
				errno = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
				return errno ? -1 : 0;
			}
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			visit(h, data);
		}
	}
	return -1;
}

static int change(struct message *m)
{
	m->header.nlmsg_flags |= NLM_F_ACK;
	return ask(m, NULL, NULL);
}

struct links {
	struct link list[LINKS_MAX];
	size_t count;
};

static void see_link(const struct nlmsghdr *h, void *data)
{
	struct links *links = data;
	const struct ifinfomsg *info = NLMSG_DATA(h);
	int left = (int)IFLA_PAYLOAD(h);
	struct link *link;

	if (h->nlmsg_type != RTM_NEWLINK || links->count == LINKS_MAX)
		return;
	link = &links->list[links->count++];
	*link = (struct link){ .index = info->ifi_index, .up = info->ifi_flags & IFF_UP };
	for (struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_IFNAME)
			snprintf(link->name, sizeof(link->name), "%s", (char *)RTA_DATA(a));
		else if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == 6)
			memcpy(link->mac, RTA_DATA(a), 6);
		else if (a->rta_type == IFLA_STATS64)
			memcpy(&link->counters, RTA_DATA(a), RTA_PAYLOAD(a) < sizeof(link->counters) ?
			       RTA_PAYLOAD(a) : sizeof(link->counters));
	}
}

static int list_links(struct links *links)
{
	struct message m;

	links->count = 0;
	begin(&m, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	return ask(&m, see_link, links);
}

static const struct link *look_for(const struct links *links, const uint8_t mac[6])
{
	for (size_t i = 0; i < links->count; i++)
		if (!memcmp(links->list[i].mac, mac, 6))
			return &links->list[i];
	return NULL;
}

/* Until the kernel tells of a link that came, went or changed. False: it did not, in time. */
static bool hear_of_links(int news, uint64_t until)
{
	static char told[REPLY_MAX];
	struct pollfd p = { .fd = news, .events = POLLIN };
	uint64_t now = loop_now_ms();

	if (now >= until || poll(&p, 1, (int)(until - now)) <= 0)
		return false;
	while (recv(news, told, sizeof(told), MSG_DONTWAIT) > 0)
		;
	return true;
}

/* A device that is added while we run comes on PCI by no hot-plug that a kernel hears of: it has to look. */
static int look_at_buses(struct error *err)
{
	return testing ? 0 : write_file_at(AT_FDCWD, "/sys/bus/pci/rescan", "1", err);
}

/* By the address that it is to have, else by the one that its hardware came with. */
static int find_link(const uint8_t mac[6], const uint8_t hardware[6], struct link *found, struct error *err)
{
	static struct links links;
	autoclose int news = open_netlink(RTMGRP_LINK, err);
	uint64_t until = loop_now_ms() + LINK_WAIT_MS;
	bool looked = false;

	if (news < 0)
		return -1;
	for (;;) {
		const struct link *link;

		if (list_links(&links) < 0)
			return fail(err, errno, "list network interfaces");
		link = look_for(&links, mac);
		if (!link)
			link = look_for(&links, hardware);
		if (link) {
			*found = *link;
			return 0;
		}
		if (!looked && look_at_buses(err) < 0)
			return -1;
		if (looked && !hear_of_links(news, until))
			return fail(err, ENODEV, "find the network interface %02x:%02x:%02x:%02x:%02x:%02x", mac[0],
				    mac[1], mac[2], mac[3], mac[4], mac[5]);
		looked = true;
	}
}

static int set_up(int index, bool up)
{
	struct message m;
	struct ifinfomsg *info = begin(&m, RTM_NEWLINK, 0, sizeof(*info));

	info->ifi_index = index;
	info->ifi_change = IFF_UP;
	info->ifi_flags = up ? IFF_UP : 0;
	return change(&m);
}

static int set_link(const struct link *link, const char *name, const uint8_t mac[6], uint32_t mtu, bool down,
		    struct error *err)
{
	struct message m;
	struct ifinfomsg *info;
	bool moves = memcmp(link->mac, mac, 6);

	/* To go down takes 50 ms: the kernel waits for all that is under way. To get another address it need not. */
	if ((strcmp(link->name, name) || down) && link->up && set_up(link->index, false) < 0)
		return fail(err, errno, "take %s down", link->name);
	info = begin(&m, RTM_NEWLINK, 0, sizeof(*info));
	info->ifi_index = link->index;
	if (strcmp(link->name, name))
		attribute(&m, IFLA_IFNAME, name, strlen(name) + 1);
	if (moves)
		attribute(&m, IFLA_ADDRESS, mac, 6);
	if (mtu)
		attribute(&m, IFLA_MTU, &mtu, sizeof(mtu));
	if (change(&m) < 0) {
		struct link now = *link;

		if (errno != EBUSY || !link->up || set_up(link->index, false) < 0)
			return fail(err, errno, "name %s %s", link->name, name);
		now.up = false;		/* a device that can only have it so */
		return set_link(&now, name, mac, mtu, down, err);
	}
	if (down)
		return 0;
	return set_up(link->index, true) < 0 ? fail(err, errno, "bring %s up", name) : 0;
}

static size_t address_bytes(const struct address *a)
{
	return a->family == AF_INET ? 4 : 16;
}

/* "10.0.0.2/24", "fd00::2/64"; without a prefix it is the whole address. */
static int parse_address(const char *text, struct address *a, struct error *err)
{
	char copy[64], *slash, *end;
	unsigned long prefix, most;

	if (format(err, copy, sizeof(copy), "%s", text) < 0)
		return -1;
	slash = strchr(copy, '/');
	if (slash)
		*slash++ = 0;
	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, copy, a->bytes) == 1)
		a->family = AF_INET;
	else if (inet_pton(AF_INET6, copy, a->bytes) == 1)
		a->family = AF_INET6;
	else
		return fail(err, EINVAL, "read address '%.60s'", text);
	most = a->family == AF_INET ? 32 : 128;
	prefix = slash ? strtoul(slash, &end, 10) : most;
	if (slash && (*slash < '0' || *slash > '9' || *end || prefix > most))
		return fail(err, EINVAL, "read address '%.60s'", text);
	a->prefix = (uint8_t)prefix;
	return 0;
}

static int change_address(int type, int flags, int index, const struct address *a)
{
	struct message m;
	struct ifaddrmsg *body = begin(&m, type, flags, sizeof(*body));

	body->ifa_family = a->family;
	body->ifa_prefixlen = a->prefix;
	body->ifa_index = (uint32_t)index;
	if (a->family == AF_INET6)
		body->ifa_flags = IFA_F_NODAD;		/* usable at once: who else would have it? */
	attribute(&m, IFA_LOCAL, a->bytes, address_bytes(a));
	attribute(&m, IFA_ADDRESS, a->bytes, address_bytes(a));
	if (a->family == AF_INET && a->prefix < 31 && type == RTM_NEWADDR) {
		uint32_t broadcast;

		memcpy(&broadcast, a->bytes, 4);
		broadcast |= htonl(a->prefix ? 0xFFFFFFFFu >> a->prefix : 0xFFFFFFFFu);
		attribute(&m, IFA_BROADCAST, &broadcast, 4);
	}
	return change(&m);
}

struct present {
	int index;
	bool link_local;		/* those that follow from its MAC address, or the others? */
	struct address list[32];
	size_t count;
};

static void see_address(const struct nlmsghdr *h, void *data)
{
	struct present *present = data;
	const struct ifaddrmsg *body = NLMSG_DATA(h);
	int left = (int)IFA_PAYLOAD(h);
	struct address a = { .family = body->ifa_family, .prefix = body->ifa_prefixlen };
	bool found = false;

	if (h->nlmsg_type != RTM_NEWADDR || (int)body->ifa_index != present->index ||
	    (body->ifa_scope == RT_SCOPE_LINK) != present->link_local || present->count == COUNT(present->list))
		return;
	for (struct rtattr *r = IFA_RTA(body); RTA_OK(r, left); r = RTA_NEXT(r, left))
		if ((r->rta_type == IFA_LOCAL || (r->rta_type == IFA_ADDRESS && !found)) &&
		    RTA_PAYLOAD(r) == address_bytes(&a)) {
			memcpy(a.bytes, RTA_DATA(r), address_bytes(&a));
			found = true;
		}
	if (found)
		present->list[present->count++] = a;
}

/* The kernel gives it one as it comes up, of the MAC address that it has then (RFC 4291, appendix A). */
static int move_link_local(int index, const uint8_t mac[6], struct error *err)
{
	struct present present = { .index = index, .link_local = true };
	struct address own = { .family = AF_INET6, .prefix = 64 };
	const uint8_t bytes[16] = {
		0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5],
	};
	struct message m;

	begin(&m, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	if (ask(&m, see_address, &present) < 0)
		return fail(err, errno, "list addresses");
	memcpy(own.bytes, bytes, sizeof(bytes));
	for (size_t i = 0; i < present.count; i++)
		if (present.list[i].family == AF_INET6 &&
		    (change_address(RTM_DELADDR, 0, index, &present.list[i]) < 0 ||
		     change_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, &own) < 0))
			return fail(err, errno, "move an address");
	return 0;
}

static bool is_wanted(const struct address *a, const struct json *wanted)
{
	struct address other;
	struct error err;

	for (const struct json *w = wanted->first; w; w = w->next)
		if (parse_address(w->string, &other, &err) == 0 && !memcmp(&other, a, sizeof(other)))
			return true;
	return false;
}

static int set_addresses(int index, const struct json *wanted, struct error *err)
{
	struct present present = { .index = index };
	struct message m;
	struct address a;

	begin(&m, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	if (ask(&m, see_address, &present) < 0)
		return fail(err, errno, "list addresses");
	for (size_t i = 0; i < present.count; i++)
		if (!is_wanted(&present.list[i], wanted) &&
		    change_address(RTM_DELADDR, 0, index, &present.list[i]) < 0 && errno != EADDRNOTAVAIL)
			return fail(err, errno, "remove an address");
	for (const struct json *w = wanted->first; w; w = w->next)
		if (parse_address(w->string, &a, err) < 0)
			return -1;
		else if (change_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, &a) < 0)
			return fail(err, errno, "add address %.60s", w->string);
	return 0;
}

struct interface {
	const char *mac, *hardware, *name;
	int64_t mtu;
	const struct json *addresses, *neighbours;
	bool down;
};

static int parse_mac(const char *text, uint8_t mac[6], struct error *err)
{
	unsigned int b[6];
	int length = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &length) != 6 ||
	    text[length])
		return fail(err, EINVAL, "read MAC address '%.32s'", text);
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

struct neighbour {
	const char *address, *mac;
};

struct staying {
	int index;
	struct address list[NEIGHBOURS_MAX];
	size_t count;
};

static void see_neighbour(const struct nlmsghdr *h, void *data)
{
	struct staying *staying = data;
	const struct ndmsg *body = NLMSG_DATA(h);
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*body)));
	struct address a = { .family = body->ndm_family };

	if (h->nlmsg_type != RTM_NEWNEIGH || body->ndm_ifindex != staying->index || !(body->ndm_state & NUD_PERMANENT) ||
	    (a.family != AF_INET && a.family != AF_INET6) || staying->count == COUNT(staying->list))
		return;
	for (struct rtattr *r = (void *)((char *)body + NLMSG_ALIGN(sizeof(*body))); RTA_OK(r, left); r = RTA_NEXT(r, left))
		if (r->rta_type == NDA_DST && RTA_PAYLOAD(r) == address_bytes(&a)) {
			memcpy(a.bytes, RTA_DATA(r), address_bytes(&a));
			staying->list[staying->count++] = a;
		}
}

static int change_neighbour(int type, int flags, int index, const struct address *a, const uint8_t mac[6])
{
	struct message m;
	struct ndmsg *body = begin(&m, type, flags, sizeof(*body));

	*body = (struct ndmsg){ .ndm_family = a->family, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT };
	attribute(&m, NDA_DST, a->bytes, address_bytes(a));
	if (mac)
		attribute(&m, NDA_LLADDR, mac, 6);
	return change(&m);
}

/* Those that stay, in place of those of before. */
static int set_neighbours(int index, const struct json *wanted, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct neighbour, address, JSON_STRING), NEEDED(struct neighbour, mac, JSON_STRING),
	};
	static struct staying staying;
	struct message m;

	staying = (struct staying){ .index = index };
	begin(&m, RTM_GETNEIGH, NLM_F_DUMP, sizeof(struct ndmsg));
	if (ask(&m, see_neighbour, &staying) < 0)
		return fail(err, errno, "list neighbours");
	for (size_t i = 0; i < staying.count; i++)
		if (change_neighbour(RTM_DELNEIGH, 0, index, &staying.list[i], NULL) < 0 && errno != ENOENT)
			return fail(err, errno, "remove a neighbour");
	for (const struct json *w = json_first(wanted); w; w = w->next) {
		struct neighbour n = { 0 };
		struct address a;
		uint8_t mac[6];

		if (json_fields(w, fields, COUNT(fields), &n, err) < 0 || parse_address(n.address, &a, err) < 0 ||
		    parse_mac(n.mac, mac, err) < 0)
			return -1;
		if (change_neighbour(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, index, &a, mac) < 0)
			return fail(err, errno, "add neighbour %.60s", n.address);
	}
	return 0;
}

static int setup_interface(const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct interface, mac, JSON_STRING), FIELD(struct interface, hardware, JSON_STRING),
		NEEDED(struct interface, name, JSON_STRING),
		FIELD(struct interface, mtu, JSON_NUMBER), NEEDED(struct interface, addresses, JSON_ARRAY),
		FIELD(struct interface, down, JSON_BOOL), FIELD(struct interface, neighbours, JSON_ARRAY),
	};
	struct interface i = { 0 };
	struct link link;
	uint8_t mac[6], hardware[6];

	if (json_fields(json, fields, COUNT(fields), &i, err) < 0 || json_range("mtu", i.mtu, 0, 65535, err) < 0 ||
	    json_all(i.addresses, JSON_STRING, "addresses", err) < 0 || parse_mac(i.mac, mac, err) < 0 ||
	    parse_mac(i.hardware && *i.hardware ? i.hardware : i.mac, hardware, err) < 0)
		return -1;
	if (!*i.name || strlen(i.name) >= IF_NAMESIZE || strpbrk(i.name, "/ \t\n") || i.name[0] == '.')
		return fail(err, EINVAL, "name an interface '%.32s'", i.name);
	if (find_link(mac, hardware, &link, err) < 0 || set_link(&link, i.name, mac, (uint32_t)i.mtu, i.down, err) < 0)
		return -1;
	if (link.up && !i.down && memcmp(link.mac, mac, sizeof(mac)) && move_link_local(link.index, mac, err) < 0)
		return -1;
	if (set_addresses(link.index, i.addresses, err) < 0)
		return -1;
	return i.down || !i.neighbours ? 0 : set_neighbours(link.index, i.neighbours, err);
}

/* For good: the host takes its device away next. In a test there is none, and the link itself goes. */
static int let_go(const struct link *link, struct error *err)
{
	char path[100];
	struct message m;
	struct ifinfomsg *info;

	if (!testing) {
		if (format(err, path, sizeof(path), "/sys/class/net/%s/device/../online", link->name) < 0)
			return -1;
		if (access(path, F_OK) == 0)	/* a channel device */
			return write_file_at(AT_FDCWD, path, "0", err);
		return format(err, path, sizeof(path), "/sys/class/net/%s/device/../remove", link->name) < 0 ? -1 :
		       write_file_at(AT_FDCWD, path, "1", err);
	}
	info = begin(&m, RTM_DELLINK, 0, sizeof(*info));
	info->ifi_index = link->index;
	return change(&m) < 0 ? fail(err, errno, "delete %s", link->name) : 0;
}

/* What a container has made upon it has its address too, and no device: it goes with it. */
static int remove_interface(const uint8_t mac[6], struct error *err)
{
	static struct links links;

	if (list_links(&links) < 0)
		return fail(err, errno, "list network interfaces");
	for (size_t i = 0; i < links.count; i++)
		if (!memcmp(links.list[i].mac, mac, 6) && let_go(&links.list[i], err) < 0 && err->number != ENOENT)
			return -1;
	return 0;
}

struct route {
	const char *dst, *gateway, *device, *kind, *source;
	int64_t family, table, metric;
	const struct json *metrics, *hops;
	bool onlink, gone;
};

/* Both ends of a route are of one family; what is not said of one follows from the other. */
static int parse_route(const struct route *r, struct address *dst, struct address *gateway, struct error *err)
{
	if (*r->gateway && parse_address(r->gateway, gateway, err) < 0)
		return -1;
	if (strcmp(r->dst, "default") && parse_address(r->dst, dst, err) < 0)
		return -1;
	if (!dst->family)
		dst->family = *r->gateway ? gateway->family : r->family == 6 ? AF_INET6 : AF_INET;
	if (!*r->gateway)
		gateway->family = dst->family;
	if ((r->family && r->family != (gateway->family == AF_INET ? 4 : 6)) || dst->family != gateway->family)
		return fail(err, EINVAL, "route %.60s via %.60s: the families differ", r->dst, r->gateway);
	if (!*r->gateway && !*r->device && !*r->kind && !json_first(r->hops))
		return fail(err, EINVAL, "route %.60s: by no gateway and no device", r->dst);
	return 0;
}

/* Its RTN_…: what it is to whom it leads nowhere; "": it leads somewhere. */
static int parse_kind(const char *kind, struct error *err)
{
	static const struct { const char *name; uint8_t type; } kinds[] = {
		{ "", RTN_UNICAST }, { "blackhole", RTN_BLACKHOLE }, { "unreachable", RTN_UNREACHABLE },
		{ "prohibit", RTN_PROHIBIT }, { "throw", RTN_THROW },
	};

	for (size_t i = 0; i < COUNT(kinds); i++)
		if (!strcmp(kind, kinds[i].name))
			return kinds[i].type;
	return fail(err, EINVAL, "make a route of kind '%.32s'", kind);
}

static int add_device(struct message *m, const char *name, struct error *err)
{
	uint32_t index = if_nametoindex(name);

	if (!index)
		return fail(err, errno, "find the network interface %.32s", name);
	attribute(m, RTA_OIF, &index, sizeof(index));
	return 0;
}

/* RTAX_… and its value, one after the other. */
static int add_metrics(struct message *m, const struct json *metrics, struct error *err)
{
	uint32_t values[METRICS_MAX + 2] = { 0 };
	char nested[METRICS_MAX * 8] __attribute__((aligned(4)));
	size_t length = 0;

	if (json_all(metrics, JSON_NUMBER, "metrics", err) < 0)
		return -1;
	if (metrics && metrics->count % 2)
		return fail(err, EINVAL, "read metrics of a route: one has no value");
	for (const struct json *key = json_first(metrics); key; key = key->next->next) {
		if (json_range("metric", key->number, 1, METRICS_MAX + 1, err) < 0 ||
		    json_range("value of a metric", key->next->number, 0, UINT32_MAX, err) < 0)
			return -1;
		values[key->number] = (uint32_t)key->next->number;
	}
	for (uint16_t key = 1; key <= METRICS_MAX + 1; key++) {
		struct rtattr *a = (struct rtattr *)(nested + length);

		if (!values[key] || length + 8 > sizeof(nested))
			continue;
		a->rta_type = key;
		a->rta_len = RTA_LENGTH(4);
		memcpy(RTA_DATA(a), &values[key], 4);
		length += 8;
	}
	if (length)
		attribute(m, RTA_METRICS, nested, length);
	return 0;
}

struct hop {
	const char *gateway, *device;
	int64_t weight;
};

static int add_hops(struct message *m, const struct json *hops, uint8_t family, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct hop, gateway, JSON_STRING), NEEDED(struct hop, device, JSON_STRING),
		NEEDED(struct hop, weight, JSON_NUMBER),
	};
	char nested[HOPS_MAX * (sizeof(struct rtnexthop) + RTA_SPACE(16))] __attribute__((aligned(4)));
	size_t length = 0;

	if (hops && hops->count > HOPS_MAX)
		return fail(err, E2BIG, "make a route of %u gateways", hops->count);
	for (const struct json *json = json_first(hops); json; json = json->next) {
		struct rtnexthop *next = (struct rtnexthop *)(nested + length);
		struct rtattr *a = (struct rtattr *)(next + 1);
		struct hop hop = { 0 };
		struct address gateway;

		if (json_fields(json, fields, COUNT(fields), &hop, err) < 0 ||
		    json_range("weight", hop.weight, 1, 256, err) < 0 || parse_address(hop.gateway, &gateway, err) < 0)
			return -1;
		if (gateway.family != family)
			return fail(err, EINVAL, "route by gateway %.60s: the families differ", hop.gateway);
		*next = (struct rtnexthop){ .rtnh_hops = (uint8_t)(hop.weight - 1),
					    .rtnh_ifindex = (int)if_nametoindex(hop.device) };
		if (!next->rtnh_ifindex)
			return fail(err, errno, "find the network interface %.32s", hop.device);
		a->rta_type = RTA_GATEWAY;
		a->rta_len = (uint16_t)RTA_LENGTH(address_bytes(&gateway));
		memcpy(RTA_DATA(a), gateway.bytes, address_bytes(&gateway));
		next->rtnh_len = (uint16_t)(sizeof(*next) + RTA_SPACE(address_bytes(&gateway)));
		length += next->rtnh_len;
	}
	if (length)
		attribute(m, RTA_MULTIPATH, nested, length);
	return 0;
}

static int route_message(struct message *m, const struct route *r, struct error *err)
{
	struct address gateway = { 0 }, dst = { 0 }, source;
	uint32_t table = r->table ? (uint32_t)r->table : RT_TABLE_MAIN, metric = (uint32_t)r->metric;
	struct rtmsg *body;
	int type;

	if (parse_route(r, &dst, &gateway, err) < 0 || (type = parse_kind(r->kind, err)) < 0)
		return -1;
	body = begin(m, r->gone ? RTM_DELROUTE : RTM_NEWROUTE, r->gone ? 0 : NLM_F_CREATE | NLM_F_REPLACE, sizeof(*body));
	*body = (struct rtmsg){ .rtm_family = dst.family, .rtm_dst_len = dst.prefix, .rtm_protocol = RTPROT_STATIC,
				.rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC, .rtm_type = (uint8_t)type,
				.rtm_scope = *r->device && !*r->gateway ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
				.rtm_flags = r->onlink ? RTNH_F_ONLINK : 0 };
	attribute(m, RTA_TABLE, &table, sizeof(table));
	if (dst.prefix)
		attribute(m, RTA_DST, dst.bytes, address_bytes(&dst));
	if (*r->gateway)
		attribute(m, RTA_GATEWAY, gateway.bytes, address_bytes(&gateway));
	if (metric)
		attribute(m, RTA_PRIORITY, &metric, sizeof(metric));
	if (*r->source) {
		if (parse_address(r->source, &source, err) < 0)
			return -1;
		attribute(m, RTA_PREFSRC, source.bytes, address_bytes(&source));
	}
	if (*r->device && add_device(m, r->device, err) < 0)
		return -1;
	return add_metrics(m, r->metrics, err) < 0 ? -1 : add_hops(m, r->hops, dst.family, err);
}

static int setup_route(const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct route, dst, JSON_STRING), NEEDED(struct route, gateway, JSON_STRING),
		FIELD(struct route, family, JSON_NUMBER), FIELD(struct route, device, JSON_STRING),
		FIELD(struct route, kind, JSON_STRING), FIELD(struct route, table, JSON_NUMBER),
		FIELD(struct route, metric, JSON_NUMBER), FIELD(struct route, source, JSON_STRING),
		FIELD(struct route, metrics, JSON_ARRAY), FIELD(struct route, onlink, JSON_BOOL),
		FIELD(struct route, hops, JSON_ARRAY), FIELD(struct route, gone, JSON_BOOL),
	};
	struct route r = { .device = "", .kind = "", .source = "" };
	struct message m;

	if (json_fields(json, fields, COUNT(fields), &r, err) < 0 ||
	    json_range("table", r.table, 0, UINT32_MAX, err) < 0 ||
	    json_range("metric", r.metric, 0, UINT32_MAX, err) < 0 || route_message(&m, &r, err) < 0)
		return -1;
	if (change(&m) < 0 && !(r.gone && errno == ESRCH))
		return fail(err, errno, "route %.60s via %.60s", r.dst, *r.gateway ? r.gateway : r.device);
	return 0;
}

struct rule {
	const char *source, *dst;
	int64_t family, priority, table;
	bool gone;
};

static int add_prefix(struct message *m, int type, const char *text, uint8_t family, uint8_t *length, struct error *err)
{
	struct address a;

	if (!*text)
		return 0;
	if (parse_address(text, &a, err) < 0)
		return -1;
	if (a.family != family)
		return fail(err, EINVAL, "make a rule for %.60s: the families differ", text);
	*length = a.prefix;
	attribute(m, type, a.bytes, address_bytes(&a));
	return 0;
}

static int setup_rule(const struct json *json, struct error *err)
{
	static const struct field fields[] = {
		NEEDED(struct rule, family, JSON_NUMBER), NEEDED(struct rule, priority, JSON_NUMBER),
		NEEDED(struct rule, table, JSON_NUMBER), FIELD(struct rule, source, JSON_STRING),
		FIELD(struct rule, dst, JSON_STRING), FIELD(struct rule, gone, JSON_BOOL),
	};
	struct rule r = { .source = "", .dst = "" };
	struct message m;
	struct fib_rule_hdr *body;
	uint32_t priority, table;

	if (json_fields(json, fields, COUNT(fields), &r, err) < 0 ||
	    json_range("priority", r.priority, 0, UINT32_MAX, err) < 0 ||
	    json_range("table", r.table, 1, UINT32_MAX, err) < 0)
		return -1;
	priority = (uint32_t)r.priority;
	table = (uint32_t)r.table;
	body = begin(&m, r.gone ? RTM_DELRULE : RTM_NEWRULE, r.gone ? 0 : NLM_F_CREATE | NLM_F_EXCL, sizeof(*body));
	*body = (struct fib_rule_hdr){ .family = r.family == 6 ? AF_INET6 : AF_INET, .action = FR_ACT_TO_TBL,
				       .table = table < 256 ? (uint8_t)table : RT_TABLE_UNSPEC };
	attribute(&m, FRA_PRIORITY, &priority, sizeof(priority));
	attribute(&m, FRA_TABLE, &table, sizeof(table));
	if (add_prefix(&m, FRA_SRC, r.source, body->family, &body->src_len, err) < 0 ||
	    add_prefix(&m, FRA_DST, r.dst, body->family, &body->dst_len, err) < 0)
		return -1;
	if (change(&m) < 0 && errno != (r.gone ? ENOENT : EEXIST))
		return fail(err, errno, "rule %u for table %u", priority, table);
	return 0;
}

int net_remove(const struct json *macs, struct error *err)
{
	uint8_t mac[6];

	if (json_all(macs, JSON_STRING, "removed", err) < 0)
		return -1;
	for (const struct json *m = json_first(macs); m; m = m->next)
		if (parse_mac(m->string, mac, err) < 0 || remove_interface(mac, err) < 0)
			return -1;
	return 0;
}

int net_setup(const struct json *interfaces, const struct json *routes, const struct json *rules, struct error *err)
{
	for (const struct json *i = json_first(interfaces); i; i = i->next)
		if (setup_interface(i, err) < 0)
			return -1;
	for (const struct json *r = json_first(routes); r; r = r->next)
		if (setup_route(r, err) < 0)
			return -1;
	for (const struct json *r = json_first(rules); r; r = r->next)
		if (setup_rule(r, err) < 0)
			return -1;
	return 0;
}

void net_boot(void)
{
	if (set_up(1, true) < 0)	/* lo is always the first */
		debug("bring lo up: %s", strerror(errno));
}

void net_list(struct buffer *result)
{
	static struct links links;
	bool first = true;

	if (list_links(&links) < 0)
		return;
	for (size_t i = 0; i < links.count; i++) {
		const struct link *l = &links.list[i];

		if (l->index == 1)
			continue;
		buffer_format(result, "%s{\"name\":", first ? "" : ",");
		buffer_string(result, l->name);
		buffer_format(result, ",\"rx_bytes\":%llu,\"tx_bytes\":%llu,\"rx_packets\":%llu,\"tx_packets\":%llu,"
			      "\"rx_errors\":%llu,\"tx_errors\":%llu,\"rx_dropped\":%llu,\"tx_dropped\":%llu}",
			      (unsigned long long)l->counters.rx_bytes, (unsigned long long)l->counters.tx_bytes,
			      (unsigned long long)l->counters.rx_packets, (unsigned long long)l->counters.tx_packets,
			      (unsigned long long)l->counters.rx_errors, (unsigned long long)l->counters.tx_errors,
			      (unsigned long long)l->counters.rx_dropped, (unsigned long long)l->counters.tx_dropped);
		first = false;
	}
}
