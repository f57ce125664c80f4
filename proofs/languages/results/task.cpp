// Results of the types that authors use. A row is chosen by its name.

#include "wasq_task.hpp"

#include <array>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

using namespace std::string_literals;
using wasq::text;

static text deep(int levels) {
    text value = 1;
    for (int i = 0; i < levels; i++) value = wasq::array({value});
    return value;
}

static const std::map<std::string, std::function<text()>> rows = {
    {"null", [] { return text(nullptr); }},
    {"true", [] { return text(true); }},
    {"false", [] { return text(false); }},
    {"largest", [] { return text(std::numeric_limits<std::int64_t>::max()); }},
    {"smallest", [] { return text(std::numeric_limits<std::int64_t>::min()); }},
    {"double", [] { return text(1.5); }},
    {"huge", [] { return text(1e308); }},
    {"tiny", [] { return text(5e-324); }},
    {"text", [] { return text("é😀 \"\\/\n\0\x7f\xE2\x80\xA8"s); }},
    {"empty text", [] { return text(""); }},
    {"list", [] { return wasq::array({1, "a", nullptr, wasq::array({true})}); }},
    {"empty list", [] { return text(std::vector<int>()); }},
    {"object", [] { return wasq::object({{"a", wasq::object({{"b", std::vector{1}}})}, {"", 1}, {"é b", 2}}); }},
    {"empty object", [] { return text(std::map<std::string, int>()); }},
    {"deep", [] { return deep(400); }},
    {"long", [] { return text(std::string(100'000, 'x')); }},
    {"not finite", [] { return wasq::array({std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<float>::infinity()}); }},
    {"integers", [] {
         return wasq::array({std::size_t(1), 2u, 3l, 4ll, std::uint64_t(-1), std::uint8_t(5), short(6)});
     }},
    {"floats", [] { return wasq::array({0.5f, 0.25, 0.125l}); }},
    {"optional", [] { return wasq::array({std::optional<int>(), std::optional("a"s), std::optional(2.5)}); }},
    {"strings", [] { return wasq::array({"a"s, std::string_view("bc", 1), "c"}); }},
    {"ranges", [] {
         return wasq::array({std::array{1, 2}, std::set{"a"s}, std::vector<std::vector<bool>>{{true}, {}}});
     }},
    {"map", [] { return text(std::map<std::string, std::vector<std::optional<int>>>{{"a", {1, {}}}, {"b", {}}}); }},
    {"params with NUL", [] { return text(*wasq::json::parse("\"a\\u0000b\"")->string()); }},
    {"not UTF-8", [] { return text("a\xFF" "b"); }},
};

wasq::result run(const wasq::json &params) {
    auto row = params["row"].string();
    if (!row) return wasq::reject("params.row: expected a string");
    auto found = rows.find(*row);
    if (found == rows.end()) return wasq::reject("no row " + *row);
    return found->second();
}
