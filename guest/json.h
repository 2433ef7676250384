/* JSON: a bounded parser that works in place, typed access that refuses what it does not know, a writer. */
#ifndef JSON_H
#define JSON_H

#include "error.h"

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum { JSON_DEPTH = 16, JSON_VALUES = 65536 };

struct json {
	enum json_type type;
	uint32_t count;			/* members of an array or object */
	const char *key;		/* in an object */
	const struct json *next;	/* the next member of the same array or object */
	union {
		bool boolean;
		int64_t number;		/* integers only: nothing here has fractions */
		const char *string;	/* NUL-terminated; has no NUL inside */
		const struct json *first;
	};
};

/* Parse text[0..length); text is changed, strings stay in it; text[length] must be writable.
   Returns an array of values to free(), the root first; NULL with *err = EINVAL or E2BIG. */
struct json *json_parse(char *text, size_t length, struct error *err);

/* What an object may hold. At `offset` of the result stands: JSON_STRING const char *, JSON_NUMBER int64_t,
   JSON_BOOL bool, JSON_ARRAY and JSON_OBJECT const struct json *. What is absent stays as it was. */
struct field {
	const char *name;
	enum json_type type;
	size_t offset;
	bool required;
};

#define FIELD(owner, member, type) { #member, type, offsetof(owner, member), false }
#define NEEDED(owner, member, type) { #member, type, offsetof(owner, member), true }

/* Fill `into` from `object`; a key that is not in `fields`, comes twice or has another type is EINVAL. */
int json_fields(const struct json *object, const struct field *fields, size_t count, void *into, struct error *err);
int json_range(const char *name, int64_t value, int64_t least, int64_t most, struct error *err);
/* An array whose members all have this type? NULL counts as empty. */
int json_all(const struct json *array, enum json_type type, const char *name, struct error *err);

static inline const struct json *json_first(const struct json *array)
{
	return array ? array->first : NULL;
}

/* A growing text. After a failed allocation it stays `failed` and writes nothing more. */
struct buffer {
	char *data;
	size_t length, capacity;
	bool failed;
};

#define BUFFER_MAX (4u << 20)

void buffer_add(struct buffer *buffer, const void *bytes, size_t length);
void buffer_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_string(struct buffer *buffer, const char *string);	/* quoted, escaped; wrong UTF-8 becomes U+FFFD */
void buffer_free(struct buffer *buffer);

/* Decode base64 (padded) into malloc'ed bytes, one more zero byte behind them. */
uint8_t *base64_decode(const char *text, size_t *length, struct error *err);

#endif
