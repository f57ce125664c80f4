// An order: charges once, and sends one mail, however often it runs.

#include "wasq_task.h"

#include <stdlib.h>
#include <string.h>

static wasq_outcome post(const char *url, const char *body, const char *value) {
    wasq_response response =
        wasq_send((wasq_request){.url = url, .method = "POST", .body = body, .body_len = strlen(body)});
    if (response.error != NULL) return wasq_retry("%s", response.error);
    if (response.status >= 300) return wasq_retry("%s: status %d", response.url, response.status);
    return wasq_success("%s", value != NULL ? value : response.body);
}

static wasq_outcome nothing(void *argument) {
    (void)argument;
    return wasq_success("null");
}

static wasq_outcome charge(void *argument) {
    const wasq_json *params = argument;
    int64_t amount = 0;
    wasq_json_integer(wasq_json_get(params, "amount"), &amount);
    const char *kind = wasq_json_string(wasq_json_get(params, "charge"));
    if (kind != NULL && strcmp(kind, "nested") == 0) return wasq_step("inner", nothing, NULL);
    if (kind != NULL) {
        char *text = calloc(1, (size_t)amount + 1);
        memset(text, 'x', (size_t)amount);
        return wasq_success("{\"receipt\": \"%s\"}", text);
    }
    return post("https://pay.example/charges", wasq_format("{\"amount\": %lld}", (long long)amount), NULL);
}

static wasq_outcome mail(void *argument) {
    return post("https://mail.example/", argument, "true");
}

wasq_outcome wasq_run(const char *text) {
    const wasq_json *params = wasq_json_parse(text);
    const char *kind = wasq_json_string(wasq_json_get(params, "charge"));
    if (kind != NULL && strcmp(kind, "many") == 0) {
        int64_t count = 0;
        wasq_json_integer(wasq_json_get(params, "amount"), &count);
        for (int64_t number = 0; number < count; number++) {
            wasq_outcome done = wasq_step(wasq_format("%lld", (long long)number), nothing, NULL);
            if (done.kind != WASQ_SUCCESS) return done;
        }
        return wasq_success("{\"receipt\": \"many\"}");
    }
    wasq_outcome charged = wasq_step("charge", charge, (void *)params);
    int64_t tries = 1;
    wasq_json_integer(wasq_json_get(params, "tries"), &tries);
    if (charged.kind != WASQ_SUCCESS && tries > 1) charged = wasq_step("charge", charge, (void *)params);
    if (charged.kind != WASQ_SUCCESS) return charged;
    const char *name = wasq_json_string(wasq_json_get(params, "mail"));
    wasq_outcome mailed = wasq_step(name != NULL ? name : "mail", mail, (void *)charged.text);
    return mailed.kind == WASQ_SUCCESS ? charged : mailed;
}
