// How many public repositories a GitHub user has.

#include <stdlib.h>
#include <string.h>

#include "wasq_task.h"

static bool is_user_name(const char *user) {
    return *user != '\0' && strspn(user, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") == strlen(user);
}

wasq_outcome wasq_run(const char *text) {
    const wasq_json *params = wasq_json_parse(text);
    const char *user = wasq_json_string(wasq_json_get(params, "user"));
    if (user == NULL) return wasq_reject("params.user: expected a string");
    if (!is_user_name(user)) return wasq_reject("params.user: %.100s is no GitHub user name", wasq_json_quote(user));

    const char *api = getenv("GITHUB_API");
    const char *url = wasq_format("%s/users/%s", api == NULL ? "https://api.github.com" : api, user);
    wasq_response response = wasq_send((wasq_request){.url = url, .timeout_ms = 10000});
    if (response.error != NULL) return wasq_retry("%s", response.error);
    uint32_t seconds = wasq_busy(&response);
    if (seconds > 0) return wasq_retry_after(seconds, "%s: status %d", url, response.status);
    if (response.status == 404) return wasq_reject("GitHub does not know the user %s", user);
    // GitHub reports its rate limit by this status as well.
    if (response.status == 403) return wasq_retry_after(60, "GitHub's rate limit (status 403)");
    if (response.status != 200) return wasq_retry("%s: status %d: %.200s", url, response.status, response.body);

    int64_t repositories;
    const wasq_json *answer = wasq_json_parse(response.body);
    if (!wasq_json_integer(wasq_json_get(answer, "public_repos"), &repositories)) {
        return wasq_retry("%s: the answer has no number public_repos", url);
    }
    if (repositories < 0) wasq_abort("GitHub counts %lld repositories", (long long)repositories);
    wasq_log(WASQ_INFO, "%s has %lld public repositories", user, (long long)repositories);

    const char *result = wasq_format("{\"user\": \"%s\", \"repositories\": %lld}", user, (long long)repositories);
    const char *then = wasq_json_string(wasq_json_get(params, "then"));
    if (then != NULL) {
        wasq_enqueued child = wasq_enqueue(then, result);
        if (child.error != NULL) return wasq_reject("params.then: %s", child.error);
    }
    return wasq_success("%s", result);
}
