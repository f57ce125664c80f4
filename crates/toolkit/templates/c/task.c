// The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}.

#include "wasq_task.h"

wasq_outcome wasq_run(const char *params) {
    const char *name = wasq_json_string(wasq_json_get(wasq_json_parse(params), "name"));
    if (name == NULL || *name == '\0') return wasq_reject("params.name: expected a name");
    wasq_log(WASQ_INFO, "greeting %s", name);
    const char *greeting = wasq_format("Hello, %s!", name);
    return wasq_success("{\"greeting\": %s}", wasq_json_quote(greeting));
}
