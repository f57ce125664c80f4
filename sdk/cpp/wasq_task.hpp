// Write tasks for wasq in C++23: params in, a result out, both JSON.
//
//     #include "wasq_task.hpp"
//
//     wasq::result run(const wasq::json &params) {
//         auto name = params["name"].string();
//         if (!name) return wasq::reject("params.name: expected a string");
//         return wasq::object({{"hello", *name}});
//     }
//
// `wasq build` compiles it. WebAssembly from zig has no exceptions, so errors are values: every function that
// can fail returns a std::expected. Its error is a wasq::failure, which a task can return as it is.
//
// Every run has its own memory, which is dropped after the run.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <initializer_list>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "wasq_task.h"

namespace wasq {

// ---- Failures ----

// How a task says that it did not succeed.
struct failure {
    enum class kind { retry, retry_after, reject } kind;
    std::string reason;
    // retry_after: the shortest time to wait.
    std::uint32_t seconds = 0;
};

// A temporary error: another attempt by the task's retry policy, until its attempts are used up.
inline std::unexpected<failure> retry(std::string reason) {
    return std::unexpected(failure{failure::kind::retry, std::move(reason)});
}

// A temporary error with a known end, such as a rate limit: the message gets another attempt, no sooner than
// after this number of seconds.
inline std::unexpected<failure> retry_after(std::uint32_t seconds, std::string reason) {
    return std::unexpected(failure{failure::kind::retry_after, std::move(reason), seconds});
}

// This message can never succeed: wasq moves it to the dead-letter queue, with this reason.
inline std::unexpected<failure> reject(std::string reason) {
    return std::unexpected(failure{failure::kind::reject, std::move(reason)});
}

// Ends the run at once, as std::abort does, with a reason.
[[noreturn]] inline void abort(const std::string &reason) {
    wasq_abort("%s", reason.c_str());
}

// ---- JSON ----

// A value that was read from a JSON text. A missing value is a value as well: it has no type and is empty.
class json {
public:
    // Reads a JSON text; std::nullopt if it is not JSON.
    static std::optional<json> parse(const std::string &text) {
        const wasq_json *value = wasq_json_parse(text.c_str());
        return value == nullptr ? std::nullopt : std::optional(json(value));
    }

    // A member of an object.
    json operator[](const std::string &key) const { return json(wasq_json_get(value, key.c_str())); }
    // An element of an array.
    json operator[](std::size_t index) const { return json(wasq_json_at(value, index)); }
    // How many members or elements there are.
    std::size_t size() const { return wasq_json_count(value); }
    // Whether the value exists; a JSON null exists.
    explicit operator bool() const { return value != nullptr; }

    std::optional<std::string> string() const {
        const char *text = wasq_json_string(value);
        if (text == nullptr) return std::nullopt;
        return std::optional<std::string>(std::in_place, text, wasq_json_string_bytes(value));
    }
    std::optional<std::int64_t> integer() const {
        std::int64_t number;
        return wasq_json_integer(value, &number) ? std::optional(number) : std::nullopt;
    }
    std::optional<double> number() const {
        double number;
        return wasq_json_number(value, &number) ? std::optional(number) : std::nullopt;
    }
    std::optional<bool> boolean() const {
        bool truth;
        return wasq_json_bool(value, &truth) ? std::optional(truth) : std::nullopt;
    }

private:
    explicit json(const wasq_json *value) : value(value) {}
    const wasq_json *value;
};

// A string as JSON text, in quotation marks.
inline std::string quote(const std::string &text) {
    // C's strings end at a NUL, so each part between two of them is quoted by itself.
    std::string written = "\"";
    for (std::size_t from = 0;; written += "\\u0000") {
        const std::string part = wasq_json_quote(text.c_str() + from);
        written.append(part, 1, part.size() - 2);
        from = text.find('\0', from);
        if (from++ == std::string::npos) return written + "\"";
    }
}

// JSON text that is being built: from a string, a number, a boolean, nullptr, an optional of these, a vector or
// another range of these, a map, or from the result of object() or array(). Numbers that are not finite become null.
class text {
public:
    text(const std::string &value) : written(quote(value)) {}
    text(std::string_view value) : written(quote(std::string(value))) {}
    text(const char *value) : written(quote(value)) {}
    text(std::nullptr_t) : written("null") {}
    template <std::same_as<bool> Bool> text(Bool value) : written(value ? "true" : "false") {}
    template <std::integral Integer>
        requires(!std::same_as<Integer, bool> && !std::same_as<Integer, char>)
    text(Integer value) : written(std::to_string(value)) {}
    template <std::floating_point Float>
    text(Float value) : written(std::isfinite(value) ? wasq_format("%.17g", static_cast<double>(value)) : "null") {}
    template <typename Value> text(const std::optional<Value> &value) : text(value ? text(*value) : text(nullptr)) {}
    template <std::ranges::input_range Range>
        requires(!std::convertible_to<const Range &, std::string_view>)
    text(const Range &values) {
        constexpr bool members = requires(const Range &map) { map.begin()->first; map.begin()->second; };
        for (const std::ranges::range_value_t<Range> &value : values) {
            written += written.empty() ? (members ? "{" : "[") : ", ";
            if constexpr (members) written += quote(std::string(value.first)) + ": " + text(value.second).str();
            else written += text(value).str();
        }
        if (written.empty()) written = members ? "{" : "[";
        written += members ? "}" : "]";
    }
    // Takes a text that is JSON already.
    static text raw(std::string json) {
        text made(nullptr);
        made.written = std::move(json);
        return made;
    }
    const std::string &str() const { return written; }

private:
    std::string written;
};

inline text object(std::initializer_list<std::pair<const char *, text>> members) {
    std::string written = "{";
    for (const auto &[key, value] : members) {
        if (written.size() > 1) written += ", ";
        written += quote(key) + ": " + value.str();
    }
    return text::raw(written + "}");
}

inline text array(std::initializer_list<text> elements) {
    return text(std::span<const text>(elements.begin(), elements.size()));
}

inline text array(std::span<const text> elements) {
    return text(elements);
}

// ---- HTTP, to the hosts that the task's allow_hosts names ----

struct request {
    std::string url;
    std::string method = "GET";
    std::vector<std::pair<std::string, std::string>> headers = {};
    std::optional<std::string> body = std::nullopt;
    // How long to wait for the whole response; the run's own deadline holds as well.
    std::optional<std::uint32_t> timeout_ms = std::nullopt;
};

// A response, whatever its status. Redirects are not followed.
struct response {
    // Without user and password.
    std::string url;
    std::uint16_t status;
    // Names in lower case, in the order in which they came.
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;

    // The first header of a name, in lower case.
    std::optional<std::string> header(std::string_view name) const {
        for (const auto &[found, value] : headers) {
            if (found == name) return value;
        }
        return std::nullopt;
    }

    // The body of a response whose status is 2xx, read as JSON. For a busy server (status 429 or 503) the
    // error is retry_after, with the seconds of its retry-after, or 60 if that names no time. For any other
    // status the error is retry.
    std::expected<json, failure> success() const {
        if (busy > 0) return retry_after(busy, url + ": status " + std::to_string(status));
        if (status < 200 || status >= 300) {
            return retry(url + ": status " + std::to_string(status) + ": " + body.substr(0, 200));
        }
        auto value = json::parse(body);
        if (!value) return retry(url + ": the answer is not JSON");
        return *value;
    }

    // The number of seconds that the server asks the caller to wait; 0 if it does not ask.
    std::uint32_t busy;
};

// Sends a request and waits for the whole response. If there is none, the error is retry, with the reason.
inline std::expected<response, failure> send(const request &request) {
    std::vector<wasq_header> headers;
    for (const auto &[name, value] : request.headers) headers.push_back({name.c_str(), value.c_str()});
    wasq_request sent = {};
    sent.url = request.url.c_str();
    sent.method = request.method.c_str();
    sent.headers = headers.data();
    sent.header_count = headers.size();
    sent.body = request.body ? request.body->data() : nullptr;
    sent.body_len = request.body ? request.body->size() : 0;
    sent.timeout_ms = request.timeout_ms.value_or(0);
    wasq_response got = wasq_send(sent);
    if (got.error != nullptr) return retry(got.error);
    response response = {got.url, got.status, {}, std::string(got.body, got.body_len), wasq_busy(&got)};
    for (const auto &header : std::span(got.headers, got.header_count)) {
        response.headers.emplace_back(header.name, header.value);
    }
    return response;
}

// A GET of a URL.
inline std::expected<response, failure> get(std::string url) {
    return send({.url = std::move(url)});
}

// ---- Child tasks, sent when this run has succeeded ----

struct enqueue_options {
    // The shortest time from now until the child runs; up to 366 days.
    std::uint32_t delay_seconds = 0;
    // Without an id, one is derived from the parent's, so that a parent that runs twice sends the same id.
    std::optional<std::string> id = std::nullopt;
};

// Enqueues a message for a task, and returns its id. If wasq does not accept it, the error is reject, with
// the reason.
inline std::expected<std::string, failure> enqueue(const std::string &task, const text &params,
                                                   const enqueue_options &options = {}) {
    wasq_enqueued child = wasq_enqueue_with(task.c_str(), params.str().c_str(), options.delay_seconds,
                                            options.id ? options.id->c_str() : nullptr);
    if (child.error != nullptr) return reject(child.error);
    return child.id;
}

// ---- Information about this run: wasq_id(), wasq_attempt() and so on, from wasq_task.h ----

// A value of the task's settings, from their table [env].
inline std::optional<std::string> env(const std::string &name) {
    const char *value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// ---- Log; printed lines arrive as well: stdout as info, stderr as warn ----

inline void log(wasq_level level, const std::string &line) {
    wasq_log(level, "%s", line.c_str());
}

// ---- The task ----

using result = std::expected<text, failure>;

namespace detail {

inline wasq_outcome outcome(const result &result) {
    if (result) return wasq_success("%s", result->str().c_str());
    const auto &failure = result.error();
    switch (failure.kind) {
    case failure::kind::retry_after:
        return wasq_retry_after(failure.seconds, "%s", failure.reason.c_str());
    case failure::kind::reject:
        return wasq_reject("%s", failure.reason.c_str());
    default:
        return wasq_retry("%s", failure.reason.c_str());
    }
}

} // namespace detail

} // namespace wasq

namespace wasq {

// ---- Steps: parts of a run that a later attempt does not execute again ----

// Executes a step, unless an earlier attempt of this message has saved it. Returns the value of the step.
//
//     auto receipt = wasq::step("charge", [&]() -> wasq::result { ... return wasq::object({{"receipt", id}}); });
//     if (!receipt) return std::unexpected(receipt.error());
//
// The value is stored before this returns. A step that fails is not saved, and may be executed again. Steps run one after the other, and
// a name is used once in a run. The run can end between the effect of a step and the moment in which its value is stored. So let a step
// do one thing that is safe to repeat: the header idempotency-key of its requests is the same in every attempt.
//
// If the step breaks a limit, the error is reject. A step without a value returns nullptr.
template <std::invocable Execute>
    requires std::convertible_to<std::invoke_result_t<Execute>, result>
std::expected<json, failure> step(const std::string &name, Execute &&execute) {
    auto call = [&] { return detail::outcome(execute()); };
    wasq_outcome outcome =
        wasq_step(name.c_str(), [](void *argument) { return (*static_cast<decltype(call) *>(argument))(); }, &call);
    switch (outcome.kind) {
    case wasq_outcome::WASQ_SUCCESS:
        if (auto value = json::parse(outcome.text)) return *value;
        return reject("step \"" + name + "\": its value has more than 512 levels");
    case wasq_outcome::WASQ_RETRY_AFTER:
        return retry_after(outcome.seconds, outcome.text);
    case wasq_outcome::WASQ_REJECT:
        return reject(outcome.text);
    default:
        return retry(outcome.text);
    }
}

} // namespace wasq

// The task itself, which you write.
wasq::result run(const wasq::json &params);

extern "C" inline __attribute__((used)) wasq_outcome wasq_run(const char *params) {
    auto value = wasq::json::parse(params);
    if (!value) return wasq_reject("params: not JSON");
    return wasq::detail::outcome(run(*value));
}
