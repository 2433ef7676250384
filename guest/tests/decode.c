/* The decoder as a filter, for the vectors that C and Python share: bytes from stdin, in pieces of argv[1] bytes;
   for each frame a line "KIND STREAM OFFSET PAYLOAD-IN-HEX" on stdout, and at the end "lost" or "sound". */
#include "../wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void show(const struct frame *frame)
{
	uint8_t again[FRAME_MAX];
	size_t length = frame_encode(frame, again);

	printf("%d %u %llu ", frame->kind, frame->stream, (unsigned long long)frame->offset);
	for (size_t i = HEADER_BYTES; i + 1 < length; i++)
		printf("%02x", again[i]);
	printf("\n");
}

int main(int argc, char **argv)
{
	static struct decoder decoder;
	size_t piece = argc > 1 ? (size_t)atoi(argv[1]) : 1, room;
	struct frame frame;
	ssize_t n;

	decoder_open(&decoder);
	do {
		uint8_t *to = decoder_space(&decoder, &room);

		n = read(STDIN_FILENO, to, piece < room ? piece : room);
		decoder_fill(&decoder, n > 0 ? (size_t)n : 0);
		while (decoder_next(&decoder, &frame))
			show(&frame);
	} while (n > 0);
	printf("%s\n", decoder.lost ? "lost" : "sound");
	return 0;
}
