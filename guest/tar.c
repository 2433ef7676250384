#include "tar.h"

#include <stddef.h>

void (*complain)(const struct error *err);

unsigned tar_checksum(const struct tar_header *header)
{
	const unsigned char *bytes = (const unsigned char *)header;
	unsigned sum = 0;

	for (size_t i = 0; i < sizeof(*header); i++) {
		bool own = i >= offsetof(struct tar_header, checksum) && i < offsetof(struct tar_header, type);

		sum += own ? ' ' : bytes[i];
	}
	return sum;
}
