/* A reader of JSON (RFC 8259), and as much of a writer as a task needs. */

#include "wasq_internal.h"
#include "wasq_task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS_MAX = 512 };

typedef enum { J_NULL, J_BOOL, J_NUMBER, J_STRING, J_ARRAY, J_OBJECT } kind;

struct wasq_json {
    kind kind;
    bool truth;
    /* A string, or a number as it is written in the text. */
    const char *text;
    /* The bytes of a string. */
    size_t bytes;
    /* The elements of an array, or the members of an object with their keys. */
    size_t count;
    const char **keys;
    wasq_json *values;
};

typedef struct {
    const char *at;
    int levels;
} reader;

static void skip_space(reader *reader) {
    while (*reader->at != '\0' && strchr(" \t\r\n", *reader->at) != NULL) reader->at++;
}

static bool take(reader *reader, const char *word) {
    size_t len = strlen(word);
    if (strncmp(reader->at, word, len) != 0) return false;
    reader->at += len;
    return true;
}

static bool read_value(reader *reader, wasq_json *value);

static bool read_hex(reader *reader, uint32_t *unit) {
    *unit = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        char c = *reader->at;
        uint32_t digit;
        if (c >= '0' && c <= '9') digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f') digit = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') digit = (uint32_t)(c - 'A' + 10);
        else return false;
        *unit = *unit << 4 | digit;
    }
    return true;
}

/* Reads an escape from after its "\u". Half a surrogate pair becomes U+FFFD. */
static bool read_escaped(reader *reader, char **to) {
    uint32_t code;
    if (!read_hex(reader, &code)) return false;
    if (code >= 0xD800 && code < 0xDC00 && reader->at[0] == '\\' && reader->at[1] == 'u') {
        const char *before = reader->at;
        uint32_t low;
        reader->at += 2;
        if (!read_hex(reader, &low)) return false;
        if (low >= 0xDC00 && low < 0xE000) code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        else reader->at = before;
    }
    if (code >= 0xD800 && code < 0xE000) code = 0xFFFD;
    char *out = *to;
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    *to = out;
    return true;
}

static bool read_string(reader *reader, const char **string, size_t *bytes) {
    if (*reader->at++ != '"') return false;
    const char *end = reader->at;
    while (*end != '"') {
        if ((unsigned char)*end < 0x20) return false; /* A NUL, the end of the text, as well. */
        if (*end == '\\' && *++end == '\0') return false;
        end++;
    }
    /* An escape is never shorter than the character that it means. */
    char *out = wasq_allocate((size_t)(end - reader->at) + 1);
    *string = out;
    while (*reader->at != '"') {
        char c = *reader->at++;
        if (c != '\\') {
            *out++ = c;
            continue;
        }
        static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        char escape = *reader->at++;
        const char *known = strchr(escapes, escape);
        if (known != NULL) *out++ = meanings[known - escapes];
        else if (escape != 'u' || !read_escaped(reader, &out)) return false;
    }
    *out = '\0';
    *bytes = (size_t)(out - *string);
    reader->at++;
    return true;
}

static bool digits(const char **at) {
    const char *from = *at;
    while (**at >= '0' && **at <= '9') (*at)++;
    return *at > from;
}

static bool read_number(reader *reader, const char **number) {
    const char *at = reader->at;
    if (*at == '-') at++;
    if (*at == '0') at++;
    else if (!digits(&at)) return false;
    if (*at == '.' && (at++, !digits(&at))) return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        if (!digits(&at)) return false;
    }
    size_t len = (size_t)(at - reader->at);
    char *text = wasq_allocate(len + 1);
    memcpy(text, reader->at, len);
    text[len] = '\0';
    *number = text;
    reader->at = at;
    return true;
}

/* Reads an array or an object from after its opening bracket. */
static bool read_members(reader *reader, wasq_json *value, char end) {
    if (++reader->levels > LEVELS_MAX) return false;
    size_t room = 0;
    skip_space(reader);
    if (*reader->at == end) goto done;
    for (;;) {
        if (value->count == room) {
            room = room == 0 ? 4 : room * 2;
            value->values = realloc(value->values, room * sizeof *value->values);
            value->keys = realloc(value->keys, room * sizeof *value->keys);
            if (value->values == NULL || value->keys == NULL) wasq_abort("out of memory");
        }
        const char **key = &value->keys[value->count];
        *key = NULL;
        skip_space(reader);
        if (value->kind == J_OBJECT) {
            size_t bytes;
            if (!read_string(reader, key, &bytes)) return false;
            skip_space(reader);
            if (*reader->at++ != ':') return false;
        }
        if (!read_value(reader, &value->values[value->count])) return false;
        value->count++;
        skip_space(reader);
        if (*reader->at == end) goto done;
        if (*reader->at++ != ',') return false;
    }
done:
    reader->at++;
    reader->levels--;
    return true;
}

static bool read_value(reader *reader, wasq_json *value) {
    *value = (wasq_json){.kind = J_NULL};
    skip_space(reader);
    switch (*reader->at) {
    case '{':
        reader->at++;
        value->kind = J_OBJECT;
        return read_members(reader, value, '}');
    case '[':
        reader->at++;
        value->kind = J_ARRAY;
        return read_members(reader, value, ']');
    case '"':
        value->kind = J_STRING;
        return read_string(reader, &value->text, &value->bytes);
    case 't':
        value->kind = J_BOOL;
        value->truth = true;
        return take(reader, "true");
    case 'f':
        value->kind = J_BOOL;
        return take(reader, "false");
    case 'n':
        return take(reader, "null");
    default:
        value->kind = J_NUMBER;
        return read_number(reader, &value->text);
    }
}

/* A response can contain any bytes. */
static bool is_utf8(const char *text) {
    while (*text != '\0') {
        size_t bytes = wasq_utf8_character(text);
        if (bytes == 0) return false;
        text += bytes;
    }
    return true;
}

const wasq_json *wasq_json_parse(const char *text) {
    static const char mark[] = "\xEF\xBB\xBF"; /* The byte order mark, which some servers send. */
    if (strncmp(text, mark, sizeof mark - 1) == 0) text += sizeof mark - 1;
    reader reader = {.at = text};
    wasq_json *value = wasq_allocate(sizeof *value);
    if (!is_utf8(text) || !read_value(&reader, value)) return NULL;
    skip_space(&reader);
    return *reader.at == '\0' ? value : NULL;
}

const wasq_json *wasq_json_get(const wasq_json *value, const char *key) {
    if (value == NULL || value->kind != J_OBJECT) return NULL;
    /* If a key occurs twice, the last one counts. */
    for (size_t i = value->count; i > 0; i--) {
        if (strcmp(value->keys[i - 1], key) == 0) return &value->values[i - 1];
    }
    return NULL;
}

const wasq_json *wasq_json_at(const wasq_json *value, size_t index) {
    return index < wasq_json_count(value) ? &value->values[index] : NULL;
}

size_t wasq_json_count(const wasq_json *value) {
    return value == NULL ? 0 : value->count;
}

const char *wasq_json_key(const wasq_json *value, size_t index) {
    return index < wasq_json_count(value) ? value->keys[index] : NULL;
}

const char *wasq_json_string(const wasq_json *value) {
    return value != NULL && value->kind == J_STRING ? value->text : NULL;
}

size_t wasq_json_string_bytes(const wasq_json *value) {
    return value != NULL && value->kind == J_STRING ? value->bytes : 0;
}

bool wasq_json_integer(const wasq_json *value, int64_t *number) {
    if (value == NULL || value->kind != J_NUMBER) return false;
    char *end;
    errno = 0;
    long long parsed = strtoll(value->text, &end, 10);
    if (errno != 0 || *end != '\0') return false;
    *number = parsed;
    return true;
}

bool wasq_json_number(const wasq_json *value, double *number) {
    if (value == NULL || value->kind != J_NUMBER) return false;
    *number = strtod(value->text, NULL);
    return true;
}

bool wasq_json_bool(const wasq_json *value, bool *truth) {
    if (value == NULL || value->kind != J_BOOL) return false;
    *truth = value->truth;
    return true;
}

bool wasq_json_null(const wasq_json *value) {
    return value != NULL && value->kind == J_NULL;
}

const char *wasq_json_quote(const char *text) {
    /* At worst, each byte becomes six. */
    char *quoted = wasq_allocate(strlen(text) * 6 + 3), *out = quoted;
    *out++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            *out++ = '\\';
            *out++ = (char)c;
        } else if (c < 0x20) {
            static const char hex[] = "0123456789abcdef";
            memcpy(out, "\\u00", 4);
            out[4] = hex[c >> 4];
            out[5] = hex[c & 15];
            out += 6;
        } else {
            *out++ = (char)c;
        }
    }
    memcpy(out, "\"", 2);
    return quoted;
}
