// How many public repositories a GitHub user has.

#include <algorithm>
#include <cctype>

#include "wasq_task.hpp"

static bool is_user_name(const std::string &user) {
    auto valid = [](unsigned char c) { return c < 0x80 && (std::isalnum(c) || c == '-'); };
    return !user.empty() && std::ranges::all_of(user, valid);
}

static std::expected<std::int64_t, wasq::failure> repositories_of(const std::string &user) {
    auto url = wasq::env("GITHUB_API").value_or("https://api.github.com") + "/users/" + user;
    auto response = wasq::send({.url = url, .timeout_ms = 10'000});
    if (!response) return std::unexpected(response.error());
    if (response->status == 404) return wasq::reject("GitHub does not know the user " + user);
    // GitHub reports its rate limit by this status as well.
    if (response->status == 403) return wasq::retry_after(60, "GitHub's rate limit (status 403)");
    auto answer = response->success();
    if (!answer) return std::unexpected(answer.error());
    auto repositories = (*answer)["public_repos"].integer();
    if (!repositories) return wasq::retry(url + ": the answer has no number public_repos");
    return *repositories;
}

wasq::result run(const wasq::json &params) {
    auto user = params["user"].string();
    if (!user) return wasq::reject("params.user: expected a string");
    if (!is_user_name(*user)) {
        return wasq::reject("params.user: " + wasq::quote(user->substr(0, 100)) + " is no GitHub user name");
    }
    auto repositories = repositories_of(*user);
    if (!repositories) return std::unexpected(repositories.error());
    if (*repositories < 0) wasq::abort("GitHub counts " + std::to_string(*repositories) + " repositories");
    wasq::log(WASQ_INFO, *user + " has " + std::to_string(*repositories) + " public repositories");

    auto result = wasq::object({{"user", *user}, {"repositories", *repositories}});
    if (auto then = params["then"].string()) {
        auto child = wasq::enqueue(*then, result);
        if (!child) return wasq::reject("params.then: " + child.error().reason);
    }
    return result;
}
