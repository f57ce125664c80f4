// Results of every kind of JSON. A row is chosen by its name.

#include "wasq_task.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char *deep(int levels) {
    char *text = malloc((size_t)levels * 2 + 2);
    memset(text, '[', (size_t)levels);
    text[levels] = '1';
    memset(text + levels + 1, ']', (size_t)levels);
    text[levels * 2 + 1] = '\0';
    return text;
}

static const char *repeat(char c, size_t times) {
    char *text = malloc(times + 1);
    memset(text, c, times);
    text[times] = '\0';
    return text;
}

wasq_outcome wasq_run(const char *params) {
    const wasq_json *json = wasq_json_parse(params);
    const char *row = wasq_json_string(wasq_json_get(json, "row"));
    if (row == NULL) return wasq_reject("params.row: expected a string");
    static const char *const fixed[][2] = {
        {"null", "null"},
        {"true", "true"},
        {"false", " false\n"},
        {"largest", "9223372036854775807"},
        {"smallest", "-9223372036854775808"},
        {"double", "1.5"},
        {"huge", "1e308"},
        {"tiny", "5e-324"},
        {"empty text", "\"\""},
        {"list", "[1,\"a\",null,[true]]"},
        {"empty list", "[]"},
        {"object", "{\"a\":{\"b\":[1]},\"\":1,\"\xC3\xA9 b\":2}"},
        {"empty object", "{}"},
        {"not JSON", "{'a': 1}"},
        {"nothing", ""},
        {"two values", "1 2"},
        {"not a number", "nan"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (strcmp(row, fixed[i][0]) == 0) return wasq_success("%s", fixed[i][1]);
    }
    if (strcmp(row, "text") == 0) {
        const char *text = wasq_json_quote("\xC3\xA9\xF0\x9F\x98\x80 \"\\/\n");
        return wasq_success("%.*s\\u0000\\u007f\\u2028\"", (int)strlen(text) - 1, text);
    }
    if (strcmp(row, "deep") == 0) return wasq_success("%s", deep(400));
    if (strcmp(row, "long") == 0) return wasq_success("%s", wasq_json_quote(repeat('x', 100000)));
    if (strcmp(row, "not UTF-8") == 0) return wasq_success("%s", wasq_json_quote("a\xFF" "b"));
    if (strcmp(row, "control characters") == 0) return wasq_success("%s", wasq_json_quote("\x01\t\x1f"));
    if (strcmp(row, "bytes of a string") == 0) {
        const wasq_json *text = wasq_json_parse("\"a\\u0000\xC3\xA9\"");
        return wasq_success("[%zu, %zu]", wasq_json_string_bytes(text), wasq_json_string_bytes(json));
    }
    return wasq_reject("no row %s", row);
}
