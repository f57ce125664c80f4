/* Write tasks for wasq in C: params in, a result out, both JSON.
 *
 *     #include "wasq_task.h"
 *
 *     wasq_outcome wasq_run(const char *params) {
 *         const char *name = wasq_json_string(wasq_json_get(wasq_json_parse(params), "name"));
 *         if (name == NULL) return wasq_reject("params.name: expected a string");
 *         return wasq_success("{\"hello\": %s}", wasq_json_quote(name));
 *     }
 *
 * `wasq build` compiles it together with wasq_task.c.
 *
 * Every run has its own memory, which is dropped after the run: nothing that these functions return needs to
 * be freed. All strings are UTF-8 and end with a NUL. If there is no more memory, the run ends; no function
 * returns NULL for that.
 */
#ifndef WASQ_TASK_H
#define WASQ_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WASQ_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define WASQ_NORETURN __attribute__((noreturn))

/* ---- The task ---- */

/* How a run ended; made by the functions below. */
typedef struct {
    enum { WASQ_SUCCESS, WASQ_RETRY, WASQ_RETRY_AFTER, WASQ_REJECT } kind;
    /* The result as JSON, or the reason. */
    const char *text;
    /* WASQ_RETRY_AFTER: the shortest time to wait. */
    uint32_t seconds;
} wasq_outcome;

/* The task itself, which you write. `params` is JSON text. When it returns, the run is done. Call abort() for
 * a state that is impossible: the message gets another attempt, as after wasq_retry. */
wasq_outcome wasq_run(const char *params);

/* The task succeeded, with this JSON text as its result. */
wasq_outcome wasq_success(const char *json, ...) WASQ_PRINTF(1, 2);
/* A temporary error: another attempt by the task's retry policy, until its attempts are used up. */
wasq_outcome wasq_retry(const char *reason, ...) WASQ_PRINTF(1, 2);
/* A temporary error with a known end, such as a rate limit. */
wasq_outcome wasq_retry_after(uint32_t seconds, const char *reason, ...) WASQ_PRINTF(2, 3);
/* This message can never succeed: wasq moves it to the dead-letter queue, with this reason. */
wasq_outcome wasq_reject(const char *reason, ...) WASQ_PRINTF(1, 2);
/* Ends the run at once, as abort() does, with a reason. */
WASQ_NORETURN void wasq_abort(const char *reason, ...) WASQ_PRINTF(1, 2);

/* ---- HTTP, to the hosts that the task's allow_hosts names ---- */

typedef struct {
    const char *name;
    const char *value;
} wasq_header;

/* A field that is left out (0, NULL) has its default: GET, no headers, no body, the run's own deadline. */
typedef struct {
    const char *url;
    const char *method;
    const wasq_header *headers;
    size_t header_count;
    const void *body;
    size_t body_len;
    uint32_t timeout_ms;
} wasq_request;

typedef struct {
    /* The reason why there is no response; NULL if there is one. */
    const char *error;
    uint16_t status;
    const wasq_header *headers;
    size_t header_count;
    /* The request's URL, without user and password. */
    const char *url;
    /* The whole body, with any bytes, and a NUL after them. */
    const char *body;
    size_t body_len;
} wasq_response;

/* Sends a request and waits for the whole response. Redirects are not followed. */
wasq_response wasq_send(wasq_request request);
/* A GET of a URL. */
wasq_response wasq_get(const char *url);
/* The value of the first header of a name (in lower case), or NULL. */
const char *wasq_header_value(const wasq_response *response, const char *name);
/* The number of seconds that a busy server (status 429 or 503) asks the caller to wait: its retry-after, or
 * 60 if that names no time. 0 for any other status. */
uint32_t wasq_busy(const wasq_response *response);

/* ---- Child tasks, sent when this run has succeeded ---- */

typedef struct {
    /* The child's id, or the reason why there is none; the other one is NULL. */
    const char *id;
    const char *error;
} wasq_enqueued;

/* Enqueues a message for a task; `params` is JSON text. */
wasq_enqueued wasq_enqueue(const char *task, const char *params);
/* Like wasq_enqueue. The child runs no sooner than `delay_seconds` from now (up to 366 days). It gets the id
 * `id`, unless that is NULL. */
wasq_enqueued wasq_enqueue_with(const char *task, const char *params, uint32_t delay_seconds, const char *id);

/* ---- Steps: parts of a run that a later attempt does not execute again ---- */

/* Executes a step, unless an earlier attempt of this message has saved it. Returns wasq_success with the value of the step as its
 * text, or a failure that the task can return as it is.
 *
 * `execute` gets the argument. It returns wasq_success with the value, a JSON text ("null" if there is none), or a failure. The value is stored before this
 * returns. A step that fails is not saved, and may be executed again. Steps run one after the other, and a name is used once in a run.
 * The run can end between the effect of a step and the moment in which its value is stored. So let a step do one thing that is safe to
 * repeat: the header idempotency-key of its requests is the same in every attempt.
 *
 * A step that breaks a limit is a wasq_reject. */
wasq_outcome wasq_step(const char *name, wasq_outcome (*execute)(void *argument), void *argument);

/* ---- Information about this run ---- */

/* The message's id, the same in every attempt. */
const char *wasq_id(void);
/* The name under which the task was called. */
const char *wasq_task(void);
/* The number of this attempt; the first is 1. */
uint32_t wasq_attempt(void);
uint32_t wasq_max_attempts(void);
/* The time at which wasq ends the run, in milliseconds since the Unix epoch. */
uint64_t wasq_deadline(void);
/* The id of the message whose task enqueued this one, or NULL. */
const char *wasq_parent(void);
/* The id at the top of the chain of parents. */
const char *wasq_root(void);
/* The number of parents above this message. */
uint32_t wasq_depth(void);
/* The W3C trace context that came with the message, or NULL. */
const char *wasq_traceparent(void);

/* ---- Log lines; printed lines arrive as well: stdout as info, stderr as warn ---- */

typedef enum { WASQ_TRACE, WASQ_DEBUG, WASQ_INFO, WASQ_WARN, WASQ_ERROR } wasq_level;

void wasq_log(wasq_level level, const char *line, ...) WASQ_PRINTF(2, 3);

/* ---- JSON ---- */

typedef struct wasq_json wasq_json;

/* Reads a JSON text. NULL if it is not JSON, or has more than 512 levels. */
const wasq_json *wasq_json_parse(const char *text);
/* The functions below accept NULL and treat it as a value of another type: a chain needs one check at its
 * end. */

/* A member of an object, or NULL. */
const wasq_json *wasq_json_get(const wasq_json *value, const char *key);
/* An element of an array, or NULL. */
const wasq_json *wasq_json_at(const wasq_json *value, size_t index);
/* How many members or elements there are; 0 for other values. */
size_t wasq_json_count(const wasq_json *value);
/* The key of an object's member, or NULL. */
const char *wasq_json_key(const wasq_json *value, size_t index);
/* A string, or NULL. It ends with a NUL, and can contain others. */
const char *wasq_json_string(const wasq_json *value);
/* The bytes of a string without the NUL at its end; 0 for other values. */
size_t wasq_json_string_bytes(const wasq_json *value);
/* Whether it is an integer of 64 bits; if so, `number` is set. */
bool wasq_json_integer(const wasq_json *value, int64_t *number);
/* Whether it is a number; if so, `number` is set. */
bool wasq_json_number(const wasq_json *value, double *number);
/* Whether it is true or false; if so, `truth` is set. */
bool wasq_json_bool(const wasq_json *value, bool *truth);
/* Whether it is null. */
bool wasq_json_null(const wasq_json *value);

/* A string as JSON text, in quotation marks. */
const char *wasq_json_quote(const char *text);
/* Like sprintf, into new memory. Here, and in every text that is passed to wasq, bytes that are not UTF-8
 * become U+FFFD. */
const char *wasq_format(const char *format, ...) WASQ_PRINTF(1, 2);

#ifdef __cplusplus
}
#endif

#endif
