#include "base/json.h"

#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"

void json_append_bytes(struct buffer *buffer, const char *bytes, size_t size) {
    buffer_append(buffer, "\"", 1);

    for (size_t at = 0; at < size;) {
        unsigned char c = (unsigned char)bytes[at];
        int length = utf8_length(bytes + at, size - at);
        if (length <= 0) {
            buffer_append_string(buffer, "\xef\xbf\xbd");
            length = 1;
        } else if (c == '"' || c == '\\') {
            buffer_printf(buffer, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            buffer_printf(buffer, "\\u%04x", c);
        } else {
            buffer_append(buffer, bytes + at, (size_t)length);
        }
        at += (size_t)length;
    }

    buffer_append(buffer, "\"", 1);
}

void json_append_string(struct buffer *buffer, const char *text) {
    json_append_bytes(buffer, text, strlen(text));
}

/* jansson limits nesting to 2048 at build time; our own bound comes first, from the brackets outside of
 * strings. */
static bool depth_is_bounded(const char *text, size_t size) {
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > LIMIT_JSON_DEPTH)
                return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }

    return true;
}

/* What jansson allocates for each, with the heap's overhead and an array's spare places. A bracket stands for
 * an array or object with its first member, a comma for another member, a quote for half a string. */
enum { TREE_ARRAY = 176, TREE_OBJECT = 264, TREE_MEMBER = 80, TREE_PAIR = 128, TREE_QUOTE = 48 };

size_t json_tree_cost(const char *text, size_t size) {
    size_t cost = 4096 + size;
    bool in_string = false;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '"')
            cost += TREE_QUOTE;
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        cost += c == ','   ? TREE_MEMBER
                : c == '[' ? TREE_ARRAY
                : c == '{' ? TREE_OBJECT
                : c == ':' ? TREE_PAIR
                           : 0;
    }

    return cost;
}

#define BYTE_ORDER_MARK "\xef\xbb\xbf"

static void skip_mark(const char **text, size_t *size) {
    if (*size >= 3 && memcmp(*text, BYTE_ORDER_MARK, 3) == 0) {
        *text += 3;
        *size -= 3;
    }
}

/* The end of the string that begins at `at` with a quote. */
static size_t string_end(const char *text, size_t size, size_t at) {
    for (at++; at < size && text[at] != '"'; at++)
        at += text[at] == '\\';
    return at < size ? at + 1 : size;
}

/* The word or number that begins at `at`, as JSON has it. Returns its end. */
static size_t loosen_word(const char *text, size_t size, size_t at, struct buffer *ret) {
    static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.";
    enum { DIGITS_MOST = 18 /* of a whole number that fits 64 bits for certain */ };
    size_t end = at;
    while (end < size && text[end] && strchr(word, text[end]))
        end++;

    size_t length = end - at, sign = text[at] == '-';
    bool is_nan = length == 3 && memcmp(text + at, "NaN", 3) == 0;
    bool is_infinity = length - sign == 8 && memcmp(text + at + sign, "Infinity", 8) == 0;
    if (is_nan || is_infinity)
        buffer_append(ret, "null", 4);
    else
        buffer_append(ret, text + at, length);
    if (length > DIGITS_MOST && strspn(text + at + sign, "0123456789") >= length - sign)
        buffer_append(ret, ".0", 2);
    return end;
}

json_t *json_parse_python(const char *text, size_t size, struct error *error) {
    struct buffer loosened = {0};
    skip_mark(&text, &size);

    for (size_t at = 0; at < size;) {
        size_t end = at + 1;
        bool is_word = text[at] == '-' || (text[at] >= '0' && text[at] <= '9') ||
                       (text[at] >= 'A' && text[at] <= 'Z') || (text[at] >= 'a' && text[at] <= 'z');
        if (is_word) {
            at = loosen_word(text, size, at, &loosened);
            continue;
        }
        if (text[at] == '"')
            end = string_end(text, size, at);
        buffer_append(&loosened, text + at, end - at);
        at = end;
    }

    json_error_t failure = {0};
    json_t *json =
        loosened.failed ? NULL : json_loadb(loosened.bytes ? loosened.bytes : "", loosened.size, 0, &failure);
    if (loosened.failed)
        error_set(error, ERROR_MEMORY, "not enough memory to read it");
    else if (!json)
        error_set(error, ERROR_INVALID, "line %d: %s", failure.line, failure.text);
    buffer_release(&loosened);
    return json;
}

json_t *json_parse(const char *text, size_t size, const struct memory_wait *wait,
                   struct memory_charge *charge, struct error *error) {
    static const struct memory_wait not_at_all = {0};
    skip_mark(&text, &size);
    charge->purpose = MEMORY_JSON;
    if (!memory_charge_wait(charge, json_tree_cost(text, size), wait ? wait : &not_at_all, error))
        return NULL;
    if (!depth_is_bounded(text, size)) {
        error_set(error, ERROR_INVALID, "the JSON is nested deeper than %d levels", LIMIT_JSON_DEPTH);
        return NULL;
    }

    json_error_t failure;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &failure);
    if (!json)
        error_set(error, ERROR_INVALID, "the body is not JSON: line %d, column %d: %s", failure.line,
                  failure.column, failure.text);

    return json;
}
