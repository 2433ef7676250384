/* What a broken or hostile host can send: the decoder of frames, the JSON parser, base64, the ring. */
#include "../json.h"
#include "../ring.h"
#include "../wire.h"
#include "fuzz.h"

#include <string.h>

/* Whatever the pieces, the frames are the same; none is out of bounds, and what is encoded again is what came. */
static size_t decode(const uint8_t *data, size_t size, size_t piece, uint64_t *digest)
{
	static struct decoder decoder;
	static uint8_t again[FRAME_MAX];
	struct frame frame;
	size_t count = 0, room;

	decoder_open(&decoder);
	for (size_t at = 0; at < size; ) {
		uint8_t *to = decoder_space(&decoder, &room);
		size_t n = size - at < piece ? size - at : piece;

		check(room >= FRAME_MAX, "no room for a frame");
		memcpy(to, data + at, n);
		decoder_fill(&decoder, n);
		at += n;
		while (decoder_next(&decoder, &frame)) {
			size_t length = frame_encode(&frame, again);

			check(count || (frame.kind == FRAME_HELLO && frame.stream == HELLO_STREAM), "a frame before HELLO");
			check(frame.length <= PAYLOAD_MAX && length <= FRAME_MAX, "a frame that is too long");
			check(!memcmp(frame.payload - HEADER_BYTES, again, length), "a frame that changed");
			for (size_t i = 0; i < length; i++)
				*digest = *digest * 31 + again[i];
			count++;
		}
	}
	return count;
}

static void walk(const struct json *value, struct buffer *out, int depth)
{
	check(depth <= JSON_DEPTH, "JSON that is nested too deeply");
	if (value->key)
		buffer_string(out, value->key);
	if (value->type == JSON_STRING)
		buffer_string(out, value->string);
	if (value->type == JSON_OBJECT || value->type == JSON_ARRAY)
		for (const struct json *m = value->first; m; m = m->next)
			walk(m, out, depth + 1);
}

static void parse(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct error err = { 0 };
	struct json *values;
	struct buffer out = { 0 };

	memcpy(text, data, size);
	values = json_parse(text, size, &err);
	check(values || err.number, "a refusal without a reason");
	if (values)
		walk(values, &out, 1);
	free(values);
	buffer_free(&out);
	memcpy(text, data, size);
	text[size] = 0;
	free(base64_decode(text, &size, &err));
	free(text);
}

/* The ring against the plainest queue there is. */
static void queue(const uint8_t *data, size_t size)
{
	static uint8_t plain[1 << 20];
	struct ring ring = { 0 };
	size_t from = 0, to = 0, stretch;

	for (size_t i = 0; i + 2 < size && to + 65536 < sizeof(plain); i += 3) {
		size_t n = (size_t)data[i + 1] << 5 | data[i + 2] >> 3;

		if (data[i] & 1) {
			for (size_t j = 0; j < n; j++)
				plain[to + j] = (uint8_t)(to + j + data[i]);
			if (ring_add(&ring, plain + to, n, 65536) == 0)
				to += n;
			else
				check(ring.length + n > 65536, "a ring that refused what fits");
		} else if (ring.length) {
			n %= ring.length + 1;
			ring_drop(&ring, n);
			from += n;
		}
		check(ring.length == to - from, "a ring that lost count");
		for (size_t skip = 0; skip < ring.length; skip += stretch) {
			const uint8_t *bytes = ring_peek(&ring, skip, &stretch);

			check(!memcmp(bytes, plain + from + skip, stretch), "a ring that lost bytes");
		}
	}
	ring_free(&ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t whole = 0, pieces = 0;
	size_t count;

	if (size > 100000)
		return 0;
	count = decode(data, size, FRAME_MAX, &whole);
	check(count == decode(data, size, size ? 1 + data[size - 1] : 1, &pieces), "pieces that change the frames");
	check(whole == pieces, "pieces that change the bytes");
	parse(data, size);
	queue(data, size);
	return 0;
}

static const char *const requests[] = {
	"{\"version\":1,\"session\":\"00112233445566778899aabbccddeeff\"}",
	"{\"id\":7,\"op\":\"process.signal\",\"args\":{\"process\":\"p\",\"signal\":15,\"all\":true}}\n",
	"{\"id\":9223372036854775807,\"op\":\"\\u00fc\\ud83d\\ude00\\n\",\"args\":{\"a\":[1,-2,[[{}]],null,false]}}\n",
	"QUJDREVGRw==", "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "-9223372036854775808",
};

static size_t add_frame(uint8_t *to)
{
	static const uint8_t kinds[] = { FRAME_HELLO, FRAME_HELLO, FRAME_DATA, FRAME_ACK, FRAME_EOF, FRAME_STOP };
	const char *text = requests[next_random() % COUNT(requests)];
	struct frame frame = { .kind = kinds[next_random() % COUNT(kinds)], .stream = next_random() % 8 };

	if (frame.kind == FRAME_HELLO && next_random() % 4)
		frame.stream = HELLO_STREAM;
	frame.offset = next_random() % 3 ? next_random() % 300000 : UINT64_MAX - next_random() % 9;
	if (frame.kind <= FRAME_DATA) {
		frame.length = (uint16_t)strlen(text);
		frame.payload = (const uint8_t *)text;
	}
	return frame_encode(&frame, to);
}

size_t make_input(uint8_t *to)
{
	const char *text = requests[next_random() % COUNT(requests)];
	size_t size = 0;

	if (next_random() % 2) {
		size = strlen(text);
		memcpy(to, text, size);
	}
	for (uint32_t n = next_random() % 12; n; n--)
		size += add_frame(to + size);
	return size;
}
