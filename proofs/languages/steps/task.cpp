// An order: charges once, and sends one mail, however often it runs.

#include "wasq_task.hpp"

#include <string>

static wasq::result post(const std::string &url, const wasq::text &body) {
    auto response = wasq::send({.url = url, .method = "POST", .body = body.str()});
    if (!response) return std::unexpected(response.error());
    if (response->status >= 300) return wasq::retry(response->url + ": status " + std::to_string(response->status));
    return wasq::text::raw(response->body);
}

static wasq::result nothing() {
    return nullptr;
}

wasq::result run(const wasq::json &params) {
    if (params["charge"].string() == "many") {
        for (std::int64_t number = 0; number < params["amount"].integer().value_or(0); number++) {
            auto done = wasq::step(std::to_string(number), nothing);
            if (!done) return std::unexpected(done.error());
        }
        return wasq::object({{"receipt", "many"}});
    }
    auto charge = [&]() -> wasq::result {
        const auto amount = params["amount"].integer().value_or(0);
        if (params["charge"].string() == "nested") {
            auto inner = wasq::step("inner", nothing);
            if (!inner) return std::unexpected(inner.error());
            return nullptr;
        }
        if (params["charge"]) return wasq::object({{"receipt", std::string(static_cast<std::size_t>(amount), 'x')}});
        return post("https://pay.example/charges", wasq::object({{"amount", amount}}));
    };
    auto charged = wasq::step("charge", charge);
    if (!charged && params["tries"].integer().value_or(1) > 1) charged = wasq::step("charge", charge);
    if (!charged) return std::unexpected(charged.error());
    const wasq::text receipt = wasq::object({{"receipt", (*charged)["receipt"].string().value_or("")}});
    auto mailed = wasq::step(params["mail"].string().value_or("mail"), [&]() -> wasq::result {
        auto sent = post("https://mail.example/", receipt);
        if (!sent) return sent;
        return true;
    });
    if (!mailed) return std::unexpected(mailed.error());
    return receipt;
}
