/* Devices of a container: nodes, and who may use what. */
#ifndef DEVICE_H
#define DEVICE_H

#include "json.h"

enum { DEVICES_MAX = 64 };

struct device {
	bool block;
	uint32_t major_number, minor_number;
};

/* What every /dev has, in `dev`; all that the guest has with `all`. */
int devices_fill(int dev, bool all, struct error *err);
/* The numbers of those that the host lists, in `to`, which has DEVICES_MAX of room. */
int devices_parse(const struct json *devices, struct device *to, size_t *count, struct error *err);
/* Their nodes, beneath `root`; `dir` is a folder of our own. */
int devices_make(int root, const char *dir, const struct json *devices, struct error *err);

#endif
