// The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}.

#include "wasq_task.hpp"

wasq::result run(const wasq::json &params) {
    auto name = params["name"].string();
    if (!name || name->empty()) return wasq::reject("params.name: expected a name");
    wasq::log(WASQ_INFO, "greeting " + *name);
    return wasq::object({{"greeting", "Hello, " + *name + "!"}});
}
