#include "http/cookies.h"

#include <string.h>
#include <strings.h>

static bool find_in_line(const char *line, const char *name, const char **ret_value, size_t *ret_length) {
    size_t name_length = strlen(name);

    while (*line) {
        line += strspn(line, " \t;");
        size_t length = strcspn(line, ";");
        if (length > name_length && line[name_length] == '=' && !strncmp(line, name, name_length)) {
            const char *value = line + name_length + 1, *end = line + length;
            while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
                end--;
            if (end - value >= 2 && *value == '"' && end[-1] == '"') {
                value++;
                end--;
            }

            *ret_value = value;
            *ret_length = (size_t)(end - value);
            return true;
        }
        line += length;
    }
    return false;
}

bool http_request_cookie(const struct http_request *request, const char *name, const char **ret_value,
                         size_t *ret_length) {
    for (int i = 0; i < request->header_count; i++)
        if (http_names_equal(request->headers[i].name, "Cookie") &&
            find_in_line(request->headers[i].value, name, ret_value, ret_length))
            return true;
    return false;
}
