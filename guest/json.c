#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct parser {
	char *at, *end;
	struct json *values;
	uint32_t used, capacity;
	const char *why;
};

static struct json *parse_value(struct parser *p, int depth);

/* No value begins without one of [ { , : before it: an upper bound that needs no growing array. */
static uint32_t count_values(const char *text, size_t length)
{
	uint32_t count = 1;
	bool quoted = false;

	for (size_t i = 0; i < length; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '[' || c == '{' || c == ',' || c == ':'))
			count++;
	}
	return count;
}

static void skip_space(struct parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\r' || *p->at == '\n'))
		p->at++;
}

static void *refuse(struct parser *p, const char *why)
{
	if (!p->why)
		p->why = why;
	return NULL;
}

static int hex4(const char *s, const char *end, uint32_t *value)
{
	*value = 0;
	if (end - s < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = s[i];
		uint32_t digit;

		if (c >= '0' && c <= '9')
			digit = (uint32_t)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			digit = (uint32_t)((c | 32) - 'a' + 10);
		else
			return -1;
		*value = *value << 4 | digit;
	}
	return 0;
}

static char *put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xC0 | c >> 6);
		*to++ = (char)(0x80 | (c & 0x3F));
	} else if (c < 0x10000) {
		*to++ = (char)(0xE0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 0x3F));
		*to++ = (char)(0x80 | (c & 0x3F));
	} else {
		*to++ = (char)(0xF0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 0x3F));
		*to++ = (char)(0x80 | (c >> 6 & 0x3F));
		*to++ = (char)(0x80 | (c & 0x3F));
	}
	return to;
}

/* p->at stands behind "\u". Returns -1 for a lone surrogate or U+0000. */
static int parse_unicode(struct parser *p, char **to)
{
	uint32_t c, low;

	if (hex4(p->at, p->end, &c) < 0)
		return -1;
	p->at += 4;
	if (c >= 0xD800 && c < 0xDC00) {
		if (p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u' || hex4(p->at + 2, p->end, &low) < 0)
			return -1;
		if (low < 0xDC00 || low > 0xDFFF)
			return -1;
		p->at += 6;
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	}
	if (!c || (c >= 0xD800 && c <= 0xDFFF))
		return -1;
	*to = put_utf8(*to, c);
	return 0;
}

static int parse_escape(struct parser *p, char **to)
{
	static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
	const char *known;

	if (p->at >= p->end || !*p->at)
		return -1;
	if (*p->at == 'u') {
		p->at++;
		return parse_unicode(p, to);
	}
	known = strchr(from, *p->at++);
	if (!known)
		return -1;
	*(*to)++ = into[known - from];
	return 0;
}

/* What stands in the text is never shorter than what it means, so it is written over itself. */
static char *parse_string(struct parser *p)
{
	char *begin, *to;

	if (p->at >= p->end || *p->at != '"')
		return refuse(p, "a string was expected");
	begin = to = ++p->at;
	while (p->at < p->end) {
		char c = *p->at++;

		if (c == '"') {
			*to = 0;
			return begin;
		}
		if ((unsigned char)c < 0x20)
			return refuse(p, "a control character in a string");
		if (c != '\\')
			*to++ = c;
		else if (parse_escape(p, &to) < 0)
			return refuse(p, "a wrong escape in a string");
	}
	return refuse(p, "a string that does not end");
}

static struct json *parse_number(struct parser *p, struct json *value)
{
	bool negative = *p->at == '-';
	uint64_t number = 0, most = (uint64_t)INT64_MAX + negative;
	char *digits = p->at += negative;

	for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) {
		uint64_t digit = (uint64_t)(*p->at - '0');

		if (number > (most - digit) / 10)
			return refuse(p, "a number that is too large");
		number = number * 10 + digit;
	}
	if (p->at == digits || (*digits == '0' && p->at - digits > 1))
		return refuse(p, "a wrong number");
	if (p->at < p->end && (*p->at == '.' || (*p->at | 32) == 'e'))
		return refuse(p, "a number that is no integer");
	value->type = JSON_NUMBER;
	value->number = negative ? (int64_t)(0 - number) : (int64_t)number;
	return value;
}

static struct json *parse_word(struct parser *p, struct json *value)
{
	static const struct { const char *word; enum json_type type; bool boolean; } words[] = {
		{ "true", JSON_BOOL, true }, { "false", JSON_BOOL, false }, { "null", JSON_NULL, false },
	};

	for (size_t i = 0; i < COUNT(words); i++) {
		size_t length = strlen(words[i].word);

		if ((size_t)(p->end - p->at) < length || memcmp(p->at, words[i].word, length))
			continue;
		p->at += length;
		value->type = words[i].type;
		value->boolean = words[i].boolean;
		return value;
	}
	return refuse(p, "a value was expected");
}

static const char *parse_key(struct parser *p)
{
	const char *key = parse_string(p);

	skip_space(p);
	if (key && (p->at >= p->end || *p->at++ != ':'))
		return refuse(p, "a colon was expected");
	return key;
}

static struct json *parse_members(struct parser *p, struct json *value, int depth)
{
	char close = *p->at++ == '{' ? '}' : ']';
	const struct json **link = &value->first;

	value->type = close == '}' ? JSON_OBJECT : JSON_ARRAY;
	value->first = NULL;
	skip_space(p);
	if (p->at < p->end && *p->at == close) {
		p->at++;
		return value;
	}
	for (;;) {
		const char *key = NULL;
		struct json *member;

		skip_space(p);
		if (close == '}' && !(key = parse_key(p)))
			return NULL;
		member = parse_value(p, depth + 1);
		if (!member)
			return NULL;
		member->key = key;
		*link = member;
		link = &member->next;
		value->count++;
		skip_space(p);
		if (p->at >= p->end || (*p->at != ',' && *p->at != close))
			return refuse(p, "a comma or a closing bracket was expected");
		if (*p->at++ == close)
			return value;
	}
}

static struct json *parse_value(struct parser *p, int depth)
{
	struct json *value;

	skip_space(p);
	if (depth > JSON_DEPTH)
		return refuse(p, "nested too deeply");
	if (p->at >= p->end || p->used >= p->capacity)
		return refuse(p, "a value was expected");
	value = &p->values[p->used++];
	if (*p->at == '{' || *p->at == '[')
		return parse_members(p, value, depth);
	if (*p->at == '"') {
		value->type = JSON_STRING;
		value->string = parse_string(p);
		return value->string ? value : NULL;
	}
	if (*p->at == '-' || (*p->at >= '0' && *p->at <= '9'))
		return parse_number(p, value);
	return parse_word(p, value);
}

struct json *json_parse(char *text, size_t length, struct error *err)
{
	struct parser p = { .at = text, .end = text + length, .capacity = count_values(text, length) };

	if (p.capacity > JSON_VALUES) {
		fail(err, E2BIG, "read JSON of %u values", p.capacity);
		return NULL;
	}
	p.values = calloc(p.capacity, sizeof(*p.values));
	if (!p.values) {
		fail(err, ENOMEM, "read JSON of %u values", p.capacity);
		return NULL;
	}
	if (parse_value(&p, 1)) {
		skip_space(&p);
		if (p.at == p.end)
			return p.values;
		p.why = "something follows the value";
	}
	fail(err, EINVAL, "read JSON at byte %zu: %s", (size_t)(p.at - text), p.why);
	free(p.values);
	return NULL;
}

static const struct field *find_field(const struct field *fields, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(fields[i].name, name))
			return &fields[i];
	return NULL;
}

static void store(const struct json *value, void *at)
{
	switch (value->type) {
	case JSON_BOOL:
		*(bool *)at = value->boolean;
		break;
	case JSON_NUMBER:
		*(int64_t *)at = value->number;
		break;
	case JSON_STRING:
		*(const char **)at = value->string;
		break;
	default:
		*(const struct json **)at = value;
	}
}

int json_fields(const struct json *object, const struct field *fields, size_t count, void *into, struct error *err)
{
	static const char *const names[] = { "null", "a boolean", "an integer", "a string", "an array", "an object" };
	uint64_t seen = 0;

	if (!object || object->type != JSON_OBJECT)
		return fail(err, EINVAL, "read arguments: an object was expected");
	for (const struct json *m = object->first; m; m = m->next) {
		const struct field *field = find_field(fields, count, m->key);

		if (!field)
			return fail(err, EINVAL, "read arguments: unknown key '%.64s'", m->key);
		if (seen & 1ull << (field - fields))
			return fail(err, EINVAL, "read arguments: '%s' comes twice", field->name);
		if (m->type != field->type)
			return fail(err, EINVAL, "read arguments: '%s' must be %s", field->name, names[field->type]);
		seen |= 1ull << (field - fields);
		store(m, (char *)into + field->offset);
	}
	for (size_t i = 0; i < count; i++)
		if (fields[i].required && !(seen & 1ull << i))
			return fail(err, EINVAL, "read arguments: '%s' is missing", fields[i].name);
	return 0;
}

int json_range(const char *name, int64_t value, int64_t least, int64_t most, struct error *err)
{
	if (value < least || value > most)
		return fail(err, EINVAL, "read arguments: %s %lld is outside %lld..%lld", name, (long long)value,
			    (long long)least, (long long)most);
	return 0;
}

int json_all(const struct json *array, enum json_type type, const char *name, struct error *err)
{
	for (const struct json *m = json_first(array); m; m = m->next)
		if (m->type != type)
			return fail(err, EINVAL, "read arguments: '%s' holds a value of a wrong type", name);
	return 0;
}

static bool buffer_reserve(struct buffer *buffer, size_t more)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 256;
	char *data;

	if (buffer->failed || more > BUFFER_MAX - buffer->length) {
		buffer->failed = true;
		return false;
	}
	while (capacity < buffer->length + more)
		capacity *= 2;
	if (capacity == buffer->capacity)
		return true;
	data = realloc(buffer->data, capacity);
	if (!data) {
		buffer->failed = true;
		return false;
	}
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t length)
{
	if (!length || !buffer_reserve(buffer, length))
		return;
	memcpy(buffer->data + buffer->length, bytes, length);
	buffer->length += length;
}

void buffer_format(struct buffer *buffer, const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(text))
		buffer->failed = true;
	else
		buffer_add(buffer, text, (size_t)length);
}

/* Length of the UTF-8 sequence at s, 0 if it is none. Stops at a NUL: continuation bytes are never 0. */
static size_t utf8_length(const unsigned char *s)
{
	size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 :
			s[0] >= 0xF0 && s[0] < 0xF5 ? 4 : 0;

	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	if (length == 3 && ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)))
		return 0;
	if (length == 4 && ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)))
		return 0;
	return length;
}

void buffer_string(struct buffer *buffer, const char *string)
{
	const unsigned char *s = (const unsigned char *)string;

	buffer_add(buffer, "\"", 1);
	while (*s) {
		size_t length = utf8_length(s);

		if (*s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7F)
			buffer_format(buffer, "\\u%04x", *s);
		else if (length)
			buffer_add(buffer, s, length);
		else
			buffer_add(buffer, "\xEF\xBF\xBD", 3);
		s += length ? length : 1;
	}
	buffer_add(buffer, "\"", 1);
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){ 0 };
}

static int base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

uint8_t *base64_decode(const char *text, size_t *length, struct error *err)
{
	size_t n = strlen(text), padding = 0, out = 0;
	uint8_t *bytes;

	if (n % 4) {
		fail(err, EINVAL, "read base64 of %zu characters", n);
		return NULL;
	}
	while (n && padding < 2 && text[n - 1 - padding] == '=')
		padding++;
	bytes = malloc(n / 4 * 3 + 1);
	if (!bytes) {
		fail(err, ENOMEM, "read base64 of %zu characters", n);
		return NULL;
	}
	for (size_t i = 0; i < n; i += 4) {
		uint32_t group = 0;
		size_t digits = i + 4 == n ? 4 - padding : 4;

		for (size_t j = 0; j < 4; j++) {
			int digit = j < digits ? base64_digit(text[i + j]) : 0;

			if (digit < 0) {
				free(bytes);
				fail(err, EINVAL, "read base64 at character %zu", i + j);
				return NULL;
			}
			group = group << 6 | (uint32_t)digit;
		}
		for (size_t j = 0; j + 1 < digits; j++)
			bytes[out++] = (uint8_t)(group >> (16 - 8 * j));
	}
	bytes[out] = 0;
	*length = out;
	return bytes;
}
