/* wasq's contract (wasq:task@0.1.2) in C: the component model's canonical ABI, written out for this one world. */

#include "wasq_internal.h"
#include "wasq_task.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define IMPORT(interface, function) \
    __attribute__((import_module("wasq:task/" interface "@0.1.2"), import_name(function))) extern
#define EXPORT(name) __attribute__((export_name(name)))

/* A string or list as the host writes it. */
typedef struct {
    char *data;
    size_t len;
} span;

typedef struct {
    uint8_t some;
    span value;
} optional_span;

/* ---- Memory ---- */

void *wasq_allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return memory;
}

/* The host allocates the values that it passes to the task by this function. One byte more, for the NUL after
 * a string. */
EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)old;
    (void)old_size;
    (void)align; /* malloc aligns for everything. */
    return wasq_allocate(size + 1);
}

static const char *text_of(span span) {
    if (span.len == 0) return "";
    span.data[span.len] = '\0';
    return span.data;
}

size_t wasq_utf8_character(const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    unsigned char first = at[0];
    if (first < 0x80) return 1;
    size_t len = first >= 0xC2 && first < 0xE0 ? 2 : first >= 0xE0 && first < 0xF0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
    /* The limits of the second byte exclude overlong forms, surrogates and characters beyond U+10FFFF. */
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < len; i++, low = 0x80, high = 0xBF) {
        if (at[i] < low || at[i] > high) return 0;
    }
    return len;
}

/* Replaces invalid UTF-8 by U+FFFD: the host accepts only UTF-8, and a response can contain any bytes. */
static const char *as_utf8(const char *text) {
    size_t wrong = 0, len = 0;
    for (size_t bytes; text[len] != '\0'; len += bytes == 0 ? 1 : bytes) {
        bytes = wasq_utf8_character(text + len);
        if (bytes == 0) wrong++;
    }
    if (wrong == 0) return text;
    char *made = wasq_allocate(len + wrong * 2 + 1), *out = made;
    while (*text != '\0') {
        size_t bytes = wasq_utf8_character(text);
        if (bytes == 0) {
            memcpy(out, "\xEF\xBF\xBD", 3);
            out += 3;
            text++;
        } else {
            memcpy(out, text, bytes);
            out += bytes;
            text += bytes;
        }
    }
    *out = '\0';
    return made;
}

static span span_of(const char *text) {
    text = as_utf8(text);
    return (span){(char *)text, strlen(text)};
}

static const char *format_list(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    if (len < 0) abort();
    char *text = wasq_allocate((size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, format, again);
    va_end(again);
    return as_utf8(text);
}

#define FORMAT(text, format)                 \
    va_list arguments;                       \
    va_start(arguments, format);             \
    const char *text = format_list(format, arguments); \
    va_end(arguments)

const char *wasq_format(const char *format, ...) {
    FORMAT(text, format);
    return text;
}

/* ---- The task ---- */

wasq_outcome wasq_success(const char *json, ...) {
    FORMAT(text, json);
    return (wasq_outcome){.kind = WASQ_SUCCESS, .text = text};
}

wasq_outcome wasq_retry(const char *reason, ...) {
    FORMAT(text, reason);
    return (wasq_outcome){.kind = WASQ_RETRY, .text = text};
}

wasq_outcome wasq_retry_after(uint32_t seconds, const char *reason, ...) {
    FORMAT(text, reason);
    return (wasq_outcome){.kind = WASQ_RETRY_AFTER, .text = text, .seconds = seconds};
}

wasq_outcome wasq_reject(const char *reason, ...) {
    FORMAT(text, reason);
    return (wasq_outcome){.kind = WASQ_REJECT, .text = text};
}

WASQ_NORETURN void wasq_abort(const char *reason, ...) {
    FORMAT(text, reason);
    fprintf(stderr, "%s\n", text);
    abort();
}

/* result<string, failure> */
static struct {
    uint8_t failed;
    union {
        span output;
        struct {
            uint8_t kind;
            union {
                span reason;
                struct {
                    uint32_t seconds;
                    span reason;
                } after;
            };
        } failure;
    };
} returned;

EXPORT("run") void *exported_run(char *params, size_t len) {
    wasq_outcome outcome = wasq_run(text_of((span){params, len}));
    fflush(stdout);
    span text = {(char *)outcome.text, strlen(outcome.text)};
    returned.failed = outcome.kind != WASQ_SUCCESS;
    switch (outcome.kind) {
    case WASQ_SUCCESS:
        returned.output = text;
        break;
    case WASQ_RETRY:
        returned.failure.kind = 0;
        returned.failure.reason = text;
        break;
    case WASQ_RETRY_AFTER:
        returned.failure.kind = 1;
        returned.failure.after.seconds = outcome.seconds;
        returned.failure.after.reason = text;
        break;
    case WASQ_REJECT:
        returned.failure.kind = 2;
        returned.failure.reason = text;
        break;
    }
    return &returned;
}

/* ---- HTTP ---- */

typedef struct {
    span name;
    span value;
} header;

/* result<response, http-error> */
typedef struct {
    uint8_t failed;
    union {
        struct {
            uint16_t status;
            struct {
                header *data;
                size_t len;
            } headers;
            span body;
        } response;
        struct {
            uint8_t kind;
            union {
                span text;
                uint64_t limit;
            };
        } error;
    };
} sent;

IMPORT("http", "send")
void host_send(const char *method, size_t method_len, const char *url, size_t url_len, const header *headers,
               size_t header_count, int has_body, const void *body, size_t body_len, int has_timeout, uint32_t timeout_ms,
               sent *result);

static const char *http_error(const char *url, const sent *result) {
    switch (result->error.kind) {
    case 0:
        return wasq_format("%s: denied: %s", url, text_of(result->error.text));
    case 1:
        return wasq_format("%s: not a valid request: %s", url, text_of(result->error.text));
    case 2:
        return wasq_format("%s: no answer in time", url);
    case 3:
        return wasq_format("%s: the answer has more than %llu bytes", url, (unsigned long long)result->error.limit);
    default:
        return wasq_format("%s: %s", url, text_of(result->error.text));
    }
}

/* A URL for messages: without the user and the password in it. In a text that is no URL, everything up to the
 * last @ may be a password. */
static const char *without_credentials(const char *url, int is_url) {
    const char *rest = url + strspn(url, " \t\r\n");
    if (strncasecmp(rest, "https:", 6) == 0) {
        rest += 6;
    } else if (strncasecmp(rest, "http:", 5) == 0) {
        rest += 5;
    } else {
        return url;
    }
    rest += strspn(rest, "/\\");
    size_t len = is_url ? strcspn(rest, "/?#\\") : strlen(rest);
    for (size_t at = len; at > 0; at--) {
        if (rest[at - 1] == '@') return wasq_format("%.*s%s", (int)(rest - url), url, rest + at);
    }
    return url;
}

wasq_response wasq_send(wasq_request request) {
    const char *method = request.method == NULL ? "GET" : as_utf8(request.method);
    request.url = as_utf8(request.url);
    const char *shown = without_credentials(request.url, 1);
    header *headers = wasq_allocate(request.header_count * sizeof(header) + 1);
    for (size_t i = 0; i < request.header_count; i++) {
        const wasq_header *given = &request.headers[i];
        headers[i] = (header){
            .name = span_of(given->name),
            .value = span_of(given->value),
        };
    }
    sent result;
    host_send(method, strlen(method), request.url, strlen(request.url), headers, request.header_count,
              request.body != NULL, request.body, request.body_len, request.timeout_ms != 0, request.timeout_ms, &result);
    if (result.failed) {
        const char *told = result.error.kind == 1 ? without_credentials(request.url, 0) : shown;
        return (wasq_response){.url = told, .error = http_error(told, &result)};
    }
    size_t count = result.response.headers.len;
    wasq_header *received = wasq_allocate(count * sizeof(wasq_header) + 1);
    for (size_t i = 0; i < count; i++) {
        header *from = &result.response.headers.data[i];
        received[i] = (wasq_header){.name = text_of(from->name), .value = text_of(from->value)};
    }
    return (wasq_response){
        .url = shown,
        .status = result.response.status,
        .headers = received,
        .header_count = count,
        .body = text_of(result.response.body),
        .body_len = result.response.body.len,
    };
}

wasq_response wasq_get(const char *url) {
    return wasq_send((wasq_request){.url = url});
}

const char *wasq_header_value(const wasq_response *response, const char *name) {
    for (size_t i = 0; i < response->header_count; i++) {
        if (strcmp(response->headers[i].name, name) == 0) return response->headers[i].value;
    }
    return NULL;
}

uint32_t wasq_busy(const wasq_response *response) {
    if (response->status != 429 && response->status != 503) return 0;
    const char *value = wasq_header_value(response, "retry-after");
    if (value == NULL || *value < '0' || *value > '9') return 60;
    char *end;
    errno = 0;
    unsigned long seconds = strtoul(value, &end, 10);
    if (*end != '\0' || errno != 0) return 60;
    return seconds == 0 ? 1 : (uint32_t)seconds;
}

/* ---- Child tasks ---- */

/* result<string, enqueue-error> */
typedef struct {
    uint8_t failed;
    union {
        span id;
        struct {
            uint8_t kind;
            union {
                span text;
                uint32_t limit;
            };
        } error;
    };
} enqueued;

IMPORT("queue", "enqueue")
void host_enqueue(const char *task, size_t task_len, const char *params, size_t params_len, int has_delay,
                  uint32_t delay_seconds, int has_id, const char *id, size_t id_len, enqueued *result);

wasq_enqueued wasq_enqueue(const char *task, const char *params) {
    return wasq_enqueue_with(task, params, 0, NULL);
}

wasq_enqueued wasq_enqueue_with(const char *task, const char *params, uint32_t delay_seconds, const char *id) {
    enqueued result;
    task = as_utf8(task);
    params = as_utf8(params);
    if (id != NULL) id = as_utf8(id);
    host_enqueue(task, strlen(task), params, strlen(params), delay_seconds != 0, delay_seconds, id != NULL, id,
                 id == NULL ? 0 : strlen(id), &result);
    if (!result.failed) return (wasq_enqueued){.id = text_of(result.id)};
    const char *error;
    switch (result.error.kind) {
    case 0:
        error = wasq_format("enqueue a child: %s", text_of(result.error.text));
        break;
    case 1:
        error = wasq_format("enqueue a child: this run has sent %u, and may send no more", (unsigned)result.error.limit);
        break;
    default:
        error = wasq_format("enqueue a child: it would have more than %u parents above it",
                            (unsigned)result.error.limit);
        break;
    }
    return (wasq_enqueued){.error = error};
}

/* ---- Steps ---- */

/* result<option<string>, step-error>, and result<_, step-error> */
typedef struct {
    uint8_t failed;
    union {
        optional_span value;
        struct {
            uint8_t kind;
            union {
                span text;
                uint32_t limit;
            };
        } error;
    };
} stepped;

IMPORT("steps", "load") void host_load(const char *name, size_t name_len, stepped *result);
IMPORT("steps", "save")
void host_save(const char *name, size_t name_len, const char *value, size_t value_len, stepped *result);
IMPORT("steps", "abandon") void host_abandon(const char *name, size_t name_len);

static wasq_outcome step_failure(const char *name, const stepped *result) {
    switch (result->error.kind) {
    case 0:
        return wasq_reject("%s", text_of(result->error.text));
    case 1:
        return wasq_reject("step \"%s\": this message has saved %u steps, and may save no more", name,
                           (unsigned)result->error.limit);
    default:
        return wasq_retry("%s", text_of(result->error.text));
    }
}

wasq_outcome wasq_step(const char *name, wasq_outcome (*execute)(void *argument), void *argument) {
    stepped result;
    name = as_utf8(name);
    host_load(name, strlen(name), &result);
    if (result.failed) return step_failure(name, &result);
    if (result.value.some) return wasq_success("%s", text_of(result.value.value));
    wasq_outcome outcome = execute(argument);
    if (outcome.kind == WASQ_SUCCESS) {
        host_save(name, strlen(name), outcome.text, strlen(outcome.text), &result);
        if (!result.failed) return outcome;
        outcome = step_failure(name, &result);
    }
    host_abandon(name, strlen(name));
    return outcome;
}

/* ---- Information about this run ---- */

#define CONTEXT_TEXT(function, name)                    \
    IMPORT("context", name) void host_##function(span *result); \
    const char *wasq_##function(void) {                 \
        span result;                                    \
        host_##function(&result);                       \
        return text_of(result);                         \
    }
#define CONTEXT_OPTIONAL(function, name)                         \
    IMPORT("context", name) void host_##function(optional_span *result); \
    const char *wasq_##function(void) {                          \
        optional_span result;                                    \
        host_##function(&result);                                \
        return result.some ? text_of(result.value) : NULL;       \
    }
#define CONTEXT_NUMBER(type, function, name)      \
    IMPORT("context", name) type host_##function(void); \
    type wasq_##function(void) { return host_##function(); }

CONTEXT_TEXT(id, "id")
CONTEXT_TEXT(task, "task")
CONTEXT_NUMBER(uint32_t, attempt, "attempt")
CONTEXT_NUMBER(uint32_t, max_attempts, "max-attempts")
CONTEXT_NUMBER(uint64_t, deadline, "deadline")
CONTEXT_OPTIONAL(parent, "parent")
CONTEXT_TEXT(root, "root")
CONTEXT_NUMBER(uint32_t, depth, "depth")
CONTEXT_OPTIONAL(traceparent, "traceparent")

/* ---- Log ---- */

IMPORT("log", "log") void host_log(int level, const char *message, size_t len);

void wasq_log(wasq_level level, const char *line, ...) {
    FORMAT(text, line);
    host_log((int)level, text, strlen(text));
}
