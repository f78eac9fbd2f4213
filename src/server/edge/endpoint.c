#include "server/edge/endpoint.h"

#include <stdio.h>
#include <string.h>

/* Whether `path` fits `pattern`; *ret_name is the run that the '*' stands for. */
static bool match_pattern(const char *pattern, const char *path, const char **ret_name, size_t *ret_length) {
    const char *star = strchr(pattern, '*');
    size_t head = star ? (size_t)(star - pattern) : strlen(pattern);

    *ret_name = NULL;
    *ret_length = 0;
    if (!star || strncmp(pattern, path, head) != 0)
        return !star && strcmp(pattern, path) == 0;

    const char *tail = star + 1, *name = path + head;
    size_t rest = strlen(name), tail_length = strlen(tail);
    if (rest <= tail_length || strcmp(name + rest - tail_length, tail) != 0 ||
        memchr(name, '/', rest - tail_length))
        return false;

    *ret_name = name;
    *ret_length = rest - tail_length;
    return true;
}

static bool has_method(const struct endpoint *row, enum http_method method) {
    static const char *const names[] = {
        [HTTP_GET] = "GET",       [HTTP_HEAD] = "GET",   [HTTP_POST] = "POST",   [HTTP_PUT] = "PUT",
        [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = NULL, [HTTP_PATCH] = "PATCH", [HTTP_OTHER] = NULL,
    };
    return names[method] && strcmp(row->method, names[method]) == 0;
}

const struct endpoint *endpoint_find(const char *path, enum http_method method,
                                     const struct endpoint **ret_path_row, const char **ret_name,
                                     size_t *ret_length) {
    *ret_path_row = NULL;
    *ret_name = NULL;
    *ret_length = 0;

    const struct endpoint *row = endpoints;
    while (row->pattern && !match_pattern(row->pattern, path, ret_name, ret_length))
        row++;
    if (!row->pattern)
        return NULL;

    *ret_path_row = row;
    for (const char *pattern = row->pattern; row->pattern && strcmp(row->pattern, pattern) == 0; row++)
        if (has_method(row, method))
            return row;
    return NULL;
}

void endpoint_list_methods(const struct endpoint *row, char *ret, size_t size) {
    const char *pattern = row->pattern;
    size_t at = 0;

    while (row > endpoints && strcmp(row[-1].pattern, pattern) == 0)
        row--;
    ret[0] = 0;
    for (; row->pattern && strcmp(row->pattern, pattern) == 0 && at < size; row++)
        at += (size_t)snprintf(ret + at, size - at, "%s%s%s", at ? ", " : "", row->method,
                               strcmp(row->method, "GET") == 0 ? ", HEAD" : "");
}
