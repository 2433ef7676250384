/* Devices of a container: nodes, and who may use what. */
#ifndef DEVICE_H
#define DEVICE_H

#include "json.h"

enum { DEVICES_MAX = 64 };

/* Who may use what: of the rules that are about something, the last one says it. */
struct device_rule {
	bool allow;
	char type;				/* 'b', 'c', 'a': all there are, whatever their numbers */
	int64_t major_number, minor_number;	/* -1: any */
	unsigned access;			/* BPF_DEVCG_ACC_… */
};

/* Numbers of disks that are to be devices: those are found, and the targets of the disks are in `targets`, which has
   DEVICES_MAX of room. */
int devices_disks(const struct json *devices, unsigned char *targets, unsigned *count, struct error *err);
/* What every /dev has, in `dev`; all that the guest has with `all`. */
int devices_fill(int dev, bool all, struct error *err);
/* Rules by which those that the host lists may be used, in `to`, which has DEVICES_MAX of room. */
int devices_parse(const struct json *devices, struct device_rule *to, size_t *count, struct error *err);
/* The host's own rules. */
int device_rules_parse(const struct json *rules, struct device_rule *to, size_t *count, struct error *err);
/* Their nodes, beneath `root`; `dir` is a folder of our own. */
int devices_make(int root, const char *dir, const struct json *devices, struct error *err);

#endif
